//! From what a source says to chunks, and to what its devices came to.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use fades_task::coverage::{Absent, BadRow, Gap, LossReason};
use fades_task::identity::Name;
use fades_task::time::Time;

use super::{Inlet, Word};
use crate::chunk::{Capacity, Chunk, ChunkSeries, Segment};
use crate::series::SeriesKey;
use crate::tally::Tally;
use crate::units;

/// How often a look is taken at whether to stop, while a source says nothing.
const PATIENCE: Duration = Duration::from_millis(50);

/// Chunks of what one source says about one DTO.
#[derive(Debug)]
pub(crate) struct Assembly {
    source: Name,
    inlet: Inlet,
    /// Unit that readings are converted to.
    unit: Option<Arc<str>>,
    capacity: Capacity,
    /// What did not fit into the last chunk.
    rest: Option<(SeriesKey, Segment)>,
    /// The chunk that is being filled, and what it takes of its room.
    chunk: Chunk,
    cost: u64,
    /// Number of the next series among those of the source.
    next_id: u32,
    /// The series that was met last, so that its readings in the next chunk get
    /// its number.
    last: Option<(SeriesKey, u32)>,
    outcome: Outcome,
    ended: bool,
}

/// What came of a source, beside its readings.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Devices that match.
    pub(crate) asked: HashSet<Arc<str>>,
    /// Those that gave a reading.
    pub(crate) answered: HashSet<Arc<str>>,
    /// Those that failed or were late.
    pub(crate) absent: BTreeMap<Arc<str>, Absent>,
    /// Times in which its readings may be missing.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) tally: Tally,
    /// Why the source as a whole failed.
    pub(crate) failure: Option<String>,
}

/// How much is gathered before room for a whole batch is asked for, bytes: what
/// is smaller asks for no more than it needs.
const FIRST: u64 = fades_abi::INPUT_PAGE;

/// What a look at the next chunk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// There is one, in a file of at most so many bytes.
    Bytes(u64),
    /// There is no more.
    End,
    /// Somebody asked to stop.
    Stopped,
}

impl Assembly {
    pub(crate) fn new(source: Name, inlet: Inlet, unit: Option<&str>, capacity: Capacity) -> Self {
        Self {
            source,
            inlet,
            unit: unit.map(Arc::from),
            capacity,
            rest: None,
            chunk: Chunk::default(),
            cost: 0,
            next_id: 0,
            last: None,
            outcome: Outcome::default(),
            ended: false,
        }
    }

    /// Waits until it is known how long the next file can be.
    pub(crate) fn ahead(&mut self, stop: &AtomicBool) -> Ahead {
        let whole = Capacity::bytes(self.capacity.room());
        if !self.gather(FIRST.min(self.capacity.room()), stop) {
            return Ahead::Stopped;
        }
        match (self.cost, self.ended && self.rest.is_none()) {
            (0, true) => Ahead::End,
            (cost, true) => Ahead::Bytes(Capacity::bytes(cost)),
            (_, false) => Ahead::Bytes(whole),
        }
    }

    /// The next chunk, when [`Assembly::ahead`] said that there is one; `None`
    /// when somebody asked to stop. `first_id`: number in the run of the source's
    /// first series.
    pub(crate) fn chunk(&mut self, first_id: u32, stop: &AtomicBool) -> Option<Chunk> {
        let room = self.capacity.room();
        self.gather(room, stop).then(|| {
            self.cost = 0;
            let mut chunk = std::mem::take(&mut self.chunk);
            // What did not fit goes on with the last series, or does not.
            if let (Some((key, _)), Some(last)) = (&self.rest, chunk.series.last_mut()) {
                last.complete = *key != last.key;
            }
            chunk.series.iter_mut().for_each(|s| s.id += first_id);
            chunk
        })
    }

    /// How many series the source had.
    pub(crate) const fn series(&self) -> u32 {
        self.next_id
    }

    pub(crate) const fn source(&self) -> &Name {
        &self.source
    }

    pub(crate) fn outcome(self) -> Outcome {
        self.outcome
    }

