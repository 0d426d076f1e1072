//! What the configuration names: folders, files, serial ports, addresses.
//!
//! Options of all kinds of tables are named alike, and that is what is relied
//! on here: `files` are globs, what ends in `-file` is a file with a secret or
//! certificates, and `serial` is a serial port.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use fades_task::dial::{Address, Transport};
use serde_json::Value;

use super::calls::Call;

/// A kind of process, and what all of its kind may do.
#[derive(Debug)]
pub struct Subject {
    /// What it is called, such as `broker`.
    pub process: &'static str,
    /// What names an address: one, and several of them.
    pub one: &'static str,
    /// Several of them.
    pub many: &'static str,
    /// Whose files it reads and writes, such as `a source`.
    pub owner: &'static str,
    /// What its libraries read, and why.
    pub system: &'static [(&'static str, &'static str)],
    /// The system calls that it makes.
    pub calls: &'static [Call],
}

/// What a process must reach.
#[derive(Debug, Clone)]
pub struct Reach {
    /// What kind of process it is.
    pub subject: &'static Subject,
    /// Folders and files that are read.
    pub read: BTreeSet<PathBuf>,
    /// Folders in which files are made.
    pub write: BTreeSet<PathBuf>,
    /// Serial ports.
    pub serial: BTreeSet<PathBuf>,
    /// Addresses.
    pub addresses: BTreeSet<Address>,
    /// A folder that is read and has the node's own files in it.
    pub own: Option<PathBuf>,
    /// Whether devices are asked over UDP.
    pub udp: bool,
    /// Whether connections are asked for, and not made.
    pub asks: bool,
}

impl Reach {
    /// Nothing beyond what all of the kind may do.
    #[must_use]
    pub const fn nothing(subject: &'static Subject) -> Self {
        Self {
            subject,
            read: BTreeSet::new(),
            write: BTreeSet::new(),
            serial: BTreeSet::new(),
            addresses: BTreeSet::new(),
            own: None,
            udp: false,
            asks: false,
        }
    }

    /// What `tables` name; relative names begin at `base`, those of secrets at
    /// `credentials` first.
    #[must_use]
    pub fn of(
        subject: &'static Subject,
        tables: &Value,
        addresses: BTreeSet<Address>,
        base: &Path,
        credentials: Option<&Path>,
    ) -> Self {
        let mut reach = Self::nothing(subject);
        reach.gather("", tables, base, credentials);
        reach.note_own(base);
        reach.udp = addresses.iter().any(|a| a.transport == Transport::Udp);
        reach.addresses = addresses;
        reach
    }

    /// Notes whether the node's own folder is below one that is read or written.
    pub fn note_own(&mut self, base: &Path) {
        let folders = self.read.iter().chain(&self.write);
        let mut folders = folders.filter(|p| p.is_dir());
        self.own = folders.find(|p| base.starts_with(p)).cloned();
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

    use super::{Reach, Subject};

    static NOBODY: Subject = Subject {
        process: "process",
        one: "table",
        many: "tables",
        owner: "a table",
        system: &[],
        calls: &[],
    };

    fn reach(json: &serde_json::Value, base: &Path) -> Reach {
        let mut reach = Reach::nothing(&NOBODY);
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
    fn a_serial_port_is_reached_by_its_path() {
        let json = json!({ "s": { "serial": "/dev/ttyS0" } });
        assert_eq!(reach(&json, Path::new("/")).serial.len(), 1);
    }
}
