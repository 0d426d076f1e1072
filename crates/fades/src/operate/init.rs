//! `fades init`: a node's folder, ready to run.
//!
//! ```text
//! FOLDER/node.toml                      the configuration, commented
//!        conf.d/                        more of it, on top
//!               development.toml        grants the development key everything
//!        trust.toml                     keys that the node trusts
//!        keys/development-ask.key       signs tasks and requests of this host
//!        keys/development-publish.key   signs functions; neither with --production
//!        sample/rooms.csv               a day of two rooms, to ask about
//! ```

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fades_task::identity::Name;
use fades_trust::trust::{Role, TrustedKey};

use crate::ask::target;
use crate::keys::{file, key};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;
use crate::settings::node_file::NodeFile;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to make
    #[arg(default_value = target::DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Name of the node; that of the folder otherwise
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// For a node that others rely on: no development keys, and none taken
    #[arg(long)]
    production: bool,
}

/// Carries out `fades init`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.folder)?,
    };
    make(&args.folder, &name, args.production)?;
    let folder = args.folder.display();
    session.talk(&format!("made the node {name} in {folder}"));
    session.talk(&match args.production {
        true => format!(
            "it trusts nobody yet: each makes a key (fades key new NAME), then\n\
             fades key trust NAME.pub --role submit --service SERVICE --folder {folder}"
        ),
        false => {
            "its keys are DEVELOPMENT KEYS: whoever can read the folder can ask and publish;\n\
                  before others rely on the node, replace them (fades key new, fades key trust)"
                .to_owned()
        }
    });
    session.talk(&format!(
        "\nnext:  edit {folder}/node.toml, then\n       fades config check --folder {folder}\n       fades node {folder}"
    ));
    Ok(Outcome::Done)
}

fn name_of(folder: &Path) -> Result<Name, Problem> {
    let cannot = || format!("cannot name a node after {}", folder.display());
    let stem = std::path::absolute(folder).or_problem(cannot)?;
    let stem = stem
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    stem.parse()
        .or_problem(cannot)
        .map_err(|p| p.remedy("name it with --name NAME"))
}

/// Makes the folder; refuses to touch one that is a node's already.
pub(crate) fn make(folder: &Path, name: &Name, production: bool) -> Result<(), Problem> {
    for file in [NodeFile::NAME, key::TRUST_FILE, "keys"] {
        let path = folder.join(file);
        if path.exists() {
            return Err(Problem::new(format!("{} is there already", path.display()))
                .reason("a node's folder is never replaced")
                .remedy("choose another folder, or move the old one away"));
        }
    }
    // Keys and results are nobody else's business.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .or_problem(|| format!("cannot make the folder {}", folder.display()))?;
    for sub in ["conf.d", "sample"] {
        let path = folder.join(sub);
        std::fs::create_dir_all(&path)
            .or_problem(|| format!("cannot make the folder {}", path.display()))?;
    }
    write(&folder.join("sample/rooms.csv"), &sample())?;
    write(&folder.join(key::TRUST_FILE), TRUST_HEAD)?;
    let mut text = NODE_TOML.replace("NAME", name.as_str());
    if production {
        text = text.replace("# development-keys = false", "development-keys = false  ");
    } else {
        development_key(folder, target::DEVELOPMENT_ASK, &[Role::Submit, Role::Read])?;
        development_key(folder, target::DEVELOPMENT_PUBLISH, &[Role::Publish])?;
        let service = target::default_service()?;
        write(
            &folder.join("conf.d/development.toml"),
            &DEVELOPMENT_TOML.replace("SERVICE", service.as_str()),
        )?;
    }
    // Last: a folder with this file is a node's.
    write(&folder.join(NodeFile::NAME), &text)
}

fn development_key(folder: &Path, name: &str, roles: &[Role]) -> Result<(), Problem> {
    let name: Name = name.parse().or_problem(|| "cannot name a key".to_owned())?;
    let public = file::create(&folder.join("keys"), &name)?;
    let services = match roles.contains(&Role::Submit) {
        true => vec![target::default_service()?],
        false => Vec::new(),
    };
    let trusted = TrustedKey {
        name,
        public,
        roles: roles.to_vec(),
        services,
        development: true,
        not_after: None,
    };
    key::add(folder, trusted)
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(path, text).or_problem(|| format!("cannot write {}", path.display()))
}

/// A day of two rooms, a reading each quarter of an hour: the one facing south
/// gets warm in the afternoon.
fn sample() -> String {
    let mut text = "time,room,temperature,humidity\n".to_owned();
    for quarter in 0..96_u32 {
        let (hour, minute) = (quarter / 4, quarter % 4 * 15);
        // A parabola between 08:00 and 20:00, zero outside.
        let sun = f64::from(quarter.clamp(32, 80) - 32);
        let warmth = sun * (48.0 - sun) / 576.0;
        for (room, low, gain) in [("north", 19.0, 2.5), ("south", 20.0, 8.5)] {
            let temperature = low + gain * warmth;
            let humidity = 55.0 - 12.0 * warmth;
            text += &format!(
                "2026-07-01T{hour:02}:{minute:02}:00Z,{room},{temperature:.2},{humidity:.1}\n"
            );
        }
    }
    text
}

