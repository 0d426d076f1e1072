//! What the courier tells the orchestrator; threads take turns.

use std::sync::{Arc, Mutex, PoisonError};

use fades_task::courier::CourierReport;
use fades_wire::{Channel, WireError};

/// Sends reports.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(Arc<Mutex<Channel>>);

impl Reporter {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Arc::new(Mutex::new(channel)))
    }

    pub(crate) fn send(&self, report: &CourierReport) -> Result<(), WireError> {
        self.send_with(report, &[])
    }

    pub(crate) fn send_with(&self, report: &CourierReport, blob: &[u8]) -> Result<(), WireError> {
        let channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(report, blob, &[])
    }

    /// Sends what a thread found out. When the orchestrator is gone, the loop sees
    /// it too and ends.
    pub(crate) fn tell(&self, report: &CourierReport) {
        if let Err(e) = self.send(report) {
            tracing::debug!("a report was not sent: {e}");
        }
    }
}
