//! Lines for the log of a run.

use core::fmt::{self, Write as _};
use core::panic::Location;

use fades_abi::gate::TEXT_MAX;

use crate::function::Place;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Level {
    /// Something is wrong.
    Error = 1,
    /// Something may be wrong.
    Warn = 2,
    /// Worth knowing.
    Info = 3,
    /// Worth knowing when looking for a mistake.
    Debug = 4,
}

/// Writes a line to the log: `log!(info, "{n} rows")`; levels are `error`,
/// `warn`, `info` and `debug`. The line begins with its place in the source.
#[macro_export]
macro_rules! log {
    (error, $($text:tt)+) => { $crate::log!(@ Error, $($text)+) };
    (warn, $($text:tt)+) => { $crate::log!(@ Warn, $($text)+) };
    (info, $($text:tt)+) => { $crate::log!(@ Info, $($text)+) };
    (debug, $($text:tt)+) => { $crate::log!(@ Debug, $($text)+) };
    (@ $level:ident, $($text:tt)+) => {
        $crate::log::line($crate::log::Level::$level, ::core::format_args!($($text)+))
    };
}

/// Writes a line to the log; the place is the caller's.
#[track_caller]
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    line.place(Location::caller());
    // A line takes what fits and never fails.
    let _ = line.write_fmt(text);
    send(level, line.text());
}

#[cfg(not(any(test, feature = "testing")))]
use crate::image::log as send;
#[cfg(any(test, feature = "testing"))]
use crate::testing::log as send;

/// A text of bounded length that needs no heap; what does not fit is dropped.
pub(crate) struct Line {
    bytes: [u8; TEXT_MAX as usize],
    length: usize,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; TEXT_MAX as usize],
            length: 0,
        }
    }

    pub(crate) fn place(&mut self, place: &Location<'_>) {
        // A line takes what fits and never fails.
        let _ = write!(self, "{}: ", Place(place));
    }

    pub(crate) fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.length;
        let fits = text.floor_char_boundary(room);
        let end = self.length + fits;
        self.bytes[self.length..end].copy_from_slice(&text.as_bytes()[..fits]);
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        let mut line = Line::new();
        line.write_str(&"x".repeat(TEXT_MAX as usize - 1)).unwrap();
        line.write_str("é and more").unwrap();
        assert_eq!(line.text().len(), TEXT_MAX as usize - 1);
    }
}
