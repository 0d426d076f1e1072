//! What the operator said of devices.

use std::collections::BTreeMap;

use fades_task::quantity::Duration;
use globset::{Glob, GlobMatcher};

use crate::config::DeviceNote;

/// The notes of one source, in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<(GlobMatcher, Note)>);

/// What is known of a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Note {
    pub(crate) labels: BTreeMap<String, String>,
    /// Latitude and longitude, degrees.
    pub(crate) at: Option<[f64; 2]>,
    pub(crate) expected: Option<Duration>,
}

impl Notes {
    /// Notes that were checked.
    pub(crate) fn new(notes: &[DeviceNote]) -> Self {
        let compiled = notes.iter().filter_map(|note| {
            let glob = Glob::new(&note.device).ok()?.compile_matcher();
            let note = Note {
                labels: note.labels.clone(),
                at: note.at,
                expected: note.expected,
            };
            Some((glob, note))
        });
        Self(compiled.collect())
    }

    /// The first note that means `device`.
    pub(crate) fn of(&self, device: &str) -> Option<&Note> {
        let mut notes = self.0.iter();
        let found = notes.find(|(glob, _)| glob.is_match(device));
        found.map(|(_, note)| note)
    }
}

/// Mean radius of the Earth, metres (IUGG).
const EARTH: f64 = 6_371_008.8;

/// Metres between two places (degrees) along the surface of a sphere, by the
/// haversine formula: hav(d/r) = hav(Δφ) + cos φ₁ · cos φ₂ · hav(Δλ).
pub(crate) fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    let hav = |angle: f64| (angle / 2.0).sin().powi(2);
    let [a, b] = [a, b].map(|place| place.map(f64::to_radians));
    let h = hav(b[0] - a[0]) + a[0].cos() * b[0].cos() * hav(b[1] - a[1]);
    2.0 * EARTH * h.min(1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::{Notes, distance};
    use crate::config::DeviceNote;

    #[test]
    fn the_first_note_that_means_a_device_counts() {
        let note = |device: &str, floor: &str| DeviceNote {
            device: device.to_owned(),
            labels: [("floor".to_owned(), floor.to_owned())].into(),
            at: None,
            expected: None,
        };
        let notes = Notes::new(&[note("board-1", "0"), note("board-*", "1")]);
        let floor = |device| notes.of(device).map(|n| n.labels["floor"].as_str());
        assert_eq!(floor("board-1"), Some("0"));
        assert_eq!(floor("board-2"), Some("1"));
        assert_eq!(floor("x"), None);
    }

    #[test]
    fn distances_are_those_of_an_atlas() {
        // Aberdeen and London; 640 km by several gazetteers.
        let d = distance([57.1497, -2.0943], [51.5074, -0.1278]);
        assert!((d - 640e3).abs() < 5e3, "{d}");
        assert!(distance([1.0, 2.0], [1.0, 2.0]) < 1e-6);
        let half = distance([0.0, 0.0], [0.0, 180.0]);
        assert!((half - 20_015e3).abs() < 1e3, "{half}");
    }
}
