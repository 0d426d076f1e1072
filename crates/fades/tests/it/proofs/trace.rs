//! What a program did to files, as `strace` saw it, and what a power cut at any
//! moment may leave of that.
//!
//! A disk keeps what was synced. Everything else may be there or not, in any
//! combination: bytes of a file that was not synced, names in a folder that was not.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The calls that change files, and those by which something is told.
pub(crate) const CALLS: &str = "trace=open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,\
     fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,unlink,unlinkat,\
     truncate,ftruncate,fallocate,copy_file_range,sendfile,splice,sendto,sendmsg";

/// Something that happened, in the order in which it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Create(PathBuf),
    Truncate(PathBuf),
    Append(PathBuf, u64),
    /// A file, or a folder.
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Somebody was told the word that was looked for.
    Told,
}

/// What was done below `root`, and when `word` was told.
pub(crate) fn steps(trace: &str, root: &Path, word: &str) -> Vec<Step> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut steps = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, begin);
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            let begin = begun.remove(thread).unwrap_or_default();
            steps.extend(step(&format!("{begin}{rest}"), root, word));
        } else {
            steps.extend(step(call, root, word));
        }
    }
    steps
}

fn step(call: &str, root: &Path, word: &str) -> Option<Step> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest
        .rsplit_once(") = ")
        .or_else(|| rest.rsplit_once(" = "))?;
    if result.starts_with('-') {
        return None;
    }
    if arguments.contains(word) && matches!(name, "write" | "writev" | "sendto" | "sendmsg") {
        return Some(Step::Told);
    }
    let inside = |path: PathBuf| path.starts_with(root).then_some(path);
    match name {
        "openat" | "open" | "creat" => {
            let path = inside(of_descriptor(result)?)?;
            match (arguments.contains("O_CREAT"), arguments.contains("O_TRUNC")) {
                (true, true) => Some(Step::Truncate(path)),
                (true, false) => Some(Step::Create(path)),
                _ => None,
            }
        }
        "write" | "writev" => {
            let path = inside(of_descriptor(arguments)?)?;
            Some(Step::Append(path, result.trim().parse().ok()?))
        }
        "fsync" | "fdatasync" => inside(of_descriptor(arguments)?).map(Step::Sync),
        "rename" | "renameat" | "renameat2" => {
            let mut names = names(arguments);
            let (from, to) = (names.next()?, names.next()?);
            Some(Step::Rename(inside(from)?, inside(to)?))
        }
        "unlink" | "unlinkat" => inside(names(arguments).next()?).map(Step::Remove),
        "sendto" | "sendmsg" => None,
        other => {
            let touches = arguments.contains(&root.display().to_string());
            assert!(!touches, "what {other} leaves is not known here: {call}");
            None
        }
    }
}

/// The path behind the first descriptor: `4</a/b>`.
fn of_descriptor(text: &str) -> Option<PathBuf> {
    let (_, path) = text.split_once('<')?;
    Some(PathBuf::from(path.split_once('>')?.0))
}

/// Names in quotes, against the folder whose descriptor is before each.
fn names(arguments: &str) -> impl Iterator<Item = PathBuf> {
    let mut pieces = arguments.split('"');
    std::iter::from_fn(move || {
        let (before, name) = (pieces.next()?, pieces.next()?);
        let folder = of_descriptor(before).unwrap_or_default();
        Some(folder.join(name))
    })
}

#[derive(Debug, Clone, Default)]
struct Inode {
    length: u64,
    synced: u64,
}

