//! Whom the node trusts at the moment.
//!
//! ```text
//! trust.toml ─────────────┐ the greater version is in force
//! update, in the store ───┴──▶ table ──┐
//! revocations, in the store ───────────┴──▶ what every signature is held against
//! ```
//! `trust.toml` is the operator's. What administrators sign is stored before it
//! holds, and looked at again at each start; no version and no counter ever goes
//! back, not even when somebody puts an older file in its place.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use fades_trust::envelope::PayloadType;
use fades_trust::joint::JointEnvelope;
use fades_trust::refusal::Refusal;
use fades_trust::revocation::{Revocations, recall_revocations, verify_revocations};
use fades_trust::task::Audience;
use fades_trust::trust::TrustStore;
use fades_trust::update::verify_update;
use tracing::warn;

use crate::api::problem::chain;
use crate::config::NodeConfig;
use crate::store::{Store, StoreError, StoredTrust, TrustKind, TrustRecord};

/// Why whom the node trusts cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustProblem {
    /// The operator's table.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An older table than the node went by.
    #[error(
        "{path}: the table of keys has version {found}, and this node has gone by version {newest}: put the newer file back, or give this one a version above {newest} if it is meant to replace it"
    )]
    WentBack {
        /// The file.
        path: PathBuf,
        /// The greatest version at hand.
        found: u64,
        /// The version that the node has gone by.
        newest: u64,
    },
    /// What is stored is not what was taken.
    #[error(
        "what is stored of whom this node trusts cannot be used ({what} {number}): {reason}: restore the folder from a backup"
    )]
    Stored {
        /// Which.
        what: &'static str,
        /// Its version or counter.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The store.
    #[error("the store: {0}")]
    Store(String),
}

/// Why something signed is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTrusted {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The node's own trouble.
    #[error(transparent)]
    Problem(#[from] TrustProblem),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenTrust {
    /// Which.
    pub(crate) kind: TrustKind,
    /// Its version or counter.
    pub(crate) number: u64,
    /// It was not in force before.
    pub(crate) fresh: bool,
}

impl TakenTrust {
    /// A name for it, where tasks have an id.
    pub(crate) fn id(&self) -> Option<Name> {
        let word = match self.kind {
            TrustKind::Update => "trust",
            TrustKind::Revocations => "revocations",
        };
        format!("{word}-{}", self.number).parse().ok()
    }
}

/// Something in force that administrators signed.
#[derive(Debug, Clone)]
struct Held<T> {
    what: T,
    payload: Digest,
    signers: Vec<Name>,
    stored: StoredTrust,
}

#[derive(Debug)]
struct State {
    update: Option<Held<TrustStore>>,
    list: Option<Held<()>>,
    revocations: Arc<Revocations>,
    newest: u64,
    restored: Option<Time>,
    /// The file's content, and the table in force while it is that.
    known: Option<(String, Arc<TrustStore>)>,
}

/// What is in force, for those who look.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) table: Arc<TrustStore>,
    /// The envelope of the table, and who signed it, when it came as an update.
    pub(crate) update: Option<(String, Vec<Name>)>,
    /// The envelope of the list of revoked keys, and who signed it.
    pub(crate) list: Option<(String, Vec<Name>)>,
    pub(crate) restored: Option<Time>,
}

/// The operator's table, what administrators signed, and which of it is in force.
/// The file is read for each request, so that what an operator writes holds at once,
/// and parsed when it has another content than the last time: no stamp of a file
/// system is relied on.
#[derive(Debug)]
pub(crate) struct Trust {
    path: PathBuf,
    development: bool,
    store: Arc<Store>,
    state: Mutex<State>,
}

fn broken(kind: TrustKind, stored: &StoredTrust, reason: impl ToString) -> TrustProblem {
    TrustProblem::Stored {
        what: match kind {
            TrustKind::Update => "update",
            TrustKind::Revocations => "revocations",
        },
        number: stored.number,
        reason: reason.to_string(),
    }
}

