//! The `[source.NAME]` tables of a node's configuration.
//!
//! [`Sources`] is what the operator wrote, checked: the operator's file is
//! TOML, the orchestrator hands the same value to the broker as JSON. What a
//! source needs at work (compiled templates, formats) is made from it by the
//! source's own module and can no longer fail on configuration.

use std::collections::{BTreeMap, BTreeSet};

use fades_task::dial::{Address, Transport};
use fades_task::identity::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod coap;
mod common;
mod csv;
mod guess;
mod http;
mod influx;
mod modbus;
mod mqtt;
mod parquet;
mod payload;

pub use coap::{Addresses, CoapSource, Paths};
pub use common::{Common, DeviceNote, Record};
pub use csv::{CsvSource, Encoding, Patterns, Point, TimeColumns};
pub use http::{HttpSource, Urls};
pub use influx::{InfluxPoint, InfluxSource, InfluxTags};
pub use modbus::{Coding, ModbusRegister, ModbusSource, ModbusUnit, Order, Parity, Table};
pub use mqtt::{MqttSource, Topics};
pub use parquet::{ParquetPoint, ParquetSource, ParquetTime, TimeUnit};
pub use payload::{FormedTime, PayloadFormat, TimeAt, TimeForm, Values};

pub use fades_outside::connection::{Auth, SecretFile, Tls};
pub(crate) use fades_outside::field::FieldError;
pub use fades_outside::mqtt::MqttVersion;

/// The sources of a node, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Sources(pub BTreeMap<Name, Source>);

/// One source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// What every kind of source can have.
    #[serde(flatten)]
    pub common: Common,
    /// What is read, and how.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a source reads; the `type` says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// Text files with one row a line.
    Csv(CsvSource),
    /// Parquet files.
    Parquet(ParquetSource),
    /// A database InfluxDB, 1.x or 2.x.
    Influx(InfluxSource),
    /// Devices that publish to an MQTT broker.
    Mqtt(MqttSource),
    /// Devices that are asked by Modbus.
    Modbus(ModbusSource),
    /// Devices or services that answer HTTP with JSON.
    Http(HttpSource),
    /// Devices that are asked by CoAP.
    Coap(CoapSource),
}

/// What [`Kind`]'s `type` may be.
const TYPES: [&str; 7] = ["csv", "parquet", "influx", "mqtt", "modbus", "http", "coap"];

/// Why the tables of the sources cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    /// `source` is no table, or one of its entries is none.
    #[error("{path} is no table: write [source.NAME] and the source's options below it")]
    NoTable {
        /// The field.
        path: String,
    },
    /// The name of a source.
    #[error("source.{name}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why it is none.
        reason: String,
    },
    /// A source without `type`.
    #[error("source.{name}.type is missing: say what kind of source it is, such as type = \"csv\"")]
    NoType {
        /// The source.
        name: Name,
    },
    /// A source of a kind that does not exist.
    #[error("source.{name}.type: {found} is no kind of source; there is: {}", TYPES.join(", "))]
    UnknownType {
        /// The source.
        name: Name,
        /// What was written.
        found: String,
    },
    /// A field is missing, unknown or has a value that makes no sense.
    #[error("source.{name}{field}: {reason}")]
    Field {
        /// The source.
        name: Name,
        /// The field, with a dot before it; empty for the table itself.
        field: String,
        /// What is wrong, with the remedy.
        reason: String,
    },
    /// A file is no CSV file whose meaning can be guessed.
    #[error("{file}: {reason}")]
    NotGuessed {
        /// The file.
        file: String,
        /// What is wrong, with the remedy.
        reason: String,
    },
}

impl SourcesError {
    /// The error of the whole configuration.
    pub(crate) fn of(source: &Name, wrong: FieldError) -> Self {
        Self::Field {
            name: source.clone(),
            field: format!(".{}", wrong.field),
            reason: wrong.reason,
        }
    }
}

