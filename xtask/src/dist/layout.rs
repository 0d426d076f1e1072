//! What goes where, as it is installed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Profile, control, licences};
use crate::tree::{Fault, Tree, must, output};

/// Files of the tree: where they are, where they go, and with which rights.
const FILES: &[(&str, &str, u32)] = &[
    (
        "packaging/fades.service",
        "usr/lib/systemd/system/fades.service",
        0o644,
    ),
    (
        "packaging/fades.sysusers",
        "usr/lib/sysusers.d/fades.conf",
        0o644,
    ),
    (
        "packaging/fades.tmpfiles",
        "usr/lib/tmpfiles.d/fades.conf",
        0o644,
    ),
    (
        "packaging/lintian-overrides",
        "usr/share/lintian/overrides/fades",
        0o644,
    ),
    (
        "packaging/copyright",
        "usr/share/doc/fades/copyright",
        0o644,
    ),
    ("README.md", "usr/share/doc/fades/README.md", 0o644),
    ("packaging/config", "DEBIAN/config", 0o755),
    ("packaging/templates", "DEBIAN/templates", 0o644),
    ("packaging/postinst", "DEBIAN/postinst", 0o755),
    ("packaging/prerm", "DEBIAN/prerm", 0o755),
    ("packaging/postrm", "DEBIAN/postrm", 0o755),
];

/// The ready-made functions.
const FUNCTIONS: [&str; 5] = ["air-quality", "cusum", "downsample", "hello", "summary"];

/// Shells, and where each looks for completions of packages.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/fades"),
    ("zsh", "usr/share/zsh/vendor-completions/_fades"),
    ("fish", "usr/share/fish/vendor_completions.d/fades.fish"),
];

/// Lays everything out at `root`, anew.
pub(super) fn lay_out(
    tree: &Tree,
    profile: Profile,
    root: &Path,
    version: &str,
    made: Duration,
) -> Result<(), Fault> {
    match fs::remove_dir_all(root) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Fault::File(root.to_owned(), e));
        }
        // What an earlier run left is not packed with this one.
        _ => {}
    }
    for program in ["fades", "fades-tender"] {
        let to = root.join("usr/bin").join(program);
        put(&tree.binary(profile.folder(), program), &to, 0o755)?;
        must(Command::new("strip").arg("--strip-unneeded").arg(&to))?;
    }
    for (from, to, mode) in FILES {
        put(&tree.root.join(from), &root.join(to), *mode)?;
    }
    functions(tree, root)?;
    manual(tree, root)?;
    for (shell, to) in COMPLETIONS {
        let mut fades = Command::new(root.join("usr/bin/fades"));
        let script = output(fades.args(["completions", shell]))?;
        write(&root.join(to), script.as_bytes())?;
    }
    let documents = root.join("usr/share/doc/fades");
    copy(&tree.root.join("docs"), &documents.join("docs"))?;
    copy(
        &tree.root.join("packaging/examples"),
        &documents.join("examples"),
    )?;
    let licences = licences::of(tree)?;
    write(
        &documents.join("third-party-licences.txt"),
        licences.as_bytes(),
    )?;
    let bill = bill(tree, root)?;
    write(&documents.join("fades.cdx.json"), bill.as_bytes())?;
    let changelog = control::changelog(version, made)?;
    gzipped(&documents.join("changelog"), changelog.as_bytes())?;
    let control = control::control(version, root)?;
    write(&root.join("DEBIAN/control"), control.as_bytes())
}

/// What the programs are made of.
fn bill(tree: &Tree, root: &Path) -> Result<String, Fault> {
    let mut fades = Command::new(root.join("usr/bin/fades"));
    fades
        .arg("materials")
        .arg(&tree.root)
        .args(["fades", "fades-tender"]);
    output(fades.current_dir(&tree.root))
}

/// The ready-made functions with their symbols, and of what they are made; they are
/// machine code.
fn functions(tree: &Tree, root: &Path) -> Result<(), Fault> {
    for name in FUNCTIONS {
        for kind in ["fades", "sym", "cdx.json"] {
            let file = format!("{name}.{kind}");
            let to = root.join("usr/lib/fades/functions").join(&file);
            put(&tree.images().join(&file), &to, 0o644)?;
        }
    }
    Ok(())
}

/// A page for each subcommand, and one for the tender.
fn manual(tree: &Tree, root: &Path) -> Result<(), Fault> {
    let pages = root.join("usr/share/man/man1");
    must(
        Command::new(root.join("usr/bin/fades"))
            .arg("man")
            .arg(&pages),
    )?;
    let tender = tree.root.join("packaging/fades-tender.1");
    put(&tender, &pages.join("fades-tender.1"), 0o644)?;
    for page in files(&pages)? {
        let text = fs::read(&page).map_err(|e| Fault::File(page.clone(), e))?;
        gzipped(&page, &text)?;
    }
    Ok(())
}

/// Files of a folder, not of those in it, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let failed = |e| Fault::File(folder.to_owned(), e);
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed)?.collect();
    let paths = entries.map_err(failed)?.into_iter().map(|e| e.path());
    let mut files: Vec<_> = paths.filter(|p| p.is_file()).collect();
    files.sort();
    Ok(files)
}

/// Copies a folder and what is in it.
fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    let failed = |e| Fault::File(from.to_owned(), e);
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            put(&from, &to, 0o644)?;
        }
    }
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<(), Fault> {
    let failed = |e| Fault::File(from.to_owned(), e);
    folder_of(to)?;
    fs::copy(from, to).map_err(failed)?;
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(failed)
}

fn write(to: &Path, content: &[u8]) -> Result<(), Fault> {
    let failed = |e| Fault::File(to.to_owned(), e);
    folder_of(to)?;
    fs::write(to, content).map_err(failed)?;
    fs::set_permissions(to, Permissions::from_mode(0o644)).map_err(failed)
}

/// Makes the folder of a file, and those above it, as others may enter them whatever
/// the mask of whoever packs.
fn folder_of(file: &Path) -> Result<(), Fault> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    if folder.is_dir() {
        return Ok(());
    }
    folder_of(folder)?;
    let failed = |e| Fault::File(folder.to_owned(), e);
    fs::create_dir(folder).map_err(failed)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(failed)
}

/// Writes `content` to `path` with `.gz`; without a time, so that it is always the same.
fn gzipped(path: &Path, content: &[u8]) -> Result<(), Fault> {
    write(path, content)?;
    must(Command::new("gzip").args(["--force", "-9", "-n"]).arg(path))
}
