//! `cargo xtask demo`: builds what the demonstration needs, then plays it.

use std::process::{Command, ExitCode};

use crate::functions;
use crate::tree::{Fault, Tree, must, succeeds};

/// Builds, then runs `fades demo` with the images of this tree.
pub(crate) fn run(tree: &Tree, rest: &[&str]) -> Result<ExitCode, Fault> {
    must(&mut tree.cargo(&["build", "--release", "--locked"]))?;
    let images = functions::build(tree, "release")?;
    let mut demo = Command::new(tree.binary("release", "fades"));
    demo.arg("demo").arg("--images").arg(images).args(rest);
    Ok(ExitCode::from(u8::from(!succeeds(&mut demo)?)))
}
