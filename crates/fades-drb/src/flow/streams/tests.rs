//! Asks of a source that is made by hand and knows what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Condvar, PoisonError};

use fades_task::coverage::{Gap, LossReason};
use fades_task::mtw::{Dto, Take};
use fades_task::time::Time;

use super::*;
use crate::chunk::Segment;
use crate::flow::{Matching, Stopped, Word};
use crate::selector::Selector;
use crate::series::SeriesKey;

mod random;
mod together;

const LONG: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);
const MANY: u64 = 1 << 30;

/// What a source has, and how it tells.
#[derive(Debug, Default)]
struct Store {
    /// Times, values and marks, in order.
    rows: BTreeMap<SeriesKey, Vec<(i64, f64, u8)>>,
    /// Readings that are lost; those of no series cannot be told apart.
    lost: Vec<(SeriesKey, i64)>,
    lost_apart: bool,
    gaps: Vec<(i64, i64)>,
    /// Series are found only by who asks for times in which they have readings, in
    /// steps of so much.
    step: Option<i64>,
    /// Fails when it comes to the readings of this series.
    fails_at: Option<SeriesKey>,
    absent: Option<SeriesKey>,
    /// Readings of a word.
    piece: usize,
    /// Tells series in another order each time.
    shuffles: bool,
    asked: Mutex<Vec<Asked>>,
    /// Fetches that were stopped.
    stopped: AtomicU64,
    /// Series that each fetch may tell; the rest when there are more.
    may: Mutex<Option<usize>>,
    more: Condvar,
}

/// What it was asked.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    kinds: Vec<String>,
    range: (i64, i64),
}

impl Store {
    fn fetch(&self, ask: &Ask, out: &Outlet) -> Result<Result<(), String>, Stopped> {
        let turn = self.note(ask);
        let selector = &ask.selector;
        let found = self.rows.keys().filter(|key| selector.matches(key));
        out.series(found.filter_map(|key| self.matching(key, selector)))?;
        if let Some(key) = self.absent.as_ref().filter(|key| selector.matches(key)) {
            out.failed(&key.device, None, "as this test wants".to_owned())?;
        }
        self.tell_lost(selector, out)?;
        let mut keys: Vec<&SeriesKey> = self.rows.keys().collect();
        if self.shuffles {
            let many = keys.len().max(1);
            keys.rotate_left(turn % many);
        }
        let keys = keys.into_iter().filter(|key| selector.matches(key));
        for (number, key) in keys.enumerate() {
            self.wait(number, ask);
            let rows = self.rows[key].iter().filter(|r| selector.within(r.0));
            let rows: Vec<_> = rows.copied().collect();
            if self.fails_at.as_ref() == Some(key) && !rows.is_empty() {
                return Ok(Err("as this test wants".to_owned()));
            }
            for piece in rows.chunks(self.piece.max(1)) {
                let mut segment = Segment::default();
                for &(time, value, mark) in piece {
                    segment.push(time, value, mark);
                }
                out.readings(key, segment)?;
            }
            out.fetched(rows.len() as u64, 0)?;
        }
        for &(from, to) in self.gaps.iter().filter(|g| selector.overlaps(g.0, g.1)) {
            out.gap(gap(from, to))?;
        }
        Ok(Ok(()))
    }

    fn note(&self, ask: &Ask) -> usize {
        let mut asked = self.asked.lock().unwrap();
        asked.push(Asked {
            kinds: ask.selector.written.kind.clone(),
            range: (ask.selector.from, ask.selector.to),
        });
        asked.len()
    }

    fn matching(&self, key: &SeriesKey, selector: &Selector) -> Option<Matching> {
        let Some(step) = self.step else {
            return Some(Matching::always(key));
        };
        let times = self.rows[key].iter().map(|r| r.0.div_euclid(step) * step);
        let times: BTreeSet<i64> = times.collect();
        let looked = times.into_iter().map(|t| (t, t + step - 1));
        let looked: Vec<_> = looked.filter(|t| selector.overlaps(t.0, t.1)).collect();
        (!looked.is_empty()).then(|| Matching {
            key: key.clone(),
            when: Some(looked.into()),
        })
    }

