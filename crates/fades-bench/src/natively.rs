//! Functions built as ordinary programs, without any isolation.
//!
//! The program of a function that is built with the SDK's feature `testing`
//! plays batch files through the same code as the image's, and says how long
//! the function took: from event to event, reading its input from memory and
//! writing its answer included, opening and mapping files not.

use std::process::Command;

use serde::Deserialize;

use crate::bench::{Bench, output};
use crate::fault::Fault;
use crate::input::BatchFile;

/// What a native run gave.
#[derive(Debug)]
pub(crate) struct Native {
    /// Time of the function, microseconds.
    pub(crate) spent: f64,
    /// The answer, as an image gives it.
    pub(crate) cbor: Vec<u8>,
}

/// What the program says.
#[derive(Debug, Deserialize)]
struct Said {
    seconds: Vec<f64>,
}

/// Runs `function` over `files` once, in a process of its own, with so much
/// memory for its heap.
pub(crate) fn run(
    bench: &Bench,
    function: &str,
    files: &[BatchFile],
    memory: u64,
) -> Result<Native, Fault> {
    let answer = bench.folder.join("natively.cbor");
    let mut program = Command::new(bench.native(function)?);
    program.args(["--times", "1", "--memory", &memory.to_string()]);
    program.arg("--answer").arg(&answer);
    program.args(files.iter().map(|file| &file.path));
    let said = output(&mut program)?;
    let said: Said = serde_json::from_str(&said).map_err(Fault::json("what a function said"))?;
    let cbor = std::fs::read(&answer).map_err(Fault::file(&answer, "read"))?;
    Ok(Native {
        spent: said.seconds.first().copied().unwrap_or(0.0) * 1e6,
        cbor,
    })
}

/// That a function answered with the same bytes in isolation and natively.
pub(crate) fn same(function: &str, ours: &[u8], native: &Native) -> Result<(), Fault> {
    let text = |cbor: &[u8]| match fades_task::cbor::decode(cbor) {
        Ok(value) => value.to_string(),
        Err(e) => e.to_string(),
    };
    match ours == native.cbor {
        true => Ok(()),
        false => Err(Fault::Differs {
            what: format!("the answer of {function}"),
            ours: text(ours),
            theirs: text(&native.cbor),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_are_shown() {
        let cbor = fades_task::cbor::encode(&serde_json::json!({ "rows": 1 }));
        let native = Native {
            spent: 1.0,
            cbor: cbor.clone(),
        };
        assert!(same("pass", &cbor, &native).is_ok());
        let other = fades_task::cbor::encode(&serde_json::json!({ "rows": 2 }));
        let words = same("pass", &other, &native).unwrap_err().to_string();
        assert!(
            words.contains("{\"rows\":2}") && words.contains("{\"rows\":1}"),
            "{words}"
        );
    }
}
