use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use fades_task::quantity::Duration;
use fades_trust::joint::JointEnvelope;
use fades_trust::key::SecretKey;
use fades_trust::revocation::{Revocation, RevocationList, sign_revocations};
use fades_trust::trust::{Role, TrustedKey};
use fades_trust::update::{TrustUpdate, sign_update};
use tempfile::TempDir;

use super::{Audience, NotTrusted, TakenTrust, Trust, TrustKind, TrustProblem};
use crate::samples::{config, name, now};
use crate::store::Store;

fn root() -> SecretKey {
    SecretKey::from_seed(&[11; 32])
}

fn submitter() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn trusted(named: &str, key: &SecretKey, role: Role) -> TrustedKey {
    TrustedKey {
        name: name(named),
        public: key.public(),
        roles: vec![role],
        services: (role == Role::Submit)
            .then(|| name("city-air"))
            .into_iter()
            .collect(),
        development: false,
        not_after: None,
    }
}

fn update(version: u64, submitter: &str) -> JointEnvelope {
    let update = TrustUpdate {
        version,
        r#for: vec![name("harbour-07")],
        expires: now().after(Duration::from_secs(60)),
        threshold: NonZeroU32::MIN,
        keys: vec![
            trusted("root", &root(), Role::Administer),
            trusted(submitter, &self::submitter(), Role::Submit),
        ],
    };
    sign_update(&update, &root())
}

fn list(counter: u64) -> JointEnvelope {
    let revoked = Revocation {
        key: submitter().public().id(),
        since: now(),
        reason: "stolen".to_owned(),
    };
    let revoked = vec![revoked];
    sign_revocations(&RevocationList { counter, revoked }, &root())
}

/// A folder of a node; what it trusts is opened anew each time.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write(0, "city");
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("trust.toml")
    }

    /// The operator's table, with that version.
    fn write(&self, version: u64, submitter: &str) {
        let keys = vec![
            trusted("root", &root(), Role::Administer),
            trusted(submitter, &self::submitter(), Role::Submit),
        ];
        let mut table = fades_trust::trust::TrustStore::default();
        keys.into_iter().for_each(|key| table.add(key).unwrap());
        let text = format!("version = {version}\n{}", table.to_toml());
        std::fs::write(self.path(), text).unwrap();
    }

    fn store(&self) -> Arc<Store> {
        Arc::new(Store::open(&self.0.path().join("state")).unwrap())
    }

    fn open(&self) -> Result<Trust, TrustProblem> {
        Trust::open(&config(self.0.path()), &self.store())
    }
}

fn take(trust: &Trust, envelope: &JointEnvelope) -> Result<TakenTrust, NotTrusted> {
    let node = name("harbour-07");
    let node = Audience {
        name: &node,
        labels: &[],
    };
    trust.take(envelope.to_json().as_bytes(), node, now())
}

/// The submitter's name in the table in force.
fn known_as(trust: &Trust) -> String {
    let table = trust.table().unwrap();
    let key = table.find(submitter().public().id()).unwrap();
    key.name.to_string()
}

#[test]
fn the_file_is_parsed_once_for_each_content() {
    let folder = Folder::new();
    let trust = folder.open().unwrap();
    let first = trust.table().unwrap();
    assert!(Arc::ptr_eq(&first, &trust.table().unwrap()));
    // As long as before, and written at any time after.
    folder.write(0, "town");
    assert_eq!(known_as(&trust), "town");
    std::fs::write(folder.path(), "colour = 1").unwrap();
    let wrong = trust.table().unwrap_err().to_string();
    assert!(
        wrong.contains("colour") && wrong.contains("trust.toml"),
        "{wrong}"
    );
    std::fs::remove_file(folder.path()).unwrap();
    trust.table().unwrap_err();
}

#[test]
fn an_update_is_in_force_at_once_and_after_a_restart() {
    let folder = Folder::new();
    {
        let trust = folder.open().unwrap();
        let taken = take(&trust, &update(3, "town")).unwrap();
        assert_eq!(
            (taken.kind, taken.number, taken.fresh),
            (TrustKind::Update, 3, true)
        );
        assert_eq!(taken.id(), Some(name("trust-3")));
        assert_eq!(known_as(&trust), "town");
        let again = take(&trust, &update(3, "town")).unwrap();
        assert!(!again.fresh && again.number == 3);
    }
    let trust = folder.open().unwrap();
    assert_eq!(known_as(&trust), "town");
    let look = trust.look().unwrap();
    assert_eq!(look.update.unwrap().1, [name("root")]);
    for version in [2, 3] {
        let refused = take(&trust, &update(version, "port")).unwrap_err();
        let words = format!("version {version}, and version 3 is in force");
        assert!(refused.to_string().contains(&words), "{refused}");
    }
}

