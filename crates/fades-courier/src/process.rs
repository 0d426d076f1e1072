//! The courier as a process: requests in, reports out.
//!
//! ```text
//! control ──► loop ──┬─► parcels ──► threads that deliver ──► reports
//!               ▲    ├─► verdicts ──► desk ──► threads of inboxes ──► letters
//!               │    └─► pong, at once
//!               └── ends when the orchestrator closes the channel
//! ```
//! The loop never waits for a server, so that a ping is answered whatever servers
//! do. Nothing is kept: the process may be killed at any moment.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use fades_outside::client::{Means, checked};
use fades_outside::confine::own_user_namespace;
use fades_outside::dial::Dial;
use fades_outside::field::FieldError;
use fades_outside::secret::Secrets;
use fades_task::courier::{CourierReport, CourierRequest, Receiver};
use fades_task::identity::Name;
use fades_task::message::Confinement;
use fades_wire::{Channel, Frame, WireError};

use crate::config::{Destination, Inbox, Places};
use crate::confine;
use crate::deliver::{Carrier, Deliveries, FolderTo, HANDS, HttpTo, MqttTo};
use crate::desk::Desk;
use crate::inbox::{self, FolderBox, HttpBox, Office, below};
use crate::report::Reporter;
use crate::stop::{Ender, Stop};

/// How long answers to an inbox may take.
const ANSWERING: std::time::Duration = std::time::Duration::from_secs(30);

/// Where answers go in the folder of an inbox.
const ANSWERS: &str = "answers";

