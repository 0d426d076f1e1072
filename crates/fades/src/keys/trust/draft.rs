//! `fades trust draft` and `fades trust revoke`: what goes on from what a node has.

use std::path::{Path, PathBuf};

use fades_orc::api::types::{TrustInfo, TrustKeyInfo};
use fades_task::identity::{Digest, Name};
use fades_task::quantity::Duration;
use fades_task::time::Time;
use fades_trust::envelope::PayloadType;
use fades_trust::revocation::{Revocation, RevocationList, Revocations, sign_revocations};
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use fades_trust::update::TrustUpdate;

use super::{is_envelope, read, read_envelope, secrets, write};
use crate::ask::client::Client;
use crate::cli::shared::NodeChoice;
use crate::keys::file;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Session, now};

/// An update may be taken for so long when nothing says it.
const EXPIRES: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, clap::Args)]
pub(super) struct DraftArgs {
    /// The file to write
    file: PathBuf,
    /// For which nodes: names or labels; the node that is asked otherwise
    #[arg(long = "for", value_name = "NAME")]
    audience: Vec<Name>,
    /// For how long it may be taken
    #[arg(long, value_name = "TIME", default_value_t = EXPIRES)]
    expires: Duration,
    /// Go on from this table (an envelope or a trust.toml) instead of the node's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "folder"], requires = "audience")]
    after: Option<PathBuf>,
    #[command(flatten)]
    node: NodeChoice,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// Keys: names in the node's table, ids (sha256:...), .pub files or public keys
    #[arg(required = true)]
    keys: Vec<String>,
    /// Why, in a line; it is shown wherever the key is refused
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Since when the key's signatures are not to be believed; now otherwise
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Your key, which signs the list: a name in your configuration, or a file
    #[arg(long = "key", value_name = "KEY", required = true)]
    signers: Vec<String>,
    /// The file to write; revocations-COUNTER.dsse otherwise
    #[arg(long = "to", value_name = "FILE")]
    to: Option<PathBuf>,
    /// Go on from this list instead of the node's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "folder"])]
    after: Option<PathBuf>,
    #[command(flatten)]
    node: NodeChoice,
}

/// Nobody reads further.
const fn seconds(time: Time) -> Time {
    Time(time.0 - time.0.rem_euclid(1_000_000_000))
}

const HEAD: &str = "\
# The whole table of trusted keys, for administrators to sign. Change what is to
# change; then each of them: fades trust sign FILE --key NAME
";

pub(super) fn draft(args: &DraftArgs, session: &Session) -> Result<Outcome, Problem> {
    let path = &args.file;
    if path.exists() {
        return Err(Problem::new(format!("{} is there already", path.display()))
            .remedy("name another file, or move it away"));
    }
    let mut audience = args.audience.clone();
    let table = match &args.after {
        Some(after) => table_in(after)?,
        None => {
            let client = Client::find(&args.node, session)?;
            if audience.is_empty() {
                audience.push(client.target.name.clone());
            }
            table_of(&client.get("/v1/trust")?)?
        }
    };
    let text = text(&table, &audience, seconds(now().after(args.expires)));
    std::fs::write(path, text).or_problem(|| format!("cannot write {}", path.display()))?;
    session.talk(&format!(
        "{0}: version {1}; edit it, then: fades trust sign {0} --key NAME",
        path.display(),
        table.version() + 1
    ));
    Ok(Outcome::Done)
}

fn text(table: &TrustStore, audience: &[Name], expires: Time) -> String {
    let names: Vec<String> = audience.iter().map(|n| format!("\"{n}\"")).collect();
    let mut keys = TrustStore::default();
    for key in table.keys() {
        // They were in one table before.
        let _ = keys.add(key.clone());
    }
    format!(
        "{HEAD}version = {}\nfor = [{}]\nexpires = \"{expires}\"\nthreshold = {}\n\n{}",
        table.version() + 1,
        names.join(", "),
        table.threshold(),
        keys.to_toml()
    )
}

/// The table in a file, signed or not.
fn table_in(path: &Path) -> Result<TrustStore, Problem> {
    let cannot = || format!("cannot go on from {}", path.display());
    let bytes = read(path)?;
    if !is_envelope(&bytes) {
        let text = String::from_utf8(bytes).or_problem(cannot)?;
        return TrustStore::parse(&text).or_problem(cannot);
    }
    let envelope = read_envelope(path)?;
    let update: TrustUpdate = serde_json::from_slice(envelope.payload()).or_problem(cannot)?;
    update.table().or_problem(cannot)
}

/// The table that a node goes by.
fn table_of(info: &TrustInfo) -> Result<TrustStore, Problem> {
    let cannot = || "cannot use the node's table of keys".to_owned();
    let mut text = format!("version = {}\n", info.state.version);
    if info.state.threshold > 1 {
        text += &format!("threshold = {}\n", info.state.threshold);
    }
    let mut keys = TrustStore::default();
    for key in &info.keys {
        keys.add(trusted(key)?).or_problem(cannot)?;
    }
    TrustStore::parse(&(text + &keys.to_toml())).or_problem(cannot)
}

