//! From the concentration of a day to the index.
//!
//! Breakpoints: 40 CFR part 58, appendix G, table 2, as revised by the US EPA's
//! *Reconsideration of the National Ambient Air Quality Standards for
//! Particulate Matter*, 89 FR 16202 (6 March 2024, in force since 6 May 2024).
//! Truncation, equation and rounding: US EPA, *Technical Assistance Document
//! for the Reporting of Daily Air Quality*, EPA-454/B-24-002 (May 2024), with
//! the last step of the scale ending at index 500, and beyond it the same slope
//! ("beyond the AQI"). Guideline levels: World Health Organization, *WHO global
//! air quality guidelines* (2021), table 0.1, 24-hour means.

/// A kind of particulate matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pollutant {
    Pm25,
    Pm10,
}

impl Pollutant {
    pub(crate) const BOTH: [Self; 2] = [Self::Pm25, Self::Pm10];

    pub(crate) fn of(kind: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|p| p.kind() == kind)
    }

    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Pm25 => "pm2.5",
            Self::Pm10 => "pm10",
        }
    }

    /// Level of the 24-hour guideline of 2021, µg/m³.
    pub(crate) const fn guideline(self) -> f64 {
        match self {
            Self::Pm25 => 15.0,
            Self::Pm10 => 45.0,
        }
    }

    /// Steps of a concentration: in so many parts of 1 µg/m³ it is truncated.
    const fn parts(self) -> f64 {
        match self {
            Self::Pm25 => 10.0,
            Self::Pm10 => 1.0,
        }
    }

    /// First and last concentration of each category, in parts.
    const fn breakpoints(self) -> [(u32, u32); 6] {
        match self {
            Self::Pm25 => [
                (0, 90),
                (91, 354),
                (355, 554),
                (555, 1254),
                (1255, 2254),
                (2255, 3254),
            ],
            Self::Pm10 => [
                (0, 54),
                (55, 154),
                (155, 254),
                (255, 354),
                (355, 424),
                (425, 604),
            ],
        }
    }

    /// The index of a day's mean concentration, µg/m³.
    pub(crate) fn index(self, mean: f64) -> u32 {
        // A mean that is a hair below a step only because its sum was rounded
        // belongs to the step.
        let parts = libm::floor(mean * self.parts() + 1e-6);
        // Sensors near zero can read below it.
        let parts = if parts > 0.0 { parts } else { 0.0 };
        let breakpoints = self.breakpoints();
        let category = breakpoints
            .iter()
            .position(|&(_, last)| parts <= f64::from(last))
            .unwrap_or(5);
        let (low, high) = breakpoints[category];
        let (index_low, index_high) = INDEX[category];
        let slope = f64::from(index_high - index_low) / f64::from(high - low);
        let index = slope * (parts - f64::from(low)) + f64::from(index_low);
        libm::floor(index + 0.5) as u32
    }
}

/// First and last index of each category.
const INDEX: [(u32, u32); 6] = [
    (0, 50),
    (51, 100),
    (101, 150),
    (151, 200),
    (201, 300),
    (301, 500),
];

/// Name of the category of an index.
pub(crate) const fn category(index: u32) -> &'static str {
    match index {
        0..=50 => "good",
        51..=100 => "moderate",
        101..=150 => "unhealthy for sensitive groups",
        151..=200 => "unhealthy",
        201..=300 => "very unhealthy",
        _ => "hazardous",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakpoints_are_met_on_both_sides() {
        let cases = [
            (Pollutant::Pm25, 0.0, 0),
            (Pollutant::Pm25, 9.0, 50),
            (Pollutant::Pm25, 9.1, 51),
            (Pollutant::Pm25, 35.4, 100),
            (Pollutant::Pm25, 35.5, 101),
            (Pollutant::Pm25, 55.4, 150),
            (Pollutant::Pm25, 55.5, 151),
            (Pollutant::Pm25, 125.4, 200),
            (Pollutant::Pm25, 125.5, 201),
            (Pollutant::Pm25, 225.4, 300),
            (Pollutant::Pm25, 225.5, 301),
            (Pollutant::Pm25, 325.4, 500),
            (Pollutant::Pm10, 54.0, 50),
            (Pollutant::Pm10, 55.0, 51),
            (Pollutant::Pm10, 154.0, 100),
            (Pollutant::Pm10, 155.0, 101),
            (Pollutant::Pm10, 254.0, 150),
            (Pollutant::Pm10, 255.0, 151),
            (Pollutant::Pm10, 354.0, 200),
            (Pollutant::Pm10, 355.0, 201),
            (Pollutant::Pm10, 424.0, 300),
            (Pollutant::Pm10, 425.0, 301),
            (Pollutant::Pm10, 604.0, 500),
        ];
        for (pollutant, mean, index) in cases {
            assert_eq!(pollutant.index(mean), index, "{pollutant:?} {mean}");
        }
    }

    #[test]
    fn concentrations_are_truncated_and_indices_rounded() {
        // By hand: 20.0 lies at 51 + 49/26.3 * 10.9 = 71.3; 70 PM10 at
        // 51 + 49/99 * 15 = 58.4; 40.0 at 101 + 49/19.9 * 4.5 = 112.1.
        assert_eq!(Pollutant::Pm25.index(20.09), 71);
        assert_eq!(Pollutant::Pm25.index(40.0), 112);
        assert_eq!(Pollutant::Pm10.index(70.99), 58);
        assert_eq!(Pollutant::Pm25.index(9.099), 50);
        assert_eq!(Pollutant::Pm10.index(54.99), 50);
    }

    #[test]
    fn rounding_in_a_sum_does_not_move_a_day_to_another_step() {
        let mean = (0.1 + 0.2) * 10.0 + 6.1;
        assert_eq!(Pollutant::Pm25.index(mean), 51);
        assert_eq!(Pollutant::Pm25.index(9.1 - 1e-12), 51);
    }

    #[test]
    fn beyond_the_scale_the_slope_goes_on_and_below_it_is_zero() {
        // 301 + 199/99.9 * 199.9 and 301 + 199/179 * 279.
        assert_eq!(Pollutant::Pm25.index(425.4), 699);
        assert_eq!(Pollutant::Pm10.index(704.0), 611);
        assert_eq!(Pollutant::Pm25.index(-0.4), 0);
    }

    #[test]
    fn categories_begin_where_the_index_says() {
        assert_eq!(category(50), "good");
        assert_eq!(category(51), "moderate");
        assert_eq!(category(150), "unhealthy for sensitive groups");
        assert_eq!(category(200), "unhealthy");
        assert_eq!(category(300), "very unhealthy");
        assert_eq!(category(301), "hazardous");
    }
}
