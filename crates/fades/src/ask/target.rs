//! Which node is meant, where it is reached, and as whom.
//!
//! In this order: `--node` or `--folder`, `$FADES_NODE`, `default-node` of the
//! user's configuration, a node's folder here. The first that is there is
//! taken; when none is, the message names all the places looked at.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fades_task::identity::Name;
use fades_task::quantity::Duration;

use crate::cli::shared::NodeChoice;
use crate::keys::file;
use crate::problem::Problem;
use crate::session::Session;
use crate::settings::node_file::NodeFile;
use crate::settings::user_file::{KnownNode, UserFile};

/// Name of the folder that `fades init` makes when no other is given.
pub(crate) const DEFAULT_FOLDER: &str = "fades-node";

/// How long a task may be accepted when nothing says it.
const EXPIRES: Duration = Duration::from_secs(3600);

/// Where a node's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket.
    Socket(PathBuf),
    /// TCP on loopback.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// A node, and who asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name, to which tasks and requests are addressed.
    pub(crate) name: Name,
    /// Where it is.
    pub(crate) address: Address,
    /// Its folder, when it was found by it.
    pub(crate) folder: Option<PathBuf>,
    /// The service to ask for.
    pub(crate) service: Name,
    /// How long tasks may be accepted.
    pub(crate) expires: Duration,
    /// Secret key for tasks and requests.
    pub(crate) ask_key: Option<PathBuf>,
    /// Secret key for functions.
    pub(crate) publish_key: Option<PathBuf>,
}

/// Finds the node that is meant.
pub(crate) fn find(choice: &NodeChoice, session: &Session) -> Result<Target, Problem> {
    if let Some(folder) = &choice.folder {
        return of_folder(folder);
    }
    let user = session
        .env
        .config_folder()
        .and_then(|f| UserFile::read(&f))?;
    if let Some(name) = &choice.node {
        return of_name(name, &user, session);
    }
    if let Some(given) = &session.env.node {
        return match given.contains('/') {
            true => of_folder(Path::new(given)),
            false => of_name(given, &user, session),
        };
    }
    if let Some(name) = &user.default_node {
        return of_name(name.as_str(), &user, session);
    }
    match node_folder(None) {
        Some(folder) => of_folder(&folder),
        None => Err(nowhere(&user, session)),
    }
}

/// The folder given, or that of a node here.
pub(crate) fn node_folder(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = given {
        return Some(folder.to_owned());
    }
    let here = [Path::new("."), Path::new(DEFAULT_FOLDER)];
    let found = here.into_iter().find(|f| f.join(NodeFile::NAME).is_file());
    found.map(Path::to_owned)
}

fn nowhere(user: &UserFile, session: &Session) -> Problem {
    let file = session.env.config_folder().map(|f| UserFile::path(&f));
    let file = file.map(|f| f.display().to_string()).unwrap_or_default();
    let known: Vec<_> = user.node.keys().map(Name::as_str).collect();
    let known = if known.is_empty() {
        "no nodes".to_owned()
    } else {
        known.join(", ")
    };
    Problem::new("no node is named, and none is here")
        .reason("looked at: --node, --folder, $FADES_NODE (not given)")
        .reason(format!("{file}: no default-node; it has {known}"))
        .reason(format!(
            "./{0} and ./{DEFAULT_FOLDER}/{0}: not there",
            NodeFile::NAME
        ))
        .remedy("fades init && fades node, then ask from this folder")
}

fn of_name(name: &str, user: &UserFile, session: &Session) -> Result<Target, Problem> {
    let file = UserFile::path(&session.env.config_folder()?);
    let found = user.node.iter().find(|(n, _)| n.as_str() == name);
    let Some((name, node)) = found else {
        let known: Vec<_> = user.node.keys().map(Name::as_str).collect();
        let problem = Problem::new(format!("no node {name:?} in {}", file.display()));
        return Err(match known.as_slice() {
            [] => problem.reason("it names no nodes").remedy(format!(
                "add [node.{name}] with socket = \"/path/to/node.sock\" to it, or use --folder"
            )),
            known => problem.reason(format!("it has: {}", known.join(", "))),
        });
    };
    let key = node
        .key
        .as_deref()
        .map(|k| file::secret_path(k, session))
        .transpose()?;
    Ok(Target {
        name: name.clone(),
        address: address(name, node)?,
        folder: None,
        service: node.service.clone().map_or_else(default_service, Ok)?,
        expires: node.expires.unwrap_or(EXPIRES),
        ask_key: key.clone(),
        publish_key: key,
    })
}

