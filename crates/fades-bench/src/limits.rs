//! How many processes and descriptors this process may have.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Processes that others on the host may need.
const OTHERS: u64 = 1024;

/// Raises the limit of open descriptors to `wanted`, or as far as it goes; what
/// it is then.
pub(crate) fn descriptors(wanted: u64) -> u64 {
    let before = getrlimit(Resource::Nofile);
    let at = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(before.maximum.unwrap_or(u64::MAX).max(limit)),
    };
    let enough = before.current.is_none_or(|now| now >= wanted);
    if !enough && setrlimit(Resource::Nofile, at(wanted)).is_err() {
        // Only root may go beyond the maximum.
        let most = before.maximum.unwrap_or(wanted);
        let _ = setrlimit(Resource::Nofile, at(most));
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many more processes there may be, and which limit says so.
pub(crate) fn processes() -> (u64, &'static str) {
    let number = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(u64::MAX)
    };
    let used = running() + OTHERS;
    let own = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let limits = [
        (number("/proc/sys/kernel/pid_max"), "kernel.pid_max"),
        (number("/proc/sys/kernel/threads-max"), "kernel.threads-max"),
        (own, "the limit of processes of this user (ulimit -u)"),
    ];
    let left = limits.map(|(limit, name)| (limit.saturating_sub(used), name));
    left.into_iter().min().unwrap_or((0, "the kernel"))
}

/// Threads on the host: the fourth field of `/proc/loadavg` is `running/all`.
fn running() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let field = text
        .split_whitespace()
        .nth(3)
        .and_then(|f| f.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_more_processes_and_descriptors() {
        let (left, limit) = processes();
        assert!(left > 0, "{limit}");
        assert!(running() > 0);
        assert!(descriptors(64) >= 64);
    }
}
