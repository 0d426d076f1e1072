//! Which node is meant, where it is reached, and as whom.
//!
//! In this order: `--node` or `--folder`, `$FADES_NODE`, `default-node` of the
//! user's configuration, a node's folder here. The first that is there is
//! taken; when none is, the message names all the places looked at.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use fades_task::identity::Name;
use fades_task::quantity::Duration;

use crate::cli::shared::{CertificateChoice, NodeChoice};
use crate::keys::file;
use crate::problem::{Attempt, Problem};
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
    /// TCP, with certificates of both sides.
    Https(Https),
}

/// An address with certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Https {
    /// The host, as its certificate names it.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// The CA of the node's certificate.
    pub(crate) ca: Option<PathBuf>,
    /// One's own certificate.
    pub(crate) cert: Option<PathBuf>,
    /// Its key; in the same file otherwise.
    pub(crate) cert_key: Option<PathBuf>,
}

impl Https {
    /// `HOST:PORT`, brackets around addresses of version 6.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn parse(url: &str) -> Option<Self> {
        let authority = url.strip_prefix(SCHEME)?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match (bare, host.contains(':')) {
            (Some(bare), _) => bare.parse::<Ipv6Addr>().ok()?.to_string(),
            (None, false) if is_host(host) => host.to_owned(),
            (None, _) => return None,
        };
        Some(Self {
            host,
            port: port.parse().ok().filter(|p| *p != 0)?,
            ca: None,
            cert: None,
            cert_key: None,
        })
    }
}

fn is_host(text: &str) -> bool {
    let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.chars().all(of_host)
}

/// How addresses of nodes begin.
const SCHEME: &str = "https://";

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Https(https) => write!(f, "{SCHEME}{}", https.authority()),
        }
    }
}

/// A node, and who asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name, to which tasks and requests are addressed.
    pub(crate) name: Name,
    /// The name is a guess: the node was given by its address, and has not
    /// been asked yet.
    pub(crate) unnamed: bool,
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
    let found = match (&choice.node, &session.env.node) {
        (Some(given), _) | (None, Some(given)) if given.starts_with(SCHEME) => of_url(given),
        (Some(name), _) => of_name(name, &user, session),
        (None, Some(given)) if given.contains('/') => of_folder(Path::new(given)),
        (None, Some(name)) => of_name(name, &user, session),
        (None, None) => match (&user.default_node, node_folder(None)) {
            (Some(name), _) => of_name(name.as_str(), &user, session),
            (None, Some(folder)) => of_folder(&folder),
            (None, None) => Err(nowhere(&user, session)),
        },
    };
    found.and_then(|target| with_certificates(target, &choice.tls))
}

/// The target with the certificates that were given.
fn with_certificates(mut target: Target, given: &CertificateChoice) -> Result<Target, Problem> {
    let any = given.cert.is_some() || given.ca.is_some();
    match &mut target.address {
        Address::Https(https) => {
            if given.cert.is_some() {
                // A key belongs to its certificate.
                https.cert = given.cert.clone();
                https.cert_key = given.cert_key.clone();
            }
            https.ca = given.ca.clone().or(https.ca.take());
            Ok(target)
        }
        Address::Socket(path) if any => Err(Problem::new(format!(
            "node {} is reached over its socket, {}",
            target.name,
            path.display()
        ))
        .reason("--cert and --ca are for nodes that are reached by their address")
        .remedy("leave them out, or name the node by --node https://HOST:PORT")),
        Address::Socket(_) => Ok(target),
    }
}

/// The node at an address; its name is learnt by asking it.
fn of_url(url: &str) -> Result<Target, Problem> {
    let https = Https::parse(url).ok_or_else(|| no_address("--node", url))?;
    Ok(Target {
        name: "unnamed".parse().or_problem(|| "no name".to_owned())?,
        unnamed: true,
        address: Address::Https(https),
        folder: None,
        service: default_service()?,
        expires: EXPIRES,
        ask_key: None,
        publish_key: None,
    })
}

