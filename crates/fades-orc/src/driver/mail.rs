//! What the driver does for the courier, and hears of it.

use std::sync::Arc;

use fades_task::courier::{CourierReport, InboxState, Verdict};
use fades_task::identity::Name;
use tracing::{debug, error, info, warn};

use super::courier::{CourierProcess, Desk};
use super::{Driver, Input};
use crate::api::types::{CourierInfo, InboxInfo, ReceiverInfo};
use crate::core::outbox::{Dispatch, LineReport};
use crate::core::{Event, Part};

impl Driver {
    pub(super) fn start_courier(&mut self) {
        let Some(config) = &self.config.courier else {
            return;
        };
        self.couriers += 1;
        let desk = Desk {
            shared: Arc::clone(&self.shared),
            store: Arc::clone(&self.store),
            trust: Arc::clone(&self.trust),
            inputs: self.sender.clone(),
            life: self.couriers,
        };
        match CourierProcess::start(config, desk) {
            Ok(courier) => {
                info!(pid = courier.pid(), "courier started");
                self.shared.live().courier.pid = Some(courier.pid());
                self.courier = Some(courier);
                self.log_as_now();
            }
            Err(e) => {
                let said = format!("the courier cannot be started: {e}");
                self.send(Input::CourierLeft { said });
            }
        }
    }

    pub(super) fn courier_report(&mut self, report: CourierReport) {
        match report {
            CourierReport::Ready { confinement } => {
                for (name, layer) in confinement.layers() {
                    if !layer.enforced {
                        warn!(layer = name, reason = %layer.detail, "not enforced for the courier");
                    }
                }
                {
                    let courier = &mut self.shared.live().courier;
                    courier.up = true;
                    courier.confinement = confinement;
                }
                self.step(Event::Up(Part::Courier));
            }
            CourierReport::Misconfigured { reason } => {
                if let Some(courier) = &mut self.courier {
                    courier.note(reason);
                }
            }
            CourierReport::Delivered { parcel } => self.step(Event::Delivered { parcel }),
            CourierReport::NotDelivered { parcel, why } => {
                self.step(Event::NotDelivered { parcel, why });
            }
            CourierReport::Inbox { inbox, state } => self.inbox(&inbox, state),
            CourierReport::Pong { .. } => self.step(Event::Pong(Part::Courier)),
            // Judged where it arrived.
            CourierReport::Letter { .. } => {}
        }
    }

    pub(super) fn courier_left(&mut self, said: String) {
        let reason = match self.courier.take() {
            Some(courier) => courier.end(said),
            None => said,
        };
        {
            let courier = &mut self.shared.live().courier;
            courier.up = false;
            courier.pid = None;
            courier.restarts += u32::from(!self.ending);
            courier.last_end = Some(reason.clone());
        }
        if !self.ending {
            warn!(%reason, "courier ended");
        }
        let part = Part::Courier;
        self.step(Event::Lost { part, reason });
    }

    /// Hands a parcel to the courier, with the bytes that were stored.
    pub(super) fn deliver(&mut self, parcel: u64) {
        match self.store.parcel(parcel) {
            Ok(Some((about, body))) => {
                if let Some(courier) = &self.courier {
                    courier.deliver(about, &body);
                }
            }
            // It belongs to an end that did not count.
            Ok(None) => self.step(Event::Delivered { parcel }),
            Err(e) => {
                let reason = crate::api::problem::chain(&e);
                error!(parcel, %reason, "a parcel cannot be read");
                let why = fades_task::courier::NotDelivered {
                    reason,
                    refused: false,
                    after: None,
                };
                self.step(Event::NotDelivered { parcel, why });
            }
        }
    }

    pub(super) fn dispatched(&self, parcel: u64, outcome: &Dispatch) {
        match outcome {
            Dispatch::Delivered => debug!(parcel, "delivered"),
            Dispatch::Lost(reason) => warn!(parcel, %reason, "an answer will not be delivered"),
        }
    }

    pub(super) fn verdict(&mut self, life: u32, letter: u64, verdict: Verdict) {
        if let Some(courier) = &self.courier {
            courier.verdict(life, letter, verdict);
        }
    }

    fn inbox(&self, inbox: &Name, state: InboxState) {
        let courier = &mut self.shared.live().courier;
        let known = courier.inboxes.iter_mut().find(|i| i.name == *inbox);
        if let Some(known) = known {
            known.error = state.error;
            known.asked = state.asked;
        }
    }

    /// What people are shown of a courier that has not been started yet.
    pub(super) fn expect_courier(&self) {
        let Some(config) = &self.config.courier else {
            return;
        };
        let inbox = |name: &Name| InboxInfo {
            name: name.clone(),
            error: None,
            asked: None,
        };
        let info = CourierInfo {
            inboxes: config.inboxes.iter().map(inbox).collect(),
            ..CourierInfo::default()
        };
        self.shared.live().courier = info;
    }

    /// Shows what changed in the outbox.
    pub(super) fn show_outbox(&mut self) {
        let Some(lines) = self.core.outbox_news() else {
            return;
        };
        let now = self.now();
        let shown = lines.into_iter().map(|line| receiver(line, now));
        self.shared.live().courier.receivers = shown.collect();
    }
}

fn receiver(line: LineReport, now: crate::core::Now) -> ReceiverInfo {
    let next = line.next.filter(|at| *at > now.tick).map(|at| {
        let left = at.0.saturating_sub(now.tick.0).unsigned_abs();
        now.time.after(fades_task::quantity::Duration(left))
    });
    ReceiverInfo {
        waiting: line.waiting,
        bytes: fades_task::quantity::Size(line.bytes),
        oldest: line.oldest,
        error: line.error,
        next,
        ..ReceiverInfo::new(&line.receiver)
    }
}
