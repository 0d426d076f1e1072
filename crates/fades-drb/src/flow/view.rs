//! What one ask is told of what a source says to several.
//!
//! ```text
//! Seat ───► filtered ─┐
//! Splice ─────────────┼─► told ─► Inlet
//! Alone ──► the rest ─┘
//! ```
//! Of a stream that was begun for more, only what a fetch of its own would have said
//! is handed on. Where that cannot be known, where the stream fails, and where there
//! is no room to wait for a slow taker, a view goes on *alone*: it asks the source
//! itself, and hands on what it has not told yet.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use fades_task::coverage::{Gap, LossReason};
use fades_task::time::Time;

use super::splice::{Splice, Step};
use super::stream::{Next, Seat};
use super::streams::Begin;
use super::{Ask, Inlet, Word};
use crate::chunk::Segment;
use crate::selector::Selector;
use crate::series::SeriesKey;

/// A taker's view of what a source says.
#[derive(Debug)]
pub(super) struct View {
    ask: Ask,
    begin: Begin,
    way: Way,
    told: Told,
}

#[derive(Debug)]
enum Way {
    Stream {
        seat: Seat,
        /// The stream was begun for the same.
        is_same: bool,
        /// It was begun for this very ask, which is told what that cost.
        is_first: bool,
    },
    Splice(Box<Splice>),
    Alone {
        inlet: Box<Inlet>,
        /// It was asked for the series that was told last, from its last reading on.
        goes_on: bool,
    },
}

/// What of a word is for a taker.
enum Verdict {
    Say(Word),
    Nothing,
    /// It cannot be told.
    Unknown,
}

impl View {
    /// Of a stream that has all that `ask` wants. `is_same`: and nothing else.
    pub(super) fn of(seat: Seat, ask: Ask, is_same: bool, begin: &Begin) -> Self {
        let way = Way::Stream {
            seat,
            is_same,
            is_first: false,
        };
        Self::new(way, ask, begin)
    }

    /// Of the stream that was begun for `ask`.
    pub(super) fn first(seat: Seat, ask: Ask, begin: &Begin) -> Self {
        let way = Way::Stream {
            seat,
            is_same: true,
            is_first: true,
        };
        Self::new(way, ask, begin)
    }

    /// Of several parts of the range.
    pub(super) fn spliced(splice: Splice, ask: Ask, begin: &Begin) -> Self {
        Self::new(Way::Splice(Box::new(splice)), ask, begin)
    }

    fn new(way: Way, ask: Ask, begin: &Begin) -> Self {
        Self {
            ask,
            begin: begin.clone(),
            way,
            told: Told::default(),
        }
    }

    /// The next word. That there is none may be said early, so that whoever asks can
    /// see whether to stop.
    pub(super) fn next(&mut self, patience: Duration) -> Result<Word, RecvTimeoutError> {
        match self.heard(patience)? {
            Verdict::Say(word) => {
                // What is asked for alone is not parted from.
                if !matches!(self.way, Way::Alone { .. }) {
                    self.told.note(&word);
                }
                return Ok(word);
            }
            Verdict::Nothing => {}
            Verdict::Unknown => self.part(),
        }
        Err(RecvTimeoutError::Timeout)
    }

    fn heard(&mut self, patience: Duration) -> Result<Verdict, RecvTimeoutError> {
        Ok(match &mut self.way {
            Way::Stream {
                seat,
                is_same,
                is_first,
            } => match seat.next(patience) {
                Next::Nothing => Verdict::Nothing,
                Next::Parted => Verdict::Unknown,
                Next::Word(word) => match (&*word, *is_same) {
                    (Word::Fetched { .. }, _) if !*is_first => Verdict::Nothing,
                    (_, true) => Verdict::Say(owned(word)),
                    (_, false) => filtered(word, &self.ask.selector),
                },
            },
            Way::Splice(splice) => match splice.next(patience) {
                Step::Word(word) => Verdict::Say(word),
                Step::Nothing => Verdict::Nothing,
                Step::Unable => Verdict::Unknown,
            },
            Way::Alone { inlet, goes_on } => match (inlet.next(patience)?, *goes_on) {
                (Word::Ended(Ok(())), true) => {
                    self.way = rest(&self.begin, &self.ask);
                    Verdict::Nothing
                }
                (word, true) => self.told.going_on(word),
                (word, false) => self.told.untold(word),
            },
        })
    }

