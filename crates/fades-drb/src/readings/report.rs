//! How recording goes, as people are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use fades_task::identity::Name;
use fades_task::resource::Recording;
use fades_task::time::Time;

use super::kept::Kept;
use super::{Readings, Recorder};

/// Most gaps that an operator is shown: the newest.
const GAPS_SHOWN: usize = 20;

impl Readings {
    /// How recording goes of each source, in at most so many bytes of JSON: where
    /// there are too many sources, fewer of the older gaps are shown.
    pub(crate) fn reports(&self, most: usize) -> BTreeMap<Name, Recording> {
        let sources: Vec<Arc<Kept>> = self.work.shared.lock().sources.clone();
        let reports = sources.iter().map(|k| (k.source.clone(), report(k)));
        fitting(reports.collect(), most)
    }
}

impl Recorder {
    /// How recording goes, for people.
    pub(crate) fn report(&self) -> Recording {
        report(&self.kept)
    }
}

pub(super) fn report(kept: &Kept) -> Recording {
    let state = kept.state();
    let gaps = kept.gaps();
    let newest = gaps.len().saturating_sub(GAPS_SHOWN);
    let told = gaps[newest..].iter().map(|g| g.told(&kept.source));
    Recording {
        recorded: state.recorded,
        waiting: state.waiting,
        bytes: state.bytes,
        oldest: state.oldest.map(Time),
        expired: state.expired,
        lost: gaps.iter().map(|gap| gap.readings).sum(),
        gaps: told.collect(),
        trouble: state.trouble,
    }
}

fn fitting(mut reports: BTreeMap<Name, Recording>, most: usize) -> BTreeMap<Name, Recording> {
    let fits = |reports: &BTreeMap<Name, Recording>| {
        serde_json::to_vec(reports).is_ok_and(|json| json.len() < most)
    };
    let mut shown = GAPS_SHOWN;
    while shown > 0 && !fits(&reports) {
        shown /= 2;
        for report in reports.values_mut() {
            let older = report.gaps.len().saturating_sub(shown);
            report.gaps.drain(..older);
        }
    }
    reports
}

#[cfg(test)]
mod tests {
    use fades_task::coverage;

    use super::{BTreeMap, GAPS_SHOWN, Name, Recording, Time, fitting};

    #[test]
    fn of_many_sources_the_newest_gaps_are_shown_and_what_is_wrong() {
        let source: Name = "hall".parse().unwrap();
        let gap = |n: usize| coverage::Gap {
            source: source.clone(),
            from: Time(n as i64),
            to: Time(n as i64 + 1),
            readings: 0,
            reason: "the broker was not running".to_owned(),
        };
        let report = Recording {
            recorded: 1,
            waiting: 2,
            bytes: 3,
            oldest: None,
            expired: 4,
            lost: 5,
            gaps: (0..GAPS_SHOWN).map(gap).collect(),
            trouble: Some("full".to_owned()),
        };
        let names = (0..50).map(|n| format!("s{n}").parse().unwrap());
        let reports: BTreeMap<Name, Recording> = names.map(|n| (n, report.clone())).collect();
        let whole = serde_json::to_vec(&reports).unwrap().len();
        assert_eq!(fitting(reports.clone(), whole + 1), reports);
        let some = fitting(reports.clone(), whole / 3);
        assert!(serde_json::to_vec(&some).unwrap().len() < whole / 3);
        for report in some.values() {
            assert_eq!(report.gaps, [gap(15), gap(16), gap(17), gap(18), gap(19)]);
        }
        let least = fitting(reports, 1);
        assert_eq!(least.len(), 50);
        let bare = |r: &Recording| r.gaps.is_empty() && r.trouble.is_some();
        assert!(least.values().all(bare));
    }
}
