//! Devices that are asked by CoAP (RFC 7252), as a source.
//!
//! [`Shape`] is what the operator wrote, resolved. Each device has a socket of its
//! own whenever it is asked, and none waits for another. A question for what is now
//! asks all devices that match at once; while somebody wants what arrives, a task
//! for each device observes it (RFC 7641) or asks it again and again.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::chunk::Segment;
use crate::config::{CoapSource, FieldError};
use crate::flow::{Ask, Outlet, Stopped};
use crate::live::{Heard, Live, now};
use crate::selector::Selector;
use crate::source::Setting;

mod device;
mod links;
mod message;
mod peer;
mod shape;

pub(crate) use shape::Shape;

use device::{Answered, Device};

/// How long devices may take, when the question does not say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often devices that cannot be observed are asked, unless the operator says
/// it.
const EVERY: Duration = Duration::from_secs(60);

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoapError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A source of CoAP devices at work.
#[derive(Debug)]
pub(crate) struct Coap {
    shape: Arc<Shape>,
    live: Arc<Live>,
    runtime: Handle,
    devices: Vec<Arc<Device>>,
    listening: Vec<AbortHandle>,
}

impl Coap {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(
        config: &CoapSource,
        setting: &Setting,
        live: Arc<Live>,
    ) -> Result<Self, FieldError> {
        let Some(runtime) = setting.runtime.clone() else {
            return Err(FieldError::new("type", "nothing waits for devices"));
        };
        let shape = Arc::new(Shape::compile(config)?);
        let addresses = shape.devices.iter().cloned();
        let devices: Vec<_> = addresses
            .map(|a| Arc::new(Device::new(a, &shape, &live, &setting.dial)))
            .collect();
        for device in &devices {
            live.expect(shape.expected(&device.address.device));
        }
        let every = config.every.map_or(EVERY, |e| Duration::from_nanos(e.0));
        let listening = devices.iter().map(|device| {
            let listen = Arc::clone(device).listen(config.observe, every);
            runtime.spawn(listen).abort_handle()
        });
        Ok(Self {
            listening: listening.collect(),
            shape,
            live,
            runtime,
            devices,
        })
    }

    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    pub(crate) fn reads(&self) -> String {
        let address = |d: &Arc<Device>| format!("coap://{}:{}", d.address.host, d.address.port);
        match self.devices.as_slice() {
            [] => String::new(),
            [one] => address(one),
            [first, more @ ..] => format!("{} and {} more", address(first), more.len()),
        }
    }

    pub(crate) fn may_match(&self, selector: &Selector) -> bool {
        self.matching(selector).next().is_some()
    }

    /// The devices that can have what is asked for.
    fn matching(&self, selector: &Selector) -> impl Iterator<Item = &Arc<Device>> {
        let any = self.shape.names_devices();
        let devices = self.devices.iter();
        devices.filter(move |d| any || selector.device(&d.address.device))
    }

    /// Sends the newest reading of each series that matches: asks all devices at
    /// once.
    pub(crate) fn sample(&self, ask: &Ask, out: &Outlet) -> Result<(), CoapError> {
        let end = Instant::now() + PATIENCE;
        let end = ask.deadline.map_or(end, |d| d.min(end));

        let mut asked = self.begin(ask, out)?;
        while !asked.left.is_empty() {
            if ask.is_stopped() {
                return Err(Stopped.into());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // So often a stop is looked at.
            let patience = left.min(Duration::from_millis(50));
            match asked.answers.recv_timeout(patience) {
                Ok((i, said)) => {
                    let device = Arc::clone(&self.devices[i]);
                    asked.left.retain(|(l, _)| *l != i);
                    self.answered(&device, said, ask, out)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for (i, _) in &asked.left {
            let device = &self.devices[*i];
            let reason = "it did not answer in time".to_owned();
            device.failed(&reason);
            let since = self.live.last_seen(&device.address.device);
            out.late(&device.address.device, since, reason)?;
        }
        Ok(())
    }

    /// Asks the devices that match and are not left alone.
    fn begin(&self, ask: &Ask, out: &Outlet) -> Result<Asked, Stopped> {
        let (sender, answers) = channel();
        let mut left = Vec::new();
        let any = self.shape.names_devices();
        for (i, device) in self.devices.iter().enumerate() {
            let name = &device.address.device;
            if !any && !ask.selector.device(name) {
                continue;
            }
            if !any {
                out.device(name)?;
            }
            if let Some(reason) = device.resting() {
                let reason = format!("it is left alone for a while: {reason}");
                out.failed(name, self.live.last_seen(name), reason)?;
                continue;
            }
            let (device, sender) = (Arc::clone(device), sender.clone());
            let task = self.runtime.spawn(async move {
                // Whoever asked may have gone by now.
                let _ = sender.send((i, device.ask().await));
            });
            left.push((i, Aborting(task.abort_handle())));
        }
        Ok(Asked { left, answers })
    }

    fn answered(
        &self,
        device: &Device,
        said: Answered,
        ask: &Ask,
        out: &Outlet,
    ) -> Result<(), Stopped> {
        let name = &device.address.device;
        let said = match said {
            Ok(said) => said,
            Err(reason) => return out.failed(name, self.live.last_seen(name), reason),
        };
        let now = now();
        let heard = said.heard.iter();
        let mut heard: Vec<&Heard> = heard.filter(|h| ask.selector.matches(&h.key)).collect();
        heard.sort_by(|a, b| a.key.cmp(&b.key).then(a.time.cmp(&b.time)));
        let nothing = heard.is_empty();
        for series in heard.chunk_by(|a, b| a.key == b.key) {
            // Of several readings in one answer the newest is now.
            let Some(newest) = series.last() else {
                continue;
            };
            let mut segment = Segment::default();
            segment.push(newest.time.unwrap_or(now), newest.value, newest.mark);
            out.readings(&newest.key, segment)?;
        }
        for bad in &said.bad {
            out.lost(bad.reason, 1, Some(bad.clone()))?;
        }
        match said.faults.first() {
            Some(fault) if nothing => out.failed(name, self.live.last_seen(name), fault.clone()),
            _ => Ok(()),
        }
    }
}

/// Devices that were asked.
struct Asked {
    /// Those that have not answered, by number; dropping one ends its task.
    left: Vec<(usize, Aborting)>,
    answers: std::sync::mpsc::Receiver<(usize, Answered)>,
}

/// Ends a task when it is dropped.
struct Aborting(AbortHandle);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Coap {
    fn drop(&mut self) {
        self.listening.iter().for_each(AbortHandle::abort);
    }
}