    fn tell_lost(&self, selector: &Selector, out: &Outlet) -> Result<(), Stopped> {
        let lost = self.lost.iter();
        let lost = lost.filter(|(key, time)| selector.matches(key) && selector.within(*time));
        let lost: Vec<_> = lost.collect();
        if self.lost_apart {
            for (key, time) in lost {
                out.lost_of(LossReason::NotANumber, key, vec![*time])?;
            }
        } else if !lost.is_empty() {
            out.lost(LossReason::NotANumber, lost.len() as u64, None)?;
        }
        Ok(())
    }

    fn wait(&self, number: usize, ask: &Ask) {
        let mut may = self.may.lock().unwrap();
        while may.is_some_and(|may| number >= may) && !ask.is_stopped() {
            let woken = self.more.wait_timeout(may, Duration::from_millis(5));
            may = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets it tell so many series, or all.
    fn let_go(&self, many: Option<usize>) {
        *self.may.lock().unwrap() = many;
        self.more.notify_all();
    }

    fn begin(self: &Arc<Self>) -> Begin {
        let store = Arc::clone(self);
        Begin::new(move |ask, out| {
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                let ended = store.fetch(&ask, &out).map(|ended| out.end(ended));
                if ended.is_err() {
                    store.stopped.fetch_add(1, Ordering::Relaxed);
                }
            });
        })
    }

    fn asked(&self) -> Vec<(i64, i64)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|a| a.range).collect()
    }
}

fn gap(from: i64, to: i64) -> Gap {
    Gap {
        source: name(),
        from: Time(from),
        to: Time(to),
        readings: 3,
        reason: "as this test wants".to_owned(),
    }
}

fn name() -> Name {
    "s".parse().unwrap()
}

fn key(device: &str, kind: &str) -> SeriesKey {
    SeriesKey {
        device: device.into(),
        location: "".into(),
        kind: kind.into(),
        unit: "".into(),
    }
}

/// Devices with a reading of each kind at each time.
fn store(devices: usize, kinds: &[&str], times: std::ops::Range<i64>) -> Store {
    let keys = (0..devices).flat_map(|d| kinds.iter().map(move |k| key(&format!("d{d}"), k)));
    let rows = |key: SeriesKey| {
        let rows = times.clone().map(|t| (t, t as f64, 0));
        (key, rows.collect())
    };
    Store {
        rows: keys.map(rows).collect(),
        piece: 10,
        ..Store::default()
    }
}

fn ask(kinds: &[&str], from: i64, to: i64) -> Ask {
    let dto = Dto {
        kind: kinds.iter().map(|k| (*k).to_owned()).collect(),
        from: Time(from),
        to: Time(to),
        ..Dto::all("d".parse().unwrap())
    };
    Ask {
        selector: Selector::compile(&dto).unwrap(),
        take: Take::Range,
        aggregate: None,
        deadline: None,
        stop: Arc::default(),
    }
}

/// What a taker heard.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// Values as their bits.
    rows: BTreeMap<SeriesKey, Vec<(i64, u64, u8)>>,
    devices: BTreeSet<Arc<str>>,
    absent: BTreeSet<Arc<str>>,
    lost: BTreeMap<LossReason, u64>,
    gaps: BTreeSet<Gap>,
    ended: Option<Result<(), String>>,
}

/// A taker.
struct Listener {
    inlet: Inlet,
    heard: Heard,
    now: Option<SeriesKey>,
    fetched: u64,
}

impl Listener {
    fn of(inlet: Inlet) -> Self {
        Self {
            inlet,
            heard: Heard::default(),
            now: None,
            fetched: 0,
        }
    }

    /// Hears a word, unless none comes just now.
    fn hear(&mut self, patience: Duration) {
        match self.inlet.next(patience) {
            Ok(word) => self.note(word),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("it ends without a word"),
        }
    }

    /// Hears until readings of so many series have come.
    fn series(&mut self, many: usize) {
        let until = Instant::now() + PATIENCE;
        while self.heard.rows.len() < many {
            assert!(Instant::now() < until);
            self.hear(Duration::from_millis(50));
        }
    }

