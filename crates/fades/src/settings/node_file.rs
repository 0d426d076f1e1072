//! `node.toml`: what an operator writes.
//!
//! The file and the `.toml` files in `conf.d/` beside it, on top of each
//! other. What the sources say is the broker's matter: its types are used here
//! for checking and for the schema, and go to it as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fades_courier::config::Places;
use fades_drb::config::Sources;
use fades_orc::config::Listen;
use fades_orc::tls::TlsFiles;
use fades_outside::connection::SecretFile;
use fades_outside::secret::Secrets;
use fades_task::allowance::Allowances;
use fades_task::grant;
use fades_task::identity::Name;
use fades_task::limits::Limits;
use fades_task::policy::Order;
use fades_task::quantity::{Duration, Size};
use fades_task::time::Zone;
use fades_trust::grant::{GrantError, Grants};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use crate::problem::Problem;

/// A node's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct NodeFile {
    /// The node itself.
    pub(crate) node: NodePart,
    /// Which of the tasks that wait is started next.
    #[schemars(default)]
    pub(crate) queue: Order,
    /// What each service may use, by its name; `default` is for those without
    /// a line of their own.
    #[schemars(default)]
    pub(crate) limits: Allowances,
    /// What each service may ask for, by the names of the grants; without one,
    /// nothing.
    #[schemars(default)]
    pub(crate) grant: grant::Grants,
    /// Where readings come from, by name.
    pub(crate) source: Sources,
    /// Inboxes and destinations, by name.
    #[serde(flatten)]
    pub(crate) places: Places,
}

/// The file before the broker's part has looked at its sources.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    node: NodePart,
    #[serde(default)]
    queue: Order,
    #[serde(default)]
    limits: Allowances,
    #[serde(default)]
    grant: grant::Grants,
    #[serde(default)]
    source: serde_json::Map<String, serde_json::Value>,
    inbox: Option<serde_json::Value>,
    destination: Option<serde_json::Value>,
}

/// The `node` part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct NodePart {
    /// The name by which tasks address the node.
    pub(crate) name: Name,
    /// Further names that it answers to, such as one for all nodes of a kind.
    #[serde(default)]
    pub(crate) labels: Vec<Name>,
    /// Take what is signed with development keys, which lie in the node's folder. A
    /// node that others rely on says false.
    #[serde(default = "development_keys")]
    pub(crate) development_keys: bool,
    /// What a day is where `limits` say how much a service may use in one.
    #[serde(default)]
    pub(crate) zone: Zone,
    /// Memory of all functions that run at one time.
    #[serde(default = "memory")]
    pub(crate) memory: Size,
    /// Room for input that waits in batch files.
    #[serde(default = "batches")]
    pub(crate) batches: Size,
    /// Length at which a batch ends and the next begins; less where `batches`
    /// would not have room for two of each run.
    #[serde(default = "chunk")]
    pub(crate) chunk: Size,
    /// Room for answers that wait for their destinations; beyond it the oldest are
    /// lost, and counted.
    #[serde(default = "outbox")]
    pub(crate) outbox: Size,
    /// For how long what runs may go on when the node is told to end; then it is
    /// queued, and runs again at the next start. 1h at most.
    #[serde(default = "drain")]
    pub(crate) drain: Duration,
    /// Tasks that run at one time; twice the number of cores when not given.
    #[serde(default = "parallel")]
    #[schemars(transform = without_default)]
    pub(crate) parallel: u32,
    /// The Unix socket of the API, in the node's folder unless absolute.
    #[serde(default = "socket")]
    pub(crate) socket: PathBuf,
    /// An address of this host on which the API listens as well, such as
    /// "0.0.0.0:7420"; with TLS only, so `tls` belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<ListenAddress>,
    /// Certificates of the API at `listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsPart>,
    /// The most that a task may ask for.
    #[serde(default = "caps")]
    pub(crate) limits: Limits,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) struct ListenAddress(pub(crate) SocketAddr);

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("{text:?} is no address: write such as \"0.0.0.0:7420\" or \"[::1]:7420\"")
        })
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.0.to_string()
    }
}

