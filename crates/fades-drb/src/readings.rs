//! The readings store: what live sources hear, kept on disk.

use std::path::Path;

use fades_task::identity::Name;

use crate::config::Record;
use crate::flow::{Ask, Outlet, Stopped};
use crate::live::Heard;
use crate::source::Known;

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadingsError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The readings of all sources that are recorded.
#[derive(Debug)]
pub(crate) struct Readings;

/// Keeps the readings of one source.
#[derive(Debug)]
pub(crate) struct Recorder;

impl Readings {
    /// Opens the store in `folder`, which is made if it is not there.
    pub(crate) fn open(_folder: &Path) -> Result<Self, ReadingsError> {
        Ok(Self)
    }

    /// Begins to record a source.
    pub(crate) fn recorder(
        &self,
        _source: &Name,
        _record: &Record,
    ) -> Result<Recorder, ReadingsError> {
        Ok(Recorder)
    }
}

impl Recorder {
    /// Keeps readings that arrived at `now` (ns since 1970 UTC). Never waits for
    /// the disk.
    pub(crate) fn record(&self, _heard: &[Heard], _now: i64) {}

    /// Sends the readings that `ask` wants, newest not yet on disk included.
    pub(crate) fn read(&self, _ask: &Ask, _out: &Outlet) -> Result<(), ReadingsError> {
        Ok(())
    }

    /// The series, with number of readings, oldest and newest.
    pub(crate) fn known(&self) -> Vec<Known> {
        Vec::new()
    }
}
