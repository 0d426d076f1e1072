//! Influx as a source.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::{FieldError, InfluxSource};
use crate::flow::{Ask, Outlet, Stopped};
use crate::selector::Selector;
use crate::source::{Known, Setting};

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InfluxError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The source at work.
#[derive(Debug)]
pub(crate) struct Influx {
    config: InfluxSource,
}

impl Influx {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(config: &InfluxSource, _setting: &Setting) -> Result<Self, FieldError> {
        Ok(Self {
            config: config.clone(),
        })
    }

    /// What it reads, in words.
    pub(crate) fn reads(&self) -> String {
        format!("{:?}", self.config.url)
    }

    /// Whether it can have readings that match, without asking it.
    pub(crate) fn may_match(&self, _selector: &Selector) -> bool {
        true
    }

    /// Sends the readings that `ask` wants, series after series.
    pub(crate) fn fetch(&self, _ask: &Ask, _out: &Outlet) -> Result<(), InfluxError> {
        Ok(())
    }

    /// The series, as far as they can be known without reading everything.
    pub(crate) fn known(&self, _stop: &Arc<AtomicBool>) -> Result<Vec<Known>, InfluxError> {
        Ok(Vec::new())
    }
}
