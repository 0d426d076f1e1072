//! Days of which readings are taken. Each day is a file; a device whose clock is
//! anywhere would make one of each of its readings.
//!
//! Readings of the last month are always taken: days that are near are few. What is
//! older is taken on so many days of a head, and of so many days in all: enough for
//! what a device says that was cut off for a year, and for ten years that are brought
//! in from elsewhere.

use std::collections::HashSet;
use std::sync::Arc;

use crate::readings::segment::Stored;

/// Days before today that are near.
const NEAR: i64 = 31;

/// How many days that are not near there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::readings) struct Most {
    /// In a head: it becomes so many files at once.
    pub(in crate::readings) head: usize,
    /// In all, near ones among them: no new ones are begun then.
    pub(in crate::readings) all: usize,
}

impl Default for Most {
    fn default() -> Self {
        Self {
            head: 512,
            all: 4_096,
        }
    }
}

/// The days of a source.
#[derive(Debug, Default)]
pub(super) struct Days {
    most: Most,
    /// Those of the head that were not near.
    head: HashSet<i64>,
    /// They and those of segments, in the state of the segments that is numbered.
    all: HashSet<i64>,
    generation: Option<u64>,
}

impl Days {
    /// Those of a head that was found are among them, however many there are.
    pub(super) fn new(most: Most, head: impl Iterator<Item = i64>, today: i64) -> Self {
        Self {
            most,
            head: head.filter(|day| !is_near(*day, today)).collect(),
            ..Self::default()
        }
    }

    /// Whether a reading of `day` is taken.
    pub(super) fn take(
        &mut self,
        day: i64,
        today: i64,
        generation: u64,
        segments: &[Arc<Stored>],
    ) -> bool {
        if is_near(day, today) || self.head.contains(&day) {
            return true;
        }
        if self.head.len() >= self.most.head {
            return false;
        }
        if self.generation != Some(generation) {
            let kept = segments.iter().map(|s| s.name.day);
            self.all = kept.chain(self.head.iter().copied()).collect();
            self.generation = Some(generation);
        }
        if !self.all.contains(&day) && self.all.len() >= self.most.all {
            return false;
        }
        self.all.insert(day);
        self.head.insert(day)
    }

    /// The head is sealed.
    pub(super) fn seal(&mut self) {
        self.head.clear();
    }
}

const fn is_near(day: i64, today: i64) -> bool {
    day >= today - NEAR
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Days, Most, NEAR, Stored};
    use crate::readings::disk::Disk;
    use crate::readings::segment::SegmentName;

    const TODAY: i64 = 20_000;

    fn segments(days: &[i64]) -> Vec<Arc<Stored>> {
        let disk: Arc<Disk> = Arc::default();
        let stored = |&day| {
            let name = SegmentName {
                day,
                first: 1,
                last: 1,
            };
            Stored::new(&disk, "x".into(), name, 1)
        };
        days.iter().map(stored).collect()
    }

    #[test]
    fn near_days_are_taken_and_so_many_others_of_a_head_and_in_all() {
        let most = Most { head: 3, all: 5 };
        let mut days = Days::new(most, [7, TODAY].into_iter(), TODAY);
        let kept = segments(&[1, 2]);
        let mut take = |day| days.take(day, TODAY, 1, &kept);
        assert!(take(7), "it was found in the head");
        assert!(take(8) && take(8) && take(1));
        assert!(!take(9) && !take(2), "a fourth one of the head");
        for day in TODAY - NEAR..TODAY + 2 {
            assert!(take(day));
        }
        assert!(!take(TODAY - NEAR - 1));
        days.seal();
        let mut take = |day| days.take(day, TODAY, 1, &kept);
        // 1, 2, 7 and 8 are there.
        assert!(take(2) && take(9) && !take(10), "a sixth one in all");
        days.seal();
        // What was removed makes room.
        let kept = segments(&[1, 9]);
        let mut take = |day| days.take(day, TODAY, 2, &kept);
        assert!(take(10) && take(11) && take(12) && !take(13));
    }
}
