//! What would be in force if several updates and lists were taken one after the other.

use std::sync::Arc;

use fades_task::time::Time;
use fades_trust::envelope::PayloadType;
use fades_trust::joint::JointEnvelope;
use fades_trust::refusal::Refusal;
use fades_trust::revocation::{recall_revocations, verify_revocations};
use fades_trust::task::Audience;
use fades_trust::trust::TrustStore;
use fades_trust::update::verify_update;

use super::{NotTrusted, TakenTrust, Trust, judges};
use crate::store::TrustKind;

/// What would hold.
#[derive(Debug)]
pub(crate) struct Foresight {
    /// What signatures would be held against.
    pub(crate) table: Arc<TrustStore>,
    /// What would become of each.
    pub(crate) taken: Vec<TakenTrust>,
}

impl Trust {
    /// Judges `offers` as [`Trust::take`] would, each after the ones before it, and
    /// changes nothing.
    ///
    /// # Errors
    /// Which is the first that would not be taken, and why.
    pub(crate) fn foresee(
        &self,
        offers: &[JointEnvelope],
        node: Audience<'_>,
        now: Time,
    ) -> Result<Foresight, (usize, NotTrusted)> {
        let text = self.read().map_err(|e| (0, e.into()))?;
        let mut state = self.state();
        let mut table = self.in_force(&mut state, text).map_err(|e| (0, e.into()))?;
        let mut taken: Vec<TakenTrust> = Vec::with_capacity(offers.len());
        for (at, offer) in offers.iter().enumerate() {
            let payload = offer.payload_digest();
            let list = offer.payload_type() == PayloadType::Revocations.as_str();
            let next = if let Some(held) =
                state.list.as_ref().filter(|h| list && h.payload == payload)
            {
                judges(held, TrustKind::Revocations)
                    .map_err(NotTrusted::from)
                    .and_then(|by| Ok(recall_revocations(offer, &by, held.stored.taken)?))
                    .map(|_| held.again(TrustKind::Revocations))
            } else if let Some(held) = state
                .update
                .as_ref()
                .filter(|h| !list && h.payload == payload)
            {
                judges(held, TrustKind::Update)
                    .map_err(NotTrusted::from)
                    .and_then(|by| Ok(verify_update(offer, &by, Some(node), held.stored.taken)?))
                    .map(|_| held.again(TrustKind::Update))
            } else {
                self.follow(&mut table, offer, list, node, now)
                    .map_err(NotTrusted::from)
            };
            taken.push(next.map_err(|e| (at, e))?);
        }
        Ok(Foresight { table, taken })
    }

    /// Puts what `offer` brings in the place of what is in `table`.
    fn follow(
        &self,
        table: &mut Arc<TrustStore>,
        offer: &JointEnvelope,
        list: bool,
        node: Audience<'_>,
        now: Time,
    ) -> Result<TakenTrust, Refusal> {
        let (next, kind, number) = if list {
            let verified = verify_revocations(offer, table, now)?;
            let revocations = Arc::new(verified.revocations().clone());
            let counter = revocations.counter();
            let next = TrustStore::clone(table).revoking(revocations);
            (next, TrustKind::Revocations, counter)
        } else {
            let verified = verify_update(offer, table, Some(node), now)?;
            let next = verified.table().clone();
            let version = next.version();
            let revocations = Arc::clone(table.revocations());
            (next.revoking(revocations), TrustKind::Update, version)
        };
        *table = Arc::new(match self.development {
            true => next,
            false => next.refusing_development(),
        });
        Ok(TakenTrust {
            kind,
            number,
            fresh: true,
        })
    }
}
