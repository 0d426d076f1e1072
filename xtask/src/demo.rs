//! `cargo xtask demo`: builds what the demonstration needs, then plays it.

use std::process::{Command, ExitCode};

use crate::functions;
use crate::tree::{Fault, Tree, must, succeeds};

/// Builds, then runs `fades demo` with the images of this tree.
pub(crate) fn run(tree: &Tree, rest: &[&str]) -> Result<ExitCode, Fault> {
    release(tree)?;
    let images = functions::build(tree, "release")?;
    let mut demo = Command::new(tree.binary("release", "fades"));
    demo.arg("demo").arg("--images").arg(images).args(rest);
    Ok(ExitCode::from(u8::from(!succeeds(&mut demo)?)))
}

/// The release build of the whole workspace: one selection of packages, so
/// that nothing is built twice.
pub(crate) fn release(tree: &Tree) -> Result<(), Fault> {
    must(&mut tree.cargo(&["build", "--release", "--workspace", "--locked"]))
}
