//! Devices that publish to an MQTT broker, as a source.
//!
//! [`Shape`] is what the operator wrote, resolved; a task on the broker's runtime
//! listens all the time (see [`listen`]), so that newest readings and who is alive
//! are known without a question. What it costs is one connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::chunk::Segment;
use crate::config::{FieldError, MqttSource};
use crate::flow::{Ask, Outlet, Stopped};
use crate::live::Live;
use crate::selector::Selector;
use crate::source::Setting;

mod link;
mod listen;
mod shape;
mod status;
mod v3;
mod v5;

pub(crate) use shape::Shape;

use listen::Listener;
use status::Status;

/// Most of a question's time that is waited for the broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test of the source waits for the first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(3);

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MqttError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// There is no connection.
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// The broker does not give a topic.
    #[error(
        "{url}: the broker does not give topic {filter}: {reason}; let the broker's access list \
         allow it, or write another topic"
    )]
    Refused {
        url: String,
        filter: String,
        reason: String,
    },
    /// Messages come, and none is understood.
    #[error("{url}: none of {messages} messages is understood; the first: {first}")]
    NotUnderstood {
        url: String,
        messages: u64,
        first: String,
    },
}

/// A source of devices behind an MQTT broker at work.
#[derive(Debug)]
pub(crate) struct Mqtt {
    url: String,
    live: Arc<Live>,
    status: Arc<Status>,
    hurry: Arc<Notify>,
    task: AbortHandle,
}

impl Mqtt {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(
        config: &MqttSource,
        setting: &Setting,
        live: Arc<Live>,
    ) -> Result<Self, FieldError> {
        let Some(runtime) = &setting.runtime else {
            return Err(FieldError::new("type", "nothing waits for devices"));
        };
        let recorded = live.recorder().is_some();
        let qos = config.qos.unwrap_or(u8::from(recorded));
        let (status, hurry) = (Arc::<Status>::default(), Arc::<Notify>::default());
        let listener = Listener {
            config: config.clone(),
            setting: setting.clone(),
            shape: Shape::compile(config)?,
            client: config
                .client_id
                .clone()
                .unwrap_or_else(|| client(live.source().as_str(), setting)),
            qos,
            persistent: recorded && qos > 0,
            live: Arc::clone(&live),
            status: Arc::clone(&status),
            hurry: Arc::clone(&hurry),
        };
        let task = runtime.spawn(listener.run()).abort_handle();
        Ok(Self {
            url: config.url.clone(),
            live,
            status,
            hurry,
            task,
        })
    }

    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    pub(crate) fn reads(&self) -> String {
        self.url.clone()
    }

    #[expect(
        clippy::unused_self,
        reason = "what devices a broker has is known when they speak"
    )]
    pub(crate) const fn may_match(&self, _selector: &Selector) -> bool {
        true
    }

    /// Sends the newest reading of each series that matches, once those that the
    /// broker kept have come.
    pub(crate) fn sample(&self, ask: &Ask, out: &Outlet) -> Result<(), MqttError> {
        let before = self.status.now().attempts;
        self.hurry.notify_one();
        let state = self.status.wait(ask, PATIENCE, |s| {
            s.is_settled() || (s.subscribed.is_none() && s.is_after(before))
        });
        if ask.is_stopped() {
            return Err(Stopped.into());
        }
        let newest = self.live.newest(&ask.selector);
        let reason = match (state.subscribed, state.error) {
            (Some(_), _) => None,
            (None, Some(error)) => Some(error),
            (None, None) => Some("the broker has not answered yet".to_owned()),
        };
        if let (Some(reason), true) = (&reason, newest.is_empty()) {
            return Err(self.unreachable(reason.clone()));
        }
        for (key, _) in &newest {
            out.device(&key.device)?;
        }
        for (key, reading) in newest {
            let since = self.live.last_seen(&key.device);
            match (&reason, reading) {
                // An old reading of a device that cannot be heard is not now.
                (Some(reason), _) => out.failed(&key.device, since, reason.clone())?,
                (None, Some(n)) => {
                    let mut segment = Segment::default();
                    segment.push(n.time, n.value, n.mark);
                    out.readings(&key, segment)?;
                }
                (None, None) => out.late(&key.device, since, "nothing arrived".to_owned())?,
            }
        }
        Ok(())
    }

    /// Waits until the broker is reached and the first messages have come.
    pub(crate) fn try_out(&self, ask: &Ask) -> Result<(), MqttError> {
        let before = self.status.now().attempts;
        self.hurry.notify_one();
        let state = self.status.wait(ask, PATIENCE, |s| {
            s.subscribed.is_some() || s.is_after(before)
        });
        if ask.is_stopped() {
            return Err(Stopped.into());
        }
        if state.subscribed.is_none() {
            let reason = state.error;
            let reason = reason.unwrap_or_else(|| "the broker has not answered yet".to_owned());
            return Err(self.unreachable(reason));
        }
        if let Some((filter, reason)) = state.refused {
            return Err(MqttError::Refused {
                url: self.url.clone(),
                filter,
                reason,
            });
        }
        let state = self.status.wait(ask, FIRST_MESSAGE, |s| s.good > 0);
        match state.first_bad {
            Some(first) if state.good == 0 => Err(MqttError::NotUnderstood {
                url: self.url.clone(),
                messages: state.bad,
                first,
            }),
            _ => Ok(()),
        }
    }

    fn unreachable(&self, reason: String) -> MqttError {
        MqttError::Unreachable {
            url: self.url.clone(),
            reason,
        }
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A name at the broker that is the same after a restart, and another one on
/// another node: by the host's name and the folder of its configuration (FNV-1a).
fn client(source: &str, setting: &Setting) -> String {
    let host = rustix::system::uname();
    let folder = setting.base.as_os_str().as_encoded_bytes();
    let bytes = host.nodename().to_bytes().iter().chain(folder);
    let number = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("fades-{source}-{number:016x}")
}
