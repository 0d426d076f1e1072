//! Which processes there are.

use std::fs;

/// A process and everything that it started, as far as it is still there.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Children of all threads of a process.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{of}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists = threads.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    lists.flat_map(|list| numbers(&list)).collect()
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(of: u32) -> u64 {
    let open = fs::read_dir(format!("/proc/{of}/fd"));
    open.map_or(0, |open| open.count() as u64)
}

/// What a process is called, with its first argument.
pub(crate) fn called(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split('\0');
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    format!("{program} {}", words.next().unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn numbers(list: &str) -> Vec<u32> {
    list.split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_in_the_tree_until_it_has_ended() {
        let me = std::process::id();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(tree(me).contains(&child.id()));
        assert!(descriptors(child.id()) >= 3);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!tree(me).contains(&child.id()));
    }

    #[test]
    fn this_test_has_a_name() {
        assert!(called(std::process::id()).contains("fades_bench"));
        assert_eq!(called(u32::MAX), "");
    }
}
