//! From parts of row groups to readings in order.

use std::collections::{BTreeMap, HashMap};

use fades_abi::batch::mark::OUTSIDE;

use super::column::Column;
use super::{BUDGET, Found, ParquetError, ParquetFiles};
use crate::chunk::Segment;
use crate::columns::guarded;
use crate::flow::{Ask, Outlet, Stopped};
use crate::selector::Selector;
use crate::series::SeriesKey;

/// Most readings that are gathered at a time, which is necessary when row groups
/// overlap in time.
pub(super) const MOST: u64 = 16 << 20;

/// The readings of a series in a row group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Index of the file.
    pub(super) file: usize,
    pub(super) group: usize,
    pub(super) owner: u32,
    /// Index of the point.
    pub(super) point: usize,
    /// Those without value included.
    pub(super) rows: u64,
    pub(super) oldest: i64,
    pub(super) newest: i64,
}

impl ParquetFiles {
    /// Sends series that fit into memory together.
    pub(super) fn send(
        &self,
        found: &Found,
        series: &[(&SeriesKey, &[Part])],
        ask: &Ask,
        out: &Outlet,
    ) -> Result<(), ParquetError> {
        let parts = series.iter().enumerate();
        let parts = parts.flat_map(|(i, (_, parts))| parts.iter().map(move |part| (i, *part)));
        let mut gathered = vec![Segment::default(); series.len()];
        self.gather(found, parts, &mut gathered, ask, out)?;
        for ((key, _), segment) in series.iter().zip(gathered) {
            if segment.rows() > 0 {
                out.readings(key, sorted(segment))?;
            }
        }
        Ok(())
    }

    /// Sends a series that does not fit, from one time to the next.
    pub(super) fn send_long(
        &self,
        found: &Found,
        key: &SeriesKey,
        parts: &[Part],
        ask: &Ask,
        out: &Outlet,
    ) -> Result<(), ParquetError> {
        let mut parts = parts.to_vec();
        parts.sort_by_key(|part| part.oldest);
        let mut together: Vec<Part> = Vec::new();
        let (mut rows, mut newest) = (0, i64::MIN);
        for part in parts {
            if rows >= BUDGET && part.oldest > newest {
                self.send(found, &[(key, &together)], ask, out)?;
                together.clear();
                rows = 0;
            }
            rows += part.rows;
            newest = newest.max(part.newest);
            together.push(part);
            if rows > MOST {
                return Err(ParquetError::Unsorted {
                    device: key.device.clone(),
                    kind: key.kind.clone(),
                });
            }
        }
        self.send(found, &[(key, &together)], ask, out)
    }

    /// Reads parts, each into the segment whose index comes with it.
    fn gather(
        &self,
        found: &Found,
        parts: impl Iterator<Item = (usize, Part)>,
        into: &mut [Segment],
        ask: &Ask,
        out: &Outlet,
    ) -> Result<(), ParquetError> {
        let mut groups: BTreeMap<(usize, usize), Wanted> = BTreeMap::new();
        for (i, part) in parts {
            let group = groups.entry((part.file, part.group)).or_default();
            let of_point = group.0.entry(part.point).or_default();
            of_point.insert(part.owner, i);
        }
        for ((file, group), wanted) in groups {
            if ask.is_stopped() {
                return Err(Stopped.into());
            }
            let file = &found.files[file];
            let rows = self.row_group(file, group, &wanted, into, &ask.selector)?;
            let points: Vec<usize> = wanted.0.keys().map(|&p| file.points[p]).collect();
            out.fetched(rows, file.bytes(group, &points))?;
        }
        Ok(())
    }

    fn row_group(
        &self,
        file: &super::FileIndex,
        group: usize,
        wanted: &Wanted,
        into: &mut [Segment],
        selector: &Selector,
    ) -> Result<u64, ParquetError> {
        let blob = file.blob()?;
        let open = |&point: &usize| {
            let column = Column::open(&blob, &file.metadata, group, file.points[point])?;
            Ok((point, column))
        };
        let columns = guarded(|| wanted.0.keys().map(open).collect::<Result<Vec<_>, _>>());
        let mut columns = columns.map_err(|e| file.failed(e))?;
        let open = |column| Column::open(&blob, &file.metadata, group, column);
        let marking = guarded(|| file.mark.map(open).transpose());
        let mut marking = marking.map_err(|e| file.failed(e))?;
        let mut marks: Vec<Option<f64>> = Vec::new();
        let total = file.metadata.row_group(group).num_rows();
        let total = usize::try_from(total).unwrap_or_default();
        let mut values: Vec<Vec<Option<f64>>> = vec![Vec::new(); columns.len()];
        let mut rows = 0;
        file.rows(group, &self.layout, &self.owners, |number, row| {
            let at = number % super::index::PIECE;
            if at == 0 {
                let piece = super::index::PIECE.min(total - number);
                for ((_, column), values) in columns.iter_mut().zip(&mut values) {
                    *values = column.numbers(piece)?;
                }
                if let Some(column) = &mut marking {
                    marks = column.numbers(piece)?;
                }
            }
            rows += 1;
            let Ok((owner, time)) = row else {
                return Ok(());
            };
            if !selector.within(time) {
                return Ok(());
            }
            for ((point, _), values) in columns.iter().zip(&values) {
                if let (Some(&i), Some(value)) = (wanted.0[point].get(&owner), values[at]) {
                    let outside = |[least, greatest]: [f64; 2]| value < least || value > greatest;
                    let outside = self.layout.points[*point].valid.is_some_and(outside);
                    let mark = (u8::from(outside) * OUTSIDE) | marked(&marks, at);
                    into[i].push(time, value, mark);
                }
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

/// For each point, where the readings of which owners go.
#[derive(Debug, Default)]
struct Wanted(BTreeMap<usize, HashMap<u32, usize>>);

/// The mark of a row, as far as it says something to this broker.
fn marked(marks: &[Option<f64>], row: usize) -> u8 {
    let mark = marks.get(row).copied().flatten().unwrap_or_default();
    mark as u8 & OUTSIDE
}

/// In the order of time; readings of the same time keep theirs.
fn sorted(segment: Segment) -> Segment {
    if segment.time.is_sorted() {
        return segment;
    }
    let mut order: Vec<u32> = (0..segment.rows() as u32).collect();
    order.sort_by_key(|&i| segment.time[i as usize]);
    let order = || order.iter().map(|&i| i as usize);
    Segment {
        time: order().map(|i| segment.time[i]).collect(),
        value: order().map(|i| segment.value[i]).collect(),
        mark: match segment.mark[..] {
            [] => Vec::new(),
            _ => order().map(|i| segment.mark[i]).collect(),
        },
    }
}
