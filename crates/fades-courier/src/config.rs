//! The `[inbox.NAME]` and `[destination.NAME]` tables of a node's configuration.
//!
//! [`Places`] is what the operator wrote, checked: the operator's file is TOML, the
//! orchestrator hands the same value to the courier as JSON. A table with `folder`
//! is a folder; of others the scheme of `url` says what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fades_outside::field::FieldError;
use fades_task::dial::Address;
use fades_task::identity::Name;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod destination;
mod inbox;
mod topic;
mod url;

pub use destination::{Destination, FolderDestination, HttpDestination, MqttDestination};
pub use fades_outside::connection::{Auth, SecretFile};
pub use fades_outside::mqtt::MqttVersion;
pub use inbox::{FolderInbox, HttpInbox, Inbox};

pub(crate) use topic::Topic;

/// Where tasks come from and where answers go, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// Where tasks come from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inbox: BTreeMap<Name, Inbox>,
    /// Where answers go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub destination: BTreeMap<Name, Destination>,
}

/// Why the tables cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacesError {
    /// `inbox` or `destination` is no table, or one of its entries is none.
    #[error("{path} is no table: write [{table}.NAME] and its options below it")]
    NoTable {
        /// `inbox` or `destination`.
        table: &'static str,
        /// The field.
        path: String,
    },
    /// The name of an inbox or a destination.
    #[error("{table}.{name}: {reason}")]
    Name {
        /// `inbox` or `destination`.
        table: &'static str,
        /// The name.
        name: String,
        /// Why it is none.
        reason: String,
    },
    /// A table that does not say where.
    #[error("{table}.{name} says neither url nor folder: write one of them")]
    Nowhere {
        /// `inbox` or `destination`.
        table: &'static str,
        /// Its name.
        name: Name,
    },
    /// A field is missing, unknown or has a value that makes no sense.
    #[error("{table}.{name}{field}: {reason}")]
    Field {
        /// `inbox` or `destination`.
        table: &'static str,
        /// Its name.
        name: Name,
        /// The field, with a dot before it; empty for the table itself.
        field: String,
        /// What is wrong, with the remedy.
        reason: String,
    },
}

/// One of the two kinds of tables.
trait Place: Sized {
    /// What the operator calls it.
    const TABLE: &'static str;

    /// Reads a table; `folder`: it is one of a folder.
    fn read(name: &Name, table: &Value, folder: bool) -> Result<Self, PlacesError>;

    /// Checks what the types cannot.
    fn check(&self) -> Result<(), FieldError>;
}

impl Places {
    /// Reads the values of the keys `inbox` and `destination` of a node's
    /// configuration: tables of tables, by name. Everything that does not need the
    /// files themselves is checked.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field and the remedy.
    pub fn parse(inbox: Option<&Value>, destination: Option<&Value>) -> Result<Self, PlacesError> {
        let places = Self {
            inbox: tables(inbox)?,
            destination: tables(destination)?,
        };
        places.check()?;
        Ok(places)
    }

    /// Checks what the types cannot, as [`Places::parse`] does.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field and the remedy.
    pub fn check(&self) -> Result<(), PlacesError> {
        checked(&self.inbox)?;
        checked(&self.destination)?;
        self.check_folders()
    }

    /// An answer in an inbox's folder would be taken for a task.
    fn check_folders(&self) -> Result<(), PlacesError> {
        let inboxes = self.inbox.values().filter_map(Inbox::folder);
        let inboxes: Vec<&Path> = inboxes.map(Path::new).collect();
        for (name, inbox) in &self.inbox {
            let same = |folder| inboxes.iter().filter(|f| **f == Path::new(folder)).count() > 1;
            if inbox.folder().is_some_and(same) {
                let reason = "is another inbox's as well: each has a folder of its own";
                return Err(wrong::<Inbox>(name, FieldError::new("folder", reason)));
            }
        }
        for (name, destination) in &self.destination {
            let folder = destination.folder().map(Path::new);
            if folder.is_some_and(|f| inboxes.contains(&f)) {
                let reason = "is an inbox's as well: answers would be taken for tasks; write \
                              another folder";
                return Err(wrong::<Destination>(
                    name,
                    FieldError::new("folder", reason),
                ));
            }
        }
        Ok(())
    }

    /// Nothing is configured: no courier is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inbox.is_empty() && self.destination.is_empty()
    }

    /// The addresses of all inboxes and destinations, each once: nothing else has to
    /// be reachable. They were checked; one that is wrong is left out.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<Address> {
        let inboxes = self.inbox.iter();
        let inboxes = inboxes.filter_map(|(name, inbox)| inbox.address(name));
        let destinations = self.destination.iter();
        let destinations = destinations.filter_map(|(name, to)| to.address(name));
        inboxes.chain(destinations).collect()
    }
}

fn tables<P: Place>(value: Option<&Value>) -> Result<BTreeMap<Name, P>, PlacesError> {
    let Some(value) = value else {
        return Ok(BTreeMap::new());
    };
    let no_table = |path: String| PlacesError::NoTable {
        table: P::TABLE,
        path,
    };
    let table = value.as_object();
    let table = table.ok_or_else(|| no_table(P::TABLE.to_owned()))?;
    let parsed = table.iter().map(|(key, value)| {
        let name = key.parse::<Name>().map_err(|e| PlacesError::Name {
            table: P::TABLE,
            name: key.clone(),
            reason: e.to_string(),
        })?;
        let fields = value.as_object();
        let fields = fields.ok_or_else(|| no_table(format!("{}.{key}", P::TABLE)))?;
        let place = match (fields.contains_key("folder"), fields.contains_key("url")) {
            (true, true) => {
                let reason = "excludes url: write one of them";
                Err(wrong::<P>(&name, FieldError::new("folder", reason)))
            }
            (false, false) => Err(PlacesError::Nowhere {
                table: P::TABLE,
                name: name.clone(),
            }),
            (folder, _) => P::read(&name, value, folder),
        }?;
        Ok((name, place))
    });
    parsed.collect()
}

fn checked<P: Place>(places: &BTreeMap<Name, P>) -> Result<(), PlacesError> {
    let mut places = places.iter();
    places.try_for_each(|(name, place)| place.check().map_err(|e| wrong::<P>(name, e)))
}

/// The error of the whole configuration.
fn wrong<P: Place>(name: &Name, e: FieldError) -> PlacesError {
    PlacesError::Field {
        table: P::TABLE,
        name: name.clone(),
        field: format!(".{}", e.field),
        reason: e.reason,
    }
}

/// A value of the type that is wanted.
fn read<P: Place, T: DeserializeOwned>(name: &Name, table: &Value) -> Result<T, PlacesError> {
    serde_path_to_error::deserialize(table.clone()).map_err(|e| {
        let path = e.path().to_string();
        PlacesError::Field {
            table: P::TABLE,
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
