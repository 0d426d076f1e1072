//! Devices and services that answer HTTP, as a source.
//!
//! * [`shape`]: addresses, and how their answers are read.
//! * [`reading`], [`list`]: answers → readings.
//! * [`place`]: one address: asked by one at a time, less often when it fails.
//!
//! Each address is asked on its own, so that one that is slow or dead holds up no
//! other. While somebody wants what arrives, all are asked at regular times;
//! whoever wants a reading now has them asked at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};

use crate::chunk::Segment;
use crate::client::ClientError;
use crate::config::{FieldError, HttpSource};
use crate::flow::{Ask, Outlet, Stopped};
use crate::live::{Heard, Live};
use crate::payload::PayloadError;
use crate::selector::Selector;
use crate::series::SeriesKey;
use crate::source::Setting;

mod list;
mod place;
mod reading;
mod shape;

pub(crate) use shape::Shape;

use place::{Answer, Place};

/// Why an address gave no readings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer of {address} cannot be read: {source}")]
    Payload {
        address: String,
        source: PayloadError,
    },
    #[error("{address} says that its next page is at another server, which is not asked")]
    Page { address: String },
    #[error("{address} says that nothing changed, which nobody asked")]
    NotModified { address: String },
    /// No device is known whose failure this could be.
    #[error("{reasons}")]
    Unanswered { reasons: String },
}

/// A source of answers over HTTP at work.
#[derive(Debug)]
pub(crate) struct Http {
    inner: Arc<Inner>,
    runtime: Handle,
}

#[derive(Debug)]
struct Inner {
    shape: Shape,
    places: Vec<Place>,
    live: Arc<Live>,
    every: Duration,
    /// Set when the source ends.
    over: Arc<AtomicBool>,
}

/// How often a look is taken at whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);

impl Http {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(
        config: &HttpSource,
        setting: &Setting,
        live: Arc<Live>,
    ) -> Result<Self, FieldError> {
        let runtime = setting.runtime.clone();
        let runtime =
            runtime.ok_or_else(|| FieldError::new("type", "there are no threads for devices"))?;
        let shape = Shape::compile(config)?;
        let places = shape.addresses.iter();
        let places = places.map(|address| Place::new(address.clone(), config, setting));
        let inner = Arc::new(Inner {
            places: places.collect::<Result<_, _>>()?,
            live,
            every: config.every.as_std(),
            over: Arc::default(),
            shape,
        });
        let known = inner.places.iter().map(|p| inner.shape.known(&p.address));
        inner.live.expect(known.flatten());
        for number in 0..inner.places.len() {
            runtime.spawn(watch(Arc::clone(&inner), number));
        }
        Ok(Self { inner, runtime })
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.inner.live
    }

    pub(crate) fn reads(&self) -> String {
        let places = &self.inner.places;
        match places.as_slice() {
            [] => String::new(),
            [one] => one.address.url.clone(),
            [first, others @ ..] => format!("{} and {} more", first.address.url, others.len()),
        }
    }

    pub(crate) fn may_match(&self, selector: &Selector) -> bool {
        let Inner { shape, places, .. } = &*self.inner;
        places.iter().any(|p| shape.may_match(&p.address, selector))
    }

    /// Sends the newest reading of each series that matches.
    pub(crate) fn sample(&self, ask: &Ask, out: &Outlet) -> Result<(), HttpError> {
        let inner = &self.inner;
        let matching = (0..inner.places.len()).filter(|&number| {
            let address = &inner.places[number].address;
            inner.shape.may_match(address, &ask.selector)
        });
        let asked: Vec<usize> = matching.collect();
        let (say, hear) = channel();
        for &number in &asked {
            for device in inner.devices(number) {
                if ask.selector.device(&device) {
                    out.device(&device)?;
                }
            }
            let (inner, say) = (Arc::clone(inner), say.clone());
            self.runtime.spawn_blocking(move || {
                let answered = inner.ask(number);
                // Whoever asked may not have waited.
                let _ = say.send((number, answered));
            });
        }
        drop(say);
        Sampling {
            inner,
            ask,
            out,
            sent: HashSet::new(),
            waiting: asked.into_iter().collect(),
            failures: Vec::new(),
        }
        .run(&hear)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.inner.over.store(true, Ordering::Relaxed);
    }
}

type Answered = Result<Arc<Answer>, Arc<HttpError>>;

impl Inner {
    fn ask(&self, number: usize) -> Answered {
        self.places[number].ask(&self.shape, &self.live, &self.over)
    }

