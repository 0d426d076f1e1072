//! `fades new`: a project for a function, complete with the SDK's sources.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::problem::{Outcome, Problem};
use crate::session::Session;

/// What the project is called.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder to make; its last part is the function's name
    folder: PathBuf,
}

/// The project's files, with `NAME` for its name.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("template/Cargo.toml")),
    ("build.rs", include_str!("template/build.rs")),
    ("src/main.rs", include_str!("template/main.rs")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", include_str!("template/gitignore")),
];

/// Manifests of the SDK's crates, for use outside of this workspace.
const MANIFESTS: [(&str, &str); 3] = [
    ("fades-abi", include_str!("template/sdk/fades-abi.toml")),
    ("fades-build", include_str!("template/sdk/fades-build.toml")),
    ("fades-sdk", include_str!("template/sdk/fades-sdk.toml")),
];

/// Sources of the SDK's crates: path and text.
const SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_sources.rs"));

/// Longest name that an image can carry, bytes.
const NAME_MAX: usize = 32;

/// Names that Rust has a use for.
const TAKEN: [&str; 8] = [
    "alloc",
    "build",
    "core",
    "fades-abi",
    "fades-build",
    "fades-sdk",
    "std",
    "test",
];

/// Makes the project.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = &args.folder;
    let name = name(folder)?;
    write(folder, name).map_err(|e| {
        let problem = Problem::new(format!("cannot make {}", folder.display())).because(&e);
        match e.kind() {
            io::ErrorKind::AlreadyExists => problem.remedy("choose another name"),
            _ => problem,
        }
    })?;
    let path = folder.display();
    session.talk(&format!("Made the function `{name}` in {path}. Next:"));
    session.talk(&format!("  cd {path} && cargo test"));
    Ok(Outcome::Done)
}

/// The name, when a package, an image and a file may have it.
fn name(folder: &Path) -> Result<&str, Problem> {
    let name = folder
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wrong = if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it must begin with a small letter"
    } else if !name.chars().all(allowed) {
        "it may have small letters, digits and `-` only"
    } else if name.len() > NAME_MAX {
        "it may have at most 32 letters"
    } else if TAKEN.contains(&name) {
        "it is taken by Rust or by the SDK"
    } else {
        return Ok(name);
    };
    let problem = Problem::new(format!("`{name}` cannot be the name of a function"));
    Err(problem.reason(wrong).remedy("fades new overheat"))
}

fn write(folder: &Path, name: &str) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(folder)?;
    for (path, text) in FILES {
        put(&folder.join(path), &text.replace("NAME", name))?;
    }
    let sdk = folder.join(".fades");
    for (name, manifest) in MANIFESTS {
        put(&sdk.join(name).join("Cargo.toml"), manifest)?;
    }
    for (path, text) in SOURCES {
        put(&sdk.join(path), text)?;
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

#[cfg(test)]
mod tests;
