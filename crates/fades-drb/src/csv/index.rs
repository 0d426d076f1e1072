//! What is known of a file: which series are in which part of it, between which
//! times. Values are not kept.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fades_task::coverage::LossReason;

use super::input::Identity;
use super::layout::Layout;
use super::listing::Named;
use super::rows::Blame;
use crate::tally::MOST_CITED;

/// The index of one file, for one version of it.
#[derive(Debug)]
pub(crate) struct FileIndex {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    /// The identity tells every later change.
    pub(crate) settled: bool,
    pub(crate) compressed: bool,
    pub(crate) layout: Arc<Layout>,
    pub(crate) blocks: Box<[Block]>,
    pub(crate) orphans: Box<[Orphan]>,
}

/// Some lines of a file that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// Offsets in the decompressed text, bytes.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Number of the first line, from 1.
    pub(crate) first_line: u64,
    pub(crate) rows: u64,
    pub(crate) spans: Box<[Span]>,
}

/// The readings of one series in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) series: u32,
    /// Good readings.
    pub(crate) readings: u64,
    /// Readings that cannot be used, although their time is known.
    pub(crate) lost: u64,
    /// Oldest and newest time, of lost readings too.
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
}

/// Readings that cannot be used and whose time or series is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) whose: Whose,
    pub(crate) reason: LossReason,
    pub(crate) blame: Blame,
    pub(crate) count: u64,
    /// The first few lines, ascending.
    pub(crate) lines: Vec<u64>,
}

/// What a row says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// A series by number, and the column of readings.
    Series(u32, u32),
    /// Only the column of readings.
    Point(u32),
}

impl Whose {
    pub(crate) const fn point(self) -> u32 {
        match self {
            Self::Series(_, point) | Self::Point(point) => point,
        }
    }
}

impl FileIndex {
    /// Whether any reading of the file can be within `overlaps`; a file in
    /// which no time could be read always can.
    pub(crate) fn in_range(&self, overlaps: impl Fn(i64, i64) -> bool) -> bool {
        let mut spans = self.blocks.iter().flat_map(|b| &b.spans).peekable();
        spans.peek().is_none() || spans.any(|s| overlaps(s.oldest, s.newest))
    }

    /// Memory that the index takes, bytes, roughly.
    pub(crate) fn memory(&self) -> usize {
        let spans: usize = self.blocks.iter().map(|b| b.spans.len()).sum();
        size_of::<Self>()
            + 2 * self.path.as_os_str().len()
            + size_of_val(&*self.blocks)
            + spans * size_of::<Span>()
            + self.orphans.len() * (size_of::<Orphan>() + MOST_CITED * 8)
    }
}

/// The indexes that are kept, and what they may take.
#[derive(Default)]
pub(crate) struct Kept {
    /// The files at the last look.
    of: Option<Arc<[Named]>>,
    files: HashMap<PathBuf, (Arc<FileIndex>, u64)>,
    memory: usize,
    /// Counts uses, to find what was not used for long.
    clock: u64,
}

/// Most memory of the kept indexes of one source, bytes.
const MOST_KEPT: usize = 32 << 20;

impl Kept {
    /// The index of a file, if it is of this version.
    pub(crate) fn find(&mut self, path: &Path, identity: Identity) -> Option<Arc<FileIndex>> {
        self.clock += 1;
        let (index, used) = self.files.get_mut(path)?;
        if index.identity != identity || !index.settled {
            return None;
        }
        *used = self.clock;
        Some(Arc::clone(index))
    }

    pub(crate) fn keep(&mut self, index: &Arc<FileIndex>) {
        self.clock += 1;
        self.memory += index.memory();
        let entry = (Arc::clone(index), self.clock);
        if let Some((old, _)) = self.files.insert(index.path.clone(), entry) {
            self.memory -= old.memory();
        }
        self.shrink(MOST_KEPT);
    }

    /// Forgets files that are not among `files`, which are sorted.
    pub(crate) fn retain(&mut self, files: &Arc<[Named]>) {
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, files)) {
            return;
        }
        self.of = Some(Arc::clone(files));
        let memory = &mut self.memory;
        self.files.retain(|path, (index, _)| {
            let found = files.binary_search_by(|f| f.path.as_path().cmp(path));
            let stays = found.is_ok();
            if !stays {
                *memory -= index.memory();
            }
            stays
        });
    }

    /// Forgets what was not used for longest, a quarter of it at once.
    fn shrink(&mut self, most: usize) {
        if self.memory <= most {
            return;
        }
        let mut uses: Vec<u64> = self.files.values().map(|(_, used)| *used).collect();
        uses.sort_unstable();
        let cut = uses[uses.len() / 4];
        let memory = &mut self.memory;
        self.files.retain(|_, (index, used)| {
            let stays = *used > cut;
            if !stays {
                *memory -= index.memory();
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{FileIndex, Kept};
    use crate::csv::input::Identity;
    use std::sync::Arc;

    fn index(i: u32) -> Arc<FileIndex> {
        Arc::new(FileIndex {
            path: format!("{i}.csv").into(),
            identity: identity(i),
            settled: true,
            compressed: false,
            layout: Arc::default(),
            blocks: Box::default(),
            orphans: Box::default(),
        })
    }

    fn identity(i: u32) -> Identity {
        Identity {
            device: 1,
            inode: i.into(),
            size: 1,
            modified: 1,
            changed: 1,
        }
    }

    #[test]
    fn another_version_of_a_file_is_not_found() {
        let mut kept = Kept::default();
        kept.keep(&index(1));
        assert!(kept.find("1.csv".as_ref(), identity(1)).is_some());
        assert!(kept.find("1.csv".as_ref(), identity(2)).is_none());
        kept.retain(&Arc::from([]));
        assert!(kept.find("1.csv".as_ref(), identity(1)).is_none());
        assert_eq!(kept.memory, 0);
    }

    #[test]
    fn what_was_not_used_for_longest_is_forgotten_first() {
        let mut kept = Kept::default();
        for i in 0..100 {
            kept.keep(&index(i));
        }
        assert!(kept.find("0.csv".as_ref(), identity(0)).is_some());
        let most = kept.memory / 2;
        while kept.memory > most {
            kept.shrink(most);
        }
        assert!(kept.find("0.csv".as_ref(), identity(0)).is_some());
        assert!(kept.find("1.csv".as_ref(), identity(1)).is_none());
        assert!(kept.find("99.csv".as_ref(), identity(99)).is_some());
    }
}
