//! Whether a task is granted.
//!
//! A task is allowed by *one* grant as a whole, or not at all: what one grant allows
//! for these readings and another for those is not put together, so that two
//! harmless grants never make a third. Whatever a task could match has to lie inside
//! of the grant; nothing is left out of what it asked for without a word.
//!
//! [`Grants::decide`] is asked when a task is handed in and again before each run.
//! Each grant is held against the task condition by condition ([`Considered`]), and
//! the same conditions are what people are shown.

mod condition;
mod globs;
mod sample;

use std::sync::Arc;

use fades_task::export::Export;
use fades_task::grant::{Grant, Granted, Grants as Tables, History, Least};
use fades_task::identity::{Digest, Name};
use fades_task::limits::Isolation;
use fades_task::mtw::{Dto, Mtw, Retrieve};
use fades_task::resource::Device;
use fades_task::time::Time;

use self::globs::Globs;

pub use self::condition::{Condition, Considered};
pub use self::sample::of_task as sample;

/// The grants of a node, ready to decide. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Grants(Arc<Node>);

#[derive(Debug, Default)]
struct Node {
    grants: Vec<Ready>,
    sources: Vec<Name>,
}

/// A grant whose patterns are compiled.
#[derive(Debug)]
struct Ready {
    name: Name,
    grant: Grant,
    services: Globs,
    functions: Vec<FunctionGlob>,
    kinds: Globs,
    locations: Globs,
    devices: Globs,
    sources: Globs,
    destinations: Globs,
}

#[derive(Debug)]
struct FunctionGlob {
    name: Globs,
    digest: Option<Digest>,
}

/// What is asked of a node.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The task.
    pub mtw: &'a Mtw,
    /// When it was accepted.
    pub accepted: Time,
    /// What times like `last` are relative to: when it was accepted, or was due.
    pub at: Time,
}

/// What a task may do, by the one grant that allows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// The grant.
    pub grant: Name,
    at: Time,
    terms: Grant,
}

/// What is wrong with a grant, beginning with its dotted path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grant.{grant}.{field}: {reason}")]
pub struct GrantError {
    grant: Name,
    field: &'static str,
    reason: String,
}

/// No grant allows what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    /// None is for the service.
    #[error(
        "no grant of this node names the service {service}: its operator can write one, such as {sample}"
    )]
    Service {
        /// The service.
        service: Name,
        /// A table that would allow the task.
        sample: String,
    },
    /// None lets a service see readings.
    #[error(
        "no grant of this node lets {services} see readings: its operator can write one, such as {sample}"
    )]
    Preview {
        /// The services.
        services: String,
        /// A table that would allow it.
        sample: String,
    },
    /// None allows all of it.
    #[error(
        "grant {grant}: {unmet}: ask for less, or let the operator of the node grant more{more}"
    )]
    Terms {
        /// The grant that comes nearest.
        grant: Name,
        /// What it does not allow.
        unmet: String,
        /// In words, other grants that do not allow it either.
        more: String,
    },
}

impl Grants {
    /// Compiles and checks the tables of a node that has these sources.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn compile(tables: &Tables, sources: &[Name]) -> Result<Self, GrantError> {
        let grants = tables.0.iter().map(|(name, grant)| ready(name, grant));
        let mut grants = grants.collect::<Result<Vec<_>, _>>()?;
        // What one of them gives without bounds needs none.
        grants.sort_by_key(|ready| ready.grant.export.is_some());
        Ok(Self(Arc::new(Node {
            grants,
            sources: sources.to_vec(),
        })))
    }

    /// What allows this, if anything does: of several grants, one without bounds of
    /// export before others, and then the first by name.
    ///
    /// # Errors
    /// What is missing.
    pub fn decide(&self, request: Asked<'_>) -> Result<Allowed, NotGranted> {
        let service = request.mtw.task.service.as_str();
        // Comparing patterns takes longer than this does.
        let of_service = |ready: &&Ready| ready.services.is_match(service);
        let allows = |ready: &&Ready| condition::consider(ready, &self.0.sources, request).allows();
        let mut grants = self.0.grants.iter().filter(of_service);
        match grants.find(allows) {
            Some(ready) => Ok(ready.allowed(request.at)),
            None => Err(condition::missing(request, &self.consider(request))),
        }
    }

    /// Each grant of the node, held against what is asked for.
    #[must_use]
    pub fn consider(&self, request: Asked<'_>) -> Vec<Considered> {
        let consider = |ready: &Ready| condition::consider(ready, &self.0.sources, request);
        self.0.grants.iter().map(consider).collect()
    }

    /// What lets one of `services` see the first readings of these entries.
    ///
    /// # Errors
    /// What is missing.
    pub fn preview(
        &self,
        services: &[Name],
        entries: &[Retrieve],
        at: Time,
    ) -> Result<Allowed, NotGranted> {
        let mut missing = None;
        for service in services {
            for ready in &self.0.grants {
                let unmet = condition::preview(ready, &self.0.sources, service, entries, at);
                match unmet {
                    None => return Ok(ready.allowed(at)),
                    Some(unmet) => missing = missing.or(unmet.refusal(ready)),
                }
            }
        }
        Err(missing.unwrap_or_else(|| condition::no_preview(services, entries)))
    }

    /// Whether a device is granted to any of `services`: what is left of it then.
    #[must_use]
    pub fn visible(&self, services: &[Name], device: &Device) -> Option<Device> {
        let of = |ready: &&Ready| services.iter().any(|s| ready.services.is_match(s.as_str()));
        let grants: Vec<&Ready> = self.0.grants.iter().filter(of).collect();
        let mut seen = device.clone();
        seen.series.retain(|series| {
            let shows = |ready: &&Ready| ready.shows(device, &series.kind);
            grants.iter().any(shows)
        });
        (!seen.series.is_empty()).then_some(seen)
    }
}

