//! What all figures need to know: what to measure, where, and how long.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fades_task::limits::Isolation;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Deserialize;

use crate::arguments::Arguments;
use crate::fault::Fault;
use crate::input::Place;
use crate::turns::Rounds;

/// What is measured and where.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The programs, beside this one.
    pub(crate) programs: Programs,
    /// What this program was told.
    pub(crate) arguments: Arguments,
    /// Folder for everything that a figure needs on a disk. It is empty at the
    /// start and taken away at the end.
    pub(crate) folder: PathBuf,
    /// Folder of the public data sets, where there is one.
    pub(crate) data: Option<PathBuf>,
    /// Where batches are made, or why there is no such place.
    pub(crate) place: Result<Place, String>,
    /// What the tender says of this host.
    probe: Probe,
}

/// The programs that are measured.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) fades: PathBuf,
    pub(crate) tender: PathBuf,
    pub(crate) plain_aberdeen: PathBuf,
}

/// What `fades-tender --probe` says.
#[derive(Debug, Deserialize)]
struct Probe {
    isolation: Vec<Offer>,
    simd: u32,
}

#[derive(Debug, Deserialize)]
struct Offer {
    isolation: Isolation,
    works: bool,
    detail: String,
}

impl Bench {
    /// Finds the programs beside this one and asks what the host offers. From
    /// here on this process ends when the one that started it does.
    pub(crate) fn new(
        arguments: Arguments,
        folder: PathBuf,
        data: Option<PathBuf>,
    ) -> Result<Self, Fault> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(Fault::system("end with the process that watches"))?;
        let me = std::env::current_exe().map_err(Fault::system("find this program"))?;
        let beside = |name| {
            let path = me.with_file_name(name);
            match path.is_file() {
                true => Ok(path),
                false => Err(Fault::NotBuilt(path)),
            }
        };
        let programs = Programs {
            fades: beside("fades")?,
            tender: beside("fades-tender")?,
            plain_aberdeen: beside("plain-aberdeen")?,
        };
        let said = output(Command::new(&programs.tender).arg("--probe"))?;
        let place = Place::mount(&folder.join("batches")).map_err(|e| {
            format!("a file system with huge pages cannot be mounted: {e}: run as root")
        });
        Ok(Self {
            probe: serde_json::from_str(&said).map_err(Fault::json("fades-tender --probe"))?,
            programs,
            place,
            folder,
            data,
            arguments,
        })
    }

    /// Path of the image of a function.
    pub(crate) fn image(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.arguments.images.join(format!("{name}.fades"));
        match path.is_file() {
            true => Ok(path),
            false => Err(Fault::NotBuilt(path)),
        }
    }

    /// Path of a function that was built as an ordinary program.
    pub(crate) fn native(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.arguments.natively.join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(Fault::NotBuilt(path)),
        }
    }

    /// The isolations that this host has, strongest first; what it has not is
    /// given to `missing` with the reason.
    pub(crate) fn isolations(&self, mut missing: impl FnMut(Isolation, &str)) -> Vec<Isolation> {
        let (works, not): (Vec<_>, Vec<_>) = self.probe.isolation.iter().partition(|o| o.works);
        not.iter().for_each(|o| missing(o.isolation, &o.detail));
        works.iter().map(|o| o.isolation).collect()
    }

    /// Highest SIMD level that this host has.
    pub(crate) const fn simd(&self) -> u32 {
        self.probe.simd
    }

    /// Rounds of something, fewer and shorter where time is short: `quick` of
    /// `full`, within so many seconds.
    pub(crate) fn rounds(&self, full: (usize, u64), quick: (usize, u64)) -> Rounds {
        let (wanted, seconds) = if self.arguments.quick { quick } else { full };
        Rounds {
            warm_up: (wanted / 20).clamp(1, 20),
            wanted,
            within: Duration::from_secs(seconds),
        }
    }

    /// One of two, as time allows.
    pub(crate) const fn either<T: Copy>(&self, full: T, quick: T) -> T {
        if self.arguments.quick { quick } else { full }
    }

    /// A new folder in [`Self::folder`].
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).map_err(Fault::file(&path, "make"))?;
        Ok(path)
    }
}

/// Runs a program to its end and gives what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String, Fault> {
    let program = Path::new(command.get_program()).display().to_string();
    let said = match command.output() {
        Ok(output) if output.status.success() => match String::from_utf8(output.stdout) {
            Ok(text) => return Ok(text),
            Err(_) => "its output is not UTF-8".to_owned(),
        },
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{}: {}", output.status, said.trim())
        }
        Err(e) => e.to_string(),
    };
    Err(Fault::Program { program, said })
}

/// Waits until `done`, looking often, for so long at the most; whether it
/// came to be.
pub(crate) fn wait_until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
