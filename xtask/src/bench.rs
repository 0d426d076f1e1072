//! `cargo xtask bench`: builds what is measured, and has `fades-bench` take the
//! figures.
//!
//! `build` is a figure of its own, taken here: nothing that was built may be
//! there before it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use serde_json::json;

use crate::functions;
use crate::tree::{Fault, Tree, must, succeeds};

/// Functions that are measured against themselves without isolation.
const NATIVE: [&str; 2] = ["summary", "pass"];

/// Seconds that the first build may take.
const BUILD: f64 = 300.0;

/// Takes the figures that `words` name, or all of them but `build`.
pub(crate) fn run(tree: &Tree, words: &[&str]) -> Result<ExitCode, Fault> {
    let out = tree.target.join("bench");
    std::fs::create_dir_all(&out).map_err(|e| Fault::File(out.clone(), e))?;
    let (build, rest): (Vec<&str>, Vec<&str>) = words.iter().partition(|w| **w == "build");
    if !build.is_empty() {
        first_build(tree, &out)?;
        if rest.iter().all(|word| word.starts_with('-')) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    must(&mut tree.build(&["--release"]))?;
    let images = functions::build(tree, "release")?;
    let natively = natively(tree)?;
    let mut bench = Command::new(tree.binary("release", "fades-bench"));
    bench.arg("--images").arg(images);
    bench.arg("--natively").arg(natively);
    bench.arg("--out").arg(&out);
    bench.arg("--commit").arg(commit(tree));
    Ok(ExitCode::from(u8::from(!succeeds(bench.args(rest))?)))
}

/// Builds functions as ordinary programs; the folder that has them.
fn natively(tree: &Tree) -> Result<PathBuf, Fault> {
    let target = tree.target.join("natively");
    let mut words = vec!["build", "--release", "--locked", "--quiet"];
    words.extend(NATIVE.iter().flat_map(|name| ["-p", name]));
    words.extend(["--features", "fades-sdk/testing"]);
    must(
        tree.functions_cargo(&words)
            .env("CARGO_TARGET_DIR", &target),
    )?;
    Ok(target.join("release"))
}

/// The commit, and whether the tree differs from it; empty without git.
fn commit(tree: &Tree) -> String {
    let mut git = Command::new("git");
    git.current_dir(&tree.root);
    git.args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]);
    let said = git
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    said.unwrap_or_default().trim().to_owned()
}

/// Wall time of the first release build, into an empty folder.
fn first_build(tree: &Tree, out: &Path) -> Result<(), Fault> {
    let target = out.join("first-build");
    let empty = || match target.exists() {
        true => std::fs::remove_dir_all(&target).map_err(|e| Fault::File(target.clone(), e)),
        false => Ok(()),
    };
    empty()?;
    let begun = Instant::now();
    let mut cargo = tree.cargo(&["build", "--release", "--locked"]);
    must(cargo.env("CARGO_TARGET_DIR", &target))?;
    let seconds = begun.elapsed().as_secs_f64();
    empty()?;
    let met = if seconds <= BUILD { "yes" } else { "NO" };
    println!("build: {seconds:.1} s, aim: at most {BUILD} s, met: {met}");
    let path = out.join("build.json");
    let kept = record(&commit(tree), &host(), seconds);
    std::fs::write(&path, kept).map_err(|e| Fault::File(path, e))
}

/// In the shape in which `fades-bench` keeps its figures.
fn record(commit: &str, host: &serde_json::Value, seconds: f64) -> String {
    let record = json!({
        "name": "build",
        "commit": commit,
        "host": host,
        "figures": [{
            "figure": "first release build", "isolation": "none", "unit": "s", "n": 1,
            "median": seconds, "p95": seconds, "p99": seconds, "min": seconds, "max": seconds,
            "aim": format!("median <= {BUILD} s"),
        }],
    });
    format!("{record:#}\n")
}

/// The host; what it does not say is left empty.
fn host() -> serde_json::Value {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, label: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(label));
        line.map_or_else(String::new, |l| {
            l.trim_start_matches([' ', '\t', ':']).to_owned()
        })
    };
    let memory = field(&text("/proc/meminfo"), "MemTotal");
    let kilobytes = memory.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    let modules = std::fs::read_dir("/sys/module")
        .into_iter()
        .flatten()
        .flatten();
    let mut names = modules.filter_map(|m| m.file_name().into_string().ok());
    let kvm = Path::new("/dev/kvm").exists();
    let kvm = kvm.then(|| {
        names
            .find(|n| n.starts_with("kvm_"))
            .unwrap_or("kvm".to_owned())
    });
    json!({
        "cpu": field(&text("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_bytes": kilobytes.unwrap_or(0) * 1024,
        "kernel": text("/proc/sys/kernel/osrelease").trim(),
        "kvm": kvm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_kept_in_the_shape_of_the_other_figures() {
        let kept = record("0123abcd", &host(), 200.5);
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["figures"][0]["median"], 200.5);
        assert_eq!(kept["figures"][0]["aim"], "median <= 300 s");
        assert!(kept["host"]["memory_bytes"].as_u64().unwrap() > 0);
        let names: Vec<&String> = kept.as_object().unwrap().keys().collect();
        assert_eq!(names, ["name", "commit", "host", "figures"]);
    }
}
