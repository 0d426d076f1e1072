//! `cargo xtask test`: everything that decides whether a change is good.
//!
//! The steps run to the end even when one fails, so that one run names all
//! that is wrong. The last line counts tests and steps.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::emulated::{self, Outcome};
use crate::tally::Tally;
use crate::tree::{Fault, SDK, Tree, succeeds};
use crate::{arrows, dist, documents, functions, system};

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything.
    Whole,
    /// Without the emulated machine, the package and the documentation.
    Quick,
}

/// Runs the steps and reports.
pub(crate) fn run(tree: &Tree, extent: Extent) -> Result<ExitCode, Fault> {
    let mut suite = Suite::begin(tree)?;
    system::prepare()?;
    suite.formatting()?;
    suite.step("arrows", |s| Ok(s.all_right(&arrows::check(tree)?)))?;
    suite.clippy()?;
    suite.step("build", |s| {
        let alone = succeeds(&mut s.tree.cargo(&["build", "-p", SDK, "--locked"]))?;
        Ok(succeeds(&mut s.tree.build(&[]))? && alone)
    })?;
    suite.step("functions", |s| {
        Ok(functions::build(s.tree, "debug").is_ok())
    })?;
    suite.tests()?;
    if extent == Extent::Whole {
        suite.emulated_machine()?;
        suite.package()?;
        suite.documentation()?;
    }
    Ok(suite.end())
}

/// The run so far.
struct Suite<'a> {
    tree: &'a Tree,
    tally: Tally,
    log: File,
    begun: Instant,
}

impl<'a> Suite<'a> {
    fn begin(tree: &'a Tree) -> Result<Self, Fault> {
        let path = tree.target.join("test.log");
        let log = File::create(&path).map_err(|e| Fault::File(path, e))?;
        let (tally, begun) = (Tally::default(), Instant::now());
        Ok(Self {
            tree,
            tally,
            log,
            begun,
        })
    }

    /// One step with a name; a step that fails counts like a test that fails.
    fn step(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Self) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let begun = Instant::now();
        println!("== {name}");
        let good = work(self)?;
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "== {name}: {} ({seconds:.1} s)",
            if good { "ok" } else { "FAILED" }
        );
        if !good {
            self.tally.failed.push(format!("step: {name}"));
        }
        Ok(())
    }

    fn all_right(&self, wrong: &[String]) -> bool {
        wrong.iter().for_each(|line| println!("   {line}"));
        wrong.is_empty()
    }

    fn formatting(&mut self) -> Result<(), Fault> {
        self.step("format", |s| {
            let host = succeeds(&mut s.tree.cargo(&["fmt", "--all", "--check"]))?;
            let functions = succeeds(&mut s.tree.functions_cargo(&["fmt", "--all", "--check"]))?;
            Ok(host && functions)
        })
    }

    fn clippy(&mut self) -> Result<(), Fault> {
        let words = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-Dwarnings",
        ];
        self.step("clippy", |s| succeeds(&mut s.tree.cargo(&words)))?;
        self.step("clippy of the functions", |s| {
            succeeds(&mut s.tree.functions_cargo(&words))
        })
    }

    fn tests(&mut self) -> Result<(), Fault> {
        let words = [
            "test",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--",
            "--show-output",
        ];
        self.step("tests", |s| {
            let mut command = s.tree.cargo(&words);
            command.env("FADES_IMAGES", s.tree.images());
            if let Some(programs) = system::judges() {
                command.env("FADES_SCHEMATHESIS", programs.join("schemathesis"));
                command.env("FADES_METRICS_PYTHON", programs.join("python"));
            }
            s.watch(&mut command)
        })?;
        self.step("tests of the functions", |s| {
            let mut command = s.tree.functions_cargo(&words);
            s.watch(&mut command)
        })
    }

    /// The tender's tests on a kind of KVM that this host may not have.
    fn emulated_machine(&mut self) -> Result<(), Fault> {
        self.step("emulated machine", |s| {
            let test = emulated::test_binaries(s.tree)?;
            let tender = s.tree.binary("debug", "fades-tender");
            match emulated::run(s.tree, &test, &tender, &s.tree.images())? {
                Outcome::Ran { lines, good } => {
                    for line in &lines {
                        writeln!(s.log, "{line}").map_err(|e| Fault::Output(e.to_string()))?;
                        s.tally.line(line);
                    }
                    Ok(good)
                }
                Outcome::Missing(what) => {
                    s.tally.line(&format!("SKIPPED: emulated machine: {what}"));
                    Ok(true)
                }
            }
        })
    }

    /// What is deployed, packed, and tried in a clean Debian.
    fn package(&mut self) -> Result<(), Fault> {
        self.step("package", |s| match dist::step(s.tree) {
            Ok(skipped) => {
                for line in skipped {
                    println!("   SKIPPED: {line}");
                    s.tally.line(&format!("SKIPPED: {line}"));
                }
                Ok(true)
            }
            Err(fault) => {
                println!("   {fault}");
                Ok(false)
            }
        })
    }

    fn documentation(&mut self) -> Result<(), Fault> {
        self.step("documentation", |s| {
            let mut built = true;
            for what in [&["--workspace", "--exclude", SDK][..], &["-p", SDK]] {
                let words = ["doc", "--no-deps", "--locked", "--document-private-items"];
                let mut command = s.tree.cargo(&words);
                command.args(what).env("RUSTDOCFLAGS", "-Dwarnings");
                built &= succeeds(&mut command)?;
            }
            Ok(s.all_right(&documents::check(s.tree)?) && built)
        })
    }

    /// Runs test programs, shows what matters of their output, keeps all of it
    /// in the log.
    fn watch(&mut self, command: &mut Command) -> Result<bool, Fault> {
        let lost = |e| Fault::Program("cargo test".to_owned(), e);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(lost)?;
        let mut failures = false;
        for line in child
            .stdout
            .take()
            .into_iter()
            .flat_map(|out| BufReader::new(out).split(b'\n'))
        {
            let line = line.map_err(lost)?;
            let line = String::from_utf8_lossy(&line);
            writeln!(self.log, "{line}").map_err(lost)?;
            self.tally.line(&line);
            failures = match line.as_ref() {
                "failures:" => true,
                "successes:" => false,
                _ => failures && !line.starts_with("test result: "),
            };
            if failures || line.starts_with("test result: ") || line.ends_with("... FAILED") {
                println!("   {line}");
            }
        }
        Ok(child.wait().map_err(lost)?.success())
    }

    fn end(self) -> ExitCode {
        let Tally {
            passed,
            failed,
            skipped,
        } = &self.tally;
        for skip in skipped {
            println!("skipped: {skip}");
        }
        let avoidable = self.tally.avoidable();
        let strict = std::env::var_os("CI").is_some() && !avoidable.is_empty();
        if strict {
            println!("in CI a skip that the host does not force is a failure:");
            avoidable.iter().for_each(|s| println!("   {s}"));
        }
        failed.iter().for_each(|name| println!("failed: {name}"));
        let failures = failed.len() + if strict { avoidable.len() } else { 0 };
        let seconds = self.begun.elapsed().as_secs();
        println!(
            "took {seconds} s; all output is in {}",
            self.tree.target.join("test.log").display()
        );
        println!(
            "{passed} passed, {failures} failed, {} skipped",
            skipped.len()
        );
        ExitCode::from(u8::from(failures > 0))
    }
}
