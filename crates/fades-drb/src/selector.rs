//! What a DTO asks for, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use fades_task::mtw::{Dto, Near};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::notes::{Note, Notes, distance};
use crate::series::SeriesKey;

/// Globs over kinds, locations and devices, what the operator says of devices,
/// and a range of time.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    kind: Option<GlobSet>,
    location: Option<GlobSet>,
    device: Option<GlobSet>,
    labels: Arc<Vec<(String, GlobSet)>>,
    near: Option<Near>,
    notes: Option<Arc<Notes>>,
    /// Beyond which nothing is matched.
    bounds: Option<Arc<Bounds>>,
    /// As they were written, for sources that hand them on.
    pub(crate) written: Arc<Written>,
    /// ns since 1970 UTC, inclusive.
    pub(crate) from: i64,
    /// Exclusive, except that `i64::MAX` means no end.
    pub(crate) to: i64,
}

/// Globs of which any may match; none: everything does.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) kind: Vec<String>,
    pub(crate) location: Vec<String>,
    pub(crate) device: Vec<String>,
    /// Of labels, those that are asked for by name.
    labels: BTreeMap<String, Vec<String>>,
}

mod covering;
pub(crate) mod granted;

use self::granted::Bounds;

impl Selector {
    /// Compiles the globs of a DTO.
    ///
    /// # Errors
    /// In words, which is none.
    pub(crate) fn compile(dto: &Dto) -> Result<Self, String> {
        Ok(Self {
            kind: globs("kind", &dto.kind)?,
            location: globs("location", &dto.location)?,
            device: globs("device", &dto.device)?,
            labels: Arc::new(labels(dto)?),
            near: dto.near,
            notes: None,
            bounds: match &dto.granted {
                Some(granted) => Bounds::compile(granted)?.map(Arc::new),
                None => None,
            },
            written: Arc::new(Written {
                kind: dto.kind.clone(),
                location: dto.location.clone(),
                device: dto.device.clone(),
                labels: dto.labels.clone(),
            }),
            from: dto.from.0,
            to: dto.to.0,
        })
    }

    /// Everything there is.
    pub(crate) fn all() -> Self {
        Self {
            kind: None,
            location: None,
            device: None,
            labels: Arc::default(),
            near: None,
            notes: None,
            bounds: None,
            written: Arc::default(),
            from: i64::MIN,
            to: i64::MAX,
        }
    }

    /// Everything that may be matched.
    pub(crate) fn bounds(&self) -> Self {
        Self {
            bounds: self.bounds.clone(),
            ..Self::all()
        }
    }

    /// The same for a source whose operator said `notes` of its devices.
    pub(crate) fn with(&self, notes: &Arc<Notes>) -> Self {
        Self {
            notes: Some(Arc::clone(notes)),
            ..self.clone()
        }
    }

    pub(crate) fn matches(&self, key: &SeriesKey) -> bool {
        self.kind(&key.kind) && self.location(&key.location) && self.device(&key.device)
    }

    pub(crate) fn kind(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|g| g.is_match(kind))
            && self.bounds.as_ref().is_none_or(|b| b.kind(kind))
    }

    pub(crate) fn location(&self, location: &str) -> bool {
        self.location.as_ref().is_none_or(|g| g.is_match(location))
            && self.bounds.as_ref().is_none_or(|b| b.location(location))
    }

    pub(crate) fn device(&self, device: &str) -> bool {
        self.device.as_ref().is_none_or(|g| g.is_match(device))
            && self.bounds.as_ref().is_none_or(|b| b.device(device))
            && self.noted(device)
    }

    /// Whether it asks for labels or places, which only the operator's notes say.
    pub(crate) fn is_noted(&self) -> bool {
        !self.labels.is_empty() || self.near.is_some()
    }

    /// Whether labels and place of a device match.
    fn noted(&self, device: &str) -> bool {
        if self.labels.is_empty() && self.near.is_none() {
            return true;
        }
        let Some(note) = self.notes.as_ref().and_then(|n| n.of(device)) else {
            return false;
        };
        let has = |(name, globs): &(String, GlobSet)| {
            let value = note.labels.get(name);
            value.is_some_and(|value| globs.is_match(value))
        };
        self.labels.iter().all(has) && self.near.is_none_or(|near| is_near(note, near))
    }

    pub(crate) const fn within(&self, time: i64) -> bool {
        self.from <= time && (time < self.to || self.to == i64::MAX)
    }

    /// Whether anything between `oldest` and `newest` (inclusive) can be within.
    pub(crate) const fn overlaps(&self, oldest: i64, newest: i64) -> bool {
        self.from <= newest && (oldest < self.to || self.to == i64::MAX)
    }

    /// Whether everything between them is.
    pub(crate) const fn contains(&self, oldest: i64, newest: i64) -> bool {
        self.within(oldest) && self.within(newest)
    }
}

fn is_near(note: &Note, near: Near) -> bool {
    note.at
        .is_some_and(|at| distance(at, near.at) <= near.within.metres())
}

fn labels(dto: &Dto) -> Result<Vec<(String, GlobSet)>, String> {
    let labels = dto.labels.iter().map(|(name, patterns)| {
        let globs = globs(&format!("labels.{name}"), patterns)?;
        Ok(globs.map(|globs| (name.clone(), globs)))
    });
    let labels: Result<Vec<_>, String> = labels.collect();
    Ok(labels?.into_iter().flatten().collect())
}

