//! Keys, tasks and configurations for the tests of this crate.

use std::path::Path;

use fades_task::allowance::Allowances;
use fades_task::exit::Exit;
use fades_task::identity::{Digest, Name};
use fades_task::limits::{Isolation, Limits};
use fades_task::logging::LogLevel;
use fades_task::message::Ended;
use fades_task::mtw::Mtw;
use fades_task::policy::Order;
use fades_task::quantity::Size;
use fades_task::result::Breakdown;
use fades_task::time::{Time, Zone};
use fades_trust::envelope::Envelope;
use fades_trust::function::{
    Architecture, FunctionStatement, ImageFormat, VerifiedFunction, image_digest, sign_function,
    verify_function,
};
use fades_trust::grant::Grants;
use fades_trust::key::SecretKey;
use fades_trust::task::{Audience, VerifiedTask, sign_task, verify_task};
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use serde_json::{Value, json};

use crate::api::types::IsolationInfo;
use crate::config::Logging;
use crate::config::{BrokerConfig, NodeConfig};

pub(crate) const IMAGE: &[u8] = b"\x7fELF and so on";

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn time(text: &str) -> Time {
    text.parse().unwrap()
}

pub(crate) fn now() -> Time {
    time("2026-11-02T12:00:00Z")
}

pub(crate) fn key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

/// One key that may do everything, for the service `city-air`.
pub(crate) fn trust() -> TrustStore {
    let mut store = TrustStore::default();
    store
        .add(TrustedKey {
            name: name("city"),
            public: key().public(),
            roles: vec![Role::Publish, Role::Submit, Role::Read],
            services: vec![name("city-air")],
            development: false,
            not_after: None,
        })
        .unwrap();
    store
}

pub(crate) fn digest() -> Digest {
    image_digest(IMAGE)
}

/// The task `id`, with `change` applied to its JSON.
pub(crate) fn mtw_with(id: &str, change: impl FnOnce(&mut Value)) -> Mtw {
    let mut task = json!({
        "task": {
            "id": id, "name": "air", "service": "city-air", "for": ["harbour-07"],
            "expires": "2026-12-01T00:00:00Z"
        },
        "retrieve": [{"name": "pm", "kind": ["pm10"], "last": "24h"}],
        "function": {"image": format!("summary@{}", digest()), "limits": {"memory": "1MiB"}}
    });
    change(&mut task);
    serde_json::from_value(task).unwrap()
}

pub(crate) fn mtw(id: &str) -> Mtw {
    mtw_with(id, |_| ())
}

pub(crate) fn envelope(mtw: &Mtw) -> Envelope {
    sign_task(mtw, &key())
}

pub(crate) fn verified(mtw: &Mtw) -> VerifiedTask {
    let node = name("harbour-07");
    let node = Audience {
        name: &node,
        labels: &[],
    };
    verify_task(&envelope(mtw), &trust(), node, now()).unwrap()
}

/// The function `summary` with its envelope.
pub(crate) fn function() -> (VerifiedFunction, String) {
    let statement = FunctionStatement {
        name: name("summary"),
        digest: digest(),
        size: IMAGE.len() as u64,
        abi_major: 1,
        abi_minor: 0,
        architecture: Architecture::HERE,
        format: ImageFormat::FadesElf,
        created: None,
    };
    let envelope = sign_function(&statement, &key());
    let verified = verify_function(&envelope, IMAGE, &trust(), now()).unwrap();
    (verified, envelope.to_json())
}

/// Everything is granted to everybody.
pub(crate) fn grants() -> Grants {
    let all = json!({ "all": {
        "services": ["*"], "functions": ["*"], "history": "any", "live": true,
        "previews": true, "destinations": ["*"],
    }});
    Grants::compile(&serde_json::from_value(all).unwrap(), &[]).unwrap()
}

pub(crate) fn config(folder: &Path) -> NodeConfig {
    let works = |isolation, works| IsolationInfo {
        isolation,
        works,
        detail: "no /dev/kvm".to_owned(),
    };
    NodeConfig {
        name: name("harbour-07"),
        labels: vec![],
        version: "0".to_owned(),
        folder: folder.to_owned(),
        trust: folder.join("trust.toml"),
        development_keys: true,
        socket: folder.join("api.sock"),
        log: Logging::plain(LogLevel::Warn),
        listen: None,
        tender: folder.join("tender"),
        broker: BrokerConfig {
            program: folder.join("broker"),
            arguments: vec![],
            addresses: Vec::new(),
            sources: json!({}),
            folder: folder.join("batches"),
            budget: Size(1 << 30),
            chunk: Size(64 << 20),
            base: folder.to_owned(),
            readings: folder.join("readings"),
            credentials: None,
        },
        courier: None,
        parallel: 2,
        drain: std::time::Duration::ZERO,
        notify: None,
        spare_for: crate::config::SPARE_FOR,
        memory: Size(64 << 20),
        order: Order::default(),
        allowances: Allowances::default(),
        grants: grants(),
        zone: Zone::default(),
        reread: None,
        caps: Limits::MAX,
        isolation: vec![
            works(Isolation::Microvm, false),
            works(Isolation::Process, true),
        ],
        simd: 0,
        abi: (1, 0),
    }
}

pub(crate) fn ended(exit: Exit, isolation: Isolation, answer_bytes: u64) -> Ended {
    Ended {
        exit,
        isolation,
        answer_bytes,
        readings_bytes: 0,
        breakdown: Breakdown {
            retrieve_us: 10,
            transfer_us: 30,
            compute_us: 20,
            ..Breakdown::default()
        },
        high_water: Size(4096),
        cpu_us: 5,
        batches: 1,
        input_bytes: 2 << 20,
        log_cut: 0,
    }
}