fn trusted(key: &TrustKeyInfo) -> Result<TrustedKey, Problem> {
    let named = |word: &String| Role::ALL.iter().find(|(known, _)| known == word);
    let roles: Option<Vec<Role>> = key.roles.iter().map(|w| named(w).map(|r| r.1)).collect();
    let roles = roles.ok_or_else(|| {
        Problem::new(format!(
            "key {} has a role that is not known here",
            key.name
        ))
        .remedy("use a `fades` of the node's version")
    })?;
    Ok(TrustedKey {
        name: key.name.clone(),
        public: file::read_public(&key.public)?,
        roles,
        services: key.services.clone(),
        development: key.development,
        not_after: key.not_after,
    })
}

pub(super) fn revoke(args: &RevokeArgs, session: &Session) -> Result<Outcome, Problem> {
    let signers = secrets(&args.signers, session)?;
    let info: Option<TrustInfo> = match &args.after {
        Some(_) => None,
        None => Some(Client::find(&args.node, session)?.get("/v1/trust")?),
    };
    let before = match (&args.after, &info) {
        (Some(path), _) => list_in(path)?,
        (None, info) => list_of(info.as_ref()),
    };
    let known = info.as_ref().map_or(&[][..], |info| &info.keys);
    let list = longer(args, &before, known, session)?;
    let [first, rest @ ..] = signers.as_slice() else {
        return Err(Problem::new("nobody signs").remedy("name your key with --key NAME"));
    };
    let mut envelope = sign_revocations(&list, first);
    rest.iter().for_each(|key| {
        envelope.sign(key);
    });
    let name = format!("revocations-{}.dsse", list.counter);
    let to = args.to.clone().unwrap_or_else(|| name.into());
    write(&to, &envelope)?;
    let to = to.display();
    session.talk(&format!(
        "{to}: revoked keys: {}, counter {}; next, for each node: fades trust update {to}",
        list.revoked.len(),
        list.counter
    ));
    tell_administrators(&list, &before, info.as_ref(), session);
    Ok(Outcome::Done)
}

/// The list that goes on from `before`.
fn longer(
    args: &RevokeArgs,
    before: &RevocationList,
    known: &[TrustKeyInfo],
    session: &Session,
) -> Result<RevocationList, Problem> {
    let mut list = before.clone();
    list.counter += 1;
    for given in &args.keys {
        let key = id_of(given, known)?;
        if list.revoked.iter().any(|r| r.key == key) {
            session.talk(&format!("{given} is revoked already"));
            continue;
        }
        list.revoked.push(Revocation {
            key,
            since: args.since.unwrap_or_else(|| seconds(now())),
            reason: args.reason.clone(),
        });
    }
    if list.revoked.len() == before.revoked.len() {
        return Err(Problem::refused("there is nothing to revoke"));
    }
    Revocations::try_from(list.clone()).or_problem(|| "cannot make the list".to_owned())?;
    Ok(list)
}

/// Keys of administrators take more signatures.
fn tell_administrators(
    list: &RevocationList,
    before: &RevocationList,
    info: Option<&TrustInfo>,
    session: &Session,
) {
    let Some(info) = info.filter(|info| info.state.threshold > 1) else {
        return;
    };
    let new = &list.revoked[before.revoked.len()..];
    let administers = |key: &&TrustKeyInfo| key.roles.iter().any(|role| role == "administer");
    let mut administrators = info.keys.iter().filter(administers);
    if administrators.any(|key| new.iter().any(|r| r.key == key.id)) {
        session.talk(&format!(
            "an administrator is among them, so {} sign it first: fades trust sign FILE --key NAME",
            info.state.threshold
        ));
    }
}

fn list_in(path: &Path) -> Result<RevocationList, Problem> {
    let cannot = || format!("cannot go on from {}", path.display());
    let envelope = read_envelope(path)?;
    if envelope.payload_type() != PayloadType::Revocations.as_str() {
        return Err(Problem::new(cannot()).reason("it is no list of revoked keys"));
    }
    serde_json::from_slice(envelope.payload()).or_problem(cannot)
}

fn list_of(info: Option<&TrustInfo>) -> RevocationList {
    let Some(info) = info else {
        return RevocationList::default();
    };
    let revoked = info.revoked.iter().map(|r| Revocation {
        key: r.key,
        since: r.since,
        reason: r.reason.clone(),
    });
    RevocationList {
        counter: info.state.counter,
        revoked: revoked.collect(),
    }
}

/// The key that is meant.
fn id_of(given: &str, known: &[TrustKeyInfo]) -> Result<Digest, Problem> {
    if let Some(key) = known.iter().find(|key| key.name.as_str() == given) {
        return Ok(key.id);
    }
    if let Ok(id) = given.parse::<Digest>() {
        return Ok(id);
    }
    if given.starts_with("fades-key-v1:") || Path::new(given).is_file() {
        return Ok(file::read_public(given)?.id());
    }
    Err(Problem::refused(format!("no key {given}"))
        .reason("it is no name in the node's table, no id, and no file")
        .remedy("fades trust show"))
}