    /// Goes on alone: first with the series that it is in, as all its readings come
    /// together, then with all that was not told yet.
    fn part(&mut self) {
        let goes_on = self.told.last.as_ref().and_then(|last| {
            let selector = self.ask.selector.for_series(&last.key)?;
            Some(selector.between(last.time, self.ask.selector.to))
        });
        self.way = match goes_on {
            None => rest(&self.begin, &self.ask),
            Some(selector) => Way::Alone {
                inlet: Box::new(self.begin.alone(Ask {
                    selector,
                    ..self.ask.clone()
                })),
                goes_on: true,
            },
        };
    }
}

/// All that `ask` wants, of which some was told.
fn rest(begin: &Begin, ask: &Ask) -> Way {
    Way::Alone {
        inlet: Box::new(begin.alone(ask.clone())),
        goes_on: false,
    }
}

fn owned(word: Arc<Word>) -> Word {
    Arc::try_unwrap(word).unwrap_or_else(|shared| Word::clone(&shared))
}

/// What a source would have said to who asks for `selector`, of what it said to
/// somebody who asked for more.
fn filtered(word: Arc<Word>, selector: &Selector) -> Verdict {
    match &*word {
        Word::Series(series) => {
            let mut series = series.clone();
            series.retain(|s| {
                let mut when = s.when.iter().flat_map(|when| when.iter());
                let found = when.any(|(oldest, newest)| selector.overlaps(*oldest, *newest));
                (s.when.is_none() || found) && selector.matches(&s.key)
            });
            match series.is_empty() {
                true => Verdict::Nothing,
                false => Verdict::Say(Word::Series(series)),
            }
        }
        Word::Readings(key, _) if !selector.matches(key) => Verdict::Nothing,
        Word::Readings(..) => match owned(word) {
            Word::Readings(key, segment) => within(key, segment, selector),
            _ => Verdict::Unknown,
        },
        Word::LostOf { key, .. } if !selector.matches(key) => Verdict::Nothing,
        Word::LostOf { reason, key, times } => {
            let own = times.iter().copied().filter(|&time| selector.within(time));
            let times: Vec<i64> = own.collect();
            match times.is_empty() {
                true => Verdict::Nothing,
                false => Verdict::Say(Word::LostOf {
                    reason: *reason,
                    key: key.clone(),
                    times,
                }),
            }
        }
        Word::Gap(gap) if selector.overlaps(gap.from.0, gap.to.0) => Verdict::Say(owned(word)),
        Word::Gap(_) | Word::Fetched { .. } => Verdict::Nothing,
        Word::Ended(Ok(())) => Verdict::Say(Word::Ended(Ok(()))),
        // With less to ask for, it may go well.
        Word::Ended(Err(_)) => Verdict::Unknown,
        // Whether the device has a series that matches, and whose readings are lost,
        // is not said.
        Word::Device(_) | Word::Absent { .. } | Word::Lost { .. } => Verdict::Unknown,
    }
}

/// The readings whose times are within the range.
fn within(key: SeriesKey, mut segment: Segment, selector: &Selector) -> Verdict {
    segment.keep(|time| selector.within(time));
    match segment.rows() {
        0 => Verdict::Nothing,
        _ => Verdict::Say(Word::Readings(key, segment)),
    }
}

/// What a view has handed on.
#[derive(Debug, Default)]
struct Told {
    series: HashSet<SeriesKey>,
    last: Option<Last>,
    lost: BTreeMap<LossReason, u64>,
    gaps: HashSet<(Time, String)>,
}

