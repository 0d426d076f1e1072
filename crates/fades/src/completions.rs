//! `fades completions`: what a shell needs to complete the command line; and the
//! manual pages, for packages.

use std::fs::File;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use crate::cli::help;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Where the pages are written; made if it is not there
    folder: PathBuf,
}

/// Carries out `fades completions`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut public(), "fades", &mut script);
    session.data(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// Carries out `fades man`: `fades.1`, and a page for each subcommand.
pub(crate) fn run_man(args: &ManArgs) -> Result<Outcome, Problem> {
    let folder = &args.folder;
    let words = || format!("cannot write manual pages to {}", folder.display());
    std::fs::create_dir_all(folder).or_problem(words)?;
    let mut command = public().disable_help_subcommand(true);
    // What subcommands inherit is theirs from now on.
    command.build();
    page(&command, "fades", folder).or_problem(words)?;
    for sub in command.get_subcommands() {
        pages(sub, "fades", folder).or_problem(words)?;
    }
    Ok(Outcome::Done)
}

/// The command without the parts that only nodes and packagers start.
fn public() -> Command {
    let all = help::tree();
    let mut shown = Command::new("fades");
    if let Some(about) = all.get_about() {
        shown = shown.about(about.clone());
    }
    let subcommands = all.get_subcommands().filter(|s| !s.is_hide_set());
    shown
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .subcommands(subcommands.cloned())
}

fn pages(command: &Command, before: &str, folder: &std::path::Path) -> std::io::Result<()> {
    let name = format!("{before}-{}", command.get_name());
    page(command, &name, folder)?;
    let subcommands = command.get_subcommands().filter(|s| s.get_name() != "help");
    subcommands
        .into_iter()
        .try_for_each(|sub| pages(sub, &name, folder))
}

fn page(command: &Command, name: &str, folder: &std::path::Path) -> std::io::Result<()> {
    let mut file = File::create(folder.join(format!("{name}.1")))?;
    let command = command.clone().name(name.to_owned());
    clap_mangen::Man::new(command).render(&mut file)
}
