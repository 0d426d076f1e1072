//! What waits for a broker all the time: connects, subscribes, and hands on what
//! comes.
//!
//! ```text
//!        ┌────────── back-off, 1 s to 60 s ──────────┐
//!        ▼                                           │
//!   read secrets ─► connect ─► subscribe ─► messages ┴─► an error
//! ```
//! Messages are read no faster than they are handed on, and none is kept: a broker
//! that sends more than the node can take is slowed down by TCP, and drops or
//! keeps what it has as it is configured.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fades_task::coverage::{BadRow, LossReason};
use tokio::sync::Notify;

use fades_outside::mqtt::Setup;

use super::link::{self, Link, Word};
use super::shape::Shape;
use super::status::Status;
use crate::config::MqttSource;
use crate::live::{self, Heard, Live};
use crate::payload::Named;
use crate::series::MAX_SERIES;
use crate::source::Setting;

/// Readings that are handed on at once.
const BATCH: usize = 1024;

/// Longest topic whose names are remembered, bytes.
const REMEMBERED: usize = 512;

/// Waits between attempts to connect.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Bad messages that are said in the log, for each connection.
const SAID: u64 = 5;

/// What listens to a broker.
pub(super) struct Listener {
    pub(super) config: MqttSource,
    pub(super) setting: Setting,
    pub(super) shape: Shape,
    pub(super) client: String,
    pub(super) qos: u8,
    pub(super) persistent: bool,
    pub(super) live: Arc<Live>,
    pub(super) status: Arc<Status>,
    /// Somebody waits for the connection.
    pub(super) hurry: Arc<Notify>,
}

/// What is on its way from one connection.
#[derive(Default)]
struct Passage {
    heard: Vec<Heard>,
    /// Names by topic; `None`: not one of the source's.
    names: HashMap<Box<[u8]>, Option<Arc<Named>>>,
    good: u64,
    bad: u64,
    retained: Option<Instant>,
    number: u64,
}

impl Listener {
    /// Listens for ever.
    pub(super) async fn run(self) {
        let filters: Vec<String> = self.shape.topics.iter().map(|t| t.filter()).collect();
        let (mut failures, mut subscribed) = (0, false);
        loop {
            let error = match self.setup() {
                Ok(setup) => {
                    let mut link = Link::new(self.config.version, &setup);
                    let (connected, error) = self.hear(&mut link, &filters, &mut subscribed).await;
                    if connected {
                        failures = 0;
                    }
                    error
                }
                Err(e) => e,
            };
            if self.status.now().error.as_ref() != Some(&error) {
                tracing::warn!(
                    "source {}: {}: {error}",
                    self.live.source(),
                    self.config.url
                );
            }
            self.live.cut(Some(&error));
            self.status.change(|s| {
                s.attempts += 1;
                s.subscribed = None;
                s.error = Some(error);
            });
            self.rest(failures).await;
            failures += 1;
        }
    }

    fn setup(&self) -> Result<Setup, String> {
        let Self {
            config, setting, ..
        } = self;
        let setup = link::setup(
            config,
            &self.shape.address,
            &self.client,
            self.persistent,
            setting,
        );
        setup.map_err(|e| e.to_string())
    }

    /// Waits before the next attempt, shorter when somebody waits for it.
    async fn rest(&self, failures: u32) {
        // Of many nodes that lost the same broker not all shall come back at once.
        let share = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let rest = pause(failures, share);
        tokio::time::sleep(rest.min(SHORTEST)).await;
        let left = rest.saturating_sub(SHORTEST);
        let _ = tokio::time::timeout(left, self.hurry.notified()).await;
    }

