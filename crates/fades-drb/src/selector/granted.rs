//! What a selector may match at the most, whatever its DTO asks for.

use fades_task::grant::{Granted, Least};
use fades_task::mtw::{Dto, Take};
use globset::GlobSet;

use super::globs;

/// Patterns of a grant, compiled.
#[derive(Debug)]
pub(crate) struct Bounds {
    written: [Vec<String>; 3],
    kind: Option<GlobSet>,
    location: Option<GlobSet>,
    device: Option<GlobSet>,
}

impl Bounds {
    /// None where everything may be matched.
    ///
    /// # Errors
    /// In words, which pattern is none.
    pub(super) fn compile(granted: &Granted) -> Result<Option<Self>, String> {
        let written = [&granted.kinds, &granted.locations, &granted.devices];
        if written.iter().all(|patterns| patterns.is_empty()) {
            return Ok(None);
        }
        Ok(Some(Self {
            kind: globs("granted kinds", &granted.kinds)?,
            location: globs("granted locations", &granted.locations)?,
            device: globs("granted devices", &granted.devices)?,
            written: written.map(Clone::clone),
        }))
    }

    pub(super) fn kind(&self, kind: &str) -> bool {
        self.kind.as_ref().is_none_or(|g| g.is_match(kind))
    }

    pub(super) fn location(&self, location: &str) -> bool {
        self.location.as_ref().is_none_or(|g| g.is_match(location))
    }

    pub(super) fn device(&self, device: &str) -> bool {
        self.device.as_ref().is_none_or(|g| g.is_match(device))
    }

    /// Whether they are written alike.
    pub(super) fn are(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

/// Sources that may be asked; none given: all.
#[derive(Debug, Default)]
pub(crate) struct Reach(Option<GlobSet>);

impl Reach {
    /// # Errors
    /// In words, which pattern is none.
    pub(crate) fn of(dto: &Dto) -> Result<Self, String> {
        let patterns = dto.granted.as_ref().map(|g| g.sources.as_slice());
        globs("granted sources", patterns.unwrap_or_default()).map(Self)
    }

    pub(crate) fn has(&self, source: &str) -> bool {
        self.0.as_ref().is_none_or(|g| g.is_match(source))
    }
}

/// Why the time that a DTO asks for is not granted, in words.
pub(crate) fn untimely(dto: &Dto) -> Option<String> {
    let granted = dto.granted.as_ref()?;
    let grant = &granted.grant;
    match (dto.take, granted.since) {
        (Take::Range, Some(since)) if dto.from >= since => None,
        (Take::Range, Some(since)) => Some(format!("grant {grant} has ranges from {since} on")),
        (Take::Range, None) => Some(format!("grant {grant} has no ranges")),
        (Take::Now | Take::Live { .. }, _) if granted.live => None,
        (Take::Now | Take::Live { .. }, _) => Some(format!("grant {grant} has nothing live")),
    }
}

/// The same for readings that are the same: which grant it is, and since when, makes no
/// other batches of a range that is granted.
pub(crate) fn patterns_of(granted: &Granted) -> Option<Granted> {
    let mut same = granted.clone();
    (same.since, same.live, same.least) = (None, false, Least::default());
    let all = [
        &mut same.kinds,
        &mut same.locations,
        &mut same.devices,
        &mut same.sources,
    ];
    let mut any = false;
    for patterns in all {
        patterns.sort_unstable();
        any |= !patterns.is_empty();
    }
    any.then_some(same)
}

#[cfg(test)]
mod tests {
    use fades_task::grant::{Granted, Least};
    use fades_task::mtw::{Dto, Take};
    use fades_task::time::Time;

    use super::{Reach, untimely};
    use crate::selector::Selector;
    use crate::series::SeriesKey;

    fn granted() -> Granted {
        Granted {
            grant: "air".parse().unwrap(),
            kinds: vec!["pm*".to_owned()],
            locations: vec!["west/**".to_owned()],
            devices: vec!["a*".to_owned()],
            sources: vec!["ha*".to_owned()],
            since: Some(Time(100)),
            live: false,
            least: Least::default(),
        }
    }

    fn dto(granted: Granted) -> Dto {
        Dto {
            granted: Some(granted),
            ..Dto::all("d".parse().unwrap())
        }
    }

    #[test]
    fn nothing_beyond_a_grant_is_matched_whatever_is_asked_for() {
        let all = Selector::compile(&dto(granted())).unwrap();
        let matches = |kind: &str, location: &str, device: &str| {
            all.matches(&SeriesKey {
                device: device.into(),
                location: location.into(),
                kind: kind.into(),
                unit: "".into(),
            })
        };
        assert!(matches("pm10", "west/1", "a1"));
        assert!(!matches("noise", "west/1", "a1"));
        assert!(!matches("pm10", "east/1", "a1"));
        assert!(!matches("pm10", "west/1", "b1"));
        let reach = Reach::of(&dto(granted())).unwrap();
        assert!(reach.has("hall") && !reach.has("roof"));
    }

    #[test]
    fn ranges_that_begin_too_early_and_live_readings_are_not_granted() {
        let mut asked = dto(granted());
        assert!(untimely(&asked).unwrap().contains("ranges from 1970"));
        asked.from = Time(100);
        assert_eq!(untimely(&asked), None);
        asked.take = Take::Now;
        assert!(untimely(&asked).unwrap().contains("nothing live"));
        let mut live = granted();
        (live.live, live.since) = (true, None);
        asked.granted = Some(live);
        assert_eq!(untimely(&asked), None);
        asked.take = Take::Range;
        assert!(untimely(&asked).unwrap().contains("no ranges"));
    }

    #[test]
    fn selectors_under_other_grants_do_not_stand_for_each_other() {
        let compile = |dto: &Dto| Selector::compile(dto).unwrap();
        let own = compile(&dto(granted()));
        let mut later = granted();
        later.since = Some(Time(200));
        assert!(own.covers(&compile(&dto(later))));
        let mut other = granted();
        other.kinds = vec!["pm10".to_owned()];
        let other = compile(&dto(other));
        assert!(!own.covers(&other) && !other.covers(&own));
        let free = compile(&Dto::all("d".parse().unwrap()));
        assert!(free.covers(&own) && !own.covers(&free));
    }
}
