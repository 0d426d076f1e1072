//! A process that records, and what happens to it from outside. It is this test
//! program, started again for one test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{FOREVER, all, heard, open, skipped};
use crate::readings::Readings;

/// Names the folder that the started process records into.
const FOLDER: &str = "FADES_TEST_RECORD_INTO";

/// Not a test: what the other process does. Says how many readings are durable.
#[test]
fn records_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let readings = Readings::open(&PathBuf::from(folder)).unwrap();
    let recorder = readings
        .recorder(&"hall".parse().unwrap(), &FOREVER)
        .unwrap();
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < Duration::from_secs(60) {
        let now = crate::live::now();
        let some: Vec<_> = (0..500)
            .map(|i| heard("a", now + i, f64::from(count) + i as f64))
            .collect();
        recorder.record(&some, now);
        count += 500;
        std::thread::sleep(Duration::from_millis(5));
        let state = recorder.state();
        let trouble = state.trouble.is_some();
        say(&format!("durable {} {trouble}", state.recorded));
    }
}

/// Its output is read by the test that started it.
fn say(words: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{words}").and_then(|()| out.flush()).unwrap();
}

struct Recording(Child);

impl Recording {
    fn start(mut command: Command, folder: &Path) -> Self {
        command
            .args([
                "--exact",
                "--nocapture",
                "readings::tests::processes::records_until_it_is_killed",
            ])
            .env(FOLDER, folder)
            .stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits until what it says is as wanted; gives the readings that it said last
    /// to be durable.
    fn until(&mut self, enough: impl Fn(u64, bool) -> bool) -> u64 {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        for line in lines {
            let line = line.unwrap();
            let mut words = line.split(' ').skip_while(|w| *w != "durable").skip(1);
            let (Some(durable), Some(trouble)) = (words.next(), words.next()) else {
                continue;
            };
            let durable = durable.parse().unwrap();
            if enough(durable, trouble == "true") {
                return durable;
            }
        }
        panic!("it ended")
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

#[test]
fn a_recording_that_is_killed_has_lost_nothing_that_was_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for least in [1_000, 50_000, 1_000] {
        let mut recording = Recording::start(this_program(), folder.path());
        durable += recording.until(|durable, _| durable >= least);
        drop(recording);
        let kept = open(&folder.path().join("hall"));
        assert!(all(&kept).len() as u64 >= durable);
        assert!(!kept.gaps().is_empty());
    }
}

#[test]
fn a_real_disk_that_is_full_is_said_and_recording_goes_on_when_there_is_room() {
    let test = "a_real_disk_that_is_full_is_said_and_recording_goes_on_when_there_is_room";
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(folder.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skipped(test, "no tmpfs can be mounted; run as root");
    }
    let mounted = Mounted(folder.path());
    let mut recording = Recording::start(this_program(), folder.path());
    recording.until(|_, trouble| trouble);
    let resized = Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(folder.path())
        .status();
    assert!(resized.unwrap().success());
    recording.until(|_, trouble| !trouble);
    let durable = recording.until(|durable, _| durable > 150_000);
    drop(recording);
    assert!(all(&open(&folder.path().join("hall"))).len() as u64 >= durable);
    drop(mounted);
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}
