//! Batches that are held back until enough stands behind them.
//!
//! A grant may demand so many readings, of so many devices. They are counted in the
//! batches that a function is about to be given, before it is given any. No more than
//! the room of a run is held; what is not enough by then is too little.

use std::collections::BTreeSet;
use std::sync::Arc;

use fades_task::grant::Least;
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::result::RetrievalFailure;

use crate::batches::BatchFile;
use crate::retrieve::Halt;

/// The first batches of a DTO.
pub(super) struct Held<'a> {
    dto: &'a Dto,
    least: Least,
    /// Most bytes that are held.
    room: u64,
    bytes: u64,
    readings: u64,
    devices: BTreeSet<Arc<str>>,
    files: Vec<Arc<BatchFile>>,
    /// There is enough; nothing is held any more.
    enough: bool,
}

impl<'a> Held<'a> {
    /// `window`: no batch is longer; a run has room for two.
    pub(super) fn new(dto: &'a Dto, window: Size) -> Self {
        let least = dto.granted.as_ref().map(|granted| granted.least);
        let least = least.unwrap_or_default();
        Self {
            dto,
            least,
            room: window.0.saturating_mul(2),
            bytes: 0,
            readings: 0,
            devices: BTreeSet::new(),
            files: Vec::new(),
            enough: least == Least::default(),
        }
    }

    /// What may be handed over now that there is one batch more.
    pub(super) fn with(&mut self, file: Arc<BatchFile>) -> Result<Vec<Arc<BatchFile>>, Halt> {
        if self.enough {
            return Ok(vec![file]);
        }
        self.bytes += file.length;
        self.readings += file.readings;
        self.devices.extend(file.devices.iter().cloned());
        self.files.push(file);
        if self.missing().is_some() && self.bytes < self.room {
            return Ok(Vec::new());
        }
        self.end()?;
        self.enough = true;
        Ok(std::mem::take(&mut self.files))
    }

    /// Whether there was enough, now that there are no more.
    pub(super) fn end(&self) -> Result<(), Halt> {
        let (Some((of, least)), Some(granted)) = (self.missing(), &self.dto.granted) else {
            return Ok(());
        };
        Err(Halt::Failed(RetrievalFailure::TooLittle {
            dto: self.dto.name.clone(),
            of: of.to_owned(),
            least,
            grant: granted.grant.clone(),
        }))
    }

    fn missing(&self) -> Option<(&'static str, u64)> {
        let Least { readings, devices } = self.least;
        if self.enough {
            None
        } else if self.readings < readings {
            Some(("readings", readings))
        } else if (self.devices.len() as u64) < devices {
            Some(("devices", devices))
        } else {
            None
        }
    }
}
