//! `fades top`: a node in a terminal, live.
//!
//! ```text
//! watch ─ events, lists ──┐
//! watch ─ node, devices ──┼─▶ channel ─▶ model ─▶ draw
//! keys, resizes, signals ─┘
//! ```
//! One thread follows the node's [events](crate::ask::stream) and reads the lists
//! anew whenever it had to connect anew; another asks at its leisure for what
//! has no events. Where nobody can see it or press keys, it prints once how
//! things are, and ends.

mod draw;
mod model;
mod screen;
mod snapshot;
mod watch;

use std::io::{IsTerminal, stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use model::Model;
use screen::{Pressed, Screen};
use watch::Told;

use crate::ask::client::Client;
use crate::cli::shared::NodeChoice;
use crate::problem::{Outcome, Problem};
use crate::session::{Session, now};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeChoice,
}

/// What is shown is drawn at least so often: times go on.
const EACH: Duration = Duration::from_secs(1);

/// It is drawn at most so often, however much happens.
const AT_MOST: Duration = Duration::from_millis(100);

/// Carries out `fades top`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    // A node that cannot be asked is told in words, not on a screen.
    let node = client.node()?;
    let mut model = Model::new(node);
    if !stdin().is_terminal() || !stdout().is_terminal() || session.env.dumb {
        for news in watch::once(&client)? {
            model.take(news, now());
        }
        session.data(&snapshot::text(&model, now(), session))?;
        return Ok(Outcome::Done);
    }
    let told = watch::start(&client.target)?;
    let mut screen = Screen::open(!session.env.no_color)?;
    let shown = show(&mut screen, &mut model, &told);
    screen.close();
    shown.map(|()| Outcome::Done)
}

/// Shows what is told until a key or a signal ends it.
fn show(screen: &mut Screen, model: &mut Model, told: &Receiver<Told>) -> Result<(), Problem> {
    loop {
        screen.draw(model, now())?;
        let drawn = Instant::now();
        let mut changed = false;
        loop {
            let wait = if changed { AT_MOST } else { EACH };
            match told.recv_timeout(wait.saturating_sub(drawn.elapsed())) {
                Ok(Told::News(news)) => model.take(news, now()),
                Ok(Told::Key(key)) => match screen.press(&key, model) {
                    Pressed::End => return Ok(()),
                    // Whoever pressed a key waits for what it does.
                    Pressed::Seen => break,
                },
                Ok(Told::Resized) => break,
                Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => break,
            }
            changed = true;
        }
    }
}
