//! Puts the SDK's sources into the `fades` command, so that `fades new` works
//! wherever the command is installed.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Crates that a function needs.
const CRATES: [&str; 3] = ["fades-abi", "fades-build", "fades-sdk"];

fn main() -> Result<(), Box<dyn Error>> {
    let crates = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let mut list = String::from("&[\n");
    for name in CRATES {
        let folder = crates.join(name).canonicalize()?;
        tell_cargo(&format!("rerun-if-changed={}", folder.display()));
        let mut files = Vec::new();
        collect(&folder.join("src"), &mut files)?;
        if folder.join("build.rs").exists() {
            files.push(folder.join("build.rs"));
        }
        files.sort();
        for file in files {
            let path = Path::new(name).join(file.strip_prefix(&folder)?);
            writeln!(list, "({path:?}, include_str!({file:?})),")?;
        }
    }
    list.push(']');
    let out = PathBuf::from(env::var("OUT_DIR")?).join("sdk_sources.rs");
    fs::write(out, list)?;
    Ok(())
}

/// The sources in `folder`, without those of tests.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.file_name() != Some("tests.rs".as_ref()) {
            files.push(path);
        }
    }
    Ok(())
}

fn tell_cargo(instruction: &str) {
    println!("cargo::{instruction}");
}
