//! Times in which readings may be missing, and why.
//!
//! They are kept in a file of their own, a line each:
//! `{"from", "to", "reason", "readings"}`.

use std::fs;
use std::path::{Path, PathBuf};

use fades_task::coverage;
use fades_task::identity::Name;
use fades_task::time::Time;
use serde::{Deserialize, Serialize};

/// A time in which readings may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    /// ns since 1970 UTC, by the broker's clock.
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) reason: GapReason,
    /// Readings that were lost, as far as they were counted.
    pub(crate) readings: u64,
}

/// Why readings may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GapReason {
    /// The broker was ended.
    Ended,
    /// The broker or its host stopped without warning.
    Crash,
    /// More arrived than the disk takes.
    Overflow,
    /// The disk failed, or is full.
    Disk,
    /// Devices whose clocks are more than a day ahead.
    Clock,
    /// Devices gave times of too many days that are long past.
    Days,
}

impl GapReason {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Ended => "the broker was not running",
            Self::Crash => "the broker or its host stopped without warning",
            Self::Overflow => "more arrived than could be written",
            Self::Disk => "the disk failed or was full",
            Self::Clock => "clocks of devices are more than a day ahead",
            Self::Days => "devices gave times of too many days that are long past",
        }
    }
}

impl Gap {
    /// As a task is told.
    pub(super) fn told(self, source: &Name) -> coverage::Gap {
        coverage::Gap {
            source: source.clone(),
            from: Time(self.from),
            to: Time(self.to),
            readings: self.readings,
            reason: self.reason.words().to_owned(),
        }
    }
}

/// Most gaps that are kept: the newest.
const MOST: usize = 1_000;

/// The gaps of a source.
#[derive(Debug)]
pub(super) struct Gaps {
    path: PathBuf,
    gaps: Vec<Gap>,
    /// Not all of them are on disk.
    dirty: bool,
}

impl Gaps {
    /// Those that are kept in `folder`. Lines that cannot be read are left out.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join("gaps.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let gaps = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        Self {
            gaps: gaps.collect(),
            path,
            dirty: false,
        }
    }

    /// Adds a gap; one that goes on with the last is made one with it.
    pub(super) fn add(&mut self, gap: Gap) {
        const MINUTE: i64 = 60_000_000_000;
        self.dirty = true;
        match self.gaps.last_mut() {
            Some(last)
                if last.reason == gap.reason
                    && gap.readings > 0
                    && gap.from.saturating_sub(last.to) < MINUTE =>
            {
                last.to = last.to.max(gap.to);
                last.readings += gap.readings;
                return;
            }
            _ => self.gaps.push(gap),
        }
        let many = self.gaps.len().saturating_sub(MOST);
        self.gaps.drain(..many);
    }

    pub(super) fn all(&self) -> &[Gap] {
        &self.gaps
    }

    /// The file's path and content, when it is not on disk.
    pub(super) fn unsaved(&mut self) -> Option<(PathBuf, String)> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let line = |gap: &Gap| serde_json::to_string(gap).map(|line| line + "\n");
        let lines = self.gaps.iter().filter_map(|gap| line(gap).ok());
        Some((self.path.clone(), lines.collect()))
    }

    /// Saving failed: it is to be tried again.
    pub(super) fn unsave(&mut self) {
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::{Gap, GapReason, Gaps};

    const MINUTE: i64 = 60_000_000_000;

    fn gap(from: i64, reason: GapReason) -> Gap {
        Gap {
            from,
            to: from + 1,
            reason,
            readings: 2,
        }
    }

    #[test]
    fn the_newest_thousand_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut gaps = Gaps::open(folder.path());
        for i in 0..1_100 {
            gaps.add(gap(i * 2 * MINUTE, GapReason::Disk));
        }
        assert_eq!(gaps.all().len(), 1_000);
        assert_eq!(gaps.all()[0], gap(200 * MINUTE, GapReason::Disk));
        let (path, content) = gaps.unsaved().unwrap();
        assert!(gaps.unsaved().is_none());
        // What is no gap is passed over.
        std::fs::write(path, format!("{{}}\n{content}x\n")).unwrap();
        assert_eq!(Gaps::open(folder.path()).all(), gaps.all());
    }

    #[test]
    fn what_goes_on_within_a_minute_is_one_gap() {
        let folder = tempfile::tempdir().unwrap();
        let mut gaps = Gaps::open(folder.path());
        gaps.add(gap(0, GapReason::Disk));
        gaps.add(gap(MINUTE, GapReason::Disk));
        assert_eq!(gaps.all().len(), 1);
        assert_eq!((gaps.all()[0].to, gaps.all()[0].readings), (MINUTE + 1, 4));
        // For another reason, later, or one in which nothing was counted.
        gaps.add(gap(MINUTE + 2, GapReason::Overflow));
        gaps.add(gap(2 * MINUTE + 3, GapReason::Overflow));
        gaps.add(Gap {
            readings: 0,
            ..gap(2 * MINUTE + 4, GapReason::Overflow)
        });
        assert_eq!(gaps.all().len(), 4);
    }
}