fn no_address(field: &str, url: &str) -> Problem {
    Problem::new(format!("{field}: {url:?} is no address of a node"))
        .reason("a node is reached over its socket, or over TCP with certificates of both sides")
        .remedy("write such as https://harbour-07.example:7420")
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
    let folder = session.env.config_folder()?;
    let file = UserFile::path(&folder);
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
        unnamed: false,
        address: address(name, node, &folder)?,
        folder: None,
        service: node.service.clone().map_or_else(default_service, Ok)?,
        expires: node.expires.unwrap_or(EXPIRES),
        ask_key: key.clone(),
        publish_key: key,
    })
}

fn address(name: &Name, node: &KnownNode, folder: &Path) -> Result<Address, Problem> {
    let wrong = |url: &str| no_address(&format!("node.{name}.url"), url);
    match (&node.socket, &node.url) {
        (Some(socket), _) => Ok(Address::Socket(socket.clone())),
        (None, Some(url)) => {
            let https = Https::parse(url).ok_or_else(|| wrong(url))?;
            let beside = |file: &Option<PathBuf>| file.as_ref().map(|f| folder.join(f));
            Ok(Address::Https(Https {
                ca: beside(&node.ca),
                cert: beside(&node.cert),
                cert_key: beside(&node.cert_key),
                ..https
            }))
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
        unnamed: false,
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
    use super::{Address, Https, find};
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
        [node.b]\nurl = \"https://10.0.0.7:7420\"\nservice = \"city\"\nca = \"ca.crt\"\ncert = \"/b.crt\"\n";

    #[test]
    fn a_node_is_taken_from_the_option_then_the_environment_then_the_default() {
        let (home, mut session) = session(CONFIG);
        let named = |n: &str| NodeChoice {
            node: Some(n.to_owned()),
            ..NodeChoice::default()
        };
        let b = find(&named("b"), &session).unwrap();
        let https = Https {
            host: "10.0.0.7".to_owned(),
            port: 7420,
            ca: Some(home.path().join("fades/ca.crt")),
            cert: Some("/b.crt".into()),
            cert_key: None,
        };
        assert_eq!(b.address, Address::Https(https));
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
            ..NodeChoice::default()
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
    fn only_addresses_with_https_a_host_and_a_port_are_taken() {
        for wrong in [
            "http://127.0.0.1:7420",
            "https://example.org",
            "https://:7420",
            "https://example.org:0",
            "https://me:secret@example.org:7420",
            "https://example.org/v1:7420",
            "https://::1:7420",
        ] {
            assert_eq!(Https::parse(wrong), None, "{wrong}");
        }
        for good in ["https://example.org:7420", "https://[::1]:7420/"] {
            let https = Https::parse(good).unwrap();
            assert_eq!(
                Address::Https(https).to_string(),
                good.trim_end_matches('/')
            );
        }
        let (_home, session) = session("[node.x]\nurl = \"http://example.org:1\"\n");
        let choice = NodeChoice {
            node: Some("x".to_owned()),
            ..NodeChoice::default()
        };
        let text = find(&choice, &session).unwrap_err().text(str::to_owned);
        assert!(text.contains("node.x.url"), "{text}");
    }

    #[test]
    fn certificates_that_are_given_replace_those_of_the_configuration() {
        let (home, session) = session(CONFIG);
        let mut choice = NodeChoice {
            node: Some("b".to_owned()),
            ..NodeChoice::default()
        };
        choice.tls.cert = Some("mine.crt".into());
        let Address::Https(https) = find(&choice, &session).unwrap().address else {
            panic!("b has an address");
        };
        assert_eq!(https.cert, Some("mine.crt".into()));
        assert_eq!(https.ca, Some(home.path().join("fades/ca.crt")));
        choice.node = Some("a".to_owned());
        let text = find(&choice, &session).unwrap_err().text(str::to_owned);
        assert!(text.contains("over its socket"), "{text}");
    }
}
