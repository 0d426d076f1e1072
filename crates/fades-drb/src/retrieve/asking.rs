//! Asking sources that send.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fades_task::identity::Name;

use super::{Asked, Engine, Resolved, chain, is_plain_range};
use crate::answers::Earlier;
use crate::flow::{Ask, Begin, Inlet, Outlet};
use crate::source::Worker;

impl Engine {
    /// What a source says that it has for a DTO. What is asked of it for others just
    /// now is not asked again, if it has a number and they ask for ranges.
    pub(super) fn flow(
        self: &Arc<Self>,
        name: &Name,
        number: Option<u64>,
        resolved: &Resolved,
        stop: &Arc<AtomicBool>,
    ) -> Inlet {
        let at_work = self.sources.get(name);
        let selector = &resolved.selector;
        let ask = Ask {
            selector: at_work.map_or_else(|| selector.clone(), |a| selector.with(&a.notes)),
            take: resolved.dto.take,
            aggregate: resolved.dto.aggregate,
            deadline: resolved.demands.deadline,
            stop: Arc::clone(stop),
        };
        let earlier = resolved.dto.result.is_some();
        let earlier = earlier.then(|| resolved.demands.earlier.clone());
        let begin = self.begin(name, earlier);
        match number.filter(|_| is_plain_range(&resolved.dto)) {
            Some(number) => self.streams.open(name, number, ask, &begin),
            None => begin.alone(ask),
        }
    }

    /// Lets a source, or what was answered earlier, say what it has, in a thread of
    /// its own.
    fn begin(self: &Arc<Self>, name: &Name, earlier: Option<Earlier>) -> Begin {
        let (engine, name) = (Arc::clone(self), name.clone());
        Begin::new(move |ask: Ask, outlet: Outlet| {
            let (engine, name, earlier) = (Arc::clone(&engine), name.clone(), earlier.clone());
            let hands = engine.hands.clone();
            let fetch = move || {
                let worker = engine.sources.get(&name).map(|a| &a.worker);
                let ended = match (&earlier, worker) {
                    (Some(earlier), _) => earlier.fetch(&ask, &outlet).map_err(Into::into),
                    (None, Some(Worker::Flow(flow))) => flow.fetch(&ask, &outlet),
                    (None, Some(Worker::Csv(_)) | None) => return,
                };
                // Whoever took the readings may have gone by now.
                let _ = outlet.end(ended.map_err(|e| chain(&e)));
            };
            if let Err(e) = hands.start(fetch) {
                // Nobody holds the other end any more, which its reader sees.
                tracing::warn!("no thread for a source: {e}");
            }
        })
    }
}

impl Resolved {
    /// Number of the state of a source that sends.
    pub(super) fn number(&self, source: &Name) -> Option<u64> {
        let mut asked = self.asked.iter();
        asked.find_map(|(name, asked)| match asked {
            Asked::Flow(number) if name == source => *number,
            _ => None,
        })
    }
}
