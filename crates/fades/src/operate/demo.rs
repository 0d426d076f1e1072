//! `fades demo`: a node, a district's day of readings, and four short acts.
//!
//! Everything happens in a temporary folder and with the commands that a
//! reader would type; what they print is what they print. The folder and all
//! processes are gone at the end.

mod acts;
mod district;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Instant;

use stage::Stage;

use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the images of the ready-made functions; `images` beside this
    /// program otherwise
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// Keep the folder, to look around in it
    #[arg(long)]
    keep: bool,
}

/// Functions that the acts need.
const FUNCTIONS: [&str; 2] = ["summary", "misbehave"];

/// Carries out `fades demo`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let begun = Instant::now();
    let images = images(args.images.as_deref())?;
    let mut folder = tempfile::Builder::new()
        .prefix("fades-demo-")
        .tempdir()
        .or_problem(|| "cannot make a temporary folder".to_owned())?;
    folder.disable_cleanup(args.keep);
    let mut stage = Stage::set(folder.path(), &images, session)?;
    acts::play(&mut stage)?;
    stage.clear();
    if args.keep {
        session.talk(&format!("kept: {}", folder.path().display()));
    }
    folder
        .close()
        .or_problem(|| "cannot remove the temporary folder".to_owned())?;
    session.data(&farewell(&images, begun.elapsed().as_secs_f64()))?;
    Ok(Outcome::Done)
}

fn images(given: Option<&Path>) -> Result<PathBuf, Problem> {
    let me = std::env::current_exe().or_problem(|| "cannot find this program".to_owned())?;
    let folder = given.map_or_else(|| me.with_file_name("images"), Path::to_owned);
    let missing = FUNCTIONS
        .iter()
        .find(|name| !image(&folder, name).is_file());
    match missing {
        None => Ok(folder),
        Some(name) => Err(
            Problem::new(format!("{} is not there", image(&folder, name).display()))
                .reason("the demonstration runs ready-made functions")
                .remedy("in FADES's own tree: cargo xtask demo")
                .remedy("fades build functions --out FOLDER && fades demo --images FOLDER"),
        ),
    }
}

/// The file of an image.
fn image(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.fades"))
}

fn farewell(images: &Path, seconds: f64) -> String {
    format!(
        "\nThat took {seconds:.1} s, and nothing of it is left. With a CSV file of your own:\n\n  \
         fades test {} --csv YOUR.csv\n\n",
        image(images, "summary").display()
    )
}
