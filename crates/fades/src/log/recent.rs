//! The last lines of the node and its parts, kept in memory for whoever looks
//! into something that went wrong.
//!
//! ```text
//! this process ─ Tee ───────────┬─▶ standard error
//! broker, courier ─ pipe ─ relay┘
//!                               └─▶ the last lines
//! ```
//! This process writes its own lines without a pipe, so that the words with
//! which it ends are never lost in one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write, stderr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fades_orc::api::types::LogLines;
use rustix::pipe::{PipeFlags, pipe_with};

use super::LINE_MAX;

/// Memory for lines that are kept, bytes.
const KEPT: usize = 256 << 10;

static RECENT: Mutex<Recent> = Mutex::new(Recent::new(KEPT));

/// The last lines, as many as fit.
#[derive(Debug)]
struct Recent {
    room: usize,
    lines: VecDeque<String>,
    bytes: usize,
    left_out: u64,
}

impl Recent {
    const fn new(room: usize) -> Self {
        Self {
            room,
            lines: VecDeque::new(),
            bytes: 0,
            left_out: 0,
        }
    }

    fn keep(&mut self, line: &str) {
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.bytes > self.room {
            let oldest = self.lines.pop_front();
            self.bytes -= oldest.map_or(self.bytes, |line| line.len());
            self.left_out += 1;
        }
    }
}

fn held() -> MutexGuard<'static, Recent> {
    // A line is kept or it is not.
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last lines.
pub(crate) fn lines() -> LogLines {
    let recent = held();
    LogLines {
        lines: recent.lines.iter().cloned().collect(),
        left_out: recent.left_out,
    }
}

/// Standard error, which remembers.
#[derive(Debug, Default)]
pub(super) struct Tee;

impl Write for Tee {
    /// What logs here writes whole lines.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            held().keep(line);
        }
        // Nobody can be told that telling failed.
        let _ = stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// Standard error for a part of the node: what it writes comes to the one of
/// this process, and is remembered.
pub(crate) fn for_part() -> io::Result<OwnedFd> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || relay(BufReader::new(File::from(read)), &mut Tee))?;
    Ok(write)
}

/// Hands on what a part writes, line by line, until it ends. A line that is too
/// long is handed on in pieces.
fn relay(mut from: impl BufRead, to: &mut impl Write) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let piece = from.by_ref().take(2 * LINE_MAX as u64);
        match { piece }.read_until(b'\n', &mut line) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A pipe that cannot be read has nothing any more.
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if !line.ends_with(b"\n") {
                    line.push(b'\n');
                }
                let _ = to.write_all(&line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Recent, relay};

    #[test]
    fn the_last_lines_stay_and_the_others_are_counted() {
        let mut recent = Recent::new(100);
        for n in 0..50 {
            recent.keep(&format!("line {n:05}"));
        }
        assert_eq!(recent.lines.len(), 10);
        assert_eq!(recent.lines.back().unwrap(), "line 00049");
        assert_eq!((recent.left_out, recent.bytes), (40, 100));
        // One that does not fit at all.
        recent.keep(&"x".repeat(101));
        assert_eq!((recent.lines.len(), recent.bytes), (0, 0));
        assert_eq!(recent.left_out, 51);
        recent.keep("again");
        assert_eq!(recent.lines, ["again"]);
    }

    #[test]
    fn lines_are_handed_on_whole_and_endless_ones_in_pieces() {
        let mut to = Vec::new();
        let endless = [&b"one\ntwo\n"[..], &vec![b'x'; 5 * LINE_MAX], b"\nlast"].concat();
        relay(&endless[..], &mut to);
        let lines: Vec<usize> = to.split(|b| *b == b'\n').map(<[u8]>::len).collect();
        let pieces = [2 * LINE_MAX, 2 * LINE_MAX, LINE_MAX];
        assert_eq!(lines, [&[3, 3][..], &pieces, &[4, 0]].concat());
    }
}
