//! The same function without any isolation, on the same batch files.
//!
//! Built with the feature `testing`, but not for tests, the program of a function
//! is one of the host's that plays the events of a run through the function and
//! says how long it took: what isolation costs is measured against this. The
//! code is that of the image; allocator and memory functions are the host's.
//!
//! ```text
//! cargo build --release -p summary --features fades-sdk/testing
//! summary [--times N] [--simd sse2|avx2|avx512] [--memory BYTES]
//!         [--param NAME=VALUE]… [--answer FILE] PATH…
//! {"function":"summary","simd":"avx512","batches":3,"bytes":150994944,"seconds":[0.0412,0.0398]}
//! ```
//! A path is a batch file, or a folder of which all files are taken, by name. For
//! each of the `N` passes every file is mapped anew and a new function is made,
//! whose memory is never freed, so that each pass touches its memory for the
//! first time, as an image does. The seconds are those of the function: from
//! event to event, with reading its input from memory and writing its answer,
//! without opening and mapping files. `--answer` keeps the answer's values, CBOR.

use std::borrow::ToOwned;
use std::collections::VecDeque;
use std::format;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::string::String;
use std::time::{Duration, Instant};
use std::vec::Vec;
use std::{env, fmt, fs, io, vec};

use fades_abi::batch::Batch;
use fades_abi::gate::{Event, event};

use super::mapped::Mapped;
use super::{Run, memory};
use crate::function::Function;
use crate::output::Written;
use crate::params::Params;
use crate::reduce;
use crate::serve::{Host, Stop, serve};
use crate::value::Value;

/// Names of the levels of vectors, by their number in the contract.
const LEVELS: [&str; 3] = ["sse2", "avx2", "avx512"];

/// Longest answer, bytes. Only what is written is touched.
const OUTPUT: usize = 64 << 20;

/// Why there is no measurement.
#[derive(Debug)]
enum Refused {
    /// The command line; what it must be.
    Usage(String),
    /// A file or a folder.
    File(PathBuf, io::Error),
    /// A file is no batch.
    Batch(PathBuf, fades_abi::batch::BatchError),
    /// The function gave no answer.
    Function(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(
                f,
                "{what}; use: [--times N] [--simd sse2|avx2|avx512] [--memory BYTES] \
                 [--param NAME=VALUE]… [--answer FILE] PATH…"
            ),
            Self::File(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Batch(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Function(why) => write!(f, "the function gave no answer: {why}"),
        }
    }
}

/// The program: runs `F` as the command line says. Called by
/// [`function!`](crate::function!).
#[doc(hidden)]
#[must_use]
pub fn natively<F: Function>(name: &str) -> i32 {
    let measured = Wanted::parse(env::args().skip(1)).and_then(|wanted| wanted.run::<F>(name));
    let told = match &measured {
        Ok(line) => writeln!(io::stdout(), "{line}"),
        Err(refused) => writeln!(io::stderr(), "error: {refused}"),
    };
    i32::from(measured.is_err() || told.is_err()) * 2
}

/// What the command line asks for.
struct Wanted {
    times: usize,
    simd: u32,
    memory: usize,
    run: Run,
    answer: Option<PathBuf>,
    files: Vec<PathBuf>,
}

impl Wanted {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Refused> {
        let mut wanted = Self {
            times: 1,
            simd: reduce::detect(),
            memory: usize::MAX,
            run: Run::new(),
            answer: None,
            files: Vec::new(),
        };
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                wanted.add(Path::new(&word))?;
                continue;
            }
            let missing = || Refused::Usage(format!("{word} needs a value"));
            let value = words.next().ok_or_else(missing)?;
            match word.as_str() {
                "--times" => wanted.times = number(&word, &value)?,
                "--memory" => wanted.memory = number(&word, &value)?,
                "--simd" => wanted.simd = level(&value)?,
                "--answer" => wanted.answer = Some(value.into()),
                "--param" => wanted.run = param(wanted.run, &value)?,
                _ => return Err(Refused::Usage(format!("{word} is unknown"))),
            }
        }
        if wanted.files.is_empty() {
            return Err(Refused::Usage("no batch file".to_owned()));
        }
        Ok(wanted)
    }

    /// A file, or the files of a folder by name.
    fn add(&mut self, path: &Path) -> Result<(), Refused> {
        let file = |e| Refused::File(path.to_owned(), e);
        if !path.is_dir() {
            self.files.push(path.to_owned());
            return Ok(());
        }
        let entries = fs::read_dir(path).map_err(file)?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>().map_err(file)?;
        paths.sort();
        self.files.append(&mut paths);
        Ok(())
    }

    fn run<F: Function>(mut self, name: &str) -> Result<String, Refused> {
        let mut seconds = Vec::new();
        let mut answer = Vec::new();
        let mut bytes = 0;
        for _ in 0..self.times {
            let mut player = Player::new(&self.files)?;
            self.run.dtos.clone_from(&player.dtos);
            bytes = player.bytes();
            reduce::set_level(self.simd);
            let mut window = vec![0_u8; OUTPUT];
            let params = self.run.params();
            memory::start(self.memory);
            player.play::<F>(&params, &mut window)?;
            seconds.push(format!("{:.6}", player.spent.as_secs_f64()));
            answer = player.answer;
        }
        if let Some(path) = self.answer {
            fs::write(&path, &answer).map_err(|e| Refused::File(path, e))?;
        }
        Ok(format!(
            r#"{{"function":"{name}","simd":"{}","batches":{},"bytes":{bytes},"seconds":[{}]}}"#,
            LEVELS[self.simd as usize],
            self.files.len(),
            seconds.join(","),
        ))
    }
}

