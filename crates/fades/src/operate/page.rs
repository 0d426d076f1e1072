//! `fades page`: the node's page in a browser.
//!
//! ```text
//! browser ─▶ 127.0.0.1 ─▶ door: Host, Origin, method, cookie ─▶ forward ─▶ node
//!               ▲                     │
//!   fades page ─┘ prints the address  └── a key in the address becomes a cookie
//! ```
//! The node's socket is its owner's alone, and a browser can open none. This
//! command opens a port of this host's own to whoever has the key, for as long
//! as it runs, and asks the node as whoever started it: signed, where the node
//! asks for that. It only reads.

mod door;
mod forward;
mod serve;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use door::Door;

use crate::ask::client::Client;
use crate::cli::shared::NodeChoice;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's folder; the one here otherwise
    #[arg(value_name = "FOLDER", conflicts_with_all = ["node", "folder"])]
    place: Option<PathBuf>,
    /// The port on this host; any that is free otherwise
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        hide_default_value = true
    )]
    port: u16,
    /// Open it in the browser as well
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades page`; returns at Ctrl-C or SIGTERM.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let mut choice = args.node.clone();
    choice.folder = args.place.clone().or(choice.folder);
    let client = Client::find(&choice, session)?;
    // Whoever cannot ask the node learns it here, and not from a browser.
    let node = client.node()?;
    let listener = listen(args.port)?;
    let port = listener
        .local_addr()
        .or_problem(|| "cannot tell the port".to_owned())?
        .port();
    let door = Door::new(port)?;
    let address = format!("http://127.0.0.1:{port}{}", door.entrance());
    session.data(&format!("{}: {address}\n", node.name))?;
    session.talk("whoever has this address reads what you may read; Ctrl-C ends it");
    // Kept until the end: a browser may be slow to start.
    let _redirect = match args.open {
        true => open(&address, session),
        false => None,
    };
    let client = Arc::new(client);
    let served = serve::serve(listener, Arc::new(door), &client);
    client.block_on(served)?;
    session.talk("ended");
    Ok(Outcome::Done)
}

fn listen(port: u16) -> Result<TcpListener, Problem> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bound.map_err(|e| {
        let problem = Problem::new(format!("cannot listen at 127.0.0.1:{port}")).because(&e);
        problem.remedy("leave --port out: any port that is free will do")
    })?;
    listener
        .set_nonblocking(true)
        .or_problem(|| format!("cannot listen at 127.0.0.1:{port}"))?;
    Ok(listener)
}

/// Opens the address in the user's browser. It is not given as an argument,
/// which every user of the host can read, but in a file that leads there.
fn open(address: &str, session: &Session) -> Option<tempfile::TempDir> {
    let told = |reason: &dyn std::fmt::Display| {
        session.talk(&format!(
            "cannot open a browser ({reason}): open the address yourself"
        ));
    };
    let folder = match redirect(address) {
        Ok(folder) => folder,
        Err(e) => {
            told(&e);
            return None;
        }
    };
    let file = folder.path().join(REDIRECT);
    match start_browser(&file) {
        Ok(()) => Some(folder),
        Err(e) => {
            told(&format!("xdg-open: {e}"));
            None
        }
    }
}

const REDIRECT: &str = "fades-page.html";

/// A file, in a folder that only its owner may enter, that leads to the address.
fn redirect(address: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("fades-page-").tempdir()?;
    let mut file = std::fs::File::create_new(folder.path().join(REDIRECT))?;
    writeln!(
        file,
        "<!doctype html><meta charset=\"utf-8\"><title>FADES</title>\
         <meta http-equiv=\"refresh\" content=\"0; url={address}\">"
    )?;
    Ok(folder)
}

fn start_browser(file: &Path) -> std::io::Result<()> {
    let mut browser = Command::new("xdg-open");
    browser.arg(file).stdin(Stdio::null());
    let mut started = browser
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // It hands the file over and ends; nobody has to wait for that.
    std::thread::spawn(move || started.wait());
    Ok(())
}
