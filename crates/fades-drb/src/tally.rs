//! Counting what was read, used and lost.

use std::collections::{BTreeMap, BTreeSet};

use fades_task::coverage::{BadRow, LossReason};

/// Most bad rows that are cited.
pub(crate) const MOST_CITED: usize = 5;

/// What a part of a retrieval came to. Parts are added up; readings that were
/// read are those used and those lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) used: u64,
    pub(crate) marked: u64,
    pub(crate) lost: BTreeMap<LossReason, u64>,
    cited: BTreeSet<Cited>,
}

/// Ordered by place, so that the same rows are cited however the work was split.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cited {
    file: String,
    line: u64,
    column: Option<String>,
    reason: LossReason,
}

impl Tally {
    /// Adds what another part came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.used += other.used;
        self.marked += other.marked;
        for (reason, n) in other.lost {
            *self.lost.entry(reason).or_default() += n;
        }
        self.cited.extend(other.cited);
        while self.cited.len() > MOST_CITED {
            self.cited.pop_last();
        }
    }

    pub(crate) fn lose(&mut self, reason: LossReason, readings: u64) {
        *self.lost.entry(reason).or_default() += readings;
    }

    /// Whether a bad row at this place would be among the first few.
    pub(crate) fn would_cite(&self, file: &str, line: u64) -> bool {
        self.cited.len() < MOST_CITED
            || self
                .cited
                .last()
                .is_some_and(|c| (file, line) <= (c.file.as_str(), c.line))
    }

    pub(crate) fn cite(&mut self, bad: BadRow) {
        self.cited.insert(Cited {
            file: bad.file,
            line: bad.line,
            column: bad.column,
            reason: bad.reason,
        });
        if self.cited.len() > MOST_CITED {
            self.cited.pop_last();
        }
    }

    pub(crate) fn lost_total(&self) -> u64 {
        self.lost.values().sum()
    }

    /// The first few bad rows, by file and line.
    pub(crate) fn cited(&self) -> Vec<BadRow> {
        let rows = self.cited.iter().cloned().map(|c| BadRow {
            file: c.file,
            line: c.line,
            column: c.column,
            reason: c.reason,
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_CITED, Tally};
    use fades_task::coverage::{BadRow, LossReason};

    fn part(lines: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for &line in lines {
            tally.lose(LossReason::Empty, 1);
            tally.cite(BadRow {
                file: "f".into(),
                line,
                column: None,
                reason: LossReason::Empty,
            });
        }
        tally
    }

    #[test]
    fn the_first_rows_are_cited_in_whatever_order_parts_are_added() {
        let (mut a, mut b) = (part(&[9, 3, 7]), part(&[8, 1, 2, 20]));
        let other = a.clone();
        a.add(b.clone());
        b.add(other);
        assert_eq!(a, b);
        assert_eq!(a.lost_total(), 7);
        let lines: Vec<_> = a.cited().iter().map(|c| c.line).collect();
        assert_eq!(lines, [1, 2, 3, 7, 8]);
        assert_eq!(lines.len(), MOST_CITED);
        assert!(a.would_cite("f", 8) && !a.would_cite("f", 9) && a.would_cite("e", 9));
    }
}
