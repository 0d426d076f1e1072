//! What the sources name: folders, files, serial ports, TCP ports.
//!
//! Options of all kinds of sources are named alike, and that is what is relied
//! on here: `files` are globs, what ends in `-file` is a file with a secret or
//! certificates, `serial` is a serial port, and an address is a text with `://`.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::config::Sources;

/// What a broker must reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Folders and files that are read.
    pub(crate) read: BTreeSet<PathBuf>,
    /// Folders in which files are made.
    pub(crate) write: BTreeSet<PathBuf>,
    /// Serial ports.
    pub(crate) serial: BTreeSet<PathBuf>,
    /// TCP ports.
    pub(crate) ports: BTreeSet<u16>,
    /// Addresses whose port cannot be told.
    pub(crate) unknown: BTreeSet<String>,
    /// Whether devices are asked over UDP.
    pub(crate) udp: bool,
    /// Whether any host is reached, so that names may have to be resolved.
    pub(crate) network: bool,
}

impl Reach {
    /// What `sources` name; relative names begin at `base`, those of secrets at
    /// `credentials` first.
    pub(crate) fn of(sources: &Sources, base: &Path, credentials: Option<&Path>) -> Self {
        let mut reach = Self::default();
        // A configuration came as JSON and has that form.
        let json = serde_json::to_value(sources).unwrap_or_default();
        reach.gather("", &json, base, credentials);
        reach.network = reach.udp || !reach.ports.is_empty() || !reach.unknown.is_empty();
        reach
    }

    fn gather(&mut self, key: &str, value: &Value, base: &Path, credentials: Option<&Path>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.gather(key, value, base, credentials);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.gather(key, item, base, credentials);
                }
            }
            Value::String(text) if key == "files" => {
                self.read.insert(folder(&base.join(text)));
            }
            Value::String(text) if key == "serial" => {
                self.serial.insert(PathBuf::from(text));
            }
            Value::String(text) if key.ends_with("-file") => {
                for start in credentials.into_iter().chain([base]) {
                    self.read.extend(secret(&start.join(text), base));
                }
            }
            Value::String(text) if key == "url" || text.contains("://") => self.address(text),
            _ => {}
        }
    }

    fn address(&mut self, text: &str) {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let usual = match scheme {
            "coap" | "coaps" => {
                self.udp = true;
                return;
            }
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            "mqtt" | "tcp+mqtt" => Some(1883),
            "mqtts" | "ssl" => Some(8883),
            "tcp" => Some(502),
            _ => None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let after = host.rsplit(']').next().unwrap_or_default();
        let port = match after.rsplit_once(':') {
            Some((_, port)) => port.parse().ok(),
            None => usual,
        };
        match port {
            Some(port) => self.ports.insert(port),
            // Without what may be a secret.
            None => self.unknown.insert(host.to_owned()),
        };
    }
}

/// The folder below which everything is that a glob can match, as far as it
/// exists.
fn folder(glob: &Path) -> PathBuf {
    let is_plain = |c: &Component<'_>| {
        let name = c.as_os_str().to_string_lossy();
        !name.contains(['*', '?', '[', '{'])
    };
    let plain: PathBuf = glob.components().take_while(is_plain).collect();
    let plain = if plain == glob {
        plain.parent().map(Path::to_path_buf).unwrap_or(plain)
    } else {
        plain
    };
    let exists = plain.ancestors().find(|p| p.is_dir());
    exists.unwrap_or(Path::new("/")).to_path_buf()
}

/// What must be readable for a secret: its folder, so that it can be replaced by
/// another file of its name; or the file alone when its folder has more than
/// secrets in it.
fn secret(file: &Path, base: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    if base.starts_with(folder) {
        return file.exists().then(|| file.to_path_buf());
    }
    folder.is_dir().then(|| folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::Reach;

    fn reach(json: &serde_json::Value, base: &Path) -> Reach {
        let mut reach = Reach::default();
        reach.gather("", json, base, None);
        reach
    }

    #[test]
    fn globs_mean_the_folder_in_which_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("data/a")).unwrap();
        fs::write(base.join("data/one.csv"), "").unwrap();
        let read = |glob: &str| -> Vec<PathBuf> {
            let reach = reach(&json!({ "s": { "files": [glob] } }), base);
            reach.read.into_iter().collect()
        };
        assert_eq!(read("data/*.csv"), [base.join("data")]);
        assert_eq!(read("data/a/**/x.csv"), [base.join("data/a")]);
        assert_eq!(read("data/one.csv"), [base.join("data")]);
        assert_eq!(read("data/not-there/*.csv"), [base.join("data")]);
        assert_eq!(read("*.csv"), [base]);
    }

    #[test]
    fn a_secret_beside_the_nodes_own_files_is_read_alone() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir(base.join("secrets")).unwrap();
        fs::write(base.join("password"), "x").unwrap();
        let read = |file: &str| -> Vec<PathBuf> {
            let json = json!({ "s": { "auth": { "password-file": file } } });
            reach(&json, base).read.into_iter().collect()
        };
        assert_eq!(read("password"), [base.join("password")]);
        assert_eq!(read("secrets/password"), [base.join("secrets")]);
        assert!(read("none").is_empty());
    }

    #[test]
    fn addresses_mean_ports() {
        let ports = |urls: &[&str]| {
            let reach = reach(&json!({ "url": urls }), Path::new("/"));
            (
                reach.ports.into_iter().collect::<Vec<_>>(),
                reach.unknown.len(),
                reach.udp,
            )
        };
        let urls = [
            "tcp://a",
            "mqtts://h:88",
            "https://u:1@[::1]/x:7",
            "http://h/{device}",
        ];
        assert_eq!(ports(&urls), (vec![80, 88, 443, 502], 0, false));
        assert_eq!(ports(&["http://h:{port}/", "what://x"]), (vec![], 2, false));
        assert_eq!(ports(&["host"]), (vec![], 1, false));
        assert_eq!(ports(&["coap://h"]), (vec![], 0, true));
        let serial = reach(&json!({ "serial": "/dev/ttyS0" }), Path::new("/")).serial;
        assert_eq!(serial.len(), 1);
    }
}