fn address(name: &Name, node: &KnownNode) -> Result<Address, Problem> {
    let wrong = |url: &str| {
        Problem::new(format!("node.{name}.url: {url:?} is no address of a node"))
            .reason("a node listens on loopback only; reach another host's through a tunnel")
            .remedy("write such as url = \"http://127.0.0.1:7420\"")
    };
    match (&node.socket, &node.url) {
        (Some(socket), _) => Ok(Address::Socket(socket.clone())),
        (None, Some(url)) => {
            let rest = url.strip_prefix("http://").ok_or_else(|| wrong(url))?;
            let address = rest.trim_end_matches('/').parse::<SocketAddr>();
            address.map(Address::Tcp).map_err(|_| wrong(url))
        }
        // The file was refused if neither is there.
        (None, None) => Err(wrong("")),
    }
}

/// The service that development keys speak for.
pub(crate) fn default_service() -> Result<Name, Problem> {
    "local"
        .parse()
        .map_err(|e| Problem::new("no service").because(&e))
}

/// The node in `folder`, asked with its development keys where it has them.
pub(crate) fn of_folder(folder: &Path) -> Result<Target, Problem> {
    let file = NodeFile::read(folder)?;
    let development = |name: &str| {
        let path = folder.join("keys").join(format!("{name}.key"));
        path.is_file().then_some(path)
    };
    Ok(Target {
        address: Address::Socket(file.socket(folder)),
        name: file.node.name,
        folder: Some(folder.to_owned()),
        service: default_service()?,
        expires: EXPIRES,
        ask_key: development(DEVELOPMENT_ASK),
        publish_key: development(DEVELOPMENT_PUBLISH),
    })
}

/// Name of the development key that signs tasks and requests.
pub(crate) const DEVELOPMENT_ASK: &str = "development-ask";

/// Name of the development key that signs functions.
pub(crate) const DEVELOPMENT_PUBLISH: &str = "development-publish";

#[cfg(test)]
mod tests {
    use super::{Address, find};
    use crate::cli::shared::NodeChoice;
    use crate::session::{Environment, Session};

    fn session(config: &str) -> (tempfile::TempDir, Session) {
        let home = tempfile::tempdir().unwrap();
        let fades = home.path().join("fades");
        std::fs::create_dir(&fades).unwrap();
        std::fs::write(fades.join("config.toml"), config).unwrap();
        let env = Environment {
            config_home: Some(home.path().to_owned()),
            ..Environment::default()
        };
        (home, Session::new(env))
    }

    const CONFIG: &str = "default-node = \"a\"\n[node.a]\nsocket = \"/a.sock\"\nkey = \"me\"\n\
        [node.b]\nurl = \"http://127.0.0.1:7420\"\nservice = \"city\"\n";

    #[test]
    fn a_node_is_taken_from_the_option_then_the_environment_then_the_default() {
        let (home, mut session) = session(CONFIG);
        let named = |n: &str| NodeChoice {
            node: Some(n.to_owned()),
            folder: None,
        };
        let b = find(&named("b"), &session).unwrap();
        assert_eq!(b.address, Address::Tcp("127.0.0.1:7420".parse().unwrap()));
        assert_eq!(b.service.as_str(), "city");
        let default = find(&NodeChoice::default(), &session).unwrap();
        assert_eq!(default.name.as_str(), "a");
        assert_eq!(default.ask_key, Some(home.path().join("fades/keys/me.key")));
        session.env.node = Some("b".to_owned());
        assert_eq!(
            find(&NodeChoice::default(), &session)
                .unwrap()
                .name
                .as_str(),
            "b"
        );
    }

    #[test]
    fn an_unknown_node_is_answered_with_the_known_ones() {
        let (_home, session) = session(CONFIG);
        let choice = NodeChoice {
            node: Some("c".to_owned()),
            folder: None,
        };
        let text = find(&choice, &session).unwrap_err().text(str::to_owned);
        assert!(text.contains("it has: a, b"), "{text}");
    }

    #[test]
    fn without_any_node_every_place_looked_at_is_named() {
        let (_home, session) = session("");
        let text = find(&NodeChoice::default(), &session)
            .unwrap_err()
            .text(str::to_owned);
        for place in [
            "--node",
            "$FADES_NODE",
            "config.toml",
            "./node.toml",
            "./fades-node/node.toml",
        ] {
            assert!(text.contains(place), "{place}: {text}");
        }
    }

    #[test]
    fn a_url_that_is_not_loopback_http_is_refused() {
        let (_home, session) = session("[node.x]\nurl = \"https://example.org\"\n");
        let choice = NodeChoice {
            node: Some("x".to_owned()),
            folder: None,
        };
        let text = find(&choice, &session).unwrap_err().text(str::to_owned);
        assert!(text.contains("node.x.url"), "{text}");
    }
}
