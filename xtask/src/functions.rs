//! Builds the ready-made functions and the test functions as images.

use std::path::PathBuf;
use std::process::Command;

use crate::tree::{Fault, Tree, must};

/// Builds every function of `functions/` with the `fades` of `profile`, and puts
/// images and symbols into `target/images`; returns that folder.
pub(crate) fn build(tree: &Tree, profile: &str) -> Result<PathBuf, Fault> {
    let out = tree.images();
    let mut build = Command::new(tree.binary(profile, "fades"));
    build.arg("build").arg(tree.root.join("functions"));
    build.arg("--out").arg(&out);
    build.env("CARGO_TARGET_DIR", tree.functions_target());
    must(&mut build)?;
    Ok(out)
}
