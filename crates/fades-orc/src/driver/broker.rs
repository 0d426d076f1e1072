//! The broker's process.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::Sender;
use std::time::Duration;

use fades_task::message::{BrokerReport, BrokerRequest};

use fades_task::quantity::Size;
use fades_wire::Channel;
use fades_wire::spawn::Child;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tracing::warn;

use super::earlier::Earlier;
use super::tender::Retrieval;
use super::{Input, program, text};
use crate::config::{BrokerConfig, Logging};

/// A broker that reads nothing for this long is given up.
const SEND_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct BrokerProcess {
    child: Child,
    channel: Channel,
    /// What it said of its own end.
    note: Option<String>,
}

impl BrokerProcess {
    pub(super) fn start(
        config: &BrokerConfig,
        log: &Logging,
        inputs: &Sender<Input>,
    ) -> std::io::Result<Self> {
        let (here, there) = Channel::pair()?;
        let error = (log.error)()?;
        let child = program(&config.program, &config.arguments)
            .descriptor(there.as_fd())
            .error(error.as_fd())
            .spawn()?;
        drop((there, error));
        set_socket_timeout(here.as_fd(), Timeout::Send, Some(SEND_WITHIN))?;
        let reader = here.try_clone()?;
        let inputs = inputs.clone();
        std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn(move || read(&reader, &inputs))?;
        let broker = Self {
            child,
            channel: here,
            note: None,
        };
        broker.configure(config, crate::dial::start(&config.addresses)?);
        Ok(broker)
    }

    /// `dial`: on which the broker asks for connections.
    fn configure(&self, config: &BrokerConfig, dial: Channel) {
        let request = BrokerRequest::Configure {
            folder: text(&config.folder),
            budget: config.budget,
            chunk: config.chunk,
            base: text(&config.base),
            readings: Some(text(&config.readings)),
            credentials: config.credentials.as_deref().map(text),
        };
        // A JSON value always has a text.
        let sources = serde_json::to_vec(&config.sources).unwrap_or_default();
        let sent = self.channel.send(&request, &sources, &[dial.as_fd()]);
        // The broker has the only one then: when it is gone, the channel ends.
        drop(dial);
        self.check(sent);
    }

    /// `window`: no batch of the run may be longer, bytes. `within`: time that
    /// devices have to answer.
    pub(super) fn retrieve(
        &self,
        run: u64,
        wanted: &Retrieval,
        earlier: Earlier,
        window: Size,
        within: Option<fades_task::quantity::Duration>,
    ) {
        let request = BrokerRequest::Retrieve {
            run,
            dtos: wanted.dtos.clone(),
            of: wanted.of,
            window,
            within,
            answers: earlier.answers,
        };
        let end: Vec<BorrowedFd<'_>> = wanted.end.iter().map(AsFd::as_fd).collect();
        let sent = self.channel.send(&request, &earlier.blob, &end);
        self.check(sent);
    }

    pub(super) fn tell(&self, request: &BrokerRequest) {
        self.tell_with(request, &[]);
    }

    pub(super) fn tell_with(&self, request: &BrokerRequest, blob: &[u8]) {
        let sent = self.channel.send(request, blob, &[]);
        self.check(sent);
    }

    /// A broker that cannot be told something is of no use; its end follows.
    fn check(&self, sent: Result<(), fades_wire::WireError>) {
        if let Err(e) = sent {
            warn!(reason = %e, "the broker does not listen; killing it");
            self.kill();
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&self) {
        self.child.kill();
    }

    /// Has it write what it recorded, and end.
    pub(super) fn let_go(&self) {
        self.channel.end_sending();
    }

    pub(super) fn note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// Makes sure that it is gone, and says how it ended.
    pub(super) fn end(mut self, said: String) -> String {
        crate::shell::how_it_ended(&mut self.child, self.note.unwrap_or(said))
    }
}

fn read(channel: &Channel, inputs: &Sender<Input>) {
    let said = loop {
        match channel.receive::<BrokerReport>(None) {
            Ok(Some(frame)) => {
                if inputs.send(Input::Broker(frame.message)).is_err() {
                    return;
                }
            }
            Ok(None) => break String::new(),
            Err(e) => break crate::api::problem::chain(&e),
        }
    };
    // Nobody listens when the node ends.
    let _ = inputs.send(Input::BrokerLeft { said });
}
