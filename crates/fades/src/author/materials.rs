//! `fades materials`: the bill of materials of programs in a workspace.

use std::path::PathBuf;

use fades_build::Materials;

use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the package or workspace
    folder: PathBuf,
    /// Packages whose programs are meant; the first one names the whole
    #[arg(required = true)]
    packages: Vec<String>,
}

/// Prints a CycloneDX document.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let cannot = || format!("cannot tell what {} is made of", args.packages.join(", "));
    let known = Materials::of(&args.folder).or_problem(cannot)?;
    let roots: Vec<&str> = args.packages.iter().map(String::as_str).collect();
    let bill = known.bill(&roots, (roots[0], None)).ok_or_else(|| {
        Problem::new(cannot()).reason(format!(
            "{} has no package of one of these names",
            args.folder.display()
        ))
    })?;
    session.data(&bill)?;
    Ok(Outcome::Done)
}
