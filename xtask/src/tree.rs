//! The workspace's folders, and running cargo in them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crate that functions link; by itself it is built and documented as for them.
pub(crate) const SDK: &str = "fades-sdk";

/// Why a task could not be carried out.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A program could not be started or waited for.
    Program(String, io::Error),
    /// A program ended with a failure.
    Failed(String),
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A program's output is not what it should be.
    Output(String),
    /// A program that this host does not have, and the Debian package that has it.
    Missing(&'static str, &'static str),
    /// Who judges a package does not like it, and says why.
    Judged(&'static str, String),
    /// The package, installed, does not do what it should.
    Tried {
        /// What was tried.
        what: String,
        /// What came of it.
        came: String,
        /// The end of the node's log.
        log: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name, e) => write!(f, "cannot run {name}: {e}"),
            Self::Failed(name) => write!(f, "{name} failed"),
            Self::File(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Output(what) => write!(f, "unexpected output: {what}"),
            Self::Missing(program, package) => {
                write!(f, "no {program} here; apt-get install {package}")
            }
            Self::Judged(who, said) => write!(f, "{who} does not accept the package:\n{said}"),
            Self::Tried { what, came, log } => {
                write!(
                    f,
                    "the installed package: {what}: {came}\nthe node's log:\n{log}"
                )
            }
        }
    }
}

/// Where things are.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Folder of build results.
    pub(crate) target: PathBuf,
}

impl Tree {
    /// The tree that this program was built from.
    pub(crate) fn find() -> Result<Self, Fault> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().unwrap_or(here).to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        std::fs::create_dir_all(&target).map_err(|e| Fault::File(target.clone(), e))?;
        Ok(Self { root, target })
    }

    /// Folder of the images that [`crate::functions::build`] makes.
    pub(crate) fn images(&self) -> PathBuf {
        self.target.join("images")
    }

    /// Build results of the functions' workspace, which has profiles of its own.
    pub(crate) fn functions_target(&self) -> PathBuf {
        self.target.join("functions")
    }

    /// A binary of the workspace in the given profile's folder.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }

    /// `cargo` in the root folder.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(words);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Builds everything that runs on the host: all but what a function links, which
    /// has a panic handler of its own.
    pub(crate) fn build(&self, words: &[&str]) -> Command {
        let mut command = self.cargo(&["build", "--workspace", "--exclude", SDK, "--locked"]);
        command.args(words);
        command
    }

    /// `cargo` in the functions' workspace.
    pub(crate) fn functions_cargo(&self, words: &[&str]) -> Command {
        let mut command = self.cargo(words);
        command.current_dir(self.root.join("functions"));
        command.env("CARGO_TARGET_DIR", self.functions_target());
        command
    }
}

/// Runs `command`; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool, Fault> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| Fault::Program(name, e))?;
    Ok(status.success())
}

/// Runs `command`, which has to succeed.
pub(crate) fn must(command: &mut Command) -> Result<(), Fault> {
    if succeeds(command)? {
        Ok(())
    } else {
        Err(Fault::Failed(in_words(command)))
    }
}

/// Runs `command` and returns what it wrote to its standard output; what it
/// wrote to standard error is shown when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, Fault> {
    let name = in_words(command);
    let output = command
        .output()
        .map_err(|e| Fault::Program(name.clone(), e))?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(Fault::Failed(name));
    }
    String::from_utf8(output.stdout).map_err(|_| Fault::Output(format!("{name}: not UTF-8")))
}

/// The command as one would type it.
fn in_words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(|w| w.to_string_lossy()).collect();
    words.join(" ")
}
