//! Keys, a table of trust and a task for the tests of this crate.

use fades_task::identity::{Digest, Name};
use fades_task::mtw::Mtw;
use fades_task::time::Time;

use crate::key::SecretKey;
use crate::trust::{Role, TrustStore, TrustedKey};

pub(crate) const NOW: &str = "2026-11-02T12:00:00Z";

pub(crate) fn time(text: &str) -> Time {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn trusted(named: &str, n: u8, roles: &[Role]) -> TrustedKey {
    let services = roles.contains(&Role::Submit).then(|| name("city-air"));
    TrustedKey {
        name: name(named),
        public: key(n).public(),
        roles: roles.to_vec(),
        services: services.into_iter().collect(),
        development: false,
        not_after: None,
    }
}

/// `city` (key 1) submits, `plant` (key 2) publishes, `audit` (key 3) reads.
pub(crate) fn trust() -> TrustStore {
    let mut store = TrustStore::default();
    for (named, n, role) in [
        ("city", 1, Role::Submit),
        ("plant", 2, Role::Publish),
        ("audit", 3, Role::Read),
    ] {
        store.add(trusted(named, n, &[role])).unwrap();
    }
    store
}

/// `root1` to `root3` (keys 11 to 13) administer, two of them have to sign; `city`
/// (key 1) submits.
pub(crate) fn governed() -> TrustStore {
    let mut keys = vec![trusted("city", 1, &[Role::Submit])];
    for n in 1..=3 {
        keys.push(trusted(&format!("root{n}"), 10 + n, &[Role::Administer]));
    }
    TrustStore::of(7, std::num::NonZeroU32::new(2), keys).unwrap()
}

pub(crate) fn mtw() -> Mtw {
    let image = format!("summary@{}", Digest([7; 32]));
    serde_json::from_value(serde_json::json!({
        "task": {
            "id": "t1", "name": "air", "service": "city-air", "for": ["harbour-07"],
            "expires": "2026-12-01T00:00:00Z"
        },
        "retrieve": [{"name": "pm", "kind": ["pm10", "pm2.5"], "last": "24h"}],
        "function": {"image": image, "params": {"limit": 27}}
    }))
    .unwrap()
}
