//! What the operator wrote, in a form in which questions can be made of it.

use std::sync::Arc;

use super::pattern::Condition;
use crate::config::InfluxSource;
use crate::selector::Selector;
use crate::series::SeriesKey;
use crate::units;

/// Which series there are, and what each part of a series' name comes from.
#[derive(Debug)]
pub(super) struct Layout {
    /// Tags by which readings are grouped, in the order of their names, which is
    /// the order in which a server sorts by them.
    pub(super) tags: Vec<String>,
    pub(super) statements: Vec<Statement>,
    device: Named,
    location: Named,
}

/// One field of one measurement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) measurement: String,
    pub(super) field: String,
    kind: Named,
    unit: Named,
}

/// Where a name comes from.
#[derive(Debug)]
enum Named {
    /// The value of the tag of this number.
    Tag(usize),
    Fixed(Arc<str>),
}

/// A series as the server names it: number of the statement, and values of the
/// tags. The order is the server's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    pub(super) statement: usize,
    pub(super) tags: Vec<String>,
}

impl Layout {
    pub(super) fn new(config: &InfluxSource) -> Self {
        let map = &config.map;
        let mapped = [&map.device, &map.kind, &map.location, &map.unit];
        let mut tags: Vec<String> = mapped.into_iter().flatten().cloned().collect();
        tags.sort_unstable();
        tags.dedup();
        let named = |tag: &Option<String>, fixed: &str| {
            let number = tag.as_ref().and_then(|tag| tags.binary_search(tag).ok());
            number.map_or_else(|| Named::Fixed(fixed.into()), Named::Tag)
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut statements = Vec::new();
        for measurement in config.measurement.as_slice() {
            let kind = config.kind.as_ref().unwrap_or(measurement);
            if config.points.is_empty() {
                statements.push(Statement {
                    measurement: measurement.clone(),
                    field: config.field.clone(),
                    kind: named(&map.kind, kind),
                    unit: named(&map.unit, units::code(&text(&config.unit))),
                });
            }
            statements.extend(config.points.iter().map(|point| Statement {
                measurement: measurement.clone(),
                field: point.field.clone(),
                kind: Named::Fixed(point.kind.as_ref().unwrap_or(&point.field).as_str().into()),
                unit: named(&map.unit, units::code(&point.unit)),
            }));
        }
        Self {
            device: named(&map.device, &text(&config.device)),
            location: named(&map.location, &text(&config.location)),
            statements,
            tags,
        }
    }

    /// The name of a series.
    pub(super) fn key(&self, group: &Group) -> SeriesKey {
        let statement = &self.statements[group.statement];
        SeriesKey {
            device: self.device.of(group),
            location: self.location.of(group),
            kind: statement.kind.of(group),
            unit: units::code(&statement.unit.of(group)).into(),
        }
    }

    /// Statements that can have readings that match.
    pub(super) fn wanted(&self, selector: &Selector) -> Vec<usize> {
        let may = |named: &Named, matches: &dyn Fn(&str) -> bool| match named {
            Named::Tag(_) => true,
            Named::Fixed(name) => matches(name),
        };
        if !may(&self.device, &|d| selector.device(d))
            || !may(&self.location, &|l| selector.location(l))
        {
            return Vec::new();
        }
        let wanted = self.statements.iter().enumerate();
        let wanted = wanted.filter(|(_, s)| may(&s.kind, &|k| selector.kind(k)));
        wanted.map(|(i, _)| i).collect()
    }

    /// What the tags must be for a selector.
    pub(super) fn conditions(&self, selector: &Selector) -> Vec<Condition> {
        let written = &selector.written;
        let kind = self.statements.first().map(|s| &s.kind);
        let named = [
            (Some(&self.device), &written.device, false),
            (
                Some(&self.location),
                &written.location,
                selector.location(""),
            ),
            (kind, &written.kind, false),
        ];
        let conditions = named.into_iter().filter_map(|(named, globs, absent)| {
            let Some(Named::Tag(tag)) = named else {
                return None;
            };
            (!globs.is_empty()).then(|| Condition::of(&self.tags[*tag], globs, absent))
        });
        conditions.collect()
    }

    /// The tag that says the device.
    pub(super) fn device_tag(&self) -> Option<&str> {
        match &self.device {
            Named::Tag(tag) => Some(&self.tags[*tag]),
            Named::Fixed(_) => None,
        }
    }
}

impl Named {
    fn of(&self, group: &Group) -> Arc<str> {
        match self {
            Self::Tag(tag) => group.tags[*tag].as_str().into(),
            Self::Fixed(name) => Arc::clone(name),
        }
    }
}
