//! What became of letters of a folder: they are moved into folders in it, which
//! keep the newest.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use fades_task::courier::Verdict;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, renameat, statat, unlinkat};
use serde::Serialize;

use super::exchange::shortened;
use crate::deliver::inside;

/// Where letters go that were taken, and those that were not.
const TAKEN: &str = "taken";
const REFUSED: &str = "refused";

/// Most files that each of them keeps.
const KEPT: usize = 1000;

/// A file in an inbox's folder.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Its name, which ends in `.json`.
    pub(super) name: OsString,
    /// What it was when it was read.
    pub(super) stat: Stat,
}

/// Why a letter was not taken, for who put it there.
#[derive(Serialize)]
struct Problem<'a> {
    problem: &'a str,
    detail: String,
}

/// Moves a letter to where its verdict sends it. One that was replaced meanwhile
/// stays: it is another one.
pub(super) fn put(folder: BorrowedFd<'_>, leaf: &Leaf, verdict: &Verdict) -> io::Result<()> {
    let to = match verdict {
        Verdict::Taken { .. } => inside(folder, TAKEN)?,
        Verdict::Refused { problem, detail } => {
            let to = inside(folder, REFUSED)?;
            let detail = shortened(detail);
            explain(to.as_fd(), &leaf.name, &Problem { problem, detail })?;
            to
        }
        Verdict::Later { .. } => return Ok(()),
    };
    match statat(folder, &leaf.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if is_same(&now, &leaf.stat) => renameat(folder, &leaf.name, &to, &leaf.name)?,
        Ok(_) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    let of = |s: &Stat| (s.st_dev, s.st_ino, s.st_size, s.st_mtime, s.st_mtime_nsec);
    of(a) == of(b)
}

/// Writes `NAME.problem.json` beside `NAME.json`.
fn explain(refused: BorrowedFd<'_>, name: &OsStr, problem: &Problem<'_>) -> io::Result<()> {
    let stem = name.as_bytes().strip_suffix(b".json");
    let stem = OsStr::from_bytes(stem.unwrap_or(name.as_bytes()));
    let named = |end: &str| {
        let mut name = stem.to_owned();
        name.push(end);
        name
    };
    let (part, whole) = (named(".problem.tmp"), named(".problem.json"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(refused, &part, flags, Mode::from_raw_mode(0o644))?;
    let mut text = serde_json::to_vec_pretty(problem)?;
    text.push(b'\n');
    let mut file = File::from(file);
    file.write_all(&text)?;
    // A name that is there after a loss of power stands for the whole of it.
    file.sync_all()?;
    Ok(renameat(refused, &part, refused, &whole)?)
}

/// Removes the oldest of what is kept beyond its bound.
pub(super) fn tidy(folder: BorrowedFd<'_>) -> io::Result<()> {
    for name in [TAKEN, REFUSED] {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(folder, name, flags, Mode::empty()) {
            Ok(kept) => forget(&kept, KEPT)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn forget(kept: &OwnedFd, most: usize) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in Dir::read_from(kept)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        let Ok(stat) = statat(kept, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            // Moving a file changes this time, not that of what is in it.
            files.push((stat.st_ctime, stat.st_ctime_nsec, name));
        }
    }
    if files.len() <= most {
        return Ok(());
    }
    files.sort_unstable();
    for (_, _, name) in &files[..files.len() - most] {
        unlinkat(kept, name, AtFlags::empty())?;
    }
    Ok(())
}
