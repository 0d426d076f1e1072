//! The user's own configuration: the nodes that one talks to, and as whom.
//!
//! ```toml
//! # ~/.config/fades/config.toml
//! default-node = "harbour-07"
//!
//! [node.harbour-07]
//! socket = "/srv/harbour-07/node.sock"
//! key = "alice"                            # ~/.config/fades/keys/alice.key, or a path
//! service = "city-air"
//!
//! [node.harbour-08]
//! url = "https://harbour-08.example:7420"
//! ca = "tls/ca.crt"                        # paths from this file's folder
//! cert = "tls/alice.crt"
//! cert-key = "tls/alice.pem"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fades_task::identity::Name;
use fades_task::quantity::Duration;
use serde::Deserialize;

use super::layers::Layers;
use crate::problem::Problem;

/// What the user's configuration says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UserFile {
    /// The node that is meant when none is named.
    pub(crate) default_node: Option<Name>,
    /// Nodes by name.
    #[serde(default)]
    pub(crate) node: BTreeMap<Name, KnownNode>,
}

/// A node that the user talks to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KnownNode {
    /// Its Unix socket.
    pub(crate) socket: Option<PathBuf>,
    /// Its address, `https://HOST:PORT`.
    pub(crate) url: Option<String>,
    /// The CA of its certificate; for a `url`, as the next two.
    pub(crate) ca: Option<PathBuf>,
    /// One's own certificate.
    pub(crate) cert: Option<PathBuf>,
    /// Its secret key; in the same file otherwise.
    pub(crate) cert_key: Option<PathBuf>,
    /// The key to sign with: a name in `keys/`, or a path.
    pub(crate) key: Option<String>,
    /// The service to ask for.
    pub(crate) service: Option<Name>,
    /// How long tasks may be accepted, when they do not say.
    pub(crate) expires: Option<Duration>,
}

impl UserFile {
    /// Reads the file in the configuration's folder; nothing when there is
    /// none.
    pub(crate) fn read(config_folder: &Path) -> Result<Self, Problem> {
        let path = Self::path(config_folder);
        if !path.exists() {
            return Ok(Self::default());
        }
        let file: Self = Layers::read(&path, Path::new(""))?.parse()?;
        for (name, node) in &file.node {
            if node.socket.is_some() == node.url.is_some() {
                let what = format!(
                    "{}: node.{name} needs \"socket\" or \"url\"",
                    path.display()
                );
                return Err(Problem::new(what).reason("exactly one of the two says where it is"));
            }
            let certificates = [&node.ca, &node.cert, &node.cert_key];
            if node.socket.is_some() && certificates.iter().any(|c| c.is_some()) {
                let what = format!("{}: node.{name} has a certificate", path.display());
                return Err(
                    Problem::new(what).reason("ca, cert and cert-key are for nodes with a \"url\"")
                );
            }
        }
        Ok(file)
    }

    /// Where the file is.
    pub(crate) fn path(config_folder: &Path) -> PathBuf {
        config_folder.join("config.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::UserFile;

    #[test]
    fn the_file_may_be_absent_and_a_node_needs_one_address() {
        let folder = tempfile::tempdir().unwrap();
        assert!(UserFile::read(folder.path()).unwrap().node.is_empty());
        let write = |text| std::fs::write(UserFile::path(folder.path()), text).unwrap();
        write("default-node = \"a\"\n[node.a]\nsocket = \"/s\"\nkey = \"me\"\n");
        let file = UserFile::read(folder.path()).unwrap();
        assert_eq!(file.default_node.unwrap().as_str(), "a");
        for bad in [
            "[node.a]\n",
            "[node.a]\nsocket = \"/s\"\nurl = \"https://127.0.0.1:1\"\n",
        ] {
            write(bad);
            let error = UserFile::read(folder.path()).unwrap_err();
            assert!(error.text(str::to_owned).contains("\"socket\" or \"url\""));
        }
        write("[node.a]\nsocket = \"/s\"\nca = \"x\"\n");
        let error = UserFile::read(folder.path()).unwrap_err();
        assert!(error.text(str::to_owned).contains("with a \"url\""));
    }
}
