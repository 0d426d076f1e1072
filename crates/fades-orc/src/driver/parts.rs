//! The processes that the node keeps running: what the core wants of them.

use fades_task::message::BrokerRequest;
use tracing::{error, warn};

use super::Driver;
use crate::core::{DEATHS_MAX, Effect, Event, LOOP_WITHIN, Part};

impl Driver {
    /// Does what the core wants of a part; any other effect is not for here.
    pub(super) fn attend(&mut self, effect: &Effect) {
        let (broker, courier) = (&self.broker, &self.courier);
        match (effect, broker, courier) {
            (Effect::Start(part), ..) => self.start_part(*part),
            (Effect::Ping(Part::Broker), ..) => self.tell_broker(&BrokerRequest::Ping { id: 0 }),
            (Effect::Kill(Part::Broker), Some(broker), _) => broker.kill(),
            (Effect::End(Part::Broker), Some(broker), _) => broker.let_go(),
            (Effect::Ping(Part::Courier), _, Some(courier)) => courier.ping(),
            (Effect::Kill(Part::Courier), _, Some(courier)) => courier.kill(),
            (Effect::End(Part::Courier), _, Some(courier)) => courier.let_go(),
            // It is gone already, and its end is on its way.
            _ => {}
        }
    }

    fn start_part(&mut self, part: Part) {
        match part {
            Part::Broker => {
                self.shared.live().broker.stopped = None;
                self.start_broker();
            }
            Part::Courier => {
                self.shared.live().courier.stopped = None;
                self.start_courier();
            }
        }
    }

    /// Says that a part is not started again, and what to do.
    pub(super) fn give_up(&self, part: Part) {
        let mut live = self.shared.live();
        let (name, last, stopped) = match part {
            Part::Broker => {
                let broker = &mut live.broker;
                ("broker", broker.last_end.clone(), &mut broker.stopped)
            }
            Part::Courier => {
                let courier = &mut live.courier;
                ("courier", courier.last_end.clone(), &mut courier.stopped)
            }
        };
        let reason = format!(
            "it ended {DEATHS_MAX} times within {LOOP_WITHIN}, last: {}; see to that, then have \
             it started again: fades config reload",
            last.as_deref().unwrap_or("no reason known")
        );
        error!(part = name, %reason, "given up; the node goes on without it");
        *stopped = Some(reason);
    }

    /// Holds schedules while the clock is not set, and lets them go on once it is.
    pub(super) fn look_at_clock(&mut self) {
        let trouble = self.shared.clock().trouble();
        let set = trouble.is_none();
        if set == self.clock_set {
            return;
        }
        self.clock_set = set;
        match &trouble {
            Some(reason) => warn!(%reason, "schedules wait for the clock"),
            None => warn!("the clock is set: schedules go on"),
        }
        self.shared.live().clock = trouble;
        self.step(Event::Clock { set });
    }

    /// Tells whoever watches the node that its driver works.
    pub(super) fn is_alive(&self) {
        if let Some(notify) = &self.config.notify {
            notify.alive();
        }
    }
}