impl Ready {
    fn allowed(&self, at: Time) -> Allowed {
        Allowed {
            grant: self.name.clone(),
            at,
            terms: self.grant.clone(),
        }
    }

    fn shows(&self, device: &Device, kind: &str) -> bool {
        self.sources.is_match(device.source.as_str())
            && self.locations.is_match(&device.location)
            && self.devices.is_match(&device.device)
            && self.kinds.is_match(kind)
    }
}

impl Allowed {
    /// Whether an isolation is good enough.
    #[must_use]
    pub fn permits(&self, isolation: Isolation) -> bool {
        let enough = self.terms.isolation.as_ref();
        enough.is_none_or(|enough| enough.contains(&isolation))
    }

    /// What may leave the node, where that is bounded.
    #[must_use]
    pub const fn export(&self) -> Option<&Export> {
        self.terms.export.as_ref()
    }

    /// What the broker may look at for a DTO. What the service was answered earlier
    /// is its own.
    #[must_use]
    pub fn for_dto(&self, dto: &Dto) -> Granted {
        let own = dto.result.is_some();
        let globs = |globs: &Option<Vec<String>>| match globs {
            Some(globs) if !own => globs.clone(),
            _ => Vec::new(),
        };
        let history = if own {
            Some(History::Any)
        } else {
            self.terms.history
        };
        Granted {
            grant: self.grant.clone(),
            kinds: globs(&self.terms.kinds),
            locations: globs(&self.terms.locations),
            devices: globs(&self.terms.devices),
            sources: globs(&self.terms.sources),
            since: history.map(|history| history.since(self.at)),
            live: self.terms.live,
            least: self.export().map_or_else(Least::default, |export| Least {
                readings: export.min_readings,
                devices: export.min_devices,
            }),
        }
    }
}

fn ready(name: &Name, grant: &Grant) -> Result<Ready, GrantError> {
    let wrong = |field, reason: String| GrantError {
        grant: name.clone(),
        field,
        reason,
    };
    let globs = |field, patterns: &[String]| Globs::new(patterns).map_err(|e| wrong(field, e.0));
    let given = |field, patterns: &[String]| match patterns {
        [] => Err(wrong(
            field,
            "the list is empty: write \"*\" for any".to_owned(),
        )),
        patterns => globs(field, patterns),
    };
    let narrows = |field, patterns: &Option<Vec<String>>| match patterns.as_deref() {
        Some([]) => Err(wrong(
            field,
            "the list is empty, so nothing would match: leave it out for any".to_owned(),
        )),
        patterns => globs(field, patterns.unwrap_or_default()),
    };
    if grant.functions.is_empty() {
        return Err(wrong(
            "functions",
            "the list is empty: write \"*\" for any".to_owned(),
        ));
    }
    if grant.isolation.as_ref().is_some_and(Vec::is_empty) {
        let reason = "the list is empty: leave it out for any".to_owned();
        return Err(wrong("isolation", reason));
    }
    if grant.previews && grant.export.is_some() {
        let reason = "it would show readings, which export is to withhold: leave one of them out";
        return Err(wrong("previews", reason.to_owned()));
    }
    let functions = grant.functions.iter().map(|f| function(f));
    let functions = functions.collect::<Result<_, _>>();
    Ok(Ready {
        services: given("services", &grant.services)?,
        functions: functions.map_err(|reason| wrong("functions", reason))?,
        kinds: narrows("kinds", &grant.kinds)?,
        locations: narrows("locations", &grant.locations)?,
        devices: narrows("devices", &grant.devices)?,
        sources: narrows("sources", &grant.sources)?,
        destinations: globs("destinations", &grant.destinations)?,
        name: name.clone(),
        grant: grant.clone(),
    })
}

fn function(written: &str) -> Result<FunctionGlob, String> {
    let (name, digest) = match written.split_once('@') {
        None => (written, None),
        Some((name, digest)) => {
            let digest = digest.parse::<Digest>().map_err(|e| e.to_string())?;
            (name, Some(digest))
        }
    };
    let name = Globs::new(&[name.to_owned()]).map_err(|e| e.0)?;
    Ok(FunctionGlob { name, digest })
}

#[cfg(test)]
mod tests;
