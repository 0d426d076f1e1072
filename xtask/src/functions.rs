//! Builds the ready-made functions and the test functions as images.

use std::path::PathBuf;

use crate::tree::{Fault, Tree, must};

/// Builds every function of `functions/` and puts the images, with their
/// symbols, into `target/images`; returns that folder.
pub(crate) fn build(tree: &Tree) -> Result<PathBuf, Fault> {
    must(&mut tree.functions_cargo(&["build", "--release", "--workspace", "--locked"]))?;
    Ok(tree.images())
}