    /// Hears one connection until it ends; whether the broker let the node in, and
    /// why it ended.
    async fn hear(
        &self,
        link: &mut Link,
        filters: &[String],
        subscribed: &mut bool,
    ) -> (bool, String) {
        let (mut passage, mut connected) = (Passage::default(), false);
        let error = loop {
            let word = {
                let mut next = pin!(link.next());
                match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                    Poll::Ready(word) => word,
                    Poll::Pending => {
                        // Nothing waits: what was gathered is all there is.
                        self.hand_on(&mut passage);
                        next.await
                    }
                }
            };
            match word {
                Ok(Word::Connected { resumed }) => {
                    connected = true;
                    if resumed && *subscribed {
                        self.subscribed();
                    } else if let Err(e) = link.subscribe(filters, self.qos) {
                        break e;
                    }
                }
                Ok(Word::Subscribed(answers)) => {
                    let mut refused = filters.iter().zip(answers);
                    let refused = refused.find_map(|(f, a)| Some((f.clone(), a.err()?)));
                    if let Some((filter, reason)) = &refused {
                        let source = self.live.source();
                        tracing::warn!("source {source}: topic {filter}: {reason}");
                    }
                    *subscribed = refused.is_none();
                    self.status.change(|s| s.refused = refused);
                    self.subscribed();
                }
                Ok(Word::Message {
                    topic,
                    payload,
                    retained,
                }) => self.message(&mut passage, &topic, &payload, retained),
                Ok(Word::Other) => {}
                Err(e) => break e,
            }
        };
        self.hand_on(&mut passage);
        (connected, error)
    }

    fn subscribed(&self) {
        self.live.cut(None);
        self.status.change(|s| {
            s.attempts += 1;
            s.subscribed = Some(Instant::now());
            s.error = None;
        });
    }

    fn message(&self, passage: &mut Passage, topic: &[u8], payload: &[u8], retained: bool) {
        passage.number += 1;
        if retained {
            passage.retained = Some(Instant::now());
        }
        let Some(named) = passage.named(&self.shape, topic) else {
            return;
        };
        if retained && !self.config.retained {
            return;
        }
        match self.shape.meaning.understand(&named, payload, live::now()) {
            Ok(understood) => {
                passage.good += u64::from(!understood.heard.is_empty());
                let heard = understood.heard.into_iter();
                // After a break the broker says again what it keeps.
                let new = heard.filter(|h| !(retained && self.live.is_newest(h)));
                passage.heard.extend(new);
                for loss in understood.lost {
                    self.bad(passage, &named, topic, loss.reason, &loss.place);
                }
            }
            Err(e) => self.bad(passage, &named, topic, e.loss(), &e.to_string()),
        }
        if passage.heard.len() >= BATCH {
            self.hand_on(passage);
        }
    }

    /// Counts a reading that cannot be used, and cites the first few.
    fn bad(
        &self,
        passage: &mut Passage,
        named: &Named,
        topic: &[u8],
        reason: LossReason,
        place: &str,
    ) {
        passage.bad += 1;
        let topic: String = String::from_utf8_lossy(topic).chars().take(200).collect();
        let bad = BadRow {
            file: topic.escape_debug().to_string(),
            line: passage.number,
            column: Some(place.to_owned()).filter(|p| !p.is_empty()),
            reason,
        };
        self.live.unusable(named.device.as_deref(), &bad, 1);
        if passage.bad <= SAID {
            let place = bad.column.as_deref().unwrap_or_default();
            let words = format!("{}: {} {place}", bad.file, reason.words());
            let words = words.trim_end().to_owned();
            tracing::warn!("source {}: {words}", self.live.source());
            self.status.change(|s| {
                let _ = s.first_bad.get_or_insert(words);
            });
        }
    }

    fn hand_on(&self, passage: &mut Passage) {
        if !passage.heard.is_empty() {
            self.live.arrive(std::mem::take(&mut passage.heard));
        }
        let (good, bad) = (passage.good, passage.bad);
        let retained = passage.retained.take();
        if good > 0 || bad > 0 || retained.is_some() {
            self.status.change(|s| {
                s.good += good;
                s.bad += bad;
                s.retained = retained.or(s.retained);
            });
        }
        (passage.good, passage.bad) = (0, 0);
    }
}

