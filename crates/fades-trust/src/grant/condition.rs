//! The conditions of a grant, one by one, and what to say when one is not met.

use fades_task::identity::{ImageRef, Name};
use fades_task::limits::Isolation;
use fades_task::mtw::{Dto, Retrieve, Take};
use fades_task::time::Time;
use serde::Serialize;

use super::globs::{Globs, Within, list};
use super::sample::{of_preview, of_task};
use super::{Asked, NotGranted, Ready};

/// A grant, held against what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The grant.
    pub grant: Name,
    /// Its conditions, the service first and the function second.
    pub conditions: Vec<Condition>,
}

/// What is asked for in one respect, and what is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// In which respect.
    pub what: String,
    /// What is asked for, in words.
    pub asked: String,
    /// What is granted, in words.
    pub granted: String,
    /// Whether that is enough.
    pub met: bool,
    /// Why it is not, where that needs to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Considered {
    /// Whether the grant allows what is asked for.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.unmet().next().is_none()
    }

    /// The conditions that are not met.
    pub fn unmet(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|c| !c.met)
    }

    fn names_service(&self) -> bool {
        self.conditions.first().is_some_and(|c| c.met)
    }

    /// Whether service and function are granted, and how much else is not.
    fn distance(&self) -> (bool, usize) {
        let function = self.conditions.get(1).is_some_and(|c| c.met);
        (!function, self.unmet().count())
    }

    fn first_unmet(&self) -> String {
        self.unmet().next().map(words).unwrap_or_default()
    }
}

fn words(condition: &Condition) -> String {
    let Condition {
        what,
        asked,
        granted,
        because,
        ..
    } = condition;
    let because = because.as_ref().map(|b| format!(" ({b})"));
    let because = because.unwrap_or_default();
    format!("{what}: {asked} is asked for, {granted} is granted{because}")
}

impl Condition {
    fn new(what: impl Into<String>, asked: String, granted: String, met: bool) -> Self {
        Self {
            what: what.into(),
            asked,
            granted,
            met,
            because: None,
        }
    }

    fn because(mut self, reason: Option<String>) -> Self {
        self.because = reason;
        self
    }

    /// Of a preview.
    pub(super) fn refusal(&self, ready: &Ready) -> Option<NotGranted> {
        Some(NotGranted::Terms {
            grant: ready.name.clone(),
            unmet: words(self),
            more: String::new(),
        })
    }
}

pub(super) fn consider(ready: &Ready, sources: &[Name], request: Asked<'_>) -> Considered {
    let mtw = request.mtw;
    let mut conditions = vec![
        service(ready, &mtw.task.service),
        function(ready, &mtw.function.image),
    ];
    let dtos = mtw.dtos(request.accepted, request.at);
    for (entry, dto) in mtw.retrieve.iter().zip(&dtos) {
        conditions.extend(data(ready, sources, entry, dto, request.at));
    }
    conditions.push(isolation(ready, &mtw.function.isolation));
    conditions.push(limits(ready, request));
    conditions.extend(mtw.deliver.iter().map(|d| destination(ready, &d.to)));
    Considered {
        grant: ready.name.clone(),
        conditions,
    }
}

fn service(ready: &Ready, service: &Name) -> Condition {
    let met = ready.services.is_match(service.as_str());
    Condition::new(
        "service",
        service.to_string(),
        ready.services.to_string(),
        met,
    )
}

fn function(ready: &Ready, image: &ImageRef) -> Condition {
    let is = |f: &super::FunctionGlob| {
        let digest = f.digest.is_none_or(|d| image.digest == Some(d));
        digest && f.name.is_match(image.name.as_str())
    };
    let met = ready.functions.iter().any(is);
    let granted = list(&ready.grant.functions);
    let unpinned =
        !met && image.digest.is_none() && ready.functions.iter().any(|f| f.digest.is_some());
    let because = unpinned.then(|| "the task does not say which image".to_owned());
    Condition::new("function", image.to_string(), granted, met).because(because)
}

fn data(ready: &Ready, sources: &[Name], entry: &Retrieve, dto: &Dto, at: Time) -> Vec<Condition> {
    let name = &entry.name;
    if let Some(task) = &entry.result {
        // The service has read them already.
        let what = format!("retrieve {name}");
        let asked = format!("answers of its own task {task}");
        return vec![Condition::new(
            what,
            asked,
            "its own answers".to_owned(),
            true,
        )];
    }
    vec![
        source(ready, sources, dto),
        patterns(name, "kind", &dto.kind, &ready.kinds),
        patterns(name, "location", &dto.location, &ready.locations),
        patterns(name, "device", &dto.device, &ready.devices),
        time(ready, dto, at),
    ]
}

/// An entry that names no source asks all of them.
fn source(ready: &Ready, sources: &[Name], dto: &Dto) -> Condition {
    let named: Vec<&Name> = match &dto.source {
        Some(source) => vec![source],
        None => sources.iter().collect(),
    };
    let beyond = named
        .into_iter()
        .find(|s| !ready.sources.is_match(s.as_str()));
    let asked = dto
        .source
        .as_ref()
        .map_or("any".to_owned(), ToString::to_string);
    let what = format!("retrieve {}, source", dto.name);
    let because = beyond.filter(|_| dto.source.is_none());
    let because = because.map(|s| format!("it would ask source {s} as well: name a source"));
    Condition::new(what, asked, ready.sources.to_string(), beyond.is_none()).because(because)
}