const TRUST_HEAD: &str = "\
# Keys that this node trusts, and for what. `fades key trust` adds to this file.
# Roles: publish (sign functions), submit (sign tasks for its services),
# read (read tasks, results and resources), audit (read what was done, and the
# log; no readings), administer (sign the next table and revocations, operate).
# threshold = 2                # so many administrators sign what changes this table
";

const DEVELOPMENT_TOML: &str = r#"# The development key of this host may ask for everything. Remove this file together
# with the key, before others rely on the node; write grants for those: docs/grants.md.

[grant.development]
services = ["SERVICE"]
functions = ["*"]
history = "any"
live = true
previews = true
destinations = ["*"]
"#;

const NODE_TOML: &str = r#"# A FADES node. Files in conf.d/*.toml lie on top of this one.
# `fades config check` checks it, `fades config show` says where each value
# comes from, `fades schema node` is all that may be written here.

[node]
name = "NAME"                  # tasks address the node by this name
# labels = ["harbours"]        # ... or by one of these
# development-keys = false     # take nothing that was signed with one
# zone = "Europe/London"       # what a day is, for limits of a day
# memory = "512MiB"            # of all functions that run at one time
# batches = "1GiB"             # room for input that waits
# parallel = 2                 # tasks at one time; twice the number of cores otherwise
# listen = "0.0.0.0:7420"      # the API, besides the socket; needs [node.tls]

# [node.tls]                   # certificates of the API at `listen`: docs/api.md
# certificate-file = "tls/node.crt"
# key-file = "tls/node.key"
# client-ca-file = "tls/clients.crt"    # nobody without a certificate of it gets in

# [node.limits]                # the most that a task may ask for
# memory = "256MiB"
# time = "10m"

# [queue]                      # which of the tasks that wait is started next
# policy = "priority"          # fifo, priority, deadline, id

# [limits.default]             # what each service may use, or one: [limits.NAME]
# runs = 4                     # at one time
# rate = "60/min"              # tasks handed in
# cpu = "600s"                 # a day
# bytes = "100MiB"             # of answers, a day

# [grant.city-air]             # what is granted to whom; without a grant a task is
# services = ["city-air"]      # refused. conf.d/development.toml has one for this
# functions = ["summary"]      # host's development key: docs/grants.md
# kinds = ["pm*"]
# history = "30d"

# Where readings come from. `fades source test sample` reads the first rows.
[source.sample]
type = "csv"
files = "sample/*.csv"         # relative to this folder; .gz and .xz as well
time = { column = "time" }
device = "{room}"
location = "house/{room}"
points = [
  { column = "temperature", unit = "Cel", valid = [-40, 85] },
  { column = "humidity", unit = "%", valid = [0, 100] },
]
"#;

#[cfg(test)]
mod tests {
    use super::make;
    use crate::ask::target;
    use crate::keys::key::read_trust;
    use crate::settings::node_file::NodeFile;

    #[test]
    fn a_new_folder_is_a_valid_node_with_development_keys() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("harbour-07");
        make(&folder, &"harbour-07".parse().unwrap(), false).unwrap();
        let node = NodeFile::read(&folder).unwrap();
        assert_eq!(node.node.name.as_str(), "harbour-07");
        let keys = read_trust(&folder).unwrap();
        assert!(keys.keys().len() == 2 && keys.keys().iter().all(|k| k.development));
        let target = target::of_folder(&folder).unwrap();
        assert!(target.ask_key.is_some() && target.publish_key.is_some());
    }

    #[test]
    fn a_folder_for_production_has_no_key_and_takes_no_development_key() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("harbour-07");
        make(&folder, &"harbour-07".parse().unwrap(), true).unwrap();
        let node = NodeFile::read(&folder).unwrap();
        assert!(!node.node.development_keys);
        assert!(read_trust(&folder).unwrap().keys().is_empty());
        assert!(!folder.join("keys").exists());
    }

    #[test]
    fn a_folder_that_is_a_nodes_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &"a".parse().unwrap(), false).unwrap();
        let before = std::fs::read(folder.path().join("trust.toml")).unwrap();
        let error = make(folder.path(), &"a".parse().unwrap(), false).unwrap_err();
        assert!(error.text(str::to_owned).contains("is there already"));
        assert_eq!(
            std::fs::read(folder.path().join("trust.toml")).unwrap(),
            before
        );
    }
}
