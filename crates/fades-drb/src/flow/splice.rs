//! A range of which a stream has the middle: before and after it are fetched.
//!
//! ```text
//! before ─┐ gathered, within the room
//! after  ─┘            │
//! middle ──────────────┴─► each series: before, middle, after
//! ```
//! What is fetched is the smaller part of the range, and is gathered whole, because
//! it is said nowhere that a source sends its series in the same order twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use fades_task::coverage::Gap;

use super::stream::Room;
use super::view::View;
use super::{Inlet, Word};
use crate::chunk::Segment;
use crate::series::SeriesKey;

/// Three parts of a range, as one.
#[derive(Debug)]
pub(super) struct Splice {
    room: Arc<Room>,
    /// Before and after, until all is gathered.
    rest: [Option<Inlet>; 2],
    gathered: BTreeMap<SeriesKey, [Vec<Segment>; 2]>,
    /// What is gathered takes so much of the room.
    bytes: u64,
    middle: View,
    /// The series that the middle is in.
    now: Option<SeriesKey>,
    gaps: Vec<Gap>,
    /// What can be told.
    out: VecDeque<Word>,
}

/// What is next.
pub(super) enum Step {
    Word(Word),
    /// Nothing yet.
    Nothing,
    /// The parts make no whole.
    Unable,
}

impl Splice {
    pub(super) fn new(rest: [Option<Inlet>; 2], middle: View, room: &Arc<Room>) -> Self {
        Self {
            room: Arc::clone(room),
            rest,
            gathered: BTreeMap::new(),
            bytes: 0,
            middle,
            now: None,
            gaps: Vec::new(),
            out: VecDeque::new(),
        }
    }

    pub(super) fn next(&mut self, patience: Duration) -> Step {
        if let Some(word) = self.out.pop_front() {
            return Step::Word(word);
        }
        for i in 0..2 {
            if let Some(inlet) = &mut self.rest[i] {
                return match inlet.next(patience) {
                    Ok(word) => self.gather(i, word),
                    Err(RecvTimeoutError::Timeout) => Step::Nothing,
                    Err(RecvTimeoutError::Disconnected) => Step::Unable,
                };
            }
        }
        match self.middle.next(patience) {
            Ok(word) => self.follow(word),
            Err(RecvTimeoutError::Timeout) => Step::Nothing,
            Err(RecvTimeoutError::Disconnected) => Step::Unable,
        }
    }

    /// Takes a word of what is before or after.
    fn gather(&mut self, part: usize, word: Word) -> Step {
        let bytes = word.bytes();
        match word {
            Word::Readings(key, segment) => {
                self.gathered.entry(key).or_default()[part].push(segment);
                self.bytes += bytes;
                self.room.take(bytes);
                match self.room.is_exceeded(self.bytes) {
                    true => Step::Unable,
                    false => Step::Nothing,
                }
            }
            Word::Ended(Ok(())) => {
                self.rest[part] = None;
                Step::Nothing
            }
            word => self.beside(word),
        }
    }

    /// Takes a word of the middle.
    fn follow(&mut self, word: Word) -> Step {
        match word {
            Word::Readings(key, segment) => {
                if self.now.as_ref() != Some(&key) {
                    self.leave();
                    self.tell(&key, 0);
                    self.now = Some(key.clone());
                }
                self.out.push_back(Word::Readings(key, segment));
                Step::Nothing
            }
            Word::Ended(Ok(())) => {
                self.leave();
                let others: Vec<SeriesKey> = self.gathered.keys().cloned().collect();
                for key in &others {
                    self.tell(key, 0);
                    self.tell(key, 1);
                }
                self.out.extend(self.gaps.drain(..).map(Word::Gap));
                self.out.push_back(Word::Ended(Ok(())));
                Step::Nothing
            }
            word => self.beside(word),
        }
    }

    /// What is no reading, of any part.
    fn beside(&mut self, word: Word) -> Step {
        match word {
            Word::Series(_) | Word::LostOf { .. } | Word::Fetched { .. } => Step::Word(word),
            Word::Gap(gap) => {
                self.gap(gap);
                Step::Nothing
            }
            // These could be told of more than one part; what failed may go well when
            // all is asked for.
            _ => Step::Unable,
        }
    }

    /// A gap can reach into several parts, and go on between two questions.
    fn gap(&mut self, gap: Gap) {
        let mut known = self.gaps.iter_mut();
        let known = known.find(|k| k.from == gap.from && k.reason == gap.reason);
        match known {
            Some(known) if known.to >= gap.to => {}
            Some(known) => *known = gap,
            None => self.gaps.push(gap),
        }
    }

    /// The middle has no more of its series.
    fn leave(&mut self) {
        if let Some(key) = self.now.take() {
            self.tell(&key, 1);
        }
    }

    /// Tells what was gathered of a series, before (0) or after (1) the middle.
    fn tell(&mut self, key: &SeriesKey, part: usize) {
        let Some(parts) = self.gathered.get_mut(key) else {
            return;
        };
        for segment in std::mem::take(&mut parts[part]) {
            let word = Word::Readings(key.clone(), segment);
            let bytes = word.bytes();
            self.bytes -= bytes;
            self.room.give(bytes);
            self.out.push_back(word);
        }
        if parts.iter().all(Vec::is_empty) {
            self.gathered.remove(key);
        }
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        self.room.give(self.bytes);
    }
}
