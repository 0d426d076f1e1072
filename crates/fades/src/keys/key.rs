//! `fades key`: makes keys, lists them, and tells a node which to trust.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use fades_orc::api::types::TrustInfo;
use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use serde::Serialize;

use super::file;
use crate::ask::client::Client;
use crate::ask::render::table::{Column, Table};
use crate::ask::target;
use crate::cli::shared::Output;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Session, now};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key: a secret file for you, a public one for others
    New {
        /// Name of the key
        name: Name,
    },
    /// List your keys, and those that a node trusts
    List {
        /// A node's folder, whose trusted keys are listed as well
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Tell a node to trust a key
    Trust(TrustArgs),
}

#[derive(Debug, clap::Args)]
struct TrustArgs {
    /// A .pub file, or the public key itself
    key: String,
    /// What the key may be used for; several times for several roles
    #[arg(
        long = "role",
        required = true,
        value_name = "ROLE",
        value_parser = PossibleValuesParser::new(Role::ALL.map(|r| r.0)).map(|w| role(&w))
    )]
    roles: Vec<Role>,
    /// A service that the key speaks for, with the role submit
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<Name>,
    /// Name of the key in the node's table; that of the file otherwise
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// Trust it no longer from this time on
    #[arg(long, value_name = "TIME")]
    not_after: Option<Time>,
    /// The node's folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn role(word: &str) -> Role {
    // The parser lets no other word through.
    let named = Role::ALL.iter().find(|(known, _)| *known == word);
    named.map_or(Role::Read, |(_, role)| *role)
}

/// Carries out `fades key`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    match &args.action {
        Action::New { name } => new(name, session),
        Action::List { folder, output } => list(folder.as_deref(), output, session),
        Action::Trust(args) => trust(args, session),
    }
}

fn new(name: &Name, session: &Session) -> Result<Outcome, Problem> {
    let folder = file::user_folder(session)?;
    let public = file::create(&folder, name)?;
    session.talk(&format!(
        "made {0}/{name}.key, which is yours alone, and {0}/{name}.pub for those who shall trust it",
        folder.display()
    ));
    session.data(&format!("{public}\n"))?;
    Ok(Outcome::Done)
}

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    place: &'static str,
    name: String,
    id: String,
    public: String,
    roles: Vec<Role>,
    services: Vec<Name>,
    development: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Time>,
}

fn list(folder: Option<&Path>, output: &Output, session: &Session) -> Result<Outcome, Problem> {
    let mut listed: Vec<Listed> = file::user_keys(session)?.into_iter().map(own).collect();
    if let Some(folder) = target::node_folder(folder) {
        let store = read_trust(&folder)?;
        listed.extend(store.keys().iter().map(trusted));
    }
    if output.json() {
        session.data(&crate::ask::render::json(&listed))?;
        return Ok(Outcome::Done);
    }
    let held = in_force(folder);
    let mut table =
        Table::new(["KEY", "ID", "TRUSTED BY NODE FOR", "SERVICES", ""].map(Column::left));
    for key in &listed {
        let roles: Vec<_> = key.roles.iter().map(ToString::to_string).collect();
        let services: Vec<_> = key.services.iter().map(Name::as_str).collect();
        let mut remarks = Vec::new();
        if key.place == "yours" {
            remarks.push("yours".to_owned());
        }
        if key.development {
            remarks.push("development key: its secret lies in the node's folder".to_owned());
        }
        if let Some(until) = key.not_after {
            let word = if until <= now() { "ended" } else { "until" };
            remarks.push(format!("{word} {until}"));
        }
        remarks.extend(held.as_ref().and_then(|info| not_in_force(key, info)));
        let id = key.id.trim_start_matches("sha256:")[..12].to_owned();
        table.row([
            key.name.clone(),
            id,
            roles.join(" "),
            services.join(" "),
            remarks.join("; "),
        ]);
    }
    session.data(&table.text(session))?;
    if let Some(info) = held {
        let state = &info.state;
        if state.version > 0 || state.counter > 0 {
            session.talk(&format!("in force: {}", super::trust::in_short(state)));
        }
    }
    if listed.is_empty() {
        session.talk("no keys yet; make one with: fades key new NAME");
    }
    Ok(Outcome::Done)
}

/// Why a line of the file is not what the node goes by, if it is not.
fn not_in_force(key: &Listed, info: &TrustInfo) -> Option<String> {
    if key.place != "node" {
        return None;
    }
    if info.revoked.iter().any(|r| r.key.to_string() == key.id) {
        return Some("revoked".to_owned());
    }
    let known = info.keys.iter().any(|k| k.id.to_string() == key.id);
    (!known).then(|| "not in the table in force".to_owned())
}

fn own((name, public): (String, fades_trust::key::PublicKey)) -> Listed {
    Listed {
        place: "yours",
        name,
        id: public.id().to_string(),
        public: public.to_string(),
        roles: Vec::new(),
        services: Vec::new(),
        development: false,
        not_after: None,
    }
}