/// The series that was told last.
#[derive(Debug)]
struct Last {
    key: SeriesKey,
    /// Time of its last reading, and how many it has of that time.
    time: i64,
    many: u64,
}

impl Told {
    fn note(&mut self, word: &Word) {
        match word {
            Word::Readings(key, segment) => self.readings(key, segment),
            Word::Lost {
                reason, readings, ..
            } => *self.lost.entry(*reason).or_default() += readings,
            Word::LostOf { reason, times, .. } => {
                *self.lost.entry(*reason).or_default() += times.len() as u64;
            }
            Word::Gap(gap) => drop(self.gaps.insert(named(gap))),
            // To say these again does nothing.
            Word::Device(_) | Word::Series(_) | Word::Absent { .. } => {}
            Word::Fetched { .. } | Word::Ended(_) => {}
        }
    }

    fn readings(&mut self, key: &SeriesKey, segment: &Segment) {
        let Some(&time) = segment.time.last() else {
            return;
        };
        let mut many = segment.time.iter().rev().take_while(|t| **t == time);
        let mut many = many.by_ref().count() as u64;
        match &self.last {
            Some(last) if last.key == *key => {
                if last.time == time && many == segment.rows() as u64 {
                    many += last.many;
                }
            }
            _ => drop(self.series.insert(key.clone())),
        }
        let key = key.clone();
        self.last = Some(Last { key, time, many });
    }

    /// What comes after the reading that was told last.
    fn going_on(&mut self, word: Word) -> Verdict {
        let Some(last) = &mut self.last else {
            return Verdict::Nothing;
        };
        match word {
            Word::Readings(key, mut segment) if key == last.key => {
                segment.keep(|time| {
                    let is_told = time < last.time || (time == last.time && last.many > 0);
                    last.many -= u64::from(is_told && time == last.time);
                    !is_told
                });
                match segment.rows() {
                    0 => Verdict::Nothing,
                    _ => Verdict::Say(Word::Readings(key, segment)),
                }
            }
            word @ (Word::Fetched { .. } | Word::Ended(_)) => Verdict::Say(word),
            // It is said again when all is asked for.
            Word::Readings(..) | Word::Series(_) | Word::Device(_) | Word::Absent { .. } => {
                Verdict::Nothing
            }
            Word::Lost { .. } | Word::LostOf { .. } | Word::Gap(_) => Verdict::Nothing,
        }
    }

    /// What of a word was not told yet.
    fn untold(&mut self, word: Word) -> Verdict {
        match word {
            Word::Readings(key, _) if self.series.contains(&key) => Verdict::Nothing,
            Word::Gap(gap) if self.gaps.contains(&named(&gap)) => Verdict::Nothing,
            Word::Lost {
                reason,
                readings,
                cited,
            } => match (self.more(reason, readings), cited) {
                (0, None) => Verdict::Nothing,
                (readings, cited) => Verdict::Say(Word::Lost {
                    reason,
                    readings,
                    cited,
                }),
            },
            Word::LostOf {
                reason,
                key,
                mut times,
            } => {
                let more = self.more(reason, times.len() as u64);
                times.drain(..times.len() - more as usize);
                match times.is_empty() {
                    true => Verdict::Nothing,
                    false => Verdict::Say(Word::LostOf { reason, key, times }),
                }
            }
            word => Verdict::Say(word),
        }
    }

    /// How many of so many lost readings were not told.
    fn more(&mut self, reason: LossReason, readings: u64) -> u64 {
        let Some(told) = self.lost.get_mut(&reason) else {
            return readings;
        };
        let known = readings.min(*told);
        *told -= known;
        readings - known
    }
}

/// A gap goes on while it is asked for: when it began, and why, stays the same.
fn named(gap: &Gap) -> (Time, String) {
    (gap.from, gap.reason.clone())
}
