//! Which isolations this host offers, as the tender finds out by trying.

use std::path::{Path, PathBuf};
use std::process::Command;

use fades_tender::probe::Probe;

use crate::problem::{Attempt, Problem};
use crate::session::Session;

/// The tender's program: the one given, `$FADES_TENDER`, the one beside this
/// program.
pub(crate) fn tender(given: Option<&Path>, session: &Session) -> Result<PathBuf, Problem> {
    let beside = || {
        let me = std::env::current_exe().or_problem(|| "cannot find this program".to_owned())?;
        Ok(me.with_file_name("fades-tender"))
    };
    let named = given
        .map(Path::to_owned)
        .or_else(|| session.env.tender.clone());
    let path = named.map_or_else(beside, Ok)?;
    if !path.is_file() {
        return Err(
            Problem::new(format!("the tender {} is not there", path.display()))
                .reason("every function runs in a process of it")
                .remedy("put fades-tender beside fades, or name it with --tender FILE"),
        );
    }
    Ok(path)
}

/// Asks the tender.
pub(crate) fn ask(tender: &Path) -> Result<Probe, Problem> {
    let cannot = || format!("cannot ask {} what this host offers", tender.display());
    let output = Command::new(tender)
        .arg("--probe")
        .output()
        .or_problem(cannot)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Problem::new(cannot()).reason(format!("{}: {}", output.status, said.trim())));
    }
    serde_json::from_slice(&output.stdout).or_problem(cannot)
}
