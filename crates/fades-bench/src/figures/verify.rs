//! `verify`: from the bytes of a task and of a function, as they come in, to both
//! being verified: the envelopes parsed, the signers found among a hundred keys,
//! the signatures checked, the task read into types and checked, the image hashed.
//!
//! In this process, with the code that the node calls. An altered byte has to be
//! refused, or the figure means nothing. `summary` is the image.

use fades_task::identity::Name;
use fades_task::mtw::Mtw;
use fades_task::time::Time;
use fades_trust::envelope::Envelope;
use fades_trust::function::{
    Architecture, FunctionStatement, ImageFormat, image_digest, sign_function, verify_function,
};
use fades_trust::key::SecretKey;
use fades_trust::task::{Audience, sign_task, verify_task};
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use serde_json::json;

use super::Taken;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::samples::Samples;
use crate::turns::timed;

/// Microseconds for both.
const AIM: f64 = 200.0;

/// Keys that a node trusts.
const KEYS: u8 = 100;

/// 2027-01-01.
const NOW: Time = Time(1_798_761_600_000_000_000);

struct Signed {
    trust: TrustStore,
    node: Name,
    task: String,
    function: String,
    image: Vec<u8>,
}

fn meaningless(what: &str) -> Fault {
    Fault::Meaningless(what.to_owned())
}

fn name(text: &str) -> Result<Name, Fault> {
    text.parse().map_err(|_| meaningless("a name is none"))
}

impl Signed {
    fn new(image: Vec<u8>) -> Result<Self, Fault> {
        let key = |n: u8| SecretKey::from_seed(&[n; 32]);
        let mut trust = TrustStore::default();
        for n in 0..KEYS {
            let trusted = TrustedKey {
                name: name(&format!("key-{n}"))?,
                public: key(n).public(),
                roles: vec![Role::Submit, Role::Publish],
                services: vec![name("city-air")?],
                development: false,
                not_after: None,
            };
            trust
                .add(trusted)
                .map_err(|e| Fault::Meaningless(e.to_string()))?;
        }
        let digest = image_digest(&image);
        let task: Mtw = serde_json::from_value(json!({
            "task": {
                "id": "t1", "name": "air", "service": "city-air", "for": ["harbour-07"],
                "expires": "2100-01-01T00:00:00Z"
            },
            "retrieve": [{"name": "pm", "kind": ["pm10", "pm2.5"], "last": "24h"}],
            "function": {"image": format!("summary@{digest}"), "params": {"limit": 27}}
        }))
        .map_err(Fault::json("a task"))?;
        let statement = FunctionStatement {
            name: name("summary")?,
            digest,
            size: image.len() as u64,
            abi_major: 1,
            abi_minor: 0,
            architecture: Architecture::HERE,
            format: ImageFormat::FadesElf,
            created: None,
        };
        Ok(Self {
            trust,
            node: name("harbour-07")?,
            task: sign_task(&task, &key(KEYS - 1)).to_json(),
            function: sign_function(&statement, &key(KEYS - 2)).to_json(),
            image,
        })
    }

    fn task(&self) -> bool {
        let node = Audience {
            name: &self.node,
            labels: &[],
        };
        Envelope::parse(self.task.as_bytes())
            .is_ok_and(|envelope| verify_task(&envelope, &self.trust, node, NOW).is_ok())
    }

    fn function(&self) -> bool {
        let envelope = Envelope::parse(self.function.as_bytes());
        envelope.is_ok_and(|e| verify_function(&e, &self.image, &self.trust, NOW).is_ok())
    }
}

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let path = bench.image("summary")?;
    let image = std::fs::read(&path).map_err(Fault::file(&path, "read"))?;
    let mut signed = Signed::new(image)?;
    let (mut both, mut task) = (Samples::default(), Samples::default());
    for _ in 0..bench.either(5_000, 500) {
        let (of_task, good) = timed(|| signed.task());
        let (of_function, also) = timed(|| signed.function());
        if !(good && also) {
            return Err(meaningless("what was signed is refused"));
        }
        task.push(of_task);
        both.push(of_task + of_function);
    }
    if let Some(last) = signed.image.last_mut() {
        *last ^= 1;
    }
    if signed.function() {
        return Err(meaningless("an image that was changed is taken"));
    }
    let figure = Figure::new("verify", None, "us", &both);
    taken.add(figure.map(|f| f.aiming(Aim::AtMost(AIM))));
    taken.add(Figure::new("of it the task", None, "us", &task));
    Ok(())
}
