//! The log of a run under test.

use std::cell::RefCell;
use std::string::String;
use std::vec::Vec;

use crate::log::Level;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn start() {
    take();
}

pub(super) fn take() -> Vec<(Level, String)> {
    LINES.take()
}

pub(crate) fn log(level: Level, line: &str) {
    LINES.with_borrow_mut(|lines| lines.push((level, line.into())));
}
