//! `cargo xtask measure`: the figures of docs/figures.md.
//!
//! Every figure is printed and written to `target/measure/*.json` with the
//! host and the commit. Nothing else should run meanwhile.

mod bench;
mod figures;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use crate::tree::{Fault, Tree, output};
use crate::{demo, functions};

/// Takes the figures named, or all but that of the first build, which takes
/// long.
pub(crate) fn run(tree: &Tree, names: &[&str]) -> Result<ExitCode, Fault> {
    const ALL: [&str; 5] = ["build", "hello", "rest", "compute", "aberdeen"];
    if let Some(unknown) = names.iter().find(|n| !ALL.contains(n)) {
        return Err(Fault::Output(format!(
            "no figure {unknown:?}; there are: {}",
            ALL.join(", ")
        )));
    }
    let results = Results::new(tree)?;
    let wanted = |name: &str| names.contains(&name) || (names.is_empty() && name != "build");
    if wanted("build") {
        results.keep("build", &figures::first_build(tree)?)?;
    }
    demo::release(tree)?;
    functions::build(tree, "release")?;
    if wanted("hello") {
        results.keep("hello", &figures::hello(tree)?)?;
    }
    if wanted("rest") {
        results.keep("rest", &figures::at_rest(tree)?)?;
    }
    if wanted("compute") {
        results.keep("compute", &figures::against_native(tree)?)?;
    }
    if wanted("aberdeen") {
        match std::env::var_os("FADES_TEST_DATA") {
            Some(data) => {
                results.keep("aberdeen", &figures::aberdeen(tree, &PathBuf::from(data))?)?;
            }
            None => println!("not measured: aberdeen: FADES_TEST_DATA is not set"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where figures go.
struct Results {
    folder: PathBuf,
    host: Value,
}

impl Results {
    fn new(tree: &Tree) -> Result<Self, Fault> {
        let folder = tree.target.join("measure");
        std::fs::create_dir_all(&folder).map_err(|e| Fault::File(folder.clone(), e))?;
        let mut git = Command::new("git");
        git.current_dir(&tree.root)
            .args(["rev-parse", "--short", "HEAD"]);
        // A tree without git has no commit to name.
        let commit = output(&mut git).unwrap_or_default();
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|l| l.strip_prefix("model name"));
        let model = model.map(|m| m.trim_start_matches([' ', '\t', ':']));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let host = json!({
            "processor": model, "cores": cores, "kernel": kernel.trim(), "commit": commit.trim(),
        });
        Ok(Self { folder, host })
    }

    fn keep(&self, name: &str, figure: &Value) -> Result<(), Fault> {
        let kept = json!({ "figure": name, "host": self.host, "values": figure });
        let text = format!("{kept:#}\n");
        println!("== {name}\n{figure:#}");
        let path = self.folder.join(format!("{name}.json"));
        std::fs::write(&path, text).map_err(|e| Fault::File(path, e))
    }
}
