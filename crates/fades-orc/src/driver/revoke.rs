//! What revoked keys signed ends: tasks that wait and run, schedules, functions that
//! stay. So do tasks that run a function which such a key published.
//!
//! The list is stored before this, and this is done again at each start, so that a
//! crash between the two changes nothing.

use fades_task::identity::Name;
use fades_trust::revocation::{Revocation, Revocations};
use tracing::{error, warn};

use super::{Driver, Input};
use crate::core::Event;
use crate::store::OpenSigner;

/// Passes over the store. The second ends what was on its way in during the first,
/// and the one after that finds nothing.
const PASSES_MAX: u8 = 5;

/// Why a task ends.
fn reason(open: &OpenSigner, revocations: &Revocations) -> Option<String> {
    let revoked = |key| revocations.find(key);
    if let Some(Revocation { key, reason, .. }) = open.signer.and_then(revoked) {
        return Some(format!(
            "the revocation of key {key}, which signed it: {reason}"
        ));
    }
    let Revocation { key, reason, .. } = open.publisher.and_then(revoked)?;
    Some(format!(
        "the revocation of key {key}, which published its function: {reason}"
    ))
}

impl Driver {
    /// Ends what revoked keys vouched for.
    pub(super) fn revoke(&mut self, pass: u8) {
        let revocations = self.trust.revocations();
        if revocations.iter().len() == 0 {
            return;
        }
        let open = match self.store.open_signers() {
            Ok(open) => open,
            Err(e) => {
                let reason = crate::api::problem::chain(&e);
                error!(%reason, "what revoked keys signed cannot be found; trying again");
                return self.revoke_again(pass);
            }
        };
        let ends: Vec<(Name, String)> = open
            .into_iter()
            .filter_map(|open| Some((open.id.clone(), reason(&open, &revocations)?)))
            .collect();
        if ends.is_empty() {
            return;
        }
        for (id, by) in ends {
            warn!(task = %id, %by, "ends");
            self.step(Event::Revoke { id, by });
        }
        self.revoke_again(pass);
    }

    fn revoke_again(&self, pass: u8) {
        match pass < PASSES_MAX {
            true => self.send(Input::Revoke { pass: pass + 1 }),
            false => {
                error!("what revoked keys signed did not end; starting the node anew tries again")
            }
        }
    }
}
