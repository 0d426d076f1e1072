//! Tasks: an MTW below a signature.

use fades_task::identity::{Digest, Name};
use fades_task::mtw::Mtw;
use fades_task::time::Time;

use crate::envelope::{Envelope, PayloadType};
use crate::key::SecretKey;
use crate::refusal::Refusal;
use crate::trust::{Role, TrustStore};

/// A task whose signature, key, audience and expiry were checked. Only
/// [`verify_task`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedTask {
    mtw: Mtw,
    image: Digest,
    payload: Digest,
    signer: Name,
    key: Digest,
}

impl VerifiedTask {
    /// The task.
    #[must_use]
    pub const fn mtw(&self) -> &Mtw {
        &self.mtw
    }

    /// The task, without what vouches for it.
    #[must_use]
    pub fn into_mtw(self) -> Mtw {
        self.mtw
    }

    /// The pinned digest of the function's image.
    #[must_use]
    pub const fn image(&self) -> Digest {
        self.image
    }

    /// SHA-256 of the signed payload: two tasks with one id are the same task
    /// when these are equal.
    #[must_use]
    pub const fn payload(&self) -> Digest {
        self.payload
    }

    /// Name of the trusted key that signed it.
    #[must_use]
    pub const fn signer(&self) -> &Name {
        &self.signer
    }

    /// Id of that key.
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.key
    }
}

/// Who a node is, for a task's audience.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'a> {
    /// The node's name.
    pub name: &'a Name,
    /// Its labels.
    pub labels: &'a [Name],
}

impl Audience<'_> {
    fn includes(&self, name: &Name) -> bool {
        self.name == name || self.labels.contains(name)
    }

    pub(crate) fn require(&self, audience: &[Name]) -> Result<(), Refusal> {
        if audience.iter().any(|name| self.includes(name)) {
            return Ok(());
        }
        let mut node = vec![self.name.clone()];
        node.extend_from_slice(self.labels);
        Err(Refusal::Audience {
            audience: audience.to_vec(),
            node,
        })
    }
}

/// Signs a task.
#[must_use]
pub fn sign_task(mtw: &Mtw, key: &SecretKey) -> Envelope {
    // An MTW is text, numbers, lists and maps with text keys.
    let payload = serde_json::to_vec(mtw).unwrap_or_default();
    Envelope::seal(PayloadType::Task, payload, key)
}