impl Sources {
    /// Reads the value of the key `source` of a node's configuration: a table
    /// of tables, by name. Everything that does not need the files themselves
    /// is checked.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field and the remedy.
    pub fn parse(value: &Value) -> Result<Self, SourcesError> {
        let table = value.as_object().ok_or_else(|| SourcesError::NoTable {
            path: "source".to_owned(),
        })?;
        let parsed = table.iter().map(|(name, value)| {
            let parsed = name.parse::<Name>().map_err(|e| SourcesError::Name {
                name: name.clone(),
                reason: e.to_string(),
            })?;
            let source = Source::parse(&parsed, value)?;
            Ok((parsed, source))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Checks what the types cannot, as [`Sources::parse`] does.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field and the remedy.
    pub fn check(&self) -> Result<(), SourcesError> {
        self.0
            .iter()
            .try_for_each(|(name, source)| source.check(name))
    }
}

impl Source {
    fn parse(name: &Name, value: &Value) -> Result<Self, SourcesError> {
        let table = value.as_object().ok_or_else(|| SourcesError::NoTable {
            path: format!("source.{name}"),
        })?;
        let kind = match table.get("type") {
            None => return Err(SourcesError::NoType { name: name.clone() }),
            Some(kind) => kind.as_str().unwrap_or_default(),
        };
        let (common, options) = common::split(table);
        let kind = match kind {
            "csv" => Kind::Csv(read(name, options)?),
            "parquet" => Kind::Parquet(read(name, options)?),
            "influx" => Kind::Influx(read(name, options)?),
            "mqtt" => Kind::Mqtt(read(name, options)?),
            "modbus" => Kind::Modbus(read(name, options)?),
            "http" => Kind::Http(read(name, options)?),
            "coap" => Kind::Coap(read(name, options)?),
            _ => {
                return Err(SourcesError::UnknownType {
                    name: name.clone(),
                    found: table["type"].to_string(),
                });
            }
        };
        let common = read(name, common)?;
        let source = Self { common, kind };
        source.check(name)?;
        Ok(source)
    }

    fn check(&self, name: &Name) -> Result<(), SourcesError> {
        let checked = match &self.kind {
            Kind::Csv(csv) => crate::csv::Format::compile(csv).map(drop),
            Kind::Parquet(parquet) => parquet.check(),
            Kind::Influx(influx) => influx.check(),
            Kind::Mqtt(mqtt) => mqtt.check(),
            Kind::Modbus(modbus) => modbus.check(),
            Kind::Http(http) => http.check(),
            Kind::Coap(coap) => coap.check(),
        };
        checked
            .and_then(|()| self.common.check(self.kind.is_live()))
            .map_err(|e| SourcesError::of(name, e))
    }
}

impl Sources {
    /// The addresses at which the sources read, each once: nothing else has to be
    /// reachable. They were checked; one that is wrong is left out.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<Address> {
        let sources = self.0.iter();
        let of = |(name, source): (&Name, &Source)| {
            let found = source.kind.addresses();
            let found = found.into_iter();
            found
                .map(|(host, port, by)| Address::new(name, &host, port, by))
                .collect::<Vec<_>>()
        };
        sources.flat_map(of).collect()
    }
}

impl Kind {
    /// Host, port and transport of its addresses.
    fn addresses(&self) -> Vec<(String, u16, Transport)> {
        let web = |url: &str| {
            let uri = crate::client::checked(url).ok()?;
            let host = uri.host()?.to_owned();
            Some((host, crate::client::port(&uri), Transport::Tcp))
        };
        match self {
            Self::Csv(_) | Self::Parquet(_) => Vec::new(),
            Self::Influx(influx) => web(&influx.url).into_iter().collect(),
            Self::Http(http) => {
                let shape = crate::http::Shape::compile(http);
                let urls = shape.map(|s| s.urls()).unwrap_or_default();
                urls.iter().filter_map(|url| web(url)).collect()
            }
            Self::Mqtt(mqtt) => {
                let shape = crate::mqtt::Shape::compile(mqtt).ok();
                shape.map(|s| s.address()).into_iter().collect()
            }
            Self::Modbus(modbus) => match crate::modbus::Line::parse(modbus) {
                Ok(crate::modbus::Line::Tcp { host, port }) => vec![(host, port, Transport::Tcp)],
                _ => Vec::new(),
            },
            Self::Coap(coap) => {
                let shape = crate::coap::Shape::compile(coap);
                shape.map(|s| s.addresses()).unwrap_or_default()
            }
        }
    }

    /// Whether its readings come and go, so that they can be recorded.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        match self {
            Self::Csv(_) | Self::Parquet(_) | Self::Influx(_) => false,
            Self::Mqtt(_) | Self::Modbus(_) | Self::Http(_) | Self::Coap(_) => true,
        }
    }
}

/// A value of the type that is wanted.
fn read<T: serde::de::DeserializeOwned>(
    name: &Name,
    table: Map<String, Value>,
) -> Result<T, SourcesError> {
    serde_path_to_error::deserialize(Value::Object(table)).map_err(|e| {
        let path = e.path().to_string();
        SourcesError::Field {
            name: name.clone(),
            field: if path == "." {
                String::new()
            } else {
                format!(".{path}")
            },
            reason: e.into_inner().to_string(),
        }
    })
}

#[cfg(test)]
mod tests;
