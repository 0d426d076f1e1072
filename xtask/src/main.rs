//! Tasks of this workspace: `cargo xtask test`, `demo`, `bench`, `dist` and the steps
//! that they are made of.
//!
//! Start reading at [`suite`], which is what decides whether a change is good.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod arrows;
mod bench;
mod demo;
mod dist;
mod documents;
mod emulated;
mod functions;
mod suite;
mod system;
mod tally;
mod tree;

use std::process::ExitCode;

use tree::{Fault, Tree};

const HELP: &str = "\
Tasks of this workspace.

  cargo xtask test [--quick]   format, clippy, arrows, functions, all tests, docs
                               (--quick: without the emulated machine, package, docs)
  cargo xtask demo             build, then play the demonstration
  cargo xtask bench [NAME…]    figures, each beside what it is compared with, to
                               target/bench/NAME.json; all but `build` without a NAME
                               (--quick: fewer rounds, within a minute; see docs/bench.md)
  cargo xtask functions        build the ready-made functions to target/images
  cargo xtask dist             what is deployed, as a tarball and a Debian package, to
                               target/dist, and tried in a clean Debian (--help)
  cargo xtask emulated         the tender's KVM tests in an emulated machine
  cargo xtask hostile          functions that attack, on every isolation of this host;
                               writes docs/hostile-functions.md
  cargo xtask man              write the manual pages to target/man
  cargo xtask arrows           check which crate depends on which
  cargo xtask docs             check links and commands in README.md and docs/
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode, Fault> {
    let tree = Tree::find()?;
    match words {
        ["test"] => suite::run(&tree, suite::Extent::Whole),
        ["test", "--quick"] => suite::run(&tree, suite::Extent::Quick),
        ["demo", rest @ ..] => demo::run(&tree, rest),
        ["man"] => {
            let words = ["run", "--quiet", "--package", "fades", "--", "man"];
            let folder = tree.target.join("man");
            tree::must(tree.cargo(&words).arg(&folder))?;
            println!("manual pages: {}", folder.display());
            Ok(ExitCode::SUCCESS)
        }
        ["functions"] => {
            tree::must(&mut tree.build(&[]))?;
            functions::build(&tree, "debug").map(|_| ExitCode::SUCCESS)
        }
        ["hostile"] => hostile(&tree),
        ["bench", rest @ ..] => bench::run(&tree, rest),
        ["dist", rest @ ..] => dist::run(&tree, rest),
        ["emulated"] => emulated::command(&tree),
        ["arrows"] => report(arrows::check(&tree)?),
        ["docs"] => report(documents::check(&tree)?),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Runs the functions that attack, and writes what becomes of them.
fn hostile(tree: &Tree) -> Result<ExitCode, Fault> {
    tree::must(&mut tree.build(&[]))?;
    let images = functions::build(tree, "debug")?;
    let words = [
        "test",
        "--package",
        "fades-tender",
        "--test",
        "it",
        "--",
        "hostile",
        "--show-output",
    ];
    let mut tests = tree.cargo(&words);
    tests
        .env("FADES_IMAGES", images)
        .env("FADES_GOLDEN", "write");
    tree::must(&mut tests)?;
    println!("docs/hostile-functions.md says how each of them ends");
    Ok(ExitCode::SUCCESS)
}

/// Prints what is wrong, one line each; the code says whether anything is.
fn report(wrong: Vec<String>) -> Result<ExitCode, Fault> {
    for line in &wrong {
        eprintln!("{line}");
    }
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}
