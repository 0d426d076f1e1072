//! `fades backup`: everything that a node on another host needs to take over, in
//! one file; while the node runs, and otherwise.

use std::path::{Path, PathBuf};

use fades_orc::api::types::Snapshot;
use fades_orc::store::Store;

use super::archive::{Manifest, Writer};
use super::config::folder_or_problem;
use crate::ask::client::Client;
use crate::ask::render::number::bytes;
use crate::ask::target;
use crate::keys::key::TRUST_FILE;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{self, Session};
use crate::settings::node_file::{NodeFile, leaves};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write
    file: PathBuf,
    /// The node's folder; the one here otherwise
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Replace the file when it is there
    #[arg(long)]
    force: bool,
}

/// A copy of the store, removed when it has been read.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // The node removes what is left at its next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Carries out `fades backup`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = folder_or_problem(args.folder.as_deref())?;
    if !args.force {
        check_free(&args.file)?;
    }
    let file = NodeFile::read(&folder)?;
    session.progress("copying the store");
    let made = session::now();
    let (copy, images) = copied(&folder, &file)?;
    let left_out = secrets(&folder, &file);
    let manifest = Manifest::new(file.node.name, made, left_out);
    let size = write(args, &folder, &manifest, &copy.0, &images, session)?;
    session.progress_end();
    session.talk(&format!(
        "{}: node {} as of {made}, {}; {} images",
        args.file.display(),
        manifest.node,
        bytes(size),
        images
            .iter()
            .filter(|i| i.extension().is_some_and(|e| e == "fades"))
            .count(),
    ));
    if !manifest.left_out.is_empty() {
        session.talk(&format!(
            "secrets are not in it, keep them elsewhere: {}",
            manifest.left_out.join(", ")
        ));
    }
    Ok(Outcome::Done)
}

fn check_free(path: &Path) -> Result<(), Problem> {
    match path.symlink_metadata() {
        Ok(_) => Err(Problem::new(format!("{} is there already", path.display()))
            .remedy("choose another name, or replace it with --force")),
        Err(_) => Ok(()),
    }
}

/// A copy of the store, and where the images are: from the node, or from its folder
/// while no node works on it.
fn copied(folder: &Path, file: &NodeFile) -> Result<(Copy, Vec<PathBuf>), Problem> {
    let state = folder.join("state");
    let listens = std::os::unix::net::UnixStream::connect(file.socket(folder)).is_ok();
    if listens {
        let client = target::of_folder(folder).and_then(Client::new)?;
        let snapshot: Snapshot = client.post("/v1/backup", &())?;
        let copy = Copy(snapshot.path.into());
        let images = std::fs::read_dir(state.join("images"));
        let images = images.or_problem(|| "cannot list the images".to_owned())?;
        let images = images.flatten().map(|entry| entry.path());
        // One that is being written belongs to no function yet.
        let whole = |path: &PathBuf| path.extension().is_some_and(|e| e != "part");
        return Ok((copy, images.filter(whole).collect()));
    }
    let cannot = || format!("cannot read the store in {}", state.display());
    if !state.is_dir() {
        return Err(Problem::new(cannot())
            .reason("no node ever ran on this folder")
            .remedy("copy the folder as it is: there is nothing else in it"));
    }
    let store = Store::open(&state).or_problem(cannot)?;
    let copy = Copy(store.snapshot().or_problem(cannot)?);
    let images = store.image_files().or_problem(cannot)?;
    Ok((copy, images))
}

/// Writes all of it beside the file, and puts it in its place in one step.
fn write(
    args: &Args,
    folder: &Path,
    manifest: &Manifest,
    store: &Path,
    images: &[PathBuf],
    session: &Session,
) -> Result<u64, Problem> {
    let cannot = || format!("cannot write {}", args.file.display());
    let parent = match args.file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let part = tempfile::Builder::new()
        .prefix(".fades-backup-")
        .tempfile_in(parent)
        .or_problem(cannot)?;
    let file = part.as_file().try_clone().or_problem(cannot)?;
    let mut writer = Writer::begin(file, manifest).or_problem(cannot)?;
    let mut all = 0;
    for (name, path) in contents(folder, store, images)? {
        session.progress(&format!("writing {name}, {} so far", bytes(all)));
        let added = writer.add(&name, &path);
        all += added.or_problem(|| format!("cannot back up {}", path.display()))?;
    }
    writer.end().or_problem(cannot)?;
    let kept = match args.force {
        true => part.persist(&args.file),
        false => part.persist_noclobber(&args.file),
    };
    kept.or_problem(cannot)?;
    let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.or_problem(cannot)?;
    Ok(all)
}

/// Everything that goes into a backup, by the name that it has in the node's folder.
fn contents(
    folder: &Path,
    store: &Path,
    images: &[PathBuf],
) -> Result<Vec<(String, PathBuf)>, Problem> {
    let mut contents = vec![("state/store.db".to_owned(), store.to_owned())];
    for name in [NodeFile::NAME, TRUST_FILE] {
        contents.push((name.to_owned(), folder.join(name)));
    }
    for (place, paths) in [
        ("conf.d", layers(folder)),
        ("state/images", images.to_vec()),
    ] {
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| {
                Problem::new(format!(
                    "cannot back up {}: its name is no text",
                    path.display()
                ))
            })?;
            contents.push((format!("{place}/{name}"), path));
        }
    }
    Ok(contents)
}

fn layers(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("conf.d"));
    let entries = entries.into_iter().flatten().flatten().map(|e| e.path());
    let mut layers: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    layers.sort();
    layers
}

/// Files of the folder that hold secrets: they are named, and stay where they are.
fn secrets(folder: &Path, file: &NodeFile) -> Vec<String> {
    let mut named = std::collections::BTreeSet::new();
    if folder.join("keys").is_dir() {
        named.insert("keys/".to_owned());
    }
    // Tables of texts, numbers and truth values always have a JSON form.
    let values = serde_json::to_value(file).unwrap_or_default();
    leaves("", &values, &mut |field, value| {
        let secret = field.ends_with("-file");
        if let Some(path) = value.as_str().filter(|_| secret) {
            named.insert(path.to_owned());
        }
    });
    named.into_iter().collect()
}