fn number(word: &str, value: &str) -> Result<usize, Refused> {
    let number = value.parse().ok().filter(|&n| n > 0);
    number.ok_or_else(|| Refused::Usage(format!("{word} must be a number above 0")))
}

/// A level that this machine has.
fn level(name: &str) -> Result<u32, Refused> {
    let level = LEVELS.iter().position(|l| *l == name);
    let level = level.map(|l| l as u32).filter(|&l| l <= reduce::detect());
    level.ok_or_else(|| Refused::Usage(format!("--simd {name} is unknown, or not had here")))
}

/// Numbers as numbers, everything else as text.
fn param(run: Run, text: &str) -> Result<Run, Refused> {
    let missing = || Refused::Usage(format!("--param {text} has no ="));
    let (name, value) = text.split_once('=').ok_or_else(missing)?;
    let value = match (value.parse(), value.parse()) {
        (Ok(integer), _) => Value::Int(integer),
        (_, Ok(float)) => Value::Float(float),
        _ => Value::Text(value.to_owned()),
    };
    Ok(run.param(name.to_owned(), value))
}

/// A host that plays batches, takes an answer and looks at the clock.
struct Player {
    coming: VecDeque<(Event, Option<Mapped>)>,
    data: Option<Mapped>,
    dtos: Vec<String>,
    answer: Vec<u8>,
    begun: Instant,
    spent: Duration,
}

impl Player {
    fn new(files: &[PathBuf]) -> Result<Self, Refused> {
        let mut coming = VecDeque::new();
        let mut dtos = 0;
        for path in files {
            let mapped = Mapped::open(path).map_err(|e| Refused::File(path.clone(), e))?;
            let batch = Batch::open(mapped.bytes());
            let dto = batch.map_err(|e| Refused::Batch(path.clone(), e))?.dto();
            dtos = dtos.max(dto + 1);
            let event = Event {
                kind: event::BATCH,
                dto,
                length: mapped.bytes().len() as u64,
                ..Event::default()
            };
            coming.push_back((event, Some(mapped)));
        }
        let plain = |kind, dto| Event {
            kind,
            dto,
            ..Event::default()
        };
        coming.extend((0..dtos).map(|dto| (plain(event::END, dto), None)));
        coming.push_back((plain(event::FINISH, 0), None));
        Ok(Self {
            coming,
            data: None,
            dtos: (0..dtos).map(|dto| format!("data-{dto}")).collect(),
            answer: Vec::new(),
            begun: Instant::now(),
            spent: Duration::ZERO,
        })
    }

    fn bytes(&self) -> u64 {
        self.coming.iter().map(|(event, _)| event.length).sum()
    }

    fn play<F: Function>(&mut self, params: &Params, window: &mut [u8]) -> Result<(), Refused> {
        self.begun = Instant::now();
        let served = life::<F>(self, params, window);
        self.spent += self.begun.elapsed();
        served.map_err(|stop| {
            Refused::Function(match stop {
                Stop::Abort(abort) => abort.text().to_owned(),
                Stop::OutputFull(full) => format!("it needs {} bytes", full.needed),
            })
        })
    }
}

/// The life of a function: what is counted where instructions are, by its name.
#[inline(never)]
fn life<F: Function>(host: &mut dyn Host, params: &Params, window: &mut [u8]) -> Result<(), Stop> {
    serve::<F>(host, params, window)
}

impl Host for Player {
    fn next(&mut self) -> Event {
        self.spent += self.begun.elapsed();
        // FINISH comes last, and nothing is asked for after it.
        let (event, data) = self.coming.pop_front().unwrap_or_default();
        self.data = data;
        self.begun = Instant::now();
        event
    }

    fn data(&self, event: &Event) -> &[u8] {
        let bytes = self.data.as_ref().map_or(&[][..], Mapped::bytes);
        &bytes[..event.length as usize]
    }

    fn answer(&mut self, window: &[u8], written: Written) {
        self.answer = window[..written.values].to_owned();
    }

    fn state(&mut self, _: &[u8], _: usize) {}
}

#[cfg(test)]
mod tests;
