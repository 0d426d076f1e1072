//! Readings in memory, and what they come to, counted as they arrive: whoever asks
//! what there is waits for no walk through half a million of them, and neither does
//! what arrives meanwhile.

use std::sync::OnceLock;

use crate::readings::frame::Row;

/// Readings of a series: how many, times of the oldest and newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) readings: u64,
    pub(super) oldest: i64,
    pub(super) newest: i64,
}

/// By the numbers of series.
pub(super) type Extents = Vec<Option<Extent>>;

/// Readings in the order in which they arrived.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    extents: Extents,
    #[cfg(test)]
    walked: std::sync::atomic::AtomicU64,
}

/// A head that is to be made into segments.
#[derive(Debug)]
pub(in crate::readings) struct Sealed {
    pub(super) number: u64,
    pub(super) rows: Vec<Row>,
    pub(super) bytes: u64,
    /// Counted when they are first asked for, which holds nobody up.
    extents: OnceLock<Extents>,
}

impl Extent {
    const fn of(time: i64) -> Self {
        Self {
            readings: 1,
            oldest: time,
            newest: time,
        }
    }

    /// Adds what another part of the series has.
    pub(super) fn add(&mut self, other: Self) {
        self.readings += other.readings;
        self.oldest = self.oldest.min(other.oldest);
        self.newest = self.newest.max(other.newest);
    }
}

/// Time of the oldest reading of all series.
pub(super) fn oldest(extents: &Extents) -> Option<i64> {
    extents.iter().flatten().map(|e| e.oldest).min()
}

fn count(extents: &mut Extents, row: &Row) {
    let series = row.series as usize;
    if extents.len() <= series {
        extents.resize(series + 1, None);
    }
    match &mut extents[series] {
        Some(extent) => extent.add(Extent::of(row.time)),
        none => *none = Some(Extent::of(row.time)),
    }
}

fn counted(rows: &[Row]) -> Extents {
    let mut extents = Extents::new();
    rows.iter().for_each(|row| count(&mut extents, row));
    extents
}

impl Rows {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        Self {
            extents: counted(&rows),
            rows,
            #[cfg(test)]
            walked: std::sync::atomic::AtomicU64::default(),
        }
    }

    pub(super) fn push(&mut self, row: Row) {
        count(&mut self.extents, &row);
        self.rows.push(row);
    }

    pub(super) const fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) const fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Those from the `first` on.
    pub(super) fn from(&self, first: usize) -> &[Row] {
        let rows = &self.rows[first..];
        #[cfg(test)]
        self.walked
            .fetch_add(rows.len() as u64, std::sync::atomic::Ordering::Relaxed);
        rows
    }

    /// Takes the first `n` out.
    pub(super) fn take(&mut self, n: usize) -> Vec<Row> {
        let rest = self.rows.split_off(n);
        // What arrived since the last was written: little.
        let rest = Self::new(rest);
        std::mem::replace(self, rest).rows
    }

    /// How many were handed out to be looked at.
    #[cfg(test)]
    pub(super) fn walked(&self) -> u64 {
        self.walked.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Sealed {
    pub(super) const fn new(number: u64, rows: Vec<Row>, bytes: u64) -> Self {
        Self {
            number,
            rows,
            bytes,
            extents: OnceLock::new(),
        }
    }

    pub(super) fn extents(&self) -> &Extents {
        self.extents.get_or_init(|| counted(&self.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::{Extent, Row, Rows, counted, oldest};

    fn row(series: u32, time: i64) -> Row {
        Row {
            time,
            value: 0.0,
            series,
            mark: 0,
        }
    }

    #[test]
    fn what_is_counted_as_it_arrives_is_what_there_is() {
        let mut rows = Rows::default();
        assert_eq!(oldest(rows.extents()), None);
        let all = [(2, 7), (0, 3), (2, -9), (2, 1), (5, 8), (0, 3)];
        for (i, (series, time)) in all.into_iter().enumerate() {
            rows.push(row(series, time));
            let there: Vec<Row> = all[..=i].iter().map(|(s, t)| row(*s, *t)).collect();
            assert_eq!(*rows.extents(), counted(&there));
        }
        assert_eq!(oldest(rows.extents()), Some(-9));
        let extent = Extent {
            readings: 3,
            oldest: -9,
            newest: 7,
        };
        assert_eq!(rows.extents()[2], Some(extent));
        assert_eq!(rows.extents()[1], None);
        // And without those that were taken out.
        assert_eq!(rows.take(4).len(), 4);
        assert_eq!(*rows.extents(), counted(&[row(5, 8), row(0, 3)]));
        assert_eq!(
            *rows.extents(),
            *Rows::new(vec![row(5, 8), row(0, 3)]).extents()
        );
    }
}