/// How long is waited after so many failures in a row; `share`: any from 0 to 1.
fn pause(failures: u32, share: f64) -> Duration {
    let longest = SHORTEST.saturating_mul(1 << failures.min(6)).min(LONGEST);
    longest.mul_f64(0.5 + share / 2.0)
}

impl Passage {
    /// What a topic names; remembered, because devices use theirs again and again.
    fn named(&mut self, shape: &Shape, topic: &[u8]) -> Option<Arc<Named>> {
        if let Some(named) = self.names.get(topic) {
            return named.clone();
        }
        let text = std::str::from_utf8(topic).ok();
        let named = text.and_then(|t| shape.named(t)).map(Arc::new);
        if topic.len() <= REMEMBERED && self.names.len() < MAX_SERIES {
            self.names.insert(topic.into(), named.clone());
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        BATCH, LONGEST, Listener, Live, MqttSource, Passage, REMEMBERED, SHORTEST, Setting, pause,
    };
    use crate::dial::Dial;
    use crate::mqtt::shape::Shape;
    use crate::notes::Notes;
    use crate::secret::Secrets;
    use crate::selector::Selector;
    use crate::series::MAX_SERIES;

    #[test]
    fn waits_grow_to_a_minute_and_no_further() {
        assert_eq!(pause(0, 1.0), SHORTEST);
        assert_eq!(pause(3, 1.0), SHORTEST * 8);
        for failures in [6, 7, 40, u32::MAX] {
            assert_eq!(pause(failures, 1.0), LONGEST);
            assert_eq!(pause(failures, 0.0), LONGEST / 2);
        }
    }

    #[test]
    fn a_flood_is_handed_on_a_thousand_readings_at_a_time() {
        let config = serde_json::json!({ "url": "mqtt://h", "topic": "{device}/{kind}" });
        let config: MqttSource = serde_json::from_value(config).unwrap();
        let notes = Arc::new(Notes::new(&[]));
        let listener = Listener {
            setting: Setting {
                base: "/".into(),
                secrets: Secrets::new("/".as_ref(), None),
                readings: None,
                dial: Dial::Direct,
                room: Arc::default(),
                runtime: None,
            },
            shape: Shape::compile(&config).unwrap(),
            client: String::new(),
            qos: 0,
            persistent: false,
            live: Arc::new(Live::new(&"hall".parse().unwrap(), &notes, None)),
            status: Arc::default(),
            hurry: Arc::default(),
            config,
        };
        let mut passage = Passage::default();
        for number in 1..3 * BATCH {
            listener.message(&mut passage, b"d/t", b"21.5", false);
            assert_eq!(passage.heard.len(), number % BATCH);
        }
        assert_eq!(listener.live.newest(&Selector::all()).len(), 1);
    }

    #[test]
    fn topics_are_remembered_up_to_a_number_and_a_length() {
        let config = serde_json::json!({ "url": "mqtt://h", "topic": "site/{device}/{kind}/{_}" });
        let shape = Shape::compile(&serde_json::from_value(config).unwrap()).unwrap();
        let mut passage = Passage::default();
        let mut named = |topic: String| passage.named(&shape, topic.as_bytes());
        let long = format!("site/d/t/{}", "x".repeat(REMEMBERED));
        assert_eq!(&**named(long).unwrap().device.as_ref().unwrap(), "d");
        for i in 0..MAX_SERIES + 10 {
            // Every other one is none of the source's.
            let topic = if i % 2 == 0 { "other" } else { "site" };
            assert_eq!(named(format!("{topic}/{i}/t/x")).is_some(), i % 2 == 1);
        }
        assert_eq!(passage.names.len(), MAX_SERIES);
        assert!(passage.names.keys().all(|topic| topic.len() <= REMEMBERED));
    }
}
