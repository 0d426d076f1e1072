//! `fades build`: the images of the functions in a folder, and their symbols.

use std::path::PathBuf;

use fades_build::{Program, build_workspace};

use crate::problem::{Outcome, Problem};
use crate::session::{Ink, Session};

/// What to build, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the function, or of a workspace with several
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Folder for NAME.fades and NAME.sym [default: FOLDER/target/fades]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Builds, and prints a line for each image: path, digest, size.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let out = match &args.out {
        // cargo runs in the function's folder: say where from here.
        Some(out) => std::path::absolute(out),
        None => std::path::absolute(args.folder.join("target/fades")),
    };
    let out = out.map_err(|e| Problem::new("cannot tell where to write the image").because(&e))?;
    let programs = build_workspace(&args.folder, &out)
        .map_err(|e| Problem::new(format!("cannot build {}", args.folder.display())).because(&e))?;
    for program in &programs {
        warn(program, session);
        session.data(&line(program))?;
    }
    Ok(Outcome::Done)
}

fn line(program: &Program) -> String {
    let built = &program.built;
    let (path, digest, size) = (program.image.display(), &built.sha256, built.image.len());
    format!("{path}  sha256:{digest}  {size} bytes\n")
}

/// Says what may make answers differ from run to run.
fn warn(program: &Program, session: &Session) {
    for warning in &program.built.warnings {
        let label = session.talk_ink(Ink::Odd, "warning:");
        session.talk(&format!("{label} {}: {warning}", program.built.name));
    }
}
