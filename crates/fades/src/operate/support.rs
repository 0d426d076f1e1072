//! `fades support`: what somebody who helps needs to know of a node, in one
//! file, without secrets, answers and readings.
//!
//! Most of it never had a secret: the configuration names files, and programs do
//! not show what is in them. As a second hurdle everything that was gathered
//! goes through a [`Redactor`] that knows the node's secrets and looks for them.

mod gather;
mod redact;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use fades_task::time::Time;
use flate2::Compression;
use flate2::write::GzEncoder;

use self::gather::{Gathered, gather};
use self::redact::Redactor;
use super::config::folder_or_problem;
use crate::ask::render::number::{bytes, count};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write; fades-support-NODE-TIME.tar.gz here otherwise
    file: Option<PathBuf>,
    /// The node's folder; the one here otherwise
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The tender's program; the one beside this program otherwise
    #[arg(long, value_name = "FILE")]
    tender: Option<PathBuf>,
    /// Replace the file when it is there
    #[arg(long)]
    force: bool,
}

/// What the first entry says before the list of the others.
const PREFACE: &str = "\
What somebody who helps needs to know of a FADES node.

Not in it: private keys, passwords, tokens and certificates; parameters, answers
and logs of functions; readings. Secrets of this node that showed up all the same
are replaced by [redacted].
In it: names of sources, devices, services, keys and hosts, addresses without
passwords, the last lines of the node's log, and why tasks failed. Look
through it before it is given to anybody.
";

/// Carries out `fades support`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = folder_or_problem(args.folder.as_deref())?;
    let redactor = Redactor::of_node(&folder, session.env.credentials.as_deref());
    let made = session::now();
    let mut gathered = gather(&folder, args.tender.as_deref(), session);
    session.progress_end();
    let found = gathered.redact(&redactor);
    let path = match &args.file {
        Some(path) => path.clone(),
        None => PathBuf::from(file_name(&gathered.node, made)),
    };
    // tar knows no time before 1970.
    let seconds = u64::try_from(made.0 / 1_000_000_000).unwrap_or_default();
    let preface = preface(&gathered, &redactor, found, made);
    let size = write(&path, args.force, &preface, &gathered, seconds)?;
    session.talk(&format!(
        "{}: {} files, {}; look through it before you give it away: tar xzf {0}",
        path.display(),
        gathered.files.len() + 1,
        bytes(size),
    ));
    if found > 0 {
        session.talk(&format!("{} times a secret was redacted", count(found)));
    }
    for missing in redactor.unread.iter().chain(&gathered.missing) {
        session.talk(&format!("not in it: {missing}"));
    }
    Ok(Outcome::Done)
}

/// A name that sorts by time and needs no quotes.
fn file_name(node: &str, made: Time) -> String {
    let time: String = made.to_string().chars().take(19).collect();
    let time = time.replace([':', '-'], "").replace('T', "-");
    format!("fades-support-{node}-{time}.tar.gz")
}

fn preface(gathered: &Gathered, redactor: &Redactor, found: u64, made: Time) -> String {
    let mut text = format!(
        "{PREFACE}\nnode {}, {made}, fades {}\nsecrets looked for: {}; redacted: {found}\n\n",
        gathered.node,
        env!("CARGO_PKG_VERSION"),
        redactor.known(),
    );
    for file in &gathered.files {
        text += &format!("{:16} {}\n", file.name, file.means);
    }
    for missing in redactor.unread.iter().chain(&gathered.missing) {
        text += &format!("MISSING: {missing}\n");
    }
    text
}

/// Writes the archive beside its place, readable by its owner only, and puts it
/// there in one step.
fn write(
    path: &Path,
    force: bool,
    preface: &str,
    gathered: &Gathered,
    time: u64,
) -> Result<u64, Problem> {
    let cannot = || format!("cannot write {}", path.display());
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let part = tempfile::Builder::new()
        .prefix(".fades-support-")
        .tempfile_in(parent)
        .or_problem(cannot)?;
    let file = part.as_file().try_clone().or_problem(cannot)?;
    archive(file, preface, gathered, time).or_problem(cannot)?;
    let size = part.as_file().metadata().or_problem(cannot)?.len();
    let kept = match force {
        true => part.persist(path),
        false => part.persist_noclobber(path),
    };
    kept.map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Problem::new(format!("{} is there already", path.display()))
                .remedy("choose another name, or replace it with --force")
        }
        _ => Problem::new(cannot()).because(&e.error),
    })?;
    Ok(size)
}

fn archive(file: File, preface: &str, gathered: &Gathered, time: u64) -> std::io::Result<()> {
    let gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut tar = tar::Builder::new(gzip);
    let mut add = |name: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(time);
        tar.append_data(
            &mut header,
            Path::new("fades-support").join(name),
            text.as_bytes(),
        )
    };
    add("README", preface)?;
    for file in &gathered.files {
        add(&file.name, &file.text)?;
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use fades_task::time::Time;

    use super::file_name;

    #[test]
    fn the_name_has_node_and_time() {
        let name = file_name("harbour-07", Time(1_790_000_000_000_000_000));
        assert_eq!(name, "fades-support-harbour-07-20260921-141320.tar.gz");
    }
}
