//! Cutting a range into parts that are fetched at the same time.

use super::influxql::Range;

/// A part is at least so long, ns: an hour. Shorter ones cost more questions than
/// they save time.
const SHORTEST: i128 = 3_600_000_000_000;

/// At most `most` parts of a range, whose borders are multiples of `step` (ns).
pub(super) fn slices(range: Range, most: u8, step: Option<i64>) -> Vec<Range> {
    let span = i128::from(range.to) - i128::from(range.from);
    let parts = (span / SHORTEST).clamp(1, i128::from(most));
    let step = i128::from(step.unwrap_or(1));
    let mut slices = Vec::new();
    let mut from = i128::from(range.from);
    for part in 1..=parts {
        let to = match part == parts {
            true => i128::from(range.to),
            false => {
                let to = i128::from(range.from) + span * part / parts;
                to - to.rem_euclid(step)
            }
        };
        if from < to {
            slices.push((from, to));
            from = to;
        }
    }
    // Each border is between two of i64.
    let slices = slices.into_iter().map(|(from, to)| Range {
        from: from as i64,
        to: to as i64,
    });
    slices.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Range, slices};

    proptest! {
        #[test]
        fn slices_are_the_range(a in any::<i64>(), b in any::<i64>(), most in 1_u8..9, step in 1_i64..1 << 50) {
            let range = Range { from: a.min(b), to: a.max(b) };
            let cut = slices(range, most, Some(step));
            prop_assert!(cut.len() <= usize::from(most));
            let mut at = range.from;
            for slice in &cut {
                prop_assert_eq!(slice.from, at);
                prop_assert!(slice.from < slice.to);
                prop_assert!(slice.to == range.to || slice.to.rem_euclid(step) == 0);
                at = slice.to;
            }
            prop_assert!(cut.is_empty() || at == range.to);
        }
    }

    #[test]
    fn a_short_range_is_one_part() {
        let hour = 3_600_000_000_000;
        let of = |hours: i64| {
            slices(
                Range {
                    from: 5,
                    to: 5 + hours * hour,
                },
                2,
                None,
            )
            .len()
        };
        assert_eq!((of(1), of(2), of(100)), (1, 2, 2));
    }
}