fn patterns(name: &Name, field: &str, asked: &[String], granted: &Globs) -> Condition {
    let because = match granted.hold(asked) {
        Within::Yes => None,
        Within::Beyond(example) => Some(format!("\"{example}\" would match as well")),
        Within::Unknown(reason) => Some(reason),
    };
    let asked = match asked {
        [] => "any".to_owned(),
        patterns => list(patterns),
    };
    let what = format!("retrieve {name}, {field}");
    Condition::new(what, asked, granted.to_string(), because.is_none()).because(because)
}

fn time(ready: &Ready, dto: &Dto, at: Time) -> Condition {
    let what = format!("retrieve {}, time", dto.name);
    if dto.take != Take::Range {
        let asked = match dto.take {
            Take::Now => "now",
            _ => "collect",
        };
        let live = ready.grant.live;
        let granted = if live {
            "live readings"
        } else {
            "none that is live"
        };
        return Condition::new(what, asked.to_owned(), granted.to_owned(), live);
    }
    let asked = match dto.from.0 {
        i64::MIN => "everything from the first reading on".to_owned(),
        _ => format!("from {} on", second(dto.from)),
    };
    let (granted, met) = match ready.grant.history {
        None => ("no range".to_owned(), false),
        Some(history) => {
            let since = history.since(at);
            let granted = match since.0 {
                i64::MIN => "any range".to_owned(),
                _ => format!("\"{history}\" (from {} on)", second(since)),
            };
            (granted, dto.from >= since)
        }
    };
    Condition::new(what, asked, granted, met)
}

/// For people.
fn second(time: Time) -> Time {
    Time(time.0 - time.0.rem_euclid(1_000_000_000))
}

fn isolation(ready: &Ready, accepted: &[Isolation]) -> Condition {
    let words = |all: &[Isolation]| {
        let words: Vec<_> = all.iter().map(ToString::to_string).collect();
        words.join(" or ")
    };
    let enough = ready.grant.isolation.as_deref();
    let met = enough.is_none_or(|enough| accepted.iter().any(|i| enough.contains(i)));
    let granted = enough.map_or("any".to_owned(), words);
    Condition::new("isolation", words(accepted), granted, met)
}

fn limits(ready: &Ready, request: Asked<'_>) -> Condition {
    let ceiling = ready.grant.limits.limits();
    match request.mtw.function.limits.exceeds(&ceiling) {
        None => {
            let granted = match ready.grant.limits.is_empty() {
                true => "what the node allows",
                false => "as much",
            };
            let asked = "what the task says".to_owned();
            Condition::new("limits", asked, granted.to_owned(), true)
        }
        Some((field, asked, most)) => {
            let what = format!("limits, {field}");
            Condition::new(what, format!("\"{asked}\""), format!("\"{most}\""), false)
        }
    }
}

fn destination(ready: &Ready, to: &Name) -> Condition {
    let some = !ready.grant.destinations.is_empty();
    let met = some && ready.destinations.is_match(to.as_str());
    let granted = match some {
        true => ready.destinations.to_string(),
        false => "none".to_owned(),
    };
    Condition::new("destination", to.to_string(), granted, met)
}

/// The first condition under which a service may not see the first readings of these
/// entries.
pub(super) fn preview(
    ready: &Ready,
    sources: &[Name],
    asking: &Name,
    entries: &[Retrieve],
    at: Time,
) -> Option<Condition> {
    let shown = || {
        let (asked, granted) = ("the first readings", "no preview");
        Condition::new(
            "previews",
            asked.to_owned(),
            granted.to_owned(),
            ready.grant.previews,
        )
    };
    let data = entries
        .iter()
        .flat_map(|entry| data(ready, sources, entry, &entry.resolve(at), at));
    let all = [service(ready, asking), shown()].into_iter().chain(data);
    let mut unmet = all.filter(|condition| !condition.met);
    unmet.next()
}

pub(super) fn no_preview(services: &[Name], entries: &[Retrieve]) -> NotGranted {
    let words: Vec<&str> = services.iter().map(Name::as_str).collect();
    let service = words.first().and_then(|s| s.parse().ok());
    NotGranted::Preview {
        services: match words.as_slice() {
            [] => "a key that speaks for no service".to_owned(),
            words => words.join(", "),
        },
        sample: of_preview(service.as_ref(), entries).join(", "),
    }
}

/// Why no grant allows a task: the nearest one says it.
pub(super) fn missing(request: Asked<'_>, considered: &[Considered]) -> NotGranted {
    let of_service = considered.iter().filter(|c| c.names_service());
    let nearest = of_service.clone().min_by_key(|c| c.distance());
    let Some(nearest) = nearest else {
        return NotGranted::Service {
            service: request.mtw.task.service.clone(),
            sample: of_task(request).join(", "),
        };
    };
    let others = of_service.filter(|c| c.grant != nearest.grant);
    let others: Vec<&str> = others.map(|c| c.grant.as_str()).collect();
    NotGranted::Terms {
        grant: nearest.grant.clone(),
        unmet: nearest.first_unmet(),
        more: match others.as_slice() {
            [] => String::new(),
            others => format!(" (nor do {} allow it)", others.join(", ")),
        },
    }
}
