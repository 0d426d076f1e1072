//! Whether one selector wants all that another wants, and parts of a selector.

use globset::GlobSet;

use super::{Selector, globs};
use crate::series::SeriesKey;

impl Selector {
    /// Whether whatever `other` matches in the same source is matched by this,
    /// whatever their times. `false` also where that would be hard to tell.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let (own, others) = (&self.written, &other.written);
        let labels = own.labels.iter().filter(|(_, own)| !own.is_empty());
        let labels = labels.map(|(name, own)| {
            let globs = self.labels.iter().find(|(n, _)| n == name);
            let globs = globs.map(|(_, globs)| globs);
            others
                .labels
                .get(name)
                .is_some_and(|others| covered(own, globs, others))
        });
        covered(&own.kind, self.kind.as_ref(), &others.kind)
            && covered(&own.location, self.location.as_ref(), &others.location)
            && covered(&own.device, self.device.as_ref(), &others.device)
            && labels.into_iter().all(|covers| covers)
            && (self.near.is_none() || self.near == other.near)
            && self.bounds_cover(other)
    }

    /// Whether it may match whatever the other may.
    fn bounds_cover(&self, other: &Self) -> bool {
        match (&self.bounds, &other.bounds) {
            (None, _) => true,
            (Some(own), Some(other)) => own.are(other),
            (Some(_), None) => false,
        }
    }

    /// The same with another range.
    pub(crate) fn between(&self, from: i64, to: i64) -> Self {
        Self {
            from,
            to,
            ..self.clone()
        }
    }

    /// The same for a series that it matches and perhaps some that are called nearly
    /// the same; `None` if its names make no pattern.
    pub(crate) fn for_series(&self, key: &SeriesKey) -> Option<Self> {
        let mut written = super::Written {
            labels: self.written.labels.clone(),
            ..super::Written::default()
        };
        (written.kind, written.location, written.device) = (
            vec![nearly(&key.kind)],
            vec![nearly(&key.location)],
            vec![nearly(&key.device)],
        );
        Some(Self {
            kind: globs("kind", &written.kind).ok()?,
            location: globs("location", &written.location).ok()?,
            device: globs("device", &written.device).ok()?,
            written: written.into(),
            ..self.clone()
        })
    }
}

/// What has a meaning in a glob.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// Whether patterns match whatever `others` match; none of them match everything.
fn covered(own: &[String], globs: Option<&GlobSet>, others: &[String]) -> bool {
    let is_covered = |other: &String| {
        let is_name = !other.contains(SPECIAL);
        own.contains(other) || (is_name && globs.is_some_and(|g| g.is_match(other)))
    };
    own.is_empty() || (!others.is_empty() && others.iter().all(is_covered))
}

/// A pattern that matches a name, and what differs from it in a character that
/// would have a meaning in a pattern.
fn nearly(name: &str) -> String {
    name.replace(SPECIAL, "?")
}

#[cfg(test)]
mod tests {
    use fades_task::mtw::{Dto, Near};
    use proptest::prelude::{Strategy, any, prop, prop_assert, proptest};

    use super::Selector;
    use crate::series::SeriesKey;

    fn owned(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|p| (*p).to_owned()).collect()
    }

    fn dto(kind: &[&str], device: &[&str]) -> Dto {
        Dto {
            kind: owned(kind),
            device: owned(device),
            ..Dto::all("d".parse().unwrap())
        }
    }

    fn covers(a: &Dto, b: &Dto) -> bool {
        let [a, b] = [a, b].map(|d| Selector::compile(d).unwrap());
        a.covers(&b)
    }

    #[test]
    fn more_patterns_names_that_match_and_none_cover() {
        let all = dto(&[], &[]);
        let some = dto(&["pm*", "t"], &["a", "b?"]);
        assert!(covers(&all, &some) && covers(&all, &all) && covers(&some, &some));
        assert!(!covers(&some, &all));
        assert!(covers(&some, &dto(&["pm*"], &["b?", "a"])));
        assert!(covers(&some, &dto(&["pm10", "t"], &["b7"])));
        assert!(!covers(&some, &dto(&["pm*"], &[])), "every device");
        assert!(!covers(&some, &dto(&["pm1*"], &["a"])), "hard to tell");
        assert!(!covers(&some, &dto(&["p?"], &["a"])));
        assert!(!covers(&some, &dto(&["pm10", "u"], &["a"])));
        assert!(!covers(&some, &dto(&["pm\\*", "t"], &["a"])));
    }

    #[test]
    fn labels_and_places_are_absent_or_the_same() {
        let all = dto(&[], &[]);
        let with = |values: &[&str]| Dto {
            labels: [("floor".to_owned(), owned(values))].into(),
            ..all.clone()
        };
        let (third, any) = (with(&["3"]), with(&["*"]));
        assert!(covers(&all, &third) && covers(&any, &third) && covers(&third, &third));
        assert!(!covers(&third, &all) && !covers(&third, &any) && !covers(&any, &all));
        assert!(covers(&with(&[]), &all), "none is any");
        let mut other = third.clone();
        other.labels = [("room".to_owned(), owned(&["3"]))].into();
        assert!(!covers(&third, &other));
        let near = |within: &str| Dto {
            near: Some(Near {
                at: [57.16, -2.09],
                within: within.parse().unwrap(),
            }),
            ..all.clone()
        };
        assert!(covers(&all, &near("2km")) && covers(&near("2km"), &near("2km")));
        assert!(!covers(&near("2km"), &all) && !covers(&near("2km"), &near("1km")));
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(r"[ab/*?{},\[\]\\!]{0,4}", 0..3)
    }

    fn compiled(kind: &[String], device: &[String]) -> Option<Selector> {
        let dto = Dto {
            kind: kind.to_vec(),
            device: device.to_vec(),
            ..Dto::all("d".parse().unwrap())
        };
        Selector::compile(&dto).ok()
    }

    fn key(kind: &str, device: &str) -> SeriesKey {
        SeriesKey {
            device: device.into(),
            location: "".into(),
            kind: kind.into(),
            unit: "".into(),
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_is_matched(
            a in (patterns(), patterns()),
            b in (patterns(), patterns()),
            names in prop::collection::vec((r"[ab/,]{0,4}", r"[ab/,*?]{0,4}"), 16),
        ) {
            if let (Some(a), Some(b)) = (compiled(&a.0, &a.1), compiled(&b.0, &b.1))
                && a.covers(&b)
            {
                for (kind, device) in &names {
                    let key = key(kind, device);
                    prop_assert!(!b.matches(&key) || a.matches(&key), "{key:?}");
                }
            }
        }

        #[test]
        fn the_pattern_of_a_series_matches_it(
            kind in any::<String>(),
            device in r"[ab/*?{},\[\]\\!]{0,8}",
        ) {
            let key = key(&kind, &device);
            let only = Selector::all().for_series(&key);
            prop_assert!(only.is_some_and(|only| only.matches(&key)));
        }
    }
}