    fn end(mut self) -> Heard {
        self.rest();
        self.heard
    }

    fn rest(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.heard.ended.is_none() {
            assert!(Instant::now() < until, "{:?}", self.inlet);
            self.hear(Duration::from_millis(50));
        }
    }

    fn note(&mut self, word: Word) {
        let heard = &mut self.heard;
        assert_eq!(heard.ended, None, "{word:?} after the end");
        match word {
            Word::Device(device) => drop(heard.devices.insert(device)),
            Word::Series(series) => heard
                .devices
                .extend(series.into_iter().map(|s| s.key.device)),
            Word::Readings(key, segment) => {
                heard.devices.insert(Arc::clone(&key.device));
                if self.now.as_ref() != Some(&key) {
                    assert!(!heard.rows.contains_key(&key), "{key:?} comes again");
                    self.now = Some(key.clone());
                }
                assert!(segment.rows() > 0);
                let has_mark = segment.mark.iter().any(|m| *m != 0);
                assert_eq!(has_mark, !segment.mark.is_empty());
                let mark = |i| segment.mark.get(i).copied().unwrap_or_default();
                let rows = (0..segment.rows())
                    .map(|i| (segment.time[i], segment.value[i].to_bits(), mark(i)));
                heard.rows.entry(key).or_default().extend(rows);
            }
            Word::Absent { device, .. } => drop(heard.absent.insert(device)),
            Word::Lost {
                reason, readings, ..
            } => *heard.lost.entry(reason).or_default() += readings,
            Word::LostOf { reason, times, .. } => {
                *heard.lost.entry(reason).or_default() += times.len() as u64;
            }
            Word::Gap(gap) => assert!(heard.gaps.insert(gap), "a gap comes again"),
            Word::Fetched { rows, .. } => self.fetched += rows,
            Word::Ended(ended) => heard.ended = Some(ended),
        }
    }
}

/// What somebody hears who asks alone.
fn alone(store: &Arc<Store>, ask: &Ask) -> Heard {
    Listener::of(store.begin().alone(ask.clone())).end()
}

/// Opens under the first number.
fn open(streams: &Streams, store: &Arc<Store>, ask: &Ask) -> Listener {
    Listener::of(streams.open(&name(), 1, ask.clone(), &store.begin()))
}

/// Waits until nothing is kept: a source has its end for a little longer.
fn emptied(streams: &Streams) {
    let until = Instant::now() + PATIENCE;
    while streams.kept() > 0 {
        assert!(Instant::now() < until, "{} bytes stay", streams.kept());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets each two of some asks be answered together, and checks that each hears what it
/// hears alone; how often the source was asked for each two.
pub(crate) fn fetches_of_pairs(
    fetch: impl Fn(&Ask, &Outlet) -> Result<(), String> + Send + Sync + 'static,
    asks: &[Ask],
) -> Vec<u64> {
    let fetches = Arc::new(AtomicU64::new(0));
    let (fetch, count) = (Arc::new(fetch), Arc::clone(&fetches));
    let begin = Begin::new(move |ask, out| {
        let fetch = Arc::clone(&fetch);
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            let ended = fetch(&ask, &out);
            // Whoever listened may have gone by now.
            let _ = out.end(ended);
        });
    });
    let alone = |ask: &Ask| Listener::of(begin.alone(ask.clone())).end();
    let mut counts = Vec::new();
    for first in asks {
        for second in asks {
            let streams = Streams::new(MANY, LONG);
            let open = |ask: &Ask| streams.open(&name(), 1, ask.clone(), &begin);
            let before = fetches.load(Ordering::Relaxed);
            let [begun, joined] = [first, second].map(|ask| Listener::of(open(ask)));
            let heard = (begun.end(), joined.end());
            counts.push(fetches.load(Ordering::Relaxed) - before);
            assert_eq!(heard.0, alone(first), "{first:?}");
            assert_eq!(heard.1, alone(second), "{second:?} after {first:?}");
        }
    }
    counts
}
