//! One line of the table: what was measured, beside what it is compared with.

use fades_task::limits::Isolation;

use crate::samples::{Samples, Summary};

/// A figure that was taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// What was measured, unique among the figures of a name and an isolation.
    pub(crate) what: String,
    /// How the function was kept apart; `None` where there is no function, or
    /// it does not matter.
    pub(crate) isolation: Option<Isolation>,
    /// Unit of all values, such as `us` or `bytes`.
    pub(crate) unit: &'static str,
    /// The values.
    pub(crate) values: Summary,
    /// What it is compared with.
    pub(crate) baseline: Option<Baseline>,
    /// What it should be.
    pub(crate) aim: Aim,
}

/// What a figure is compared with, measured in turns with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Baseline {
    /// What it is.
    pub(crate) what: String,
    /// Its median, in the figure's unit.
    pub(crate) median: f64,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aim {
    /// The median, so many times that of the baseline at the most.
    Ratio(f64),
    /// The median, at the most.
    AtMost(f64),
    /// The median, at least.
    AtLeast(f64),
    /// To be known; nothing is aimed at.
    Report,
}

impl Figure {
    /// A figure without baseline and aim; `None` when nothing was measured.
    pub(crate) fn new(
        what: impl Into<String>,
        isolation: Option<Isolation>,
        unit: &'static str,
        values: &Samples,
    ) -> Option<Self> {
        Some(Self {
            what: what.into(),
            isolation,
            unit,
            values: values.summary()?,
            baseline: None,
            aim: Aim::Report,
        })
    }

    /// Compared with `values` of `what`.
    pub(crate) fn against(mut self, what: &str, values: &Samples) -> Self {
        self.baseline = values.summary().map(|summary| Baseline {
            what: what.to_owned(),
            median: summary.median,
        });
        self
    }

    /// With an aim.
    pub(crate) fn aiming(mut self, aim: Aim) -> Self {
        self.aim = aim;
        self
    }

    /// The median, over that of the baseline.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let baseline = self.baseline.as_ref()?.median;
        (baseline > 0.0).then(|| self.values.median / baseline)
    }

    /// Whether the aim is met; `None` when there is none.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.aim {
            Aim::Ratio(most) => self.ratio().map(|ratio| ratio <= most),
            Aim::AtMost(most) => Some(self.values.median <= most),
            Aim::AtLeast(least) => Some(self.values.median >= least),
            Aim::Report => None,
        }
    }

    /// The isolation as it is written.
    pub(crate) fn isolation_text(&self) -> String {
        self.isolation
            .map_or_else(|| "none".to_owned(), |isolation| isolation.to_string())
    }

    /// The aim as it is written.
    pub(crate) fn aim_text(&self) -> String {
        match self.aim {
            Aim::Ratio(most) => format!("ratio <= {most}"),
            Aim::AtMost(most) => format!("median <= {most} {}", self.unit),
            Aim::AtLeast(least) => format!("median >= {least} {}", self.unit),
            Aim::Report => "report".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        let values: Samples = values.iter().copied().collect();
        Figure::new("start", Some(Isolation::Microvm), "us", &values).unwrap()
    }

    #[test]
    fn aims_are_met_at_their_bound_and_not_beyond() {
        let hundred: Samples = [100.0].into_iter().collect();
        let ratio = |value| figure(&[value]).against("spawn", &hundred);
        assert_eq!(ratio(80.0).aiming(Aim::Ratio(0.8)).met(), Some(true));
        assert_eq!(ratio(81.0).aiming(Aim::Ratio(0.8)).met(), Some(false));
        let alone = |aim| figure(&[5.0]).aiming(aim).met();
        assert_eq!(alone(Aim::AtMost(5.0)), Some(true));
        assert_eq!(alone(Aim::AtMost(4.9)), Some(false));
        assert_eq!(alone(Aim::AtLeast(5.0)), Some(true));
        assert_eq!(alone(Aim::AtLeast(5.1)), Some(false));
        assert_eq!(alone(Aim::Report), None);
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio_and_no_verdict_on_one() {
        let figure = figure(&[1.0]).aiming(Aim::Ratio(1.0));
        assert_eq!((figure.ratio(), figure.met()), (None, None));
        let nothing = figure.against("nothing", &Samples::default());
        assert_eq!(nothing.baseline, None);
    }

    #[test]
    fn an_aim_says_what_it_is_about() {
        let text = |aim| figure(&[1.0]).aiming(aim).aim_text();
        assert_eq!(text(Aim::Ratio(1.1)), "ratio <= 1.1");
        assert_eq!(text(Aim::AtMost(100.0)), "median <= 100 us");
        assert_eq!(text(Aim::AtLeast(1000.0)), "median >= 1000 us");
        assert_eq!(text(Aim::Report), "report");
    }
}