#[test]
fn revocations_hold_after_a_restart_and_against_every_table() {
    let folder = Folder::new();
    let revoked = |trust: &Trust| {
        let table = trust.table().unwrap();
        let key = table.find(submitter().public().id()).unwrap().clone();
        table.usable(&key, now()).is_err()
    };
    {
        let trust = folder.open().unwrap();
        assert!(!revoked(&trust));
        let taken = take(&trust, &list(4)).unwrap();
        assert_eq!(taken.id(), Some(name("revocations-4")));
        assert!(revoked(&trust));
        assert!(!take(&trust, &list(4)).unwrap().fresh);
    }
    let trust = folder.open().unwrap();
    assert!(revoked(&trust));
    take(&trust, &update(1, "again")).unwrap();
    assert!(revoked(&trust), "a later table does not bring it back");
    folder.write(2, "by-hand");
    assert!(revoked(&trust), "nor does the operator's file");
    let refused = take(&trust, &list(3)).unwrap_err();
    assert!(
        refused.to_string().contains("counter 3, and 4"),
        "{refused}"
    );
}

#[test]
fn the_operators_file_comes_first_with_a_greater_version_and_never_goes_back() {
    let folder = Folder::new();
    let trust = folder.open().unwrap();
    take(&trust, &update(3, "town")).unwrap();
    folder.write(3, "equal");
    assert_eq!(known_as(&trust), "town", "as great is not greater");
    folder.write(5, "by-hand");
    assert_eq!(known_as(&trust), "by-hand");
    assert!(trust.look().unwrap().update.is_none());
    for version in [0, 4] {
        folder.write(version, "older");
        let words = trust.table().unwrap_err().to_string();
        for word in ["trust.toml", "version 5", "above 5"] {
            assert!(words.contains(word), "{word}: {words}");
        }
    }
    drop(trust);
    let reason = folder.open().unwrap_err();
    assert!(
        matches!(reason, TrustProblem::WentBack { newest: 5, .. }),
        "{reason}"
    );
    folder.write(6, "newer");
    assert_eq!(known_as(&folder.open().unwrap()), "newer");
}

#[test]
fn what_was_changed_in_the_store_is_not_gone_by() {
    for envelope in [update(3, "town"), list(3)] {
        let folder = Folder::new();
        take(&folder.open().unwrap(), &envelope).unwrap();
        let store = folder.store();
        let mut record = store.trust().unwrap();
        let (kind, stored) = match record.update.take() {
            Some(update) => (TrustKind::Update, update),
            None => (TrustKind::Revocations, record.revocations.take().unwrap()),
        };
        let mut other = stored.clone();
        other.envelope = match kind {
            TrustKind::Update => sign_as(&submitter(), &update(9, "thief")),
            TrustKind::Revocations => sign_as(&submitter(), &list(9)),
        };
        store.take_trust(kind, &other).unwrap();
        drop(store);
        let reason = folder.open().unwrap_err();
        assert!(
            matches!(reason, TrustProblem::Stored { number: 3, .. }),
            "{reason}"
        );
        assert!(reason.to_string().contains("from a backup"), "{reason}");
    }
}

/// The same payload, signed by somebody else alone.
fn sign_as(key: &SecretKey, envelope: &JointEnvelope) -> String {
    use fades_trust::envelope::PayloadType;
    let kind = match envelope.payload_type() == PayloadType::Trust.as_str() {
        true => PayloadType::Trust,
        false => PayloadType::Revocations,
    };
    JointEnvelope::seal(kind, envelope.payload().to_vec(), key).to_json()
}

#[test]
fn a_restored_node_says_so_until_something_is_handed_in() {
    for envelope in [update(4, "port"), update(3, "town")] {
        let folder = Folder::new();
        take(&folder.open().unwrap(), &update(3, "town")).unwrap();
        let store = folder.store();
        store.take_over(now(), now(), false).unwrap();
        drop(store);
        let trust = folder.open().unwrap();
        assert_eq!(trust.look().unwrap().restored, Some(now()));
        // Nothing that is refused changes that.
        take(&trust, &update(2, "old")).unwrap_err();
        assert!(trust.look().unwrap().restored.is_some());
        take(&trust, &envelope).unwrap();
        assert_eq!(trust.look().unwrap().restored, None);
        drop(trust);
        assert_eq!(folder.open().unwrap().look().unwrap().restored, None);
    }
    let folder = Folder::new();
    let store = folder.store();
    store.take_over(now(), now(), true).unwrap();
    assert_eq!(
        store.trust().unwrap().restored,
        None,
        "nothing can be missing"
    );
}

#[test]
fn a_node_without_development_keys_takes_none() {
    let folder = Folder::new();
    let mut keys = TrustedKey {
        development: true,
        ..trusted("city", &submitter(), Role::Submit)
    };
    let mut table = fades_trust::trust::TrustStore::default();
    table.add(keys.clone()).unwrap();
    std::fs::write(folder.path(), table.to_toml()).unwrap();
    let mut config = config(folder.0.path());
    let usable = |config: &crate::config::NodeConfig| {
        let table = Trust::open(config, &folder.store())
            .unwrap()
            .table()
            .unwrap();
        table
            .usable(&table.keys()[0], now())
            .map_err(|e| e.to_string())
    };
    assert_eq!(usable(&config), Ok(()));
    config.development_keys = false;
    let words = usable(&config).unwrap_err();
    assert!(words.contains("fades key new"), "{words}");
    keys.development = false;
    let mut table = fades_trust::trust::TrustStore::default();
    table.add(keys).unwrap();
    std::fs::write(folder.path(), table.to_toml()).unwrap();
    assert_eq!(usable(&config), Ok(()));
}