fn globs(field: &str, patterns: &[String]) -> Result<Option<GlobSet>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|e| format!("{field} {pattern:?} is no glob: {}", e.kind()))?);
    }
    set.build()
        .map(Some)
        .map_err(|e| format!("{field}: {}", e.kind()))
}

/// The selector of a DTO in words.
pub(crate) fn words(dto: &Dto) -> String {
    let source: Vec<String> = dto.source.iter().map(ToString::to_string).collect();
    let fields = [
        ("source", &source),
        ("kind", &dto.kind),
        ("location", &dto.location),
        ("device", &dto.device),
    ];
    let mut words: Vec<String> = fields
        .iter()
        .filter(|(_, patterns)| !patterns.is_empty())
        .map(|(field, patterns)| format!("{field} {}", patterns.join(" or ")))
        .collect();
    let labels = dto.labels.iter();
    words.extend(labels.map(|(name, patterns)| format!("label {name} {}", patterns.join(" or "))));
    if let Some(Near { at, within }) = dto.near {
        words.push(format!("within {within} of {}, {}", at[0], at[1]));
    }
    if let Some(task) = &dto.result {
        words.push(format!("answers of {task}"));
    }
    if words.is_empty() {
        "anything".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Selector, words};
    use crate::config::DeviceNote;
    use crate::notes::Notes;
    use crate::series::SeriesKey;
    use fades_task::mtw::{Dto, Near};
    use fades_task::time::Time;

    fn dto(kind: &[&str], location: &[&str]) -> Dto {
        let owned = |p: &[&str]| p.iter().map(|p| (*p).to_owned()).collect();
        Dto {
            kind: owned(kind),
            location: owned(location),
            from: Time(10),
            to: Time(20),
            ..Dto::all("d".parse().unwrap())
        }
    }

    fn matches(dto: &Dto, kind: &str, location: &str) -> bool {
        Selector::compile(dto).unwrap().matches(&SeriesKey {
            device: "d1".into(),
            location: location.into(),
            kind: kind.into(),
            unit: "".into(),
        })
    }

    #[test]
    fn a_star_does_not_cross_a_level_of_the_location() {
        let one = dto(&["pm*"], &["aberdeen/*"]);
        assert!(matches(&one, "pm2.5", "aberdeen/3121"));
        assert!(!matches(&one, "pm2.5", "aberdeen/3121/roof"));
        assert!(!matches(&one, "temperature", "aberdeen/3121"));
        let all = dto(&[], &["aberdeen/**", "x"]);
        assert!(matches(&all, "t", "aberdeen/3121/roof"));
        assert!(matches(&all, "t", "x"));
        assert!(!matches(&all, "t", "y"));
        assert!(matches(&dto(&[], &[]), "t", ""));
    }

    #[test]
    fn labels_and_places_come_from_the_notes_of_the_source() {
        let note = DeviceNote {
            device: "board-*".to_owned(),
            labels: [("floor".to_owned(), "3".to_owned())].into(),
            at: Some([57.15, -2.09]),
            expected: None,
        };
        let notes = Arc::new(Notes::new(&[note]));
        let matches = |dto: &Dto, device: &str| {
            let selector = Selector::compile(dto).unwrap();
            assert!(!selector.device(device), "without notes nothing is known");
            selector.with(&notes).device(device)
        };
        let mut third = dto(&[], &[]);
        third.labels = [("floor".to_owned(), vec!["3".to_owned()])].into();
        assert!(matches(&third, "board-1"));
        assert!(!matches(&third, "other"));
        third.labels = [("floor".to_owned(), vec!["4".to_owned()])].into();
        assert!(!matches(&third, "board-1"));
        let mut near = dto(&[], &[]);
        for (within, expected) in [("2km", true), ("500m", false)] {
            near.near = Some(Near {
                at: [57.16, -2.09],
                within: within.parse().unwrap(),
            });
            assert_eq!(matches(&near, "board-1"), expected, "{within}");
        }
        assert_eq!(words(&near), "within 500m of 57.16, -2.09");
    }

    #[test]
    fn a_range_has_its_start_and_not_its_end() {
        let s = Selector::compile(&dto(&[], &[])).unwrap();
        assert!(s.within(10) && s.within(19) && !s.within(20) && !s.within(9));
        assert!(s.overlaps(0, 10) && s.overlaps(19, 30));
        assert!(!s.overlaps(0, 9) && !s.overlaps(20, 30));
        assert!(s.contains(10, 19) && !s.contains(10, 20));
        let all = Selector::all();
        assert!(all.within(i64::MAX) && all.within(i64::MIN));
    }

    #[test]
    fn a_bad_glob_and_a_selector_are_told_in_words() {
        let error = Selector::compile(&dto(&["a[b"], &[])).unwrap_err();
        assert!(error.contains("kind \"a[b\" is no glob"), "{error}");
        let w = words(&dto(&["a", "b"], &["x/*"]));
        assert_eq!(w, "kind a or b, location x/*");
        assert_eq!(words(&dto(&[], &[])), "anything");
    }
}