fn trusted(key: &TrustedKey) -> Listed {
    Listed {
        place: "node",
        name: key.name.to_string(),
        id: key.public.id().to_string(),
        public: key.public.to_string(),
        roles: key.roles.clone(),
        services: key.services.clone(),
        development: key.development,
        not_after: key.not_after,
    }
}

/// Name of a node's table of trusted keys.
pub(crate) const TRUST_FILE: &str = "trust.toml";

/// The keys that the node in `folder` trusts.
pub(crate) fn read_trust(folder: &Path) -> Result<TrustStore, Problem> {
    read_trust_file(&folder.join(TRUST_FILE))
}

/// The keys in a table of trusted keys.
pub(crate) fn read_trust_file(path: &Path) -> Result<TrustStore, Problem> {
    let cannot = || format!("cannot use {}", path.display());
    let text = std::fs::read_to_string(path).or_problem(cannot)?;
    TrustStore::parse(&text).or_problem(cannot)
}

fn trust(args: &TrustArgs, session: &Session) -> Result<Outcome, Problem> {
    let folder = target::node_folder(args.folder.as_deref()).ok_or_else(|| {
        Problem::new("no node's folder here")
            .reason("neither this folder nor ./fades-node has a node.toml")
            .remedy("name it with --folder FOLDER")
    })?;
    let key = TrustedKey {
        name: args.name.clone().map_or_else(|| name_of(&args.key), Ok)?,
        public: file::read_public(&args.key)?,
        roles: args.roles.clone(),
        services: args.services.clone(),
        development: false,
        not_after: args.not_after,
    };
    let (name, id) = (key.name.clone(), key.public.id());
    add(&folder, key)?;
    let folder = folder.display();
    match in_force(args.folder.as_deref()).filter(|info| !takes(info, id)) {
        None => session.talk(&format!("the node in {folder} trusts {name} from now on")),
        Some(info) => session.talk(&format!(
            "{name} is in {folder}/{TRUST_FILE}, and NOT trusted: {}",
            why_not(&info, id)
        )),
    }
    Ok(Outcome::Done)
}

/// What the node in a folder goes by, if it runs.
fn in_force(folder: Option<&Path>) -> Option<TrustInfo> {
    let folder = target::node_folder(folder)?;
    let client = target::of_folder(&folder).and_then(Client::new);
    client.and_then(|c| c.get("/v1/trust")).ok()
}

fn takes(info: &TrustInfo, id: Digest) -> bool {
    let key = info.keys.iter().find(|key| key.id == id);
    key.is_some_and(|key| key.refused.is_none())
}

fn why_not(info: &TrustInfo, id: Digest) -> String {
    let key = info.keys.iter().find(|key| key.id == id);
    match key.and_then(|key| key.refused.clone()) {
        Some(refused) => refused,
        None => format!(
            "version {0} of the table is in force, which administrators signed: have them sign \
             the next (fades trust draft), or write version = {1} at the head of {TRUST_FILE} \
             if the file shall replace it",
            info.state.version,
            info.state.version + 1
        ),
    }
}

fn name_of(key: &str) -> Result<Name, Problem> {
    let stem = Path::new(key)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    stem.parse()
        .map_err(|_| Problem::new("the key has no name").remedy("name it with --name NAME"))
}

/// Adds a key to a node's table; comments in the file stay.
pub(crate) fn add(folder: &Path, key: TrustedKey) -> Result<(), Problem> {
    let path = folder.join(TRUST_FILE);
    let cannot = || format!("cannot change {}", path.display());
    read_trust(folder)?.add(key.clone()).or_problem(cannot)?;
    let mut alone = TrustStore::default();
    alone.add(key).or_problem(cannot)?;
    let text = std::fs::read_to_string(&path).or_problem(cannot)?;
    let gap = if text.is_empty() || text.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let text = format!("{text}{gap}{}", alone.to_toml());
    replace(&path, &text).or_problem(cannot)
}

/// Replaces a file's content so that a reader sees the old or the new.
pub(crate) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use fades_trust::key::SecretKey;
    use fades_trust::trust::{Role, TrustedKey};

    use super::{TRUST_FILE, add, read_trust};

    #[test]
    fn a_key_is_added_below_what_is_there_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TRUST_FILE), "# ours\n").unwrap();
        let key = |name: &str, seed| TrustedKey {
            name: name.parse().unwrap(),
            public: SecretKey::from_seed(&[seed; 32]).public(),
            roles: vec![Role::Read],
            services: Vec::new(),
            development: false,
            not_after: None,
        };
        add(folder.path(), key("a", 1)).unwrap();
        add(folder.path(), key("b", 2)).unwrap();
        let error = add(folder.path(), key("b", 3)).unwrap_err();
        assert!(error.text(str::to_owned).contains("used twice"));
        let names: Vec<_> = read_trust(folder.path())
            .unwrap()
            .keys()
            .iter()
            .map(|k| k.name.to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
        let text = std::fs::read_to_string(folder.path().join(TRUST_FILE)).unwrap();
        assert!(text.starts_with("# ours\n"));
    }
}
