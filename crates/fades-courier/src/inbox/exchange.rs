//! What is said between the courier and an inbox over HTTP. Pure: bytes in, values
//! out. `docs/inbox.md` is its contract.

use std::borrow::Cow;
use std::collections::HashSet;

use fades_task::courier::{LETTER_MAX, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::TOGETHER;

/// Longest answer with letters, bytes.
pub(super) const ANSWER_MAX: u64 = 8 << 20;

/// Longest id of a letter, bytes.
const ID_MAX: usize = 128;

/// Longest explanation that an inbox is told, bytes.
const DETAIL_MAX: usize = 2048;

/// A letter as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter<'a> {
    pub(super) id: String,
    /// The envelope, byte for byte; `None`: it is too long.
    pub(super) envelope: Option<&'a str>,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("it is not the JSON of a list of letters: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "letter {index} has an id of {length} bytes: it must have 1 to {ID_MAX}, none of them a \
         control character"
    )]
    Id { index: usize, length: usize },
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    letters: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    envelope: &'a RawValue,
}

/// The first letters of an answer, each id once.
pub(super) fn letters(body: &[u8]) -> Result<Vec<Letter<'_>>, ExchangeError> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let mut seen = HashSet::new();
    let mut letters = Vec::new();
    for (index, entry) in answer.letters.into_iter().take(TOGETHER).enumerate() {
        let length = entry.id.len();
        let is_wrong = entry.id.chars().any(char::is_control);
        if !(1..=ID_MAX).contains(&length) || is_wrong {
            return Err(ExchangeError::Id { index, length });
        }
        let id = entry.id.into_owned();
        if seen.insert(id.clone()) {
            let envelope = entry.envelope.get();
            let envelope = (envelope.len() <= LETTER_MAX).then_some(envelope);
            letters.push(Letter { id, envelope });
        }
    }
    Ok(letters)
}

/// What is said of a letter that is too long to be handed on.
pub(super) fn too_large() -> Verdict {
    Verdict::Refused {
        problem: "too-large".to_owned(),
        detail: format!("the envelope is longer than {LETTER_MAX} bytes: send a smaller task"),
    }
}

#[derive(Serialize)]
struct Verdicts<'a> {
    verdicts: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    #[serde(flatten)]
    verdict: Cow<'a, Verdict>,
}

/// What an inbox is told of its letters. Those that are to stay must not be among
/// them.
pub(super) fn verdicts(told: &[(String, Verdict)]) -> Vec<u8> {
    let verdicts = told.iter().map(|(id, verdict)| Told {
        id,
        verdict: bounded(verdict),
    });
    let verdicts = verdicts.collect();
    // It has no keys but texts.
    serde_json::to_vec(&Verdicts { verdicts }).unwrap_or_default()
}

fn bounded(verdict: &Verdict) -> Cow<'_, Verdict> {
    match verdict {
        Verdict::Refused { problem, detail } if detail.len() > DETAIL_MAX => {
            Cow::Owned(Verdict::Refused {
                problem: problem.clone(),
                detail: shortened(detail),
            })
        }
        verdict => Cow::Borrowed(verdict),
    }
}

/// The first of an explanation.
pub(super) fn shortened(detail: &str) -> String {
    let end = (0..=DETAIL_MAX.min(detail.len())).rev();
    let end = end.into_iter().find(|&i| detail.is_char_boundary(i));
    detail[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests;
