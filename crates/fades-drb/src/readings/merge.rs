//! Readings of one series from several places, in order and each once.
//!
//! The order is that of times, then of values; two readings of the same time and
//! value are one.

use std::cmp::Ordering;

use super::ReadingsError;
use crate::chunk::Segment;

/// A place that readings come from, sorted.
pub(super) trait Place {
    /// The next few; `None` when there are no more.
    fn next(&mut self) -> Result<Option<Segment>, ReadingsError>;
}

/// Readings that are there already.
pub(super) struct Once(pub(super) Option<Segment>);

impl Place for Once {
    fn next(&mut self) -> Result<Option<Segment>, ReadingsError> {
        Ok(self.0.take())
    }
}

/// Rows that are handed on at a time.
pub(super) const PIECE: usize = 64 << 10;

/// What of a place was not handed on yet.
struct Open<'a> {
    place: Box<dyn Place + 'a>,
    segment: Segment,
    at: usize,
}

impl Open<'_> {
    /// Gets more when all was handed on. Whether there is something.
    fn fill(&mut self) -> Result<bool, ReadingsError> {
        while self.at == self.segment.rows() {
            match self.place.next()? {
                Some(segment) => (self.segment, self.at) = (segment, 0),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn head(&self) -> (i64, f64) {
        (self.segment.time[self.at], self.segment.value[self.at])
    }
}

/// The order of readings of a series.
pub(super) fn order(a: (i64, f64), b: (i64, f64)) -> Ordering {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

/// Hands on what the places have, to `each`.
pub(super) fn merge<'a>(
    places: Vec<Box<dyn Place + 'a>>,
    each: &mut dyn FnMut(Segment) -> Result<(), ReadingsError>,
) -> Result<(), ReadingsError> {
    let open = places.into_iter().map(|place| Open {
        place,
        segment: Segment::default(),
        at: 0,
    });
    let mut open: Vec<Open<'_>> = open.collect();
    if let [only] = &mut open[..] {
        while let Some(segment) = only.place.next()? {
            each(segment)?;
        }
        return Ok(());
    }
    let mut piece = Segment::default();
    let mut last = None;
    loop {
        let mut i = 0;
        while i < open.len() {
            if open[i].fill()? {
                i += 1;
            } else {
                open.swap_remove(i);
            }
        }
        let Some(first) = open.iter_mut().min_by(|a, b| order(a.head(), b.head())) else {
            break;
        };
        let (time, value) = first.head();
        let mark = first
            .segment
            .mark
            .get(first.at)
            .copied()
            .unwrap_or_default();
        first.at += 1;
        let is_same = |last: (i64, f64)| order(last, (time, value)) == Ordering::Equal;
        if last.is_some_and(is_same) {
            continue;
        }
        last = Some((time, value));
        piece.push(time, value, mark);
        if piece.rows() == PIECE {
            each(std::mem::take(&mut piece))?;
        }
    }
    if piece.rows() > 0 {
        each(piece)?;
    }
    Ok(())
}

/// Sorts readings of a series and drops those that are there twice.
pub(super) fn tidy(rows: &mut Vec<(i64, f64, u8)>) {
    rows.sort_by(|a, b| order((a.0, a.1), (b.0, b.1)));
    rows.dedup_by(|a, b| order((a.0, a.1), (b.0, b.1)) == Ordering::Equal);
}

/// As a segment.
pub(super) fn segment(rows: &[(i64, f64, u8)]) -> Segment {
    let marked = rows.iter().any(|r| r.2 != 0);
    Segment {
        time: rows.iter().map(|r| r.0).collect(),
        value: rows.iter().map(|r| r.1).collect(),
        mark: rows.iter().map(|r| r.2).filter(|_| marked).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::{Once, PIECE, Place, merge, segment, tidy};
    use crate::chunk::Segment;

    fn merged(parts: &[Vec<(i64, f64, u8)>]) -> Segment {
        let places = parts.iter().map(|part| {
            let mut part = part.clone();
            tidy(&mut part);
            Box::new(Once(Some(segment(&part)))) as Box<dyn Place>
        });
        let mut all = Segment::default();
        let put = &mut |s: Segment| {
            for i in 0..s.rows() {
                all.push(s.time[i], s.value[i], s.mark.get(i).copied().unwrap_or(0));
            }
            Ok(())
        };
        merge(places.collect(), put).unwrap();
        all
    }

    #[test]
    fn the_same_reading_is_there_once_and_nan_is_a_value() {
        let nan = f64::NAN;
        let all = merged(&[
            vec![(2, 1.0, 0), (1, 1.0, 0), (1, 1.0, 0)],
            vec![(1, 1.0, 0), (1, 0.0, 0), (3, nan, 0), (3, nan, 4)],
        ]);
        assert_eq!(all.time, [1, 1, 2, 3]);
        assert_eq!(all.value[..3], [0.0, 1.0, 1.0]);
        assert!(all.value[3].is_nan());
    }

    #[test]
    fn what_is_merged_is_handed_on_in_pieces() {
        let place = |odd: i64| {
            let rows: Vec<_> = (0..PIECE as i64).map(|i| (2 * i + odd, 1.0, 0)).collect();
            Box::new(Once(Some(segment(&rows)))) as Box<dyn Place>
        };
        let mut pieces = Vec::new();
        merge(vec![place(0), place(1)], &mut |piece| {
            pieces.push(piece.rows());
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces, [PIECE; 2]);
    }

    proptest! {
        #[test]
        fn merging_is_like_sorting_all(
            parts in prop::collection::vec(
                prop::collection::vec((0_i64..20, 0..3_u8), 0..40), 0..4)
        ) {
            let parts: Vec<Vec<(i64, f64, u8)>> = parts
                .into_iter()
                .map(|p| p.into_iter().map(|(t, v)| (t, v.into(), 0)).collect())
                .collect();
            let mut all = parts.concat();
            tidy(&mut all);
            assert_eq!(merged(&parts), segment(&all));
        }
    }
}