/// What was stored, if it is what was taken.
fn recalled<T>(
    kind: TrustKind,
    stored: Option<StoredTrust>,
    verify: impl FnOnce(&JointEnvelope, &TrustStore, Time) -> Result<(T, Digest, Vec<Name>), Refusal>,
) -> Result<Option<Held<T>>, TrustProblem> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    let judged_by = TrustStore::parse(&stored.judged_by).map_err(|e| broken(kind, &stored, e))?;
    let envelope = JointEnvelope::parse(stored.envelope.as_bytes());
    let envelope = envelope.map_err(|e| broken(kind, &stored, e))?;
    // As of when it was taken: what has expired since had not.
    let verified = verify(&envelope, &judged_by, stored.taken);
    let (what, payload, signers) = verified.map_err(|e| broken(kind, &stored, e))?;
    Ok(Some(Held {
        what,
        payload,
        signers,
        stored,
    }))
}

impl State {
    fn of(record: TrustRecord) -> Result<Self, TrustProblem> {
        let update = recalled(TrustKind::Update, record.update, |envelope, by, at| {
            let verified = verify_update(envelope, by, None, at)?;
            let signers = verified.signers().to_vec();
            Ok((verified.table().clone(), verified.payload(), signers))
        })?;
        let list = recalled(
            TrustKind::Revocations,
            record.revocations,
            |envelope, by, at| {
                let verified = recall_revocations(envelope, by, at)?;
                let signers = verified.signers().to_vec();
                Ok((verified.revocations().clone(), verified.payload(), signers))
            },
        )?;
        let revocations = list.as_ref().map(|held| held.what.clone());
        Ok(Self {
            update,
            revocations: Arc::new(revocations.unwrap_or_default()),
            list: list.map(|held| Held {
                what: (),
                payload: held.payload,
                signers: held.signers,
                stored: held.stored,
            }),
            newest: record.newest,
            restored: record.restored,
            known: None,
        })
    }
}

