//! Options of an InfluxDB source.

use std::collections::BTreeSet;

use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Auth, FieldError, Patterns, Tls};

/// An InfluxDB source, 1.x or 2.x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InfluxSource {
    /// Address of the server, such as `https://10.0.4.2:8086`.
    pub url: String,
    /// 1: asked with InfluxQL; 2: with Flux.
    #[serde(default = "one")]
    pub version: u8,
    /// 1.x: the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// 1.x: the retention policy, when it is not the database's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// 2.x: the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// 2.x: the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Measurements, by their names; these are no globs.
    pub measurement: Patterns,
    /// The field that is read, when `points` says nothing else.
    #[serde(default = "value")]
    pub field: String,
    /// Several fields that are readings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<InfluxPoint>,
    /// Tags that say device, kind, location and unit.
    #[serde(default)]
    pub map: InfluxTags,
    /// The device, when no tag says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The location, when no tag says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The kind, when no tag says it; without both, the measurement's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The unit, when no tag says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Who the broker is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Transport security of `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Let the server compress: for narrow links, at twice its work.
    #[serde(default)]
    pub gzip: bool,
    /// Parts of a long range that are fetched at the same time: more than one for
    /// servers with processors to spare.
    #[serde(default = "one")]
    pub parallel: u8,
    /// How long the server may say nothing.
    #[serde(default = "minute")]
    pub timeout: Duration,
}

/// A field that is a reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InfluxPoint {
    /// The field.
    pub field: String,
    /// What it measures; the field's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Unit as a UCUM code.
    #[serde(default)]
    pub unit: String,
}

/// Tags by what they say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InfluxTags {
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

const fn one() -> u8 {
    1
}

const fn minute() -> Duration {
    Duration::from_secs(60)
}

fn value() -> String {
    "value".to_owned()
}

/// Most parts of a range at the same time: the server works for others too.
const MOST_PARALLEL: u8 = 8;

/// Most measurements and fields, each of which is a statement of its own.
const MOST_STATEMENTS: usize = 256;

impl InfluxSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        crate::client::checked(&self.url)?;
        self.check_version()?;
        self.check_names()?;
        self.check_series()?;
        if !(1..=MOST_PARALLEL).contains(&self.parallel) {
            let reason = format!("write a number from 1 to {MOST_PARALLEL}");
            return Err(FieldError::new("parallel", reason));
        }
        if self.timeout.0 == 0 {
            return Err(FieldError::new("timeout", "must be longer than nothing"));
        }
        self.auth.as_ref().map_or(Ok(()), Auth::check)?;
        self.tls.as_ref().map_or(Ok(()), Tls::check)
    }

    fn check_version(&self) -> Result<(), FieldError> {
        let first = [
            ("database", &self.database, true),
            ("retention", &self.retention, false),
        ];
        let second = [("org", &self.org, true), ("bucket", &self.bucket, true)];
        let (own, other): (&[_], &[_]) = match self.version {
            1 => (&first, &second),
            2 => (&second, &first),
            _ => return Err(FieldError::new("version", "write 1 or 2")),
        };
        for (name, value, needed) in own {
            if *needed && value.is_none() {
                let reason = format!("is missing: version {} needs it", self.version);
                return Err(FieldError::new(*name, reason));
            }
        }
        for (name, value, _) in other {
            if value.is_some() {
                let reason = format!("version {} has none: remove it", self.version);
                return Err(FieldError::new(*name, reason));
            }
        }
        Ok(())
    }

    /// Names end up in questions, where control characters have no place.
    fn check_names(&self) -> Result<(), FieldError> {
        let map = &self.map;
        let tags = [
            ("map.device", &map.device),
            ("map.kind", &map.kind),
            ("map.location", &map.location),
            ("map.unit", &map.unit),
            ("database", &self.database),
            ("retention", &self.retention),
            ("bucket", &self.bucket),
        ];
        let tags = tags.iter().filter_map(|(n, v)| Some((*n, v.as_ref()?)));
        let measurements = self.measurement.as_slice();
        let measurements = measurements.iter().map(|m| ("measurement", m));
        let points = self.points.iter().map(|p| ("points", &p.field));
        let names = tags.chain(measurements).chain(points);
        for (field, name) in names.chain([("field", &self.field)]) {
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(FieldError::new(field, "is empty or has control characters"));
            }
        }
        Ok(())
    }

    /// Whether each series has one name.
    fn check_series(&self) -> Result<(), FieldError> {
        let measurements = self.measurement.as_slice();
        if measurements.is_empty() {
            return Err(FieldError::new("measurement", "name one at least"));
        }
        let statements = measurements.len() * self.points.len().max(1);
        if statements > MOST_STATEMENTS {
            let reason = format!("more than {MOST_STATEMENTS} measurements times points");
            return Err(FieldError::new("measurement", reason));
        }
        let one_of = |field, a: bool, b: bool| match (a, b) {
            (true, true) => Err(FieldError::new(
                field,
                format!("both {field} and map.{field} say it: remove one"),
            )),
            _ => Ok(()),
        };
        let map = &self.map;
        FieldError::plain("device", self.device.as_deref())?;
        FieldError::plain("location", self.location.as_deref())?;
        FieldError::plain("kind", self.kind.as_deref())?;
        one_of("device", self.device.is_some(), map.device.is_some())?;
        one_of("location", self.location.is_some(), map.location.is_some())?;
        one_of("kind", self.kind.is_some(), map.kind.is_some())?;
        one_of("unit", self.unit.is_some(), map.unit.is_some())?;
        if self.device.is_none() && map.device.is_none() {
            let reason = "is missing: name the tag that says the device, such as \"board\"";
            return Err(FieldError::new("map.device", reason));
        }
        if self.points.is_empty() {
            return Ok(());
        }
        if self.kind.is_some() || map.kind.is_some() {
            let reason = "points say kinds: remove kind, or the points";
            return Err(FieldError::new("kind", reason));
        }
        if measurements.len() > 1 {
            let reason = "points are fields of one measurement: make a source of each";
            return Err(FieldError::new("measurement", reason));
        }
        let kinds = self.points.iter();
        let kinds: BTreeSet<_> = kinds.map(|p| p.kind.as_ref().unwrap_or(&p.field)).collect();
        if kinds.len() < self.points.len() {
            return Err(FieldError::new("points", "two of them have the same kind"));
        }
        Ok(())
    }
}