/// Why the courier ended, when it was not told to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The control channel failed.
    #[error("the courier lost the orchestrator")]
    Control(#[from] WireError),
    /// The first message was none of the kind that configures the courier.
    #[error("the orchestrator did not begin by configuring the courier")]
    NotConfigured,
    /// The configuration cannot be used; the orchestrator was told.
    #[error("the courier cannot work as configured: {0}")]
    Misconfigured(String),
    /// There are no threads or descriptors.
    #[error("the courier cannot begin")]
    Begin(#[source] io::Error),
}

/// Serves `control` until the orchestrator closes it, in a thread of another
/// process.
///
/// # Errors
/// When the courier ends for another reason than that the channel was closed.
pub fn run(control: Channel) -> Result<(), ProcessError> {
    serve(control, false)
}

/// As [`run()`], confined for good before anything is fetched: for a process that is
/// a courier and nothing else, before any other thread exists. What the host does
/// not offer is left out; the report says so.
///
/// # Errors
/// When the courier ends for another reason than that the channel was closed.
pub fn run_confined(control: Channel) -> Result<(), ProcessError> {
    // Programs that the courier would start gain nothing; it starts none.
    if let Err(e) = rustix::thread::set_no_new_privs(true) {
        tracing::warn!("no_new_privs is not to be had: {e}");
    }
    if let Err(e) = own_user_namespace() {
        tracing::debug!("no user namespace: {e}");
    }
    serve(control, true)
}

fn serve(control: Channel, confined: bool) -> Result<(), ProcessError> {
    let reporter = Reporter::new(control.try_clone().map_err(WireError::from)?);
    let Some(first) = control.receive::<CourierRequest>(None)? else {
        return Ok(());
    };
    let (ender, stop) = Stop::new().map_err(ProcessError::Begin)?;
    let (work, confinement) = match configured(first, confined, &control) {
        Ok(configured) => configured,
        Err(Refusal::NotConfigured) => return Err(ProcessError::NotConfigured),
        Err(Refusal::Misconfigured(reason)) => {
            let told = reason.clone();
            reporter.send(&CourierReport::Misconfigured { reason: told })?;
            return Err(ProcessError::Misconfigured(reason));
        }
    };
    reporter.send(&CourierReport::Ready { confinement })?;
    let courier = Courier::start(work, reporter, ender, stop).map_err(ProcessError::Begin)?;
    let served = courier.hear(&control);
    courier.end();
    served
}

enum Refusal {
    NotConfigured,
    Misconfigured(String),
}

/// What there is to do.
struct Work {
    inboxes: Vec<(Name, inbox::Letterbox)>,
    carriers: HashMap<Receiver, Carrier>,
}

fn configured(
    frame: Frame<CourierRequest>,
    confined: bool,
    control: &Channel,
) -> Result<(Work, Confinement), Refusal> {
    let CourierRequest::Configure {
        node,
        version,
        base,
        credentials,
    } = frame.message
    else {
        return Err(Refusal::NotConfigured);
    };
    let wrong = |e: &dyn std::error::Error| Refusal::Misconfigured(e.to_string());
    let places: Places = serde_json::from_slice(&frame.blob).map_err(|e| wrong(&e))?;
    places.check().map_err(|e| wrong(&e))?;
    let (base, credentials) = (PathBuf::from(base), credentials.map(PathBuf::from));
    make_folders(&places, &base);
    let confinement = if confined {
        let mut reach = confine::reach(&places, &base, credentials.as_deref());
        reach.asks = !frame.descriptors.is_empty();
        // Threads inherit what is entered now.
        confine::enter(&reach)
    } else {
        confine::none()
    };
    let dial = match frame.descriptors.into_iter().next() {
        Some(channel) => {
            let control = control.try_clone().map_err(|e| wrong(&e))?;
            Dial::asking(channel, control).map_err(|e| wrong(&e))?
        }
        None => Dial::Direct,
    };
    let setting = Setting {
        secrets: Secrets::new(&base, credentials.as_deref()),
        base,
        node,
        agent: format!("fades/{version}"),
        dial,
    };
    let work = setting.work(&places);
    let work = work.map_err(|e| Refusal::Misconfigured(format!("{}: {}", e.field, e.reason)))?;
    Ok((work, confinement))
}

/// Folders must be there to be allowed. What cannot be made is said when it is used.
fn make_folders(places: &Places, base: &Path) {
    let inboxes = places.inbox.values().filter_map(Inbox::folder);
    let destinations = places.destination.values().filter_map(Destination::folder);
    for folder in inboxes.chain(destinations) {
        let folder = base.join(folder);
        if let Err(e) = std::fs::create_dir_all(&folder) {
            let folder = folder.display();
            tracing::warn!("{folder} cannot be made: {e}; make it and restart the node");
        }
    }
}

/// With what inboxes and destinations are set to work.
struct Setting {
    base: PathBuf,
    secrets: Secrets,
    dial: Dial,
    node: Name,
    agent: String,
}

impl Setting {
    fn work(&self, places: &Places) -> Result<Work, FieldError> {
        let mut work = Work {
            inboxes: Vec::new(),
            carriers: HashMap::new(),
        };
        for (name, inbox) in &places.inbox {
            let (inbox, answers) = self.inbox(name, inbox)?;
            work.inboxes.push((name.clone(), inbox));
            work.carriers.insert(Receiver::Inbox(name.clone()), answers);
        }
        for (name, to) in &places.destination {
            let carrier = self.destination(name, to)?;
            let receiver = Receiver::Destination(name.clone());
            work.carriers.insert(receiver, carrier);
        }
        Ok(work)
    }

    fn means(&self, name: &Name) -> Means {
        Means {
            secrets: self.secrets.clone(),
            dial: self.dial.of(name),
        }
    }

    /// An inbox, and how answers get to it.
    fn inbox(&self, name: &Name, inbox: &Inbox) -> Result<(inbox::Letterbox, Carrier), FieldError> {
        let means = self.means(name);
        match inbox {
            Inbox::Http(http) => {
                let answers = HttpTo::new(
                    below(&http.url, ANSWERS)?,
                    http.token_file.as_ref(),
                    http.tls(),
                    &self.agent,
                    ANSWERING,
                    &means,
                )?;
                let asked = HttpBox::new(http, &self.node, &self.agent, &means)?;
                Ok((
                    inbox::Letterbox::Http(Box::new(asked)),
                    Carrier::Http(answers),
                ))
            }
            Inbox::Folder(inbox) => {
                let path = self.base.join(&inbox.folder);
                let answers = FolderTo::new(path.clone(), Some(ANSWERS), name.clone());
                let folder = FolderBox::new(path);
                Ok((inbox::Letterbox::Folder(folder), Carrier::Folder(answers)))
            }
        }
    }

    fn destination(&self, name: &Name, to: &Destination) -> Result<Carrier, FieldError> {
        let means = self.means(name);
        Ok(match to {
            Destination::Http(http) => Carrier::Http(HttpTo::new(
                checked(&http.url)?,
                http.token_file.as_ref(),
                http.tls(),
                &self.agent,
                http.timeout.as_std(),
                &means,
            )?),
            Destination::Mqtt(mqtt) => Carrier::Mqtt(MqttTo::new(mqtt, &self.node, &means)?),
            Destination::Folder(to) => {
                let path = self.base.join(&to.folder);
                Carrier::Folder(FolderTo::new(path, None, name.clone()))
            }
        })
    }
}

/// A courier at work.
struct Courier {
    desk: Arc<Desk>,
    deliveries: Arc<Deliveries>,
    reporter: Reporter,
    ender: Ender,
    threads: Vec<JoinHandle<()>>,
}

impl Courier {
    fn start(work: Work, reporter: Reporter, ender: Ender, stop: Stop) -> io::Result<Self> {
        let desk = Arc::new(Desk::new(reporter.clone()));
        let deliveries = Arc::new(Deliveries::new(work.carriers, reporter.clone()));
        let office = Office {
            desk: Arc::clone(&desk),
            reporter: reporter.clone(),
            stop: stop.clone(),
        };
        let mut threads = Vec::new();
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        for (name, inbox) in work.inboxes {
            let office = office.clone();
            let thread = named("inbox").spawn(move || inbox::serve(&name, inbox, &office))?;
            threads.push(thread);
        }
        for _ in 0..HANDS {
            let (deliveries, stop) = (Arc::clone(&deliveries), stop.clone());
            threads.push(named("deliver").spawn(move || deliveries.work(&stop))?);
        }
        Ok(Self {
            desk,
            deliveries,
            reporter,
            ender,
            threads,
        })
    }

    /// Does what the orchestrator asks for until it closes the channel.
    fn hear(&self, control: &Channel) -> Result<(), ProcessError> {
        while let Some(frame) = control.receive::<CourierRequest>(None)? {
            match frame.message {
                CourierRequest::Configure { .. } => return Err(ProcessError::NotConfigured),
                CourierRequest::Deliver(parcel) => self.deliveries.take(parcel, frame.blob),
                CourierRequest::Verdict { letter, verdict } => self.desk.verdict(letter, verdict),
                CourierRequest::Log { level } => {
                    fades_outside::logging::set(level);
                    tracing::info!(%level, "the courier logs at another level");
                }
                CourierRequest::Ping { id } => self.reporter.send(&CourierReport::Pong { id })?,
            }
        }
        Ok(())
    }

    fn end(self) {
        drop(self.ender);
        self.desk.end();
        self.deliveries.end();
        for thread in self.threads {
            // The panic was printed where it happened.
            let _ = thread.join();
        }
    }
}
