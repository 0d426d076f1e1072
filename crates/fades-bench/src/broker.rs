//! A broker process without a node.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::quantity::Size;
use fades_wire::Channel;
use fades_wire::spawn::{Child, Program};

use crate::bench::Bench;
use crate::fault::Fault;

/// How long it may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker; it ends when this is dropped.
pub(crate) struct Broker {
    pub(crate) control: Channel,
    process: Child,
}

impl Broker {
    /// Starts `fades broker` with sources as in a node's configuration, in a folder
    /// of its own; `record`: there is a readings store too.
    pub(crate) fn start(
        bench: &Bench,
        sources: &serde_json::Value,
        folder: &Path,
        record: bool,
    ) -> Result<Self, Fault> {
        std::fs::create_dir_all(folder).map_err(Fault::file(folder, "make"))?;
        let (control, theirs) = Channel::pair().map_err(Fault::system("make a channel"))?;
        let process = Program::new(&bench.programs.fades)
            .argument("broker")
            .descriptor(theirs.as_fd())
            .spawn()
            .map_err(Fault::system("start a broker"))?;
        drop(theirs);
        let inside = |name: &str| folder.join(name).display().to_string();
        let configure = BrokerRequest::Configure {
            folder: inside("batches"),
            budget: Size(64 << 20),
            chunk: Size(8 << 20),
            base: "/".to_owned(),
            readings: record.then(|| inside("readings")),
            credentials: None,
        };
        control.send(&configure, sources.to_string().as_bytes(), &[])?;
        let broker = Self { control, process };
        match broker.report()? {
            BrokerReport::Ready { .. } => Ok(broker),
            other => Err(lost(format!("it said {other:?}"))),
        }
    }

    /// What it answers.
    pub(crate) fn ask(&self, request: &BrokerRequest) -> Result<BrokerReport, Fault> {
        self.control.send(request, &[], &[])?;
        self.report()
    }

    /// What it says next.
    pub(crate) fn report(&self) -> Result<BrokerReport, Fault> {
        let frame = self.control.receive(Some(Instant::now() + PATIENCE))?;
        Ok(frame.ok_or_else(|| lost("it ended".to_owned()))?.message)
    }

    /// Ends it, and waits until it has ended.
    pub(crate) fn stop(mut self) -> Result<(), Fault> {
        self.control.shut_down();
        let ended = self.process.wait(Some(Instant::now() + PATIENCE));
        match ended.map_err(Fault::system("wait for a broker"))? {
            Some(status) if status.success() => Ok(()),
            ended => Err(lost(format!("it ended with {ended:?}"))),
        }
    }
}

fn lost(said: String) -> Fault {
    Fault::Program {
        program: "the broker".to_owned(),
        said,
    }
}
