//! What the sources name: folders, files, serial ports, addresses.
//!
//! Options of all kinds of sources are named alike, and that is what is relied
//! on here: `files` are globs, what ends in `-file` is a file with a secret or
//! certificates, and `serial` is a serial port.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use fades_task::dial::{Address, Transport};
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
    /// Addresses.
    pub(crate) addresses: BTreeSet<Address>,
    /// A folder that is read and has the node's own files in it.
    pub(crate) own: Option<PathBuf>,
    /// Whether devices are asked over UDP.
    pub(crate) udp: bool,
    /// Whether connections are asked for, and not made.
    pub(crate) asks: bool,
}

impl Reach {
    /// What `sources` name; relative names begin at `base`, those of secrets at
    /// `credentials` first.
    pub(crate) fn of(sources: &Sources, base: &Path, credentials: Option<&Path>) -> Self {
        let mut reach = Self::default();
        // A configuration came as JSON and has that form.
        let json = serde_json::to_value(sources).unwrap_or_default();
        reach.gather("", &json, base, credentials);
        reach.note_own(base);
        reach.addresses = sources.addresses();
        let mut transports = reach.addresses.iter().map(|a| a.transport);
        reach.udp = transports.any(|t| t == Transport::Udp);
        reach
    }

    /// Notes whether the node's own folder is below one that is read.
    pub(super) fn note_own(&mut self, base: &Path) {
        let mut read = self.read.iter().filter(|p| p.is_dir());
        self.own = read.find(|p| base.starts_with(p)).cloned();
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
            _ => {}
        }
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
    use crate::config::Sources;

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
    fn addresses_are_those_that_the_sources_ask_for() {
        let text = r#"
            [source.i]
            type = "influx"
            url = "https://u.example:8086/x"
            database = "d"
            measurement = "m"
            device = "d"
            [source.h]
            type = "http"
            url = ["http://{device}.lan/now", "https://[::1]/x"]
            ask = ["One", "two"]
            kind = "t"
            value = "/v"
            device = "x"
            [source.m]
            type = "mqtt"
            url = "mqtts://hall"
            topic = "{device}/{kind}"
            [source.b]
            type = "modbus"
            url = "tcp://[fd00::7]"
            units = [{ id = 1, device = "m" }]
            registers = [{ table = "holding", address = 0, kind = "t" }]
            [source.c]
            type = "coap"
            devices-at = ["coap://[fd00::8]", "c:1"]
            path = "/{kind}"
        "#;
        let table: serde_json::Value = toml::from_str(text).unwrap();
        let sources = Sources::parse(&table["source"]).unwrap();
        let reach = Reach::of(&sources, Path::new("/"), None);
        let shown = reach.addresses.iter();
        let shown: Vec<_> = shown
            .map(|a| format!("{} {} {}", a.source, a.host, a.port))
            .collect();
        assert_eq!(
            shown,
            [
                "b fd00::7 502",
                "c c 1",
                "c fd00::8 5683",
                "h ::1 443",
                "h one.lan 80",
                "h two.lan 80",
                "i u.example 8086",
                "m hall 8883",
            ]
        );
        assert!(reach.udp);
    }

    #[test]
    fn a_serial_port_is_reached_by_its_path() {
        let json = json!({ "s": { "serial": "/dev/ttyS0" } });
        assert_eq!(reach(&json, Path::new("/")).serial.len(), 1);
    }
}
