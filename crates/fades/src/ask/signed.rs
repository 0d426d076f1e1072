//! A task that was signed before, elsewhere: it is handed in as it is.

use std::path::Path;

use fades_task::mtw::Mtw;
use fades_trust::envelope::{ENVELOPE_MAX, Envelope, PayloadType};

use crate::problem::{Attempt, Problem};

/// Whether a file is the envelope of a task rather than a task.
pub(super) fn is_envelope(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "dsse")
}

/// Reads an envelope and the task in it. Its signature is for the node to
/// check.
pub(super) fn read(path: &Path) -> Result<(Envelope, Mtw), Problem> {
    let cannot = || format!("cannot hand in {}", path.display());
    let length = std::fs::metadata(path).or_problem(cannot)?.len();
    if length > ENVELOPE_MAX as u64 {
        let reason = format!("it has {length} bytes, an envelope has at most {ENVELOPE_MAX}");
        return Err(Problem::new(cannot()).reason(reason));
    }
    let envelope = Envelope::parse(&std::fs::read(path).or_problem(cannot)?).or_problem(cannot)?;
    if envelope.payload_type != PayloadType::Task.as_str() {
        return Err(Problem::new(cannot()).reason(format!(
            "it holds {:?} and not a task",
            envelope.payload_type
        )));
    }
    let mtw = serde_json::from_slice(&envelope.payload).or_problem(cannot)?;
    Ok((envelope, mtw))
}

/// What options would change in a signed task.
pub(super) fn unchangeable(path: &Path) -> Problem {
    Problem::new(format!(
        "{} is signed and cannot be changed",
        path.display()
    ))
    .remedy("leave out the options that change the task, or sign it anew")
}
