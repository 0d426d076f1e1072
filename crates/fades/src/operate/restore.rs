//! `fades restore`: a node's folder out of a backup. It is made beside its place and
//! put there in one step, so that there is a whole folder or none.

use std::io;
use std::path::{Path, PathBuf};

use fades_orc::store::Store;
use fades_orc::store::TakenOver;

use super::archive::{Manifest, Reader};
use crate::ask::render::number::count;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{self, Session};
use crate::settings::node_file::NodeFile;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup
    file: PathBuf,
    /// The folder to make
    folder: PathBuf,
    /// The node has not worked since the backup was made: run what was waiting and
    /// running then, make up for schedules, and deliver what was not delivered
    #[arg(long)]
    again: bool,
}

/// Carries out `fades restore`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = &args.folder;
    check_free(folder)?;
    let cannot = || format!("cannot restore {}", args.file.display());
    session.progress("checking the backup");
    let reader = Reader::open(&args.file).or_problem(cannot)?;
    let manifest = reader.manifest.clone();
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Removed again when something fails.
    let beside = tempfile::Builder::new()
        .prefix(".fades-restore-")
        .tempdir_in(parent)
        .or_problem(cannot)?;
    session.progress("writing the folder");
    reader.extract(beside.path()).or_problem(cannot)?;
    let state = beside.path().join("state");
    let store = Store::open(&state).or_problem(cannot)?;
    let taken = store.take_over(manifest.made, session::now(), args.again);
    let taken = taken.or_problem(cannot)?;
    drop(store);
    sync_folders(beside.path()).or_problem(cannot)?;
    std::fs::rename(beside.path(), folder).or_problem(cannot)?;
    // It is not there any more.
    let _ = beside.keep();
    let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.or_problem(cannot)?;
    session.progress_end();
    tell(args, &manifest, taken, session);
    Ok(Outcome::Done)
}

/// Nothing of another node is ever mixed with a backup.
fn check_free(folder: &Path) -> Result<(), Problem> {
    let taken = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    };
    match taken {
        false => Ok(()),
        true => Err(
            Problem::new(format!("{} is there already", folder.display()))
                .remedy("name a folder that is not there"),
        ),
    }
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    std::fs::File::open(folder)?.sync_all()
}

fn tell(args: &Args, manifest: &Manifest, taken: TakenOver, session: &Session) {
    let folder = args.folder.display();
    let Manifest { node, made, .. } = manifest;
    session.talk(&format!("{folder}: node {node} as of {made}"));
    let TakenOver {
        open,
        standing,
        undelivered,
    } = taken;
    if args.again {
        session.talk(&format!(
            "{} tasks that had not ended run again, {} schedules make up for what they missed, \
             {} answers are delivered",
            count(open),
            count(standing),
            count(undelivered)
        ));
    } else {
        session.talk(
            "tables of keys and revocations that were signed since are not in it: \
             fades trust update, once it runs (fades doctor says so until then)",
        );
        if open > 0 {
            session.talk(&format!(
                "{} tasks had not ended then and may have run since: they are cancelled \
                 (fades ps --all); sign those anew that shall run",
                count(open)
            ));
        }
        if standing > 0 {
            session.talk(&format!(
                "{} schedules go on from now; what was due since then is left out",
                count(standing)
            ));
        }
        if undelivered > 0 {
            session.talk(&format!(
                "{} answers may have been delivered since: they are not delivered again; \
                 fades result ID shows each",
                count(undelivered)
            ));
        }
    }
    if !manifest.left_out.is_empty() {
        session.talk(&format!(
            "secrets are not in a backup, put them in place: {}",
            manifest.left_out.join(", ")
        ));
    }
    if let Err(problem) = NodeFile::read(&args.folder) {
        session.talk(&problem.text(str::to_owned));
    }
    session.talk(&format!(
        "next, once the old node cannot start any more: fades node {folder}"
    ));
}
