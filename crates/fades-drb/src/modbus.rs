//! Modbus devices as a source.

use std::sync::Arc;

use crate::config::{FieldError, ModbusSource};
use crate::flow::{Ask, Outlet, Stopped};
use crate::live::Live;
use crate::selector::Selector;
use crate::source::Setting;

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModbusError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A source of Modbus devices at work.
#[derive(Debug)]
pub(crate) struct Modbus {
    url: String,
    live: Arc<Live>,
}

impl Modbus {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(
        config: &ModbusSource,
        _setting: &Setting,
        live: Arc<Live>,
    ) -> Result<Self, FieldError> {
        Ok(Self {
            url: config.url.clone(),
            live,
        })
    }

    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    pub(crate) fn reads(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn may_match(&self, _selector: &Selector) -> bool {
        true
    }

    /// Sends the newest reading of each series that matches.
    pub(crate) fn sample(&self, _ask: &Ask, _out: &Outlet) -> Result<(), ModbusError> {
        Ok(())
    }
}