    /// Devices that an address is known to answer for.
    fn devices(&self, number: usize) -> Vec<Arc<str>> {
        let place = &self.places[number];
        match self.shape.device(&place.address) {
            Some(device) => vec![Arc::clone(device)],
            None => place.devices(),
        }
    }
}

/// Asks an address at regular times while somebody wants what arrives.
async fn watch(inner: Arc<Inner>, number: usize) {
    let mut wanted = inner.live.wanted();
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let mut ticks = interval(inner.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *wanted.borrow() {
            tokio::select! {
                _ = ticks.tick() => {}
                // Perhaps nobody wants it any more.
                changed = wanted.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
            if inner.over.load(Ordering::Relaxed) {
                return;
            }
            let asks = Arc::clone(&inner);
            let asked = tokio::task::spawn_blocking(move || asks.ask(number));
            // What failed is noted with the device; the next time it may work.
            let _ = asked.await;
        }
    }
}

/// A question for what is now, while answers come.
struct Sampling<'a> {
    inner: &'a Inner,
    ask: &'a Ask,
    out: &'a Outlet,
    sent: HashSet<SeriesKey>,
    waiting: HashSet<usize>,
    failures: Vec<String>,
}

impl Sampling<'_> {
    fn run(mut self, hear: &Receiver<(usize, Answered)>) -> Result<(), HttpError> {
        while !self.waiting.is_empty() {
            if self.ask.is_stopped() {
                return Err(Stopped.into());
            }
            let left = self
                .ask
                .deadline
                .map(|d| d.saturating_duration_since(Instant::now()));
            match hear.recv_timeout(left.unwrap_or(PATIENCE).min(PATIENCE)) {
                Ok((number, answered)) => {
                    self.waiting.remove(&number);
                    self.answered(number, answered)?;
                }
                Err(RecvTimeoutError::Timeout) if left.is_none_or(|l| !l.is_zero()) => {}
                Err(_) => break,
            }
        }
        self.late()?;
        match self.failures.is_empty() || !self.sent.is_empty() {
            true => Ok(()),
            // No device is known whose failure this could be.
            false => Err(HttpError::Unanswered {
                reasons: self.failures.join("; "),
            }),
        }
    }

    fn answered(&mut self, number: usize, answered: Answered) -> Result<(), HttpError> {
        let answer = match answered {
            Ok(answer) => answer,
            Err(e) => return self.failed(number, &e.to_string()),
        };
        let lost = &answer.heap.lost;
        let rows = (answer.heap.heard.len() + lost.len()) as u64;
        self.out.fetched(rows, answer.bytes)?;
        for reason in lost {
            self.out.lost(*reason, 1, None)?;
        }
        let mut newest: BTreeMap<&SeriesKey, &Heard> = BTreeMap::new();
        let heard = &answer.heap.heard;
        for heard in heard.iter().filter(|h| self.ask.selector.matches(&h.key)) {
            let kept = newest.entry(&heard.key).or_insert(heard);
            if heard.time >= kept.time {
                *kept = heard;
            }
        }
        for (key, heard) in newest {
            if !self.sent.insert(key.clone()) {
                continue;
            }
            self.out.device(&key.device)?;
            let mut segment = Segment::default();
            segment.push(heard.time.unwrap_or(answer.at), heard.value, heard.mark);
            self.out.readings(key, segment)?;
        }
        Ok(())
    }

    fn failed(&mut self, number: usize, reason: &str) -> Result<(), HttpError> {
        let devices = self.inner.devices(number);
        if devices.is_empty() {
            self.failures.push(reason.to_owned());
        }
        for device in devices.iter().filter(|d| self.ask.selector.device(d)) {
            let since = self.inner.live.last_seen(device);
            self.out.failed(device, since, reason.to_owned())?;
        }
        Ok(())
    }

    /// Those that have not answered by now.
    fn late(&mut self) -> Result<(), HttpError> {
        for number in std::mem::take(&mut self.waiting) {
            let url = &self.inner.places[number].address.url;
            let reason = format!("{url} has not answered yet");
            let devices = self.inner.devices(number);
            if devices.is_empty() {
                self.failures.push(reason.clone());
            }
            for device in devices.iter().filter(|d| self.ask.selector.device(d)) {
                let since = self.inner.live.last_seen(device);
                self.out.late(device, since, reason.clone())?;
            }
        }
        Ok(())
    }
}
