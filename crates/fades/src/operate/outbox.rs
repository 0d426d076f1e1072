//! `fades outbox`: where tasks come from and answers go, and what waits.

use fades_orc::api::types::{CourierInfo, NodeInfo, ReceiverInfo};

use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::{bytes, count, moment};
use crate::ask::render::table::{Column, Table};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades outbox`; the answer is no when something is wrong.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let client = Client::find(&args.node, session)?;
    let info: NodeInfo = client.get("/v1/node")?;
    if args.output.json() {
        session.data(&render::json(&info.courier))?;
        return Ok(Outcome::Done);
    }
    let Some(courier) = info.courier else {
        session.talk(
            "this node has neither inboxes nor destinations; add [inbox.NAME] or \
             [destination.NAME] to its node.toml",
        );
        return Ok(Outcome::Done);
    };
    inboxes(&courier, session)?;
    receivers(&courier, session)?;
    if !courier.up {
        let last = courier.last_end.as_deref().unwrap_or("it has not started");
        session.talk(&format!("the courier is not there: {last}"));
    }
    let wrong = courier.inboxes.iter().any(|i| i.error.is_some())
        || courier.receivers.iter().any(|r| r.error.is_some());
    Ok(if wrong || !courier.up {
        Outcome::No
    } else {
        Outcome::Done
    })
}

fn inboxes(courier: &CourierInfo, session: &Session) -> Result<(), Problem> {
    if courier.inboxes.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([
        Column::left("INBOX"),
        Column::left("LAST ASKED"),
        Column::left("STATE"),
    ]);
    for inbox in &courier.inboxes {
        table.row([
            inbox.name.to_string(),
            inbox.asked.map_or("never".to_owned(), moment),
            inbox.error.clone().unwrap_or_else(|| "good".to_owned()),
        ]);
    }
    session.data(&table.text(session))
}

fn receivers(courier: &CourierInfo, session: &Session) -> Result<(), Problem> {
    if courier.receivers.is_empty() {
        session.talk("nothing was to be delivered yet");
        return Ok(());
    }
    let mut table = Table::new([
        Column::left("ANSWERS TO"),
        Column::right("WAIT"),
        Column::right("SIZE"),
        Column::left("OLDEST"),
        Column::right("DELIVERED"),
        Column::right("LOST"),
        Column::left("STATE"),
    ]);
    for receiver in &courier.receivers {
        table.row([
            format!("{} {}", receiver.kind, receiver.name),
            count(receiver.waiting),
            bytes(receiver.bytes.0),
            receiver.oldest.map_or("-".to_owned(), moment),
            count(receiver.delivered),
            count(receiver.lost),
            state(receiver),
        ]);
    }
    session.data(&table.text(session))
}

/// How it is with a receiver, in words.
pub(super) fn state(receiver: &ReceiverInfo) -> String {
    let mut words = match (&receiver.error, receiver.next) {
        (None, _) => "good".to_owned(),
        (Some(error), None) => error.clone(),
        (Some(error), Some(next)) => format!("{error}; next attempt {}", moment(next)),
    };
    if let Some(reason) = &receiver.lost_reason {
        words = format!("{words}; last lost: {reason}");
    }
    words
}
