//! A control group of our own that limits and counts memory.
//!
//! Version 1 (`memory` mounted by itself) or version 2 (one tree); below the
//! group of this process, named after the process that watches, so that it can
//! be taken away by whoever knows that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::wait_until;

const ROOT: &str = "/sys/fs/cgroup";

/// A group is empty within this time after its processes were killed.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// A group for memory.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What a group uses, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All that is charged to it, kernel memory included.
    pub(crate) all: u64,
    /// Of that, file pages that the kernel drops when memory is short.
    pub(crate) cache: u64,
    /// Of that, the kernel's own memory.
    pub(crate) kernel: u64,
}

impl Group {
    /// A new group of at most `limit` bytes, for the watching process `owner`.
    pub(crate) fn make(owner: u32, limit: u64) -> io::Result<Self> {
        let (parent, version) = parent()?;
        let path = parent.join(name(owner));
        fs::create_dir(&path)?;
        let group = Self { path, version };
        let file = match version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        fs::write(group.path.join(file), limit.to_string())?;
        Ok(group)
    }

    /// Moves a process into the group; what it starts from now on is in it too.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// What it uses now.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let number = |file: &str| -> io::Result<u64> {
            let text = fs::read_to_string(self.path.join(file))?;
            text.trim().parse().map_err(io::Error::other)
        };
        let stat = fs::read_to_string(self.path.join("memory.stat"))?;
        Ok(match self.version {
            Version::One => Usage {
                all: number("memory.usage_in_bytes")?,
                cache: line(&stat, "total_cache").saturating_sub(line(&stat, "total_shmem")),
                kernel: number("memory.kmem.usage_in_bytes")?,
            },
            Version::Two => Usage {
                all: number("memory.current")?,
                cache: line(&stat, "file").saturating_sub(line(&stat, "shmem")),
                kernel: line(&stat, "kernel"),
            },
        })
    }
}

/// Takes the group of a watching process away, with every process in it.
pub(crate) fn remove(owner: u32) {
    let Ok((parent, _)) = parent() else {
        return;
    };
    let path = parent.join(name(owner));
    wait_until(EMPTY_WITHIN, || {
        for pid in pids(&path) {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        !path.is_dir() || fs::remove_dir(&path).is_ok()
    });
}

fn pids(path: &Path) -> Vec<rustix::process::Pid> {
    let list = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let numbers = list.lines().filter_map(|line| line.parse().ok());
    numbers.filter_map(rustix::process::Pid::from_raw).collect()
}

fn name(owner: u32) -> String {
    format!("fades-bench-{owner}")
}

/// Where a group can be made, by what this process is in.
fn parent() -> io::Result<(PathBuf, Version)> {
    let ours = fs::read_to_string("/proc/self/cgroup")?;
    let (relative, version) = memory_group(&ours)
        .ok_or_else(|| io::Error::other("this process is in no group that counts memory"))?;
    let mount = match version {
        Version::One => Path::new(ROOT).join("memory"),
        Version::Two => PathBuf::from(ROOT),
    };
    let path = mount.join(relative.trim_start_matches('/'));
    // In a container the path may be that of the host.
    Ok((if path.is_dir() { path } else { mount }, version))
}

/// The group of `/proc/self/cgroup` that counts memory.
fn memory_group(text: &str) -> Option<(&str, Version)> {
    let mut found = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.split(',').any(|c| c == "memory") {
            return Some((path, Version::One));
        }
        if number == "0" {
            found = Some((path, Version::Two));
        }
    }
    found
}

fn line(stat: &str, label: &str) -> u64 {
    let line = stat
        .lines()
        .find_map(|l| l.strip_prefix(label)?.strip_prefix(' '));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_one_is_preferred_where_both_are_mounted() {
        let both = "9:name=systemd:/\n4:memory:/api/x\n0::/\n";
        assert_eq!(memory_group(both), Some(("/api/x", Version::One)));
        assert_eq!(memory_group("0::/a:b\n"), Some(("/a:b", Version::Two)));
        assert_eq!(memory_group("3:cpu:/\n"), None);
    }

    #[test]
    fn a_line_is_found_by_its_whole_label() {
        let stat = "file_mapped 5\nfile 7\ntotal_cache 9\n";
        assert_eq!((line(stat, "file"), line(stat, "cache")), (7, 0));
    }
}
