//! `steady`: what is left behind by many runs.
//!
//! Runs go through one shell that is driven directly, then through a node, then
//! a mix of functions that crash, loop and overflow goes through that node.
//! Memory of the host (the fall of `MemAvailable`), the kernel's own memory,
//! descriptors, processes and files are counted before and after, each time at
//! rest. It fails when one of them has grown by more than is allowed for what
//! a node keeps on purpose (its pool, its cache, its journal). Nothing else may
//! run on the host meanwhile. Nothing to compare with.

use std::path::Path;

use fades_task::limits::Isolation;
use fades_task::result::TaskState;
use serde_json::{Value, json};

use super::{Taken, settled};
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::node::Node;
use crate::node::load::{Expected, Load};
use crate::processes::{descriptors, tree};
use crate::samples::Samples;
use crate::shells::{Function, NO_INPUT, Terms, clean};

/// Runs in all; a quick run has fewer.
const RUNS: (usize, usize) = (100_000, 2000);

/// One run out of so many goes through the node, and one of so many misbehaves.
const THROUGH_NODE: usize = 10;
const MISDEEDS: usize = 100;

/// Functions that end badly, each in a way of its own.
const DEEDS: [&str; 6] = [
    "ud2",
    "loop",
    "stack-recursion",
    "allocate",
    "write-text",
    "output-full",
];

/// What can grow: name, unit, and how much of it is allowed.
const KINDS: [(&str, &str, u64); 5] = [
    ("memory", "bytes", 48 << 20),
    ("kernel memory", "bytes", 24 << 20),
    ("descriptors", "descriptors", 16),
    ("processes", "processes", 4),
    ("files", "files", 4),
];

/// How much there is of each of [`KINDS`].
type State = [u64; KINDS.len()];

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let Some(isolation) = taken.isolations(bench, "steady").first().copied() else {
        return Ok(());
    };
    let runs = bench.either(RUNS.0, RUNS.1);
    directly(bench, isolation, runs - runs / THROUGH_NODE, taken)?;
    through_node(bench, isolation, runs / THROUGH_NODE, taken)
}

fn directly(
    bench: &Bench,
    isolation: Isolation,
    runs: usize,
    taken: &mut Taken,
) -> Result<(), Fault> {
    let load = |image| Function::load(bench, image, isolation, &Terms::default());
    let functions = [load("first")?, load("hello")?];
    let mut shell = functions[0].shell()?;
    let mut one = |number: usize| {
        let function = &functions[number % 2];
        function.run(&NO_INPUT)?.start(&shell)?.done()?;
        match isolation {
            Isolation::Microvm => clean(&shell).map(drop),
            Isolation::Process => {
                shell = function.shell()?;
                Ok(())
            }
        }
    };
    (0..100).try_for_each(&mut one)?;
    let own = || state(std::process::id(), &bench.folder);
    let before = own()?;
    (0..runs).try_for_each(&mut one)?;
    compare(taken, isolation, ("directly", runs), before, own()?)
}

fn through_node(
    bench: &Bench,
    isolation: Isolation,
    runs: usize,
    taken: &mut Taken,
) -> Result<(), Fault> {
    let node = Node::start(bench, "steady", "")?;
    let hello = node.publish(&bench.image("hello")?)?;
    let misbehave = node.publish(&bench.image("misbehave")?)?;
    let load = |state| Load::new(&node, Expected { state, isolation });
    let (mut well, mut badly) = (load(TaskState::Done)?, load(TaskState::Failed)?);
    let rest = |_: usize| json!({ "function": { "isolation": [isolation] } });
    let bad = |number: usize| deed(isolation, DEEDS[number % DEEDS.len()]);
    let state = || state(node.pid(), node.folder());
    // The first tasks make what all others share.
    let warm = runs / 10 + DEEDS.len();
    let tasks = well.sign(&hello, warm, rest)?;
    well.all_at_once(&tasks)?;
    let tasks = badly.sign(&misbehave, warm.min(60), bad)?;
    badly.all_at_once(&tasks)?;

    let before = state()?;
    let tasks = well.sign(&hello, runs, rest)?;
    well.all_at_once(&tasks)?;
    compare(taken, isolation, ("through a node", runs), before, state()?)?;

    let count = (runs * THROUGH_NODE / MISDEEDS).max(DEEDS.len());
    let before = state()?;
    let tasks = badly.sign(&misbehave, count, bad)?;
    badly.all_at_once(&tasks)?;
    compare(taken, isolation, ("misdeeds", count), before, state()?)
}

fn deed(isolation: Isolation, name: &str) -> Value {
    json!({ "function": {
        "isolation": [isolation],
        "params": { "do": name, "n": 100_000 },
        "limits": { "time": "200ms", "cpu": "100ms" },
    } })
}

/// How much there is, at rest: of memory on the host, of the rest below the
/// process `root` and in `folder`.
fn state(root: u32, folder: &Path) -> Result<State, Fault> {
    let memory = settled()?;
    let processes = tree(root);
    let open = processes.iter().map(|&pid| descriptors(pid)).sum();
    Ok([
        memory.total - memory.available,
        memory.slab,
        open,
        processes.len() as u64,
        files(folder),
    ])
}

fn files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => 1,
        })
        .sum()
}

fn compare(
    taken: &mut Taken,
    isolation: Isolation,
    (what, runs): (&str, usize),
    before: State,
    after: State,
) -> Result<(), Fault> {
    let mut grown = Ok(());
    for ((kind, unit, most), (before, after)) in
        KINDS.into_iter().zip(before.into_iter().zip(after))
    {
        let growth = after as f64 - before as f64;
        let name = format!("{runs} runs {what}, growth of {kind}");
        let one = [growth].into_iter().collect::<Samples>();
        let figure = Figure::new(name, Some(isolation), unit, &one);
        taken.add(figure.map(|f| f.aiming(Aim::AtMost(most as f64))));
        if growth > most as f64 && grown.is_ok() {
            grown = Err(Fault::Grown {
                what: kind,
                before,
                after,
                runs,
                most,
            });
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_by_more_than_is_allowed_fails_and_is_a_figure_all_the_same() {
        let mut taken = Taken::default();
        let mut compare = |after| {
            compare(
                &mut taken,
                Isolation::Microvm,
                ("directly", 10),
                [100; KINDS.len()],
                after,
            )
        };
        assert!(compare([100, 100, 116, 104, 104]).is_ok());
        assert!(compare([90; KINDS.len()]).is_ok());
        let grown = compare([100, 100, 117, 100, 100]).unwrap_err().to_string();
        assert!(
            grown.contains("descriptors grew from 100 to 117"),
            "{grown}"
        );
        assert_eq!(taken.figures.len(), 3 * KINDS.len());
    }

    #[test]
    fn files_are_counted_in_all_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["a", "sub/b", "sub/c"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(files(folder.path()), 3);
    }
}
