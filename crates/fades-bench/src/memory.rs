//! What memory is in use, as the kernel counts it.

use std::fs;
use std::io;

/// Parts of `/proc/meminfo`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// `MemTotal`.
    pub(crate) total: u64,
    /// `MemAvailable`: what could be had without swapping.
    pub(crate) available: u64,
    /// `SUnreclaim`: the kernel's objects that cannot be given back.
    pub(crate) slab: u64,
}

impl Memory {
    /// At this moment.
    pub(crate) fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        Self::parse(&text).ok_or_else(|| io::Error::other("/proc/meminfo lacks a line"))
    }

    fn parse(text: &str) -> Option<Self> {
        Some(Self {
            total: kilobytes(text, "MemTotal:")?,
            available: kilobytes(text, "MemAvailable:")?,
            slab: kilobytes(text, "SUnreclaim:")?,
        })
    }
}

/// The number of kB behind `label` at the start of a line, in bytes.
fn kilobytes(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(label))?;
    let number = line.split_whitespace().next()?.parse::<u64>().ok()?;
    Some(number * 1024)
}

/// Proportional set size of a process, bytes; 0 when it has gone.
pub(crate) fn proportional(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    kilobytes(&rollup, "Pss:").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_whole_label() {
        let text = "MemTotal:  24 kB\nMemAvailable:  7 kB\nSUnreclaim:  1 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!((memory.total, memory.available), (24 << 10, 7 << 10));
        assert_eq!(Memory::parse("MemTotal: 24 kB\n"), None);
    }

    #[test]
    fn this_process_has_a_share_of_memory() {
        assert!(proportional(std::process::id()) > 0);
        assert_eq!(proportional(u32::MAX), 0);
    }
}
