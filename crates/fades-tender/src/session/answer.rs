//! Copying answers and checkpoints out of the output window, and checking the
//! copies.

use fades_abi::batch::{Batch, COLUMN_ALIGN};
use fades_task::exit::Exit;
use zerocopy::IntoBytes;

use super::{Session, killed, misuse};
use crate::address::Offset;
use crate::contract::AnswerAt;
use crate::layout::Part;

/// An answer, out of the function's reach and checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Deterministic CBOR.
    pub(super) values: Vec<u8>,
    /// A batch, or nothing.
    pub(super) readings: Vec<u8>,
}

impl AnswerAt {
    /// Checks that the answer lies in a window of `limit` bytes and that its
    /// parts do not overlap.
    fn check(&self, limit: u64) -> Result<(), Refusal> {
        let values = self.length;
        if self.readings_length == 0 {
            return fits(values, limit);
        }
        let end = self.readings.checked_add(self.readings_length);
        let end = end.ok_or(Refusal::Rule("its readings end beyond all addresses"))?;
        fits(values.max(end), limit)?;
        if !self.readings.is_multiple_of(COLUMN_ALIGN as u64) {
            return Err(Refusal::Rule("its readings are not aligned to 64 bytes"));
        }
        if self.readings < values {
            return Err(Refusal::Rule("its readings overlap its values"));
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Overflow { needed: u64 },
    Rule(&'static str),
}

const fn fits(needed: u64, limit: u64) -> Result<(), Refusal> {
    if needed <= limit {
        Ok(())
    } else {
        Err(Refusal::Overflow { needed })
    }
}

impl Session<'_> {
    fn refuse(&self, refusal: Refusal) -> Exit {
        match refusal {
            Refusal::Rule(rule) => misuse(rule),
            Refusal::Overflow { needed } => Exit::OutputOverflow {
                needed,
                limit: self.start.limits.output,
            },
        }
    }

    /// The answer that the function says lies in its output window.
    pub(super) fn copy_answer(&mut self, at: AnswerAt) -> Result<Answer, Exit> {
        let before = std::time::Instant::now();
        let limit = self.start.limits.output.0;
        at.check(limit).map_err(|r| self.refuse(r))?;
        let values = self.copy_output(0, at.length)?;
        let readings = self.copy_output(at.readings, at.readings_length)?;
        self.spent.transfer += before.elapsed();
        check_values(&values).map_err(misuse)?;
        check_readings(&readings).map_err(misuse)?;
        Ok(Answer { values, readings })
    }

    /// The checkpoint that the function says lies in its output window.
    pub(super) fn copy_state(&self, length: u64) -> Result<Vec<u8>, Exit> {
        fits(length, self.start.limits.output.0).map_err(|r| self.refuse(r))?;
        self.copy_output(0, length)
    }

    fn copy_output(&self, from: u64, length: u64) -> Result<Vec<u8>, Exit> {
        let start = self.layout().span(Part::Output).offset;
        let mut bytes = vec![0; length as usize];
        if length > 0 {
            let memory = self.machine.memory();
            let copied = memory.copy_out(Offset(start.0 + from), &mut bytes);
            copied.map_err(|e| killed(&e))?;
        }
        Ok(bytes)
    }
}

fn check_values(values: &[u8]) -> Result<(), String> {
    fades_task::cbor::decode(values)
        .map(drop)
        .map_err(|e| format!("its answer is not deterministic CBOR: {e}"))
}

/// Readings must be a batch of whose rows every one can be read.
fn check_readings(readings: &[u8]) -> Result<(), String> {
    if readings.is_empty() {
        return Ok(());
    }
    let mut aligned = vec![0_u64; readings.len().div_ceil(8)];
    let bytes = &mut aligned.as_mut_bytes()[..readings.len()];
    bytes.copy_from_slice(readings);
    let batch = Batch::open(bytes).map_err(|e| format!("its readings are no batch: {e}"))?;
    if batch.value().iter().all(|v| v.is_finite()) {
        Ok(())
    } else {
        Err("a value of its readings is not finite".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(length: u64, readings: u64, readings_length: u64) -> AnswerAt {
        AnswerAt {
            length,
            readings,
            readings_length,
        }
    }

    #[test]
    fn an_answer_must_lie_in_its_window() {
        let overflow = |needed| Err(Refusal::Overflow { needed });
        assert_eq!(at(100, 0, 0).check(100), Ok(()));
        assert_eq!(at(101, 0, 0).check(100), overflow(101));
        assert_eq!(at(u64::MAX, 0, 0).check(100), overflow(u64::MAX));
        assert_eq!(at(10, 64, 36).check(100), Ok(()));
        assert_eq!(at(10, 64, 37).check(100), overflow(101));
        // Without readings, where they would be does not matter.
        assert_eq!(at(10, 3, 0).check(100), Ok(()));
    }

    #[test]
    fn readings_must_be_aligned_and_behind_the_values() {
        for bad in [at(10, 65, 1), at(65, 64, 1), at(0, u64::MAX - 63, 64)] {
            assert!(matches!(bad.check(100), Err(Refusal::Rule(_))), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_in_words() {
        assert_eq!(check_values(&[0xa0]), Ok(()));
        assert!(check_values(&[]).unwrap_err().contains("CBOR"));
        assert!(check_values(&[0xa1, 0x61]).is_err());
        assert!(check_readings(&[0; 200]).unwrap_err().contains("no batch"));
        assert!(check_readings(&[1]).is_err());
        assert_eq!(check_readings(&[]), Ok(()));
    }
}