    /// Takes what the source says until the chunk takes `room`, or there is no
    /// more. Whether nobody asked to stop.
    fn gather(&mut self, room: u64, stop: &AtomicBool) -> bool {
        while self.cost < room {
            if let Some((key, segment)) = self.rest.take() {
                self.put(key, segment);
                if self.rest.is_some() {
                    return true;
                }
                continue;
            }
            if self.ended {
                return true;
            }
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            match self.inlet.next(PATIENCE) {
                Ok(word) => self.hear(word),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "a defect of the broker ended it".to_owned();
                    self.end(Err(reason));
                }
            }
        }
        true
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Device(device) => {
                self.outcome.asked.insert(device);
            }
            Word::Series(series) => {
                let devices = series.into_iter().map(|s| s.key.device);
                self.outcome.asked.extend(devices);
            }
            Word::Readings(key, segment) => {
                if let Some((key, segment)) = self.checked(key, segment) {
                    self.rest = Some((key, segment));
                }
            }
            Word::Absent {
                device,
                late,
                since,
                reason,
            } => self.absent(device, late, since, reason),
            Word::Lost {
                reason,
                readings,
                cited,
            } => self.lose(reason, readings, cited),
            Word::LostOf { reason, times, .. } => self.lose(reason, times.len() as u64, None),
            Word::Gap(gap) => {
                if gap.readings > 0 {
                    self.lose(LossReason::Overflow, gap.readings, None);
                }
                self.outcome.gaps.push(gap);
            }
            Word::Fetched { rows, bytes } => {
                self.outcome.tally.rows += rows;
                self.outcome.tally.bytes += bytes;
            }
            Word::Ended(ended) => self.end(ended),
        }
    }

    fn end(&mut self, ended: Result<(), String>) {
        self.ended = true;
        self.outcome.failure = ended.err();
    }

    fn absent(&mut self, device: Arc<str>, late: bool, since: Option<Time>, reason: String) {
        let absent = Absent {
            source: self.source.clone(),
            device: device.to_string(),
            late,
            since,
            reason,
        };
        self.outcome.asked.insert(Arc::clone(&device));
        self.outcome.absent.insert(device, absent);
    }

    fn lose(&mut self, reason: LossReason, readings: u64, cited: Option<BadRow>) {
        self.outcome.tally.lose(reason, readings);
        if let Some(cited) = cited {
            self.outcome.tally.cite(cited);
        }
    }

    /// Readings that can be used, in the unit that is wanted.
    fn checked(
        &mut self,
        mut key: SeriesKey,
        mut segment: Segment,
    ) -> Option<(SeriesKey, Segment)> {
        let device = &key.device;
        if !self.outcome.asked.contains(device) {
            self.outcome.asked.insert(Arc::clone(device));
        }
        let all = segment.rows() as u64;
        segment.keep_finite();
        let finite = segment.rows() as u64;
        if finite < all {
            self.lose(LossReason::NotFinite, all - finite, None);
        }
        if let Some(unit) = &self.unit
            && **unit != *key.unit
        {
            match units::conversion(&key.unit, unit) {
                Some(convert) => segment.value.iter_mut().for_each(|v| *v = convert.of(*v)),
                None => {
                    self.lose(LossReason::Unit, finite, None);
                    return None;
                }
            }
            key.unit = Arc::clone(unit);
        }
        (finite > 0).then_some((key, segment))
    }

    /// Adds readings to the chunk; what does not fit becomes the rest.
    fn put(&mut self, key: SeriesKey, mut segment: Segment) {
        let goes_on = self.chunk.series.last().is_some_and(|s| s.key == key);
        let head = if goes_on { 0 } else { Capacity::cost(&key, 0) };
        let left = self.capacity.room().saturating_sub(self.cost);
        let fits = Capacity::rows_in(left.saturating_sub(head)) as usize;
        if fits == 0 {
            self.rest = Some((key, segment));
            // Full: another row would not fit.
            self.cost = self.capacity.room();
            return;
        }
        if segment.rows() > fits {
            let after = segment.split_off(fits);
            self.rest = Some((key.clone(), after));
        }
        let tally = &mut self.outcome.tally;
        tally.used += segment.rows() as u64;
        tally.marked += segment.mark.iter().filter(|&&m| m != 0).count() as u64;
        self.cost += head + Capacity::rows_cost(segment.rows() as u64);
        if !self.outcome.answered.contains(&key.device) {
            self.outcome.answered.insert(Arc::clone(&key.device));
        }
        if goes_on {
            if let Some(series) = self.chunk.series.last_mut() {
                series.segments.push(segment);
            }
        } else {
            let id = self.number(&key);
            self.chunk.series.push(ChunkSeries {
                id,
                key,
                complete: true,
                segments: vec![segment],
            });
        }
    }

    fn number(&mut self, key: &SeriesKey) -> u32 {
        match &self.last {
            Some((last, id)) if last == key => *id,
            _ => {
                let id = self.next_id;
                self.next_id += 1;
                self.last = Some((key.clone(), id));
                id
            }
        }
    }
}

#[cfg(test)]
mod tests;
