//! What a DTO asks for, compiled.

use fades_task::mtw::Dto;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::series::SeriesKey;

/// Globs over kinds, locations and devices, and a range of time.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    kind: Option<GlobSet>,
    location: Option<GlobSet>,
    device: Option<GlobSet>,
    /// ns since 1970 UTC, inclusive.
    pub(crate) from: i64,
    /// Exclusive, except that `i64::MAX` means no end.
    pub(crate) to: i64,
}

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
            from: dto.from.0,
            to: dto.to.0,
        })
    }

    /// Everything there is.
    pub(crate) const fn all() -> Self {
        Self {
            kind: None,
            location: None,
            device: None,
            from: i64::MIN,
            to: i64::MAX,
        }
    }

    pub(crate) fn matches(&self, key: &SeriesKey) -> bool {
        self.kind(&key.kind) && self.location(&key.location) && self.device(&key.device)
    }

    pub(crate) fn kind(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|g| g.is_match(kind))
    }

    pub(crate) fn location(&self, location: &str) -> bool {
        self.location.as_ref().is_none_or(|g| g.is_match(location))
    }

    pub(crate) fn device(&self, device: &str) -> bool {
        self.device.as_ref().is_none_or(|g| g.is_match(device))
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
    let words: Vec<String> = fields
        .iter()
        .filter(|(_, patterns)| !patterns.is_empty())
        .map(|(field, patterns)| format!("{field} {}", patterns.join(" or ")))
        .collect();
    if words.is_empty() {
        "anything".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Selector, words};
    use crate::series::SeriesKey;
    use fades_task::mtw::Dto;
    use fades_task::time::Time;

    fn dto(kind: &[&str], location: &[&str]) -> Dto {
        let owned = |p: &[&str]| p.iter().map(|p| (*p).to_owned()).collect();
        Dto {
            name: "d".parse().unwrap(),
            kind: owned(kind),
            location: owned(location),
            device: vec![],
            source: None,
            from: Time(10),
            to: Time(20),
            need: None,
            bad_rows: None,
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