impl Trust {
    /// What `config` names and `store` has.
    ///
    /// # Errors
    /// When either cannot be used.
    pub(crate) fn open(config: &NodeConfig, store: &Arc<Store>) -> Result<Self, TrustProblem> {
        let record = store.trust().map_err(|e| TrustProblem::Store(chain(&e)))?;
        let trust = Self {
            path: config.trust.clone(),
            development: config.development_keys,
            store: Arc::clone(store),
            state: Mutex::new(State::of(record)?),
        };
        trust.table()?;
        Ok(trust)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is changed in one piece, after that is stored.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every signature is held against.
    pub(crate) fn table(&self) -> Result<Arc<TrustStore>, TrustProblem> {
        let text = self.read()?;
        self.in_force(&mut self.state(), text)
    }

    /// What is revoked, whatever the table says.
    pub(crate) fn revocations(&self) -> Arc<Revocations> {
        Arc::clone(&self.state().revocations)
    }

    /// What is in force, and where it comes from.
    pub(crate) fn look(&self) -> Result<InForce, TrustProblem> {
        let text = self.read()?;
        let mut state = self.state();
        let table = self.in_force(&mut state, text)?;
        let update = state.update.as_ref();
        let update = update.filter(|held| held.what.version() == table.version());
        Ok(InForce {
            update: update.map(|u| (u.stored.envelope.clone(), u.signers.clone())),
            list: state
                .list
                .as_ref()
                .map(|l| (l.stored.envelope.clone(), l.signers.clone())),
            restored: state.restored,
            table,
        })
    }

    fn read(&self) -> Result<String, TrustProblem> {
        std::fs::read_to_string(&self.path).map_err(|e| self.unusable(e))
    }

    fn unusable(&self, reason: impl ToString) -> TrustProblem {
        TrustProblem::File {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    fn in_force(&self, state: &mut State, text: String) -> Result<Arc<TrustStore>, TrustProblem> {
        if let Some((_, table)) = state.known.as_ref().filter(|(known, _)| *known == text) {
            return Ok(Arc::clone(table));
        }
        let file = TrustStore::parse(&text).map_err(|e| self.unusable(e))?;
        let update = state.update.as_ref().map(|held| &held.what);
        let table = match update {
            Some(update) if update.version() >= file.version() => update.clone(),
            _ => file,
        };
        let (version, newest) = (table.version(), state.newest);
        if version < newest {
            return Err(TrustProblem::WentBack {
                path: self.path.clone(),
                found: version,
                newest,
            });
        }
        if version > newest {
            let noted = self.store.note_version(version);
            noted.map_err(|e| TrustProblem::Store(chain(&e)))?;
            state.newest = version;
        }
        let table = table.revoking(Arc::clone(&state.revocations));
        let table = Arc::new(match self.development {
            true => table,
            false => table.refusing_development(),
        });
        state.known = Some((text, Arc::clone(&table)));
        Ok(table)
    }

    /// Takes an update or a list of revoked keys, if this node may. It is stored when
    /// this succeeds, and holds.
    ///
    /// # Errors
    /// Why it is not taken; nothing changes then.
    pub(crate) fn take(
        &self,
        bytes: &[u8],
        node: Audience<'_>,
        now: Time,
    ) -> Result<TakenTrust, NotTrusted> {
        let envelope = JointEnvelope::parse(bytes).map_err(Refusal::from)?;
        let text = self.read()?;
        let mut state = self.state();
        let offer = Offer {
            current: self.in_force(&mut state, text)?,
            payload: envelope.payload_digest(),
            envelope,
            now,
        };
        let taken = match offer.envelope.payload_type() == PayloadType::Revocations.as_str() {
            true => self.take_list(&mut state, &offer)?,
            false => self.take_table(&mut state, &offer, node)?,
        };
        if taken.fresh {
            (state.restored, state.known) = (None, None);
            warn!(what = ?taken.kind, number = taken.number, "whom this node trusts has changed");
        } else if state.restored.is_some() {
            // Somebody knows of nothing newer.
            self.store.forget_restored()?;
            state.restored = None;
        }
        Ok(taken)
    }

    fn take_list(&self, state: &mut State, offer: &Offer) -> Result<TakenTrust, NotTrusted> {
        const KIND: TrustKind = TrustKind::Revocations;
        let same = |held: &&Held<()>| held.payload == offer.payload;
        if let Some(held) = state.list.as_ref().filter(same) {
            recall_revocations(&offer.envelope, &judges(held, KIND)?, held.stored.taken)?;
            return Ok(held.again(KIND));
        }
        let verified = verify_revocations(&offer.envelope, &offer.current, offer.now)?;
        let stored = offer.stored(verified.revocations().counter());
        self.store.take_trust(KIND, &stored)?;
        let held = Held {
            what: (),
            payload: offer.payload,
            signers: verified.signers().to_vec(),
            stored,
        };
        state.revocations = Arc::new(verified.revocations().clone());
        Ok(state.list.insert(held).fresh(KIND))
    }

    fn take_table(
        &self,
        state: &mut State,
        offer: &Offer,
        node: Audience<'_>,
    ) -> Result<TakenTrust, NotTrusted> {
        const KIND: TrustKind = TrustKind::Update;
        let same = |held: &&Held<TrustStore>| held.payload == offer.payload;
        if let Some(held) = state.update.as_ref().filter(same) {
            let by = judges(held, KIND)?;
            verify_update(&offer.envelope, &by, Some(node), held.stored.taken)?;
            return Ok(held.again(KIND));
        }
        let verified = verify_update(&offer.envelope, &offer.current, Some(node), offer.now)?;
        let stored = offer.stored(verified.table().version());
        self.store.take_trust(KIND, &stored)?;
        let held = Held {
            what: verified.table().clone(),
            payload: offer.payload,
            signers: verified.signers().to_vec(),
            stored,
        };
        state.newest = held.stored.number;
        Ok(state.update.insert(held).fresh(KIND))
    }
}

/// Something that is handed in.
struct Offer {
    envelope: JointEnvelope,
    payload: Digest,
    /// What it is judged by.
    current: Arc<TrustStore>,
    now: Time,
}

impl Offer {
    fn stored(&self, number: u64) -> StoredTrust {
        StoredTrust {
            number,
            envelope: self.envelope.to_json(),
            judged_by: self.current.to_toml(),
            taken: self.now,
        }
    }
}

impl<T> Held<T> {
    const fn fresh(&self, kind: TrustKind) -> TakenTrust {
        TakenTrust {
            kind,
            number: self.stored.number,
            fresh: true,
        }
    }

    /// The same was handed in: nothing changes.
    const fn again(&self, kind: TrustKind) -> TakenTrust {
        TakenTrust {
            kind,
            number: self.stored.number,
            fresh: false,
        }
    }
}

/// The table by which something in force was judged.
fn judges<T>(held: &Held<T>, kind: TrustKind) -> Result<TrustStore, TrustProblem> {
    let by = TrustStore::parse(&held.stored.judged_by);
    by.map_err(|e| broken(kind, &held.stored, e))
}

mod foresight;
#[cfg(test)]
mod tests;
