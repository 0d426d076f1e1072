//! The licences of everything that is linked, with their texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tree::{Fault, Tree, output};

/// How the names of files with licences begin.
const NAMES: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];

/// What the programs are linked of.
const PROGRAMS: [&str; 6] = ["tree", "--locked", "-p", "fades", "-p", "fades-tender"];

/// What the ready-made functions are linked of; their workspace is another one.
const FUNCTIONS: [&str; 3] = ["tree", "--locked", "--workspace"];

const METADATA: [&str; 4] = ["metadata", "--format-version", "1", "--locked"];

/// One text: each crate with its licence, then each different licence text once.
pub(super) fn of(tree: &Tree) -> Result<String, Fault> {
    let mut list = BTreeSet::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (mut linked, mut metadata) in [
        (tree.cargo(&PROGRAMS), tree.cargo(&METADATA)),
        (
            tree.functions_cargo(&FUNCTIONS),
            tree.functions_cargo(&METADATA),
        ),
    ] {
        let names = names(&mut linked)?;
        let metadata: Value = serde_json::from_str(&output(&mut metadata)?)
            .map_err(|e| Fault::Output(e.to_string()))?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        for package in packages.filter(|p| !p["source"].is_null()) {
            let text = |field: &str| package[field].as_str().unwrap_or_default();
            let name = format!("{} v{}", text("name"), text("version"));
            if !names.contains(&name) {
                continue;
            }
            let licence = match text("license") {
                "" => "see its text",
                licence => licence,
            };
            list.insert(format!("{name}: {licence}\n"));
            let folder = Path::new(text("manifest_path")).parent();
            for found in folder.into_iter().flat_map(licences_in) {
                texts.entry(found).or_default().insert(name.clone());
            }
        }
    }
    Ok(written(&list, &texts))
}

fn written(list: &BTreeSet<String>, texts: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut whole =
        "What fades, fades-tender and the ready-made functions are made of\n\n".to_owned();
    whole.extend(list.iter().map(String::as_str));
    for (text, of) in texts {
        let of: Vec<&str> = of.iter().map(String::as_str).collect();
        whole += &format!(
            "\n{}\n{}\n\n{}\n",
            "-".repeat(72),
            of.join(", "),
            text.trim()
        );
    }
    whole
}

/// Names and versions of crates that `cargo tree` says are linked.
fn names(tree: &mut Command) -> Result<BTreeSet<String>, Fault> {
    let words = ["-e", "normal", "--prefix", "none", "--format", "{p}"];
    let text = output(tree.args(words))?;
    let first = |line: &str| {
        line.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    Ok(text.lines().map(first).collect())
}

fn licences_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().to_lowercase();
            NAMES.iter().any(|n| name.starts_with(n)) && entry.path().is_file()
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    // What is no text is no licence.
    paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}