/// The task in `envelope`, if this node may take it now.
///
/// # Errors
/// The first reason why not. The signature is checked before anything in the
/// payload is looked at.
pub fn verify_task(
    envelope: &Envelope,
    trust: &TrustStore,
    node: Audience<'_>,
    now: Time,
) -> Result<VerifiedTask, Refusal> {
    let key = trust.signer(envelope, PayloadType::Task, now)?;
    key.require(Role::Submit)?;
    let mtw: Mtw = serde_json::from_slice(&envelope.payload).map_err(|e| Refusal::Payload {
        what: "task",
        reason: e.to_string(),
    })?;
    key.require_service(&mtw.task.service)?;
    node.require(&mtw.task.r#for)?;
    if now >= mtw.task.expires {
        let expires = mtw.task.expires;
        return Err(Refusal::Expired { expires, now });
    }
    mtw.check()?;
    let function = &mtw.function.image;
    let image = function.digest.ok_or_else(|| Refusal::NotPinned {
        function: function.name.clone(),
    })?;
    Ok(VerifiedTask {
        image,
        payload: envelope.payload_digest(),
        signer: key.name.clone(),
        key: envelope.key,
        mtw,
    })
}

#[cfg(test)]
mod tests {
    use fades_task::mtw::{Mtw, MtwError};
    use proptest::prelude::{any, proptest};

    use super::{Audience, VerifiedTask, sign_task, verify_task};
    use crate::envelope::{Envelope, PayloadType};
    use crate::refusal::Refusal;
    use crate::samples::{NOW, key, mtw, name, time, trust, trusted};
    use crate::trust::{Role, TrustStore};

    fn verify_with(envelope: &Envelope, trust: &TrustStore) -> Result<VerifiedTask, Refusal> {
        let (node, labels) = (name("harbour-07"), [name("harbours")]);
        let node = Audience {
            name: &node,
            labels: &labels,
        };
        verify_task(envelope, trust, node, time(NOW))
    }

    fn refusal(change: impl FnOnce(&mut Mtw)) -> Refusal {
        let mut task = mtw();
        change(&mut task);
        verify_with(&sign_task(&task, &key(1)), &trust()).unwrap_err()
    }

    #[test]
    fn a_signed_task_for_this_node_is_taken() {
        let envelope = sign_task(&mtw(), &key(1));
        let task = verify_with(&envelope, &trust()).unwrap();
        assert_eq!(*task.mtw(), mtw());
        assert_eq!(task.signer().as_str(), "city");
        assert_eq!(Some(task.image()), mtw().function.image.digest);
        assert_eq!(task.payload(), envelope.payload_digest());
        let mut labelled = mtw();
        labelled.task.r#for = vec![name("harbours")];
        assert!(verify_with(&sign_task(&labelled, &key(1)), &trust()).is_ok());
    }

    #[test]
    fn a_task_for_another_node_is_refused() {
        let refused = refusal(|t| t.task.r#for = vec![name("harbour-08")]);
        assert!(matches!(refused, Refusal::Audience { .. }));
        assert!(
            refused.to_string().contains("harbour-07, harbours"),
            "{refused}"
        );
    }

    #[test]
    fn a_task_past_its_time_is_refused() {
        let refused = refusal(|t| t.task.expires = time(NOW));
        assert!(matches!(refused, Refusal::Expired { .. }));
    }

    #[test]
    fn a_task_for_a_service_that_the_key_does_not_speak_for_is_refused() {
        let refused = refusal(|t| t.task.service = name("noise"));
        assert!(matches!(refused, Refusal::Service { .. }));
        assert!(refused.to_string().contains("city-air"), "{refused}");
    }

    #[test]
    fn a_task_without_digest_is_refused() {
        let refused = refusal(|t| t.function.image.digest = None);
        assert!(matches!(refused, Refusal::NotPinned { .. }));
    }

    #[test]
    fn a_task_that_contradicts_itself_is_refused() {
        let refused = refusal(|t| t.function.isolation.clear());
        assert_eq!(refused, Refusal::Mtw(MtwError::NoIsolation));
    }

    #[test]
    fn a_key_without_the_role_or_unknown_or_past_its_time_is_refused() {
        let by = |n, trust: &TrustStore| verify_with(&sign_task(&mtw(), &key(n)), trust);
        assert!(matches!(
            by(2, &trust()),
            Err(Refusal::Role {
                role: Role::Submit,
                ..
            })
        ));
        assert!(matches!(by(9, &trust()), Err(Refusal::UnknownKey { .. })));
        let mut old = trusted("city", 1, &[Role::Submit]);
        old.not_after = Some(time(NOW));
        let mut store = TrustStore::default();
        store.add(old).unwrap();
        assert!(matches!(by(1, &store), Err(Refusal::KeyExpired { .. })));
    }

    #[test]
    fn a_signature_by_another_key_or_over_another_payload_is_refused() {
        let mut forged = sign_task(&mtw(), &key(9));
        forged.key = key(1).public().id();
        assert!(matches!(
            verify_with(&forged, &trust()),
            Err(Refusal::Signature { .. })
        ));
        let mut changed = sign_task(&mtw(), &key(1));
        changed.payload.push(b' ');
        assert!(matches!(
            verify_with(&changed, &trust()),
            Err(Refusal::Signature { .. })
        ));
    }

    #[test]
    fn an_envelope_of_something_else_is_refused() {
        let payload = serde_json::to_vec(&mtw()).unwrap();
        let envelope = Envelope::seal(PayloadType::Function, payload, &key(1));
        assert!(matches!(
            verify_with(&envelope, &trust()),
            Err(Refusal::PayloadType { .. })
        ));
    }

    #[test]
    fn an_unknown_field_of_a_signed_task_is_named() {
        let mut json = serde_json::to_value(mtw()).unwrap();
        json["task"]["colour"] = 1.into();
        let payload = serde_json::to_vec(&json).unwrap();
        let envelope = Envelope::seal(PayloadType::Task, payload, &key(1));
        let refused = verify_with(&envelope, &trust()).unwrap_err();
        assert!(matches!(refused, Refusal::Payload { .. }));
        assert!(refused.to_string().contains("colour"), "{refused}");
    }

    proptest! {
        #[test]
        fn an_envelope_with_any_byte_changed_is_refused(at: proptest::sample::Index, byte: u8) {
            let good = sign_task(&mtw(), &key(1)).to_json();
            let mut bytes = good.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if bytes != good.as_bytes() {
                let taken = Envelope::parse(&bytes)
                    .map_err(Refusal::from)
                    .and_then(|e| verify_with(&e, &trust()));
                assert!(taken.is_err(), "byte {at} as {byte}");
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            assert!(Envelope::parse(&bytes).is_err());
        }
    }
}
