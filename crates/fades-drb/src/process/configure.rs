//! From the first message to sources at work.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fades_task::message::{BrokerRequest, Confinement};
use fades_wire::{Channel, Frame};
use tokio::runtime::Runtime;

use crate::batches::Batches;
use crate::config::Sources;
use crate::confine;
use crate::dial::Dial;
use crate::hands::Hands;
use crate::pool::Pool;
use crate::readings::Readings;
use crate::retrieve::Engine;
use crate::secret::Secrets;
use crate::source::Setting;

/// Why a broker cannot begin.
pub(super) enum Refusal {
    NotConfigured,
    Misconfigured(String),
}

/// What a broker works with.
pub(super) struct Configured {
    pub(super) engine: Engine,
    pub(super) readings: Option<Arc<Readings>>,
    pub(super) runtime: Option<Runtime>,
    pub(super) confinement: Confinement,
}

/// Sets up what the first message says.
pub(super) fn configured(
    frame: Frame<BrokerRequest>,
    hands: &Hands,
    confined: bool,
    control: &Channel,
) -> Result<Configured, Refusal> {
    let BrokerRequest::Configure {
        folder,
        budget,
        chunk,
        base,
        readings,
        credentials,
    } = frame.message
    else {
        return Err(Refusal::NotConfigured);
    };
    let wrong = |e: &dyn std::error::Error| Refusal::Misconfigured(e.to_string());
    let sources: Sources = serde_json::from_slice(&frame.blob).map_err(|e| wrong(&e))?;
    sources.check().map_err(|e| wrong(&e))?;
    let batches = Batches::new(Path::new(&folder), budget.0, chunk.0).map_err(|e| wrong(&e))?;
    let recorded = sources.0.values().any(|s| s.common.record.is_some());
    let readings = readings.filter(|_| recorded);
    let confinement = if confined {
        let credentials = credentials.as_deref().map(Path::new);
        let mut reach = confine::reach(&sources, Path::new(&base), credentials);
        reach.asks = !frame.descriptors.is_empty();
        if let Some(folder) = &readings {
            // It must be there to be allowed.
            std::fs::create_dir_all(folder).map_err(|e| wrong(&e))?;
            reach.write.insert(PathBuf::from(folder));
        }
        // Threads inherit what is entered now.
        confine::enter(&reach, &batches)
    } else {
        confine::none()
    };
    let dial = dial(frame.descriptors, control).map_err(|e| wrong(&e))?;
    let pool = Pool::new().map_err(|e| wrong(&e))?;
    let live = sources.0.values().any(|s| s.kind.is_live());
    let runtime = live.then(runtime).transpose().map_err(|e| wrong(&e))?;
    let readings = readings.map(|folder| Readings::open(Path::new(&folder)));
    let setting = Setting {
        secrets: Secrets::new(Path::new(&base), credentials.as_deref().map(Path::new)),
        base: PathBuf::from(base),
        readings: readings.transpose().map_err(|e| wrong(&e))?.map(Arc::new),
        dial,
        room: Arc::default(),
        runtime: runtime.as_ref().map(|r| r.handle().clone()),
    };
    let engine = Engine::new(&sources, &setting, pool, hands.clone(), batches);
    Ok(Configured {
        engine: engine.map_err(|e| wrong(&e))?,
        readings: setting.readings,
        runtime,
        confinement,
    })
}

/// Who makes connections: whoever has the other end of the descriptor that came with
/// the configuration.
fn dial(descriptors: Vec<OwnedFd>, control: &Channel) -> io::Result<Dial> {
    match descriptors.into_iter().next() {
        Some(channel) => Dial::asking(channel, control.try_clone()?),
        None => Ok(Dial::Direct),
    }
}

/// One thread that waits for all devices.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("devices")
        .enable_all()
        .build()
}
