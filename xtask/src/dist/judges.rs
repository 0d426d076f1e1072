//! What lintian and systemd think of the package.

use std::path::Path;
use std::process::Command;

use crate::system;
use crate::tree::{Fault, Tree};

/// The exposure up to which systemd may see the unit, in tenths. What is left is what
/// the node needs; a setting that goes missing shows here.
const EXPOSURE_MAX: &str = "25";

/// Asks all of them; returns who is not here.
pub(super) fn all(tree: &Tree, deb: &Path) -> Result<Vec<String>, Fault> {
    let mut skipped = Vec::new();
    if system::exists("lintian") {
        println!("lintian");
        lintian(deb)?;
    } else {
        skipped.push("lintian: not here; apt-get install lintian".to_owned());
    }
    if system::exists("systemd-analyze") {
        println!("systemd-analyze security: {}", exposure(tree)?);
    } else {
        skipped.push("unit: no systemd-analyze; apt-get install systemd".to_owned());
    }
    Ok(skipped)
}

fn lintian(deb: &Path) -> Result<(), Fault> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    let (good, said) = heard(lintian.arg(deb))?;
    match good {
        true => Ok(()),
        false => Err(Fault::Judged("lintian", said)),
    }
}

/// The level that systemd gives the unit, or why it is too much.
fn exposure(tree: &Tree) -> Result<String, Fault> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager"]);
    analyze.arg(format!("--threshold={EXPOSURE_MAX}"));
    let (good, said) = heard(analyze.arg(tree.root.join("packaging/fades.service")))?;
    if !good {
        return Err(Fault::Judged("systemd-analyze security", said));
    }
    let line = said
        .lines()
        .find_map(|line| line.split_once("for fades.service: "));
    Ok(line
        .map_or("no level", |(_, level)| level.trim())
        .to_owned())
}

/// Whether a program was content, and all that it said.
fn heard(command: &mut Command) -> Result<(bool, String), Fault> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command.output().map_err(|e| Fault::Program(name, e))?;
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok((ended.status.success(), said))
}