/// Files in PEM form, in the node's folder unless absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TlsPart {
    /// The node's certificate, followed by those between it and its CA.
    pub(crate) certificate_file: PathBuf,
    /// Its secret key, which only its owner can read; also the name of one of
    /// systemd's credentials.
    pub(crate) key_file: SecretFile,
    /// The CAs of clients: nobody without a certificate of one gets in.
    pub(crate) client_ca_file: PathBuf,
    /// A list of clients' certificates that their CA has revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_file: Option<PathBuf>,
}

const fn development_keys() -> bool {
    true
}

const fn memory() -> Size {
    Size(512 << 20)
}

const fn batches() -> Size {
    Size(1 << 30)
}

const fn outbox() -> Size {
    Size(256 << 20)
}

const fn drain() -> Duration {
    Duration::from_secs(10)
}

const fn chunk() -> Size {
    Size(64 << 20)
}

/// A schema is the same on every host.
fn without_default(schema: &mut schemars::Schema) {
    schema.remove("default");
}

/// Twice the number of cores: part of its time, a run waits for its data or for
/// other processes of the node.
fn parallel() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| 2 * n.get() as u32)
}

fn socket() -> PathBuf {
    PathBuf::from("node.sock")
}

const fn caps() -> Limits {
    Limits::MAX
}

impl NodeFile {
    /// Name of the file in a node's folder.
    pub(crate) const NAME: &str = "node.toml";

    /// The layers of the node in `folder`.
    pub(crate) fn layers(folder: &Path) -> Result<Layers, Problem> {
        let path = folder.join(Self::NAME);
        if !path.is_file() {
            return Err(Problem::new(format!("{} is not there", path.display()))
                .remedy(format!("fades init {}", folder.display())));
        }
        Layers::read(&path, &folder.join("conf.d"))
    }

    /// Reads and checks the configuration of the node in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, Problem> {
        Self::parse(&Self::layers(folder)?)
    }

    /// Checks the configuration that `layers` hold.
    pub(crate) fn parse(layers: &Layers) -> Result<Self, Problem> {
        let Unchecked {
            node,
            queue,
            limits,
            grant,
            source,
            inbox,
            destination,
        } = layers.parse()?;
        node.check()?;
        node.check_listen().map_err(|e| layers.field_problem(e))?;
        limits.check().map_err(|e| layers.field_problem(&e))?;
        let source =
            Sources::parse(&source.into()).map_err(|e| layers.field_problem(&e.to_string()))?;
        let places = Places::parse(inbox.as_ref(), destination.as_ref())
            .map_err(|e| layers.field_problem(&e.to_string()))?;
        let file = Self {
            node,
            queue,
            limits,
            grant,
            source,
            places,
        };
        file.grants()
            .map_err(|e| layers.field_problem(&e.to_string()))?;
        Ok(file)
    }

    /// Its grants, ready to decide.
    pub(crate) fn grants(&self) -> Result<Grants, GrantError> {
        let sources: Vec<Name> = self.source.0.keys().cloned().collect();
        Grants::compile(&self.grant, &sources)
    }

    /// Dotted paths of the values that are others in `new`.
    pub(crate) fn differing(&self, new: &Self) -> Vec<String> {
        let (old, new) = (self.values(), new.values());
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let differ = |path: &&String| old.get(*path) != new.get(*path);
        paths.into_iter().filter(differ).cloned().collect()
    }

    fn values(&self) -> BTreeMap<String, serde_json::Value> {
        let mut values = BTreeMap::new();
        // Tables of texts, numbers and truth values always have a JSON form.
        let all = serde_json::to_value(self).unwrap_or_default();
        leaves("", &all, &mut |path, value| {
            drop(values.insert(path, value.clone()))
        });
        values
    }

    /// Where the API listens over TCP, of the node in `folder`.
    pub(crate) fn listen(&self, folder: &Path, credentials: Option<&Path>) -> Option<Listen> {
        let (address, tls) = (self.node.listen?, self.node.tls.as_ref()?);
        Some(Listen {
            address: address.0,
            tls: TlsFiles {
                certificate: folder.join(&tls.certificate_file),
                key: Secrets::new(folder, credentials).path(&tls.key_file),
                clients: folder.join(&tls.client_ca_file),
                revoked: tls.revoked_file.as_ref().map(|f| folder.join(f)),
            },
        })
    }

    /// Path of the API's socket.
    pub(crate) fn socket(&self, folder: &Path) -> PathBuf {
        folder.join(&self.node.socket)
    }
}

