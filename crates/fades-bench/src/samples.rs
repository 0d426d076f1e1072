//! What was measured, and what is said of it.

/// Values of one thing that was measured several times.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds a value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// What is said of them; `None` when there are none.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[rank(sorted.len(), percent)];
        (!sorted.is_empty()).then(|| Summary {
            n: sorted.len(),
            median: at(50),
            p95: at(95),
            p99: at(99),
            min: at(0),
            max: at(100),
        })
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

/// Percentiles that are values which were seen (nearest rank), never ones in
/// between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) n: usize,
    pub(crate) median: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Index of the smallest of `n` > 0 sorted values that `percent` of them do not
/// exceed.
const fn rank(n: usize, percent: usize) -> usize {
    (n * percent).div_ceil(100).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u32>) -> Summary {
        let samples: Samples = values.into_iter().map(f64::from).collect();
        samples.summary().unwrap()
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let hundred = of((1..=100).rev());
        assert_eq!(
            (hundred.median, hundred.p95, hundred.p99),
            (50.0, 95.0, 99.0)
        );
        assert_eq!((hundred.min, hundred.max, hundred.n), (1.0, 100.0, 100));
        assert_eq!(of([3, 1, 2]).median, 2.0);
        assert_eq!(of([4, 1]).median, 1.0);
    }

    #[test]
    fn a_single_value_is_all_of_them_and_none_is_nothing() {
        let one = of([7]);
        assert_eq!([one.median, one.p95, one.p99, one.min, one.max], [7.0; 5]);
        assert_eq!(Samples::default().summary(), None);
    }
}
