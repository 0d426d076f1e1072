//! Readings that earlier runs answered: the orchestrator hands them over with a
//! DTO that asks for them, in batch form, one piece for each run.

use std::collections::BTreeMap;
use std::sync::Arc;

use fades_abi::batch::Batch;
use fades_task::coverage::{BadRow, LossReason};
use fades_task::message::Answers;
use zerocopy::IntoBytes;

use crate::chunk::Segment;
use crate::flow::{Ask, Outlet, Stopped};
use crate::series::SeriesKey;

/// Name under which such readings are known; no source can have it, because a
/// source's name does not begin with a hyphen.
pub(crate) const SOURCE: &str = "result";

/// The answers of some runs, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Earlier(Vec<Arc<[u64]>>);

impl Earlier {
    /// Parts the blob of a request: the answers for each DTO, by its index. What
    /// the lengths do not cover is left out.
    pub(crate) fn part(answers: &[Answers], mut blob: &[u8], dtos: usize) -> Vec<Self> {
        let mut parts = vec![Self::default(); dtos];
        for of_dto in answers {
            for &length in &of_dto.lengths {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let Some((piece, rest)) = blob.split_at_checked(length) else {
                    return parts;
                };
                blob = rest;
                if let Some(part) = parts.get_mut(of_dto.dto as usize) {
                    part.0.push(aligned(piece));
                }
            }
        }
        parts
    }

    /// Sends the readings that `ask` wants, series after series. Where two runs
    /// answered for the same series and time, the newer one counts.
    pub(crate) fn fetch(&self, ask: &Ask, out: &Outlet) -> Result<(), Stopped> {
        let mut series: BTreeMap<SeriesKey, BTreeMap<i64, (f64, u8)>> = BTreeMap::new();
        let mut replaced = 0;
        for piece in &self.0 {
            let bytes = piece.as_bytes();
            let Ok(batch) = Batch::open(bytes) else {
                // A function wrote it; its run ended well all the same.
                let cited = BadRow {
                    file: "an earlier answer".to_owned(),
                    line: 1,
                    column: None,
                    reason: LossReason::BadText,
                };
                out.lost(LossReason::BadText, 1, Some(cited))?;
                continue;
            };
            let mut rows = 0;
            for s in batch.series() {
                let key = SeriesKey {
                    device: s.device.into(),
                    location: s.location.into(),
                    kind: s.kind.into(),
                    unit: s.unit.into(),
                };
                if !ask.selector.matches(&key) {
                    continue;
                }
                out.device(&key.device)?;
                rows += s.time.len() as u64;
                let known = series.entry(key).or_default();
                for (i, (&time, &value)) in s.time.iter().zip(s.value).enumerate() {
                    if !ask.selector.within(time) {
                        continue;
                    }
                    let mark = s.mark.map_or(0, |m| m[i]);
                    match known.entry(time) {
                        std::collections::btree_map::Entry::Vacant(free) => {
                            free.insert((value, mark));
                        }
                        std::collections::btree_map::Entry::Occupied(_) => replaced += 1,
                    }
                }
            }
            out.fetched(rows, bytes.len() as u64)?;
        }
        if replaced > 0 {
            out.lost(LossReason::Duplicate, replaced, None)?;
        }
        for (key, readings) in series {
            let mut segment = Segment::default();
            for (time, (value, mark)) in readings {
                segment.push(time, value, mark);
            }
            if segment.rows() > 0 {
                out.readings(&key, segment)?;
            }
        }
        Ok(())
    }
}

/// A copy at an address that is a multiple of eight, as a batch must be.
fn aligned(bytes: &[u8]) -> Arc<[u64]> {
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    if let Some(room) = words.as_mut_bytes().get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
    }
    words.into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use fades_abi::batch::{Draft, SeriesSpec, encoded_length, order};
    use fades_task::mtw::Take;

    use super::*;
    use crate::chunk::Capacity;
    use crate::flow::{Ahead, Assembly};
    use crate::selector::Selector;

    fn answer(device: &str, rows: &[(i64, f64)]) -> Vec<u8> {
        let spec = SeriesSpec {
            id: 0,
            device,
            kind: "t",
            unit: "Cel",
            location: "",
            rows: rows.len() as u64,
            complete: true,
        };
        let specs = [spec];
        let mut words = vec![0_u64; encoded_length(&specs, false).div_ceil(8)];
        let draft = Draft::new(words.as_mut_bytes(), 0, 0, order::SERIES, &specs, false).unwrap();
        for (i, (time, value)) in rows.iter().enumerate() {
            draft.time[i] = *time;
            draft.value[i] = *value;
        }
        words.as_bytes().to_vec()
    }

    /// Readings and lost ones of what `pieces` have between 10 and 20.
    fn fetched(pieces: &[&[u8]]) -> (Vec<(i64, f64)>, u64) {
        let answers = Answers {
            dto: 0,
            lengths: pieces.iter().map(|p| p.len() as u64).collect(),
        };
        let parts = Earlier::part(&[answers], &pieces.concat(), 1);
        let mut selector = Selector::all();
        (selector.from, selector.to) = (10, 20);
        let ask = Ask {
            selector,
            take: Take::Range,
            aggregate: None,
            deadline: None,
            stop: Arc::default(),
        };
        let (outlet, inlet) = Outlet::pair();
        parts[0].fetch(&ask, &outlet).unwrap();
        outlet.end(Ok(())).unwrap();
        let stop = AtomicBool::new(false);
        let capacity = Capacity::of(fades_abi::INPUT_PAGE);
        let mut assembly = Assembly::new("result".parse().unwrap(), inlet, None, capacity);
        let mut rows = Vec::new();
        while let Ahead::Bytes(_) = assembly.ahead(&stop) {
            for s in assembly.chunk(0, &stop).unwrap().series {
                for segment in s.segments {
                    rows.extend(segment.time.into_iter().zip(segment.value));
                }
            }
        }
        (rows, assembly.outcome().tally.lost_total())
    }

    #[test]
    fn the_newer_answer_counts_and_others_add_to_it() {
        let newer = answer("a", &[(12, 1.0), (13, 2.0)]);
        let older = answer("a", &[(5, 9.0), (11, 3.0), (12, 4.0), (20, 9.0)]);
        let (rows, lost) = fetched(&[&newer, &older]);
        assert_eq!(rows, [(11, 3.0), (12, 1.0), (13, 2.0)]);
        assert_eq!(lost, 1);
    }

    #[test]
    fn an_answer_that_is_no_batch_is_counted_and_the_rest_is_read() {
        let good = answer("a", &[(12, 1.0)]);
        let (rows, lost) = fetched(&[b"nonsense", &good]);
        assert_eq!((rows.len(), lost), (1, 1));
    }

    #[test]
    fn lengths_that_lie_leave_out_what_is_not_there() {
        let answers = [Answers {
            dto: 0,
            lengths: vec![3, u64::MAX],
        }];
        let parts = Earlier::part(&answers, b"abcdef", 2);
        assert_eq!(parts[0].0.len(), 1);
        assert_eq!(parts[1].0.len(), 0);
    }
}