/// Whoever waits for longer wants something else.
const DRAIN_MAX: Duration = Duration::from_secs(3_600);

/// Less would not have room for one answer, bytes.
const OUTBOX_MIN: u64 = 1 << 20;
/// Values that are no tables, by dotted path.
pub(crate) fn leaves(
    path: &str,
    value: &serde_json::Value,
    take: &mut impl FnMut(String, &serde_json::Value),
) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(&path, value, take);
            }
        }
        _ => take(path.to_owned(), value),
    }
}

/// A batch is whole pages of this size, bytes.
const CHUNK_MIN: u64 = 2 << 20;

impl NodePart {
    /// Whether address and certificates are both there, or neither.
    const fn check_listen(&self) -> Result<(), &'static str> {
        match (&self.listen, &self.tls) {
            (Some(_), None) => Err(
                "node.listen: it needs node.tls, for over TCP the API is served with certificates of both sides only: write [node.tls] with certificate-file, key-file and client-ca-file (docs/api.md)",
            ),
            (None, Some(_)) => Err(
                "node.tls: it is of no use without node.listen: write such as listen = \"0.0.0.0:7420\" below [node], or leave node.tls out",
            ),
            _ => Ok(()),
        }
    }

    /// The chunk with which every run at a time can have one batch being filled
    /// while its function works on another, so that functions which never give
    /// a batch back cannot keep the others from theirs.
    pub(crate) fn chunk_of_a_run(&self) -> Size {
        let share = self.batches.0 / (2 * u64::from(self.parallel));
        let whole = share.min(self.chunk.0) / CHUNK_MIN * CHUNK_MIN;
        Size(whole.max(CHUNK_MIN))
    }

    /// What the types cannot say.
    fn check(&self) -> Result<(), Problem> {
        if self.parallel == 0 {
            return Err(Problem::new("node.parallel is 0: no task could ever run")
                .remedy("write 1 or more, or leave it out"));
        }
        if self.drain > DRAIN_MAX {
            return Err(Problem::new(format!(
                "node.drain is {}: it is at most {DRAIN_MAX}",
                self.drain
            )));
        }
        if self.outbox.0 < OUTBOX_MIN {
            return Err(Problem::new(format!(
                "node.outbox is {}: it has at least 1MiB",
                self.outbox
            )));
        }
        if self.chunk.0 < CHUNK_MIN {
            return Err(Problem::new(format!(
                "node.chunk is {}: a batch has at least 2MiB",
                self.chunk
            )));
        }
        // One chunk being filled while the function works on another.
        if self.batches.0 < 2 * self.chunk.0 {
            return Err(Problem::new(format!(
                "node.batches ({}) is less than two chunks ({} each)",
                self.batches, self.chunk
            ))
            .remedy("enlarge node.batches or make node.chunk smaller"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::NodeFile;
    use crate::settings::layers::Layers;

    fn parsed(text: &str) -> Result<NodeFile, String> {
        let mut layers = Layers::default();
        layers.push(Path::new("node.toml"), text);
        NodeFile::parse(&layers).map_err(|p| p.text(str::to_owned))
    }

    #[test]
    fn a_name_is_all_that_a_node_needs() {
        let file = parsed("[node]\nname = \"harbour-07\"\n").unwrap();
        assert_eq!(file.node.memory.to_string(), "512MiB");
        assert!(file.node.parallel >= 1);
        assert_eq!(
            file.socket(Path::new("/srv/n")),
            Path::new("/srv/n/node.sock")
        );
    }

    #[test]
    fn runs_share_the_room_for_batches_so_that_each_has_two() {
        let chunk = |lines: &str| {
            let file = parsed(&format!("[node]\nname = \"n\"\n{lines}\n")).unwrap();
            file.node.chunk_of_a_run().to_string()
        };
        assert_eq!(chunk("parallel = 2"), "64MiB");
        assert_eq!(chunk("parallel = 16"), "32MiB");
        assert_eq!(chunk("parallel = 100"), "4MiB");
        assert_eq!(chunk("parallel = 10000"), "2MiB");
    }

    #[test]
    fn two_files_differ_by_the_values_and_not_by_how_they_are_written() {
        let head = "[node]\nname = \"a\"\nparallel = 2\n";
        let old = parsed(&format!(
            "{head}memory = \"1GiB\"\n[limits.air]\nruns = 2\n"
        ));
        let new = parsed(&format!(
            "limits = {{ air = {{ cpu = \"1m\" }} }}\n{head}memory = \"1024MiB\"\nzone = \"Europe/London\"\n[queue]\npolicy = \"id\"\n"
        ));
        let (old, new) = (old.unwrap(), new.unwrap());
        let fields = [
            "limits.air.cpu",
            "limits.air.runs",
            "node.zone",
            "queue.policy",
        ];
        assert_eq!(old.differing(&new), fields);
        assert_eq!(new.differing(&old), fields);
        assert_eq!(old.differing(&old), [""; 0]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        for (line, named) in [
            ("memory = \"512\"", "MiB"),
            ("memory = 512", "invalid type"),
            (
                "listen = \"127.0.0.1:80\"",
                "node.toml:3: node.listen: it needs node.tls",
            ),
            ("listen = \"localhost\"", "no address"),
            (
                "tls = { key-file = \"k\" }",
                "missing field `certificate-file`",
            ),
            (
                "tls = { certificate-file = \"c\", key-file = \"k\", client-ca-file = \"a\" }",
                "without node.listen",
            ),
            ("parallel = 0", "no task could ever run"),
            ("zone = \"Mars\"", "Europe/London"),
            ("chunk = \"1MiB\"", "2MiB"),
            ("batches = \"100MiB\"", "two chunks"),
            ("outbox = \"1KiB\"", "1MiB"),
            ("[inbox.post]", "neither url nor folder"),
            ("[destination.city]\nurl = 7", "destination.city.url"),
            ("memroy = \"1MiB\"", "did you mean `memory`"),
            ("[limits.air]\nruns = 0", "nonzero"),
            ("[limits.air]\nrate = \"60\"", "60/min"),
            ("[limits.air]\ncpu = \"0s\"", "node.toml:4: limits.air.cpu"),
            ("[limits.air]\nbyte = \"1MiB\"", "did you mean `bytes`"),
            ("[grant.a]\nservice = [\"s\"]", "did you mean `services`"),
            (
                "[grant.a]\nservices = [\"s\"]\nfunctions = [\"*\"]\nkinds = [\"a[b\"]",
                "node.toml:6: grant.a.kinds: \"a[b\" is no glob",
            ),
            (
                "[grant.a]\nservices = [\"s\"]\nfunctions = [\"*\"]\nhistory = \"all\"",
                "no depth of time",
            ),
            ("[queue]\npolicy = \"prioritty\"", "did you mean `priority`"),
            ("[queue]\nageing = \"soon\"", "no duration"),
            ("[queue]\nagein = \"1m\"", "did you mean `ageing`"),
        ] {
            let error = parsed(&format!("[node]\nname = \"a\"\n{line}\n")).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