/// A change of a folder.
#[derive(Debug, Clone)]
enum Entry {
    Add(PathBuf, usize),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Entry {
    /// The folder whose sync makes it last.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Add(path, _) | Self::Move(_, path) | Self::Remove(path) => path.parent(),
        }
    }

    fn names(&self) -> Vec<&Path> {
        match self {
            Self::Add(path, _) | Self::Remove(path) => vec![path],
            Self::Move(from, to) => vec![from, to],
        }
    }

    /// Whether both change the same name.
    fn shares(&self, other: &Self) -> bool {
        let others = other.names();
        self.names().iter().any(|name| others.contains(name))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Move(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// A disk under a program.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    inodes: Vec<Inode>,
    /// Names as the program sees them, and as they were synced last.
    seen: BTreeMap<PathBuf, usize>,
    lasting: BTreeMap<PathBuf, usize>,
    /// Changes that are not synced.
    pending: Vec<Entry>,
}

/// What a cut may leave of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// All that was ever written to it.
    Whole,
    /// Perhaps less.
    Torn,
}

impl Cuts {
    /// A file that is there from the beginning.
    pub(crate) fn holds(&mut self, path: &Path, length: u64) {
        let synced = length;
        self.inodes.push(Inode { length, synced });
        let inode = self.inodes.len() - 1;
        self.seen.insert(path.to_owned(), inode);
        self.lasting.insert(path.to_owned(), inode);
    }

    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Create(path) if self.seen.contains_key(path) => {}
            Step::Create(path) | Step::Truncate(path) => {
                self.inodes.push(Inode::default());
                let inode = self.inodes.len() - 1;
                self.entry(Entry::Add(path.clone(), inode));
            }
            Step::Append(path, more) => {
                if let Some(&inode) = self.seen.get(path) {
                    self.inodes[inode].length += more;
                }
            }
            Step::Sync(path) => self.sync(path),
            Step::Rename(from, to) => self.entry(Entry::Move(from.clone(), to.clone())),
            Step::Remove(path) => self.entry(Entry::Remove(path.clone())),
            Step::Told => {}
        }
    }

    fn entry(&mut self, entry: Entry) {
        entry.apply(&mut self.seen);
        self.pending.push(entry);
    }

    fn sync(&mut self, path: &Path) {
        if let Some(&inode) = self.seen.get(path) {
            self.inodes[inode].synced = self.inodes[inode].length;
            return;
        }
        let (lasts, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|entry| entry.folder() == Some(path));
        let lasts: Vec<Entry> = lasts;
        for entry in lasts {
            entry.apply(&mut self.lasting);
        }
        self.pending = pending;
    }

    /// What a cut at this moment may leave: files by name, in each way that the
    /// changes that are not synced may have reached the disk. Changes of names that
    /// have nothing to do with each other are tried apart from each other, while none
    /// of the others has reached it: whatever can be said of one file shows in that.
    pub(crate) fn left(&self) -> Vec<BTreeMap<PathBuf, Left>> {
        let mut ways = vec![self.with(&[])];
        for group in self.groups() {
            assert!(group.len() < 16, "too many changes to try all: {group:?}");
            ways.extend((1_u32..1 << group.len()).map(|chosen| {
                let numbered = group.iter().enumerate();
                let reached = numbered.filter(|(n, _)| chosen >> n & 1 == 1);
                let reached: Vec<&Entry> = reached.map(|(_, entry)| *entry).collect();
                self.with(&reached)
            }));
        }
        ways
    }

    /// Changes that are not synced, by what they have to do with each other.
    fn groups(&self) -> Vec<Vec<&Entry>> {
        let mut groups: Vec<Vec<&Entry>> = Vec::new();
        for entry in &self.pending {
            let touches = |group: &Vec<&Entry>| group.iter().any(|other| entry.shares(other));
            let (mut same, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(touches);
            let mut joined: Vec<&Entry> = same.drain(..).flatten().collect();
            joined.push(entry);
            groups = others;
            groups.push(joined);
        }
        groups
    }

    /// Files, when these changes have reached the disk.
    fn with(&self, reached: &[&Entry]) -> BTreeMap<PathBuf, Left> {
        let mut names = self.lasting.clone();
        for entry in reached {
            entry.apply(&mut names);
        }
        let left = |inode: usize| match self.inodes[inode].synced == self.inodes[inode].length {
            true => Left::Whole,
            false => Left::Torn,
        };
        let files = names.into_iter();
        files.map(|(path, inode)| (path, left(inode))).collect()
    }
}
