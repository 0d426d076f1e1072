//! The courier's process, and the letters that it brings.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use fades_task::courier::{CourierReport, CourierRequest, Parcel, Verdict};
use fades_task::identity::Name;
use fades_task::logging::LogLevel;
use fades_trust::envelope::PayloadType;
use fades_trust::joint::JointEnvelope;
use fades_trust::task::Audience;
use fades_wire::spawn::Child;
use fades_wire::{Channel, Frame};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tracing::warn;

use super::{Input, ReplyTo, Submission};
use crate::api::types::Problem;
use crate::config::CourierConfig;
use crate::shared::Shared;
use crate::store::Store;
use crate::trust::Trust;

/// A courier that reads nothing for this long is given up.
const SEND_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct CourierProcess {
    child: Child,
    channel: Channel,
    /// Which courier of this node's life it is: letters are numbered by each for
    /// itself.
    life: u32,
    note: Option<String>,
}

/// What is needed to judge a letter where it arrives.
#[derive(Debug)]
pub(super) struct Desk {
    /// Its configuration may change while the courier lives.
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<Store>,
    pub(super) trust: Arc<Trust>,
    pub(super) inputs: Sender<Input>,
    pub(super) life: u32,
}

impl CourierProcess {
    pub(super) fn start(config: &CourierConfig, desk: Desk) -> std::io::Result<Self> {
        let (here, there) = Channel::pair()?;
        let error = (desk.shared.config().log.error)()?;
        let child = super::program(&config.program, &config.arguments)
            .descriptor(there.as_fd())
            .error(error.as_fd())
            .spawn()?;
        drop((there, error));
        set_socket_timeout(here.as_fd(), Timeout::Send, Some(SEND_WITHIN))?;
        let reader = here.try_clone()?;
        let now = desk.shared.config();
        let (node, version) = (now.name.clone(), now.version.clone());
        let life = desk.life;
        std::thread::Builder::new()
            .name("courier".to_owned())
            .spawn(move || desk.read(&reader))?;
        let courier = Self {
            child,
            channel: here,
            life,
            note: None,
        };
        let dial = crate::dial::start(&config.addresses)?;
        let request = CourierRequest::Configure {
            node,
            version,
            base: super::text(&config.base),
            credentials: config.credentials.as_deref().map(super::text),
        };
        // A JSON value always has a text.
        let mail = serde_json::to_vec(&config.mail).unwrap_or_default();
        let sent = courier.channel.send(&request, &mail, &[dial.as_fd()]);
        // The courier has the only one then: when it is gone, the channel ends.
        drop(dial);
        courier.check(sent);
        Ok(courier)
    }

    pub(super) fn deliver(&self, parcel: Parcel, body: &[u8]) {
        let request = CourierRequest::Deliver(parcel);
        self.check(self.channel.send(&request, body, &[]));
    }

    /// Has it log at this level.
    pub(super) fn log(&self, level: LogLevel) {
        self.tell(&CourierRequest::Log { level });
    }

    pub(super) fn ping(&self) {
        self.tell(&CourierRequest::Ping { id: 0 });
    }

    /// Tells what became of a letter, if this courier brought it.
    pub(super) fn verdict(&self, life: u32, letter: u64, verdict: Verdict) {
        if life == self.life {
            self.tell(&CourierRequest::Verdict { letter, verdict });
        }
    }

    fn tell(&self, request: &CourierRequest) {
        self.check(self.channel.send(request, &[], &[]));
    }

    /// A courier that cannot be told something is of no use; its end follows.
    fn check(&self, sent: Result<(), fades_wire::WireError>) {
        if let Err(e) = sent {
            warn!(reason = %e, "the courier does not listen; killing it");
            self.kill();
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&self) {
        self.child.kill();
    }

    /// Has it end what is under way, and itself.
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

impl Desk {
    fn read(self, channel: &Channel) {
        let said = loop {
            match channel.receive::<CourierReport>(None) {
                Ok(Some(frame)) => {
                    if !self.take(frame) {
                        return;
                    }
                }
                Ok(None) => break String::new(),
                Err(e) => break crate::api::problem::chain(&e),
            }
        };
        // Nobody listens when the node ends.
        let _ = self.inputs.send(Input::CourierLeft { said });
    }

    /// Whether anybody listens still.
    fn take(&self, frame: Frame<CourierReport>) -> bool {
        let input = match frame.message {
            CourierReport::Letter { letter, inbox } => self.letter(letter, inbox, &frame.blob),
            report => Input::Courier(report),
        };
        self.inputs.send(input).is_ok()
    }

    /// A letter is as trustworthy as whoever signed what is in it.
    fn letter(&self, letter: u64, inbox: Name, envelope: &[u8]) -> Input {
        let reply = ReplyTo::Letter {
            life: self.life,
            letter,
            inputs: self.inputs.clone(),
        };
        let (config, now) = (self.shared.config(), self.shared.clock().now());
        if changes_trust(envelope) {
            let verdict = self.trust_letter(envelope);
            return Input::Verdict {
                life: self.life,
                letter,
                verdict,
            };
        }
        let trust = self.trust.table().map_err(Problem::from);
        let submission = trust
            .and_then(|trust| Submission::read(envelope, &trust, &config, &self.store, now, reply));
        match submission {
            Ok(submission) => Input::Submit(Box::new(Submission {
                inbox: Some(inbox),
                ..submission
            })),
            Err(problem) => Input::Verdict {
                life: self.life,
                letter,
                verdict: verdict(problem),
            },
        }
    }
}

impl Desk {
    /// Takes what administrators signed, as the API does.
    fn trust_letter(&self, envelope: &[u8]) -> Verdict {
        let config = self.shared.config();
        let node = Audience {
            name: &config.name,
            labels: &config.labels,
        };
        match self.trust.take(envelope, node, self.shared.clock().now()) {
            Ok(taken) => {
                // The driver that is about to end does it at its next start.
                let _ = self.inputs.send(Input::Revoke { pass: 0 });
                match taken.id() {
                    Some(task) => Verdict::Taken { task },
                    None => Verdict::Later {
                        detail: "it has no name".to_owned(),
                    },
                }
            }
            Err(reason) => verdict(reason.into()),
        }
    }
}

/// Whether a letter is no task, but says whom to trust.
fn changes_trust(envelope: &[u8]) -> bool {
    let kinds = [PayloadType::Trust, PayloadType::Revocations];
    let envelope = JointEnvelope::parse(envelope);
    envelope.is_ok_and(|e| kinds.iter().any(|kind| kind.as_str() == e.payload_type()))
}

/// What a problem means for the letter that had it: the node's own troubles pass.
pub(super) fn verdict(problem: Problem) -> Verdict {
    let detail = problem.detail;
    match problem.status {
        429 | 500.. => Verdict::Later { detail },
        _ => Verdict::Refused {
            problem: problem.r#type.replacen("urn:fades:", "", 1),
            detail,
        },
    }
}
