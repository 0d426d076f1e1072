//! Gathers what a support file has, from the node and from its folder. What
//! cannot be had is named, and the rest is gathered all the same: a node that is
//! ill is why somebody asks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use fades_orc::api::types::{LIST_MAX, LogLines};
use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::redact::Redactor;
use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::bytes;
use crate::ask::target;
use crate::keys::key;
use crate::operate::{config, doctor};
use crate::problem::{Attempt, Problem};
use crate::session::Session;
use crate::settings::node_file::NodeFile;

/// Entries of the node's folder that are listed.
const ENTRIES: usize = 2_000;

/// A file of the archive.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) means: &'static str,
    pub(super) text: String,
}

/// What was gathered, and what could not be.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) node: String,
    pub(super) files: Vec<Piece>,
    pub(super) missing: Vec<String>,
}

impl Gathered {
    fn add(&mut self, name: &str, means: &'static str, text: Result<String, Problem>) {
        match text {
            Ok(text) => self.files.push(Piece {
                name: name.to_owned(),
                means,
                text,
            }),
            Err(problem) => self.missing.push(format!("{name}: {}", problem.line())),
        }
    }

    /// Takes secrets out; how many there were.
    pub(super) fn redact(&mut self, redactor: &Redactor) -> u64 {
        let texts = self.files.iter_mut().map(|file| &mut file.text);
        let mut found = 0;
        for text in texts.chain(&mut self.missing) {
            let (clean, times) = redactor.redact(text);
            *text = clean;
            found += times;
        }
        found
    }
}

/// What the running node is asked: file, path, and what it means.
const ASKED: [(&str, &str, &str); 7] = [
    ("node.json", "/v1/node", "the node about itself"),
    (
        "scheduling.json",
        "/v1/scheduling",
        "who may run what, and what waits",
    ),
    ("resources.json", "/v1/resources", "sources and devices"),
    ("functions.json", "/v1/functions", "functions that it has"),
    (
        "tasks.json",
        "/v1/tasks",
        "the newest tasks, and why some failed",
    ),
    ("log-level.json", "/v1/node/log", "how much is logged"),
    ("metrics.txt", "/metrics", "what it counts"),
];

/// Gathers everything of the node in `folder`.
pub(super) fn gather(folder: &Path, tender: Option<&Path>, session: &Session) -> Gathered {
    let mut all = Gathered {
        node: NodeFile::read(folder)
            .map_or_else(|_| "unknown".to_owned(), |f| f.node.name.to_string()),
        files: Vec::new(),
        missing: Vec::new(),
    };
    session.progress("looking at the host");
    all.add("host.txt", "system, memory, room", Ok(host(folder)));
    let findings = doctor::look(Some(folder), tender, session);
    all.add(
        "doctor.json",
        "what fades doctor says",
        Ok(render::json(&findings)),
    );
    let shown = config::shown(folder);
    all.add(
        "config.json",
        "every value, and where it comes from",
        shown.map(|s| render::json(&s)),
    );
    all.add("trust.json", "keys that are trusted", trust(folder));
    all.add(
        "folder.txt",
        "what is in the node's folder",
        Ok(listing(folder)),
    );
    let client = match target::of_folder(folder).and_then(Client::new) {
        Ok(client) => client,
        Err(problem) => {
            all.missing
                .push(format!("what a running node says: {}", problem.line()));
            return all;
        }
    };
    // One refusal says as much as seven.
    if let Err(problem) = client.node() {
        all.missing
            .push(format!("what a running node says: {}", problem.line()));
        return all;
    }
    for (name, path, means) in ASKED {
        session.progress(&format!("asking the node: {path}"));
        let path = match path {
            "/v1/tasks" => format!("{path}?limit={LIST_MAX}"),
            path => path.to_owned(),
        };
        all.add(name, means, asked(&client, &path));
    }
    session.progress("asking the node: its log");
    all.add("log.txt", "the last lines of its log", log(&client));
    all
}

/// An answer of the node, laid out for people if it is JSON.
fn asked(client: &Client, path: &str) -> Result<String, Problem> {
    let body = client
        .send(Method::GET, path, Bytes::new(), "application/json")?
        .body;
    Ok(match serde_json::from_slice::<Value>(&body) {
        Ok(value) => render::json(&value),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    })
}

fn log(client: &Client) -> Result<String, Problem> {
    let LogLines { lines, left_out } = client.get("/v1/node/log/lines")?;
    let mut text = format!("{left_out} lines before these are not kept any more\n");
    for line in lines {
        text += &line;
        text.push('\n');
    }
    Ok(text)
}

/// A trusted key, without what signs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Trusted {
    name: String,
    roles: Vec<String>,
    services: Vec<String>,
    development: bool,
    not_after: Option<String>,
}

fn trust(folder: &Path) -> Result<String, Problem> {
    let store = key::read_trust(folder)?;
    let keys = store.keys().iter().map(|key| Trusted {
        name: key.name.to_string(),
        roles: key.roles.iter().map(ToString::to_string).collect(),
        services: key.services.iter().map(ToString::to_string).collect(),
        development: key.development,
        not_after: key.not_after.map(|t| t.to_string()),
    });
    Ok(render::json(&keys.collect::<Vec<_>>()))
}

/// The host in a few lines; what it does not tell is left out.
fn host(folder: &Path) -> String {
    let system = rustix::system::uname();
    let words = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut text = format!(
        "fades {}\n{} {} {}\n",
        env!("CARGO_PKG_VERSION"),
        words(system.sysname()),
        words(system.release()),
        words(system.machine()),
    );
    for (path, keys) in [
        ("/etc/os-release", &["PRETTY_NAME="][..]),
        ("/proc/cpuinfo", &["model name", "flags"]),
        (
            "/proc/meminfo",
            &[
                "MemTotal",
                "MemAvailable",
                "Hugepagesize",
                "HugePages_Total",
            ],
        ),
        ("/proc/loadavg", &[""]),
        ("/proc/uptime", &[""]),
        ("/sys/kernel/mm/transparent_hugepage/shmem_enabled", &[""]),
    ] {
        let all = fs::read_to_string(path).unwrap_or_default();
        for key in keys {
            // One processor is as good as the others.
            if let Some(line) = all.lines().find(|line| line.starts_with(key)) {
                text += &format!("{path}: {line}\n");
            }
        }
    }
    text += &format!("processors: {}\n", all_processors());
    if let Ok(room) = rustix::fs::statvfs(folder) {
        let free = bytes(room.f_bavail * room.f_frsize);
        text += &format!("{}: {free} free\n", folder.display());
    }
    text
}

fn all_processors() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// Names, sizes, owners and modes of what is in the node's folder.
fn listing(folder: &Path) -> String {
    let (mut lines, mut left_out) = (Vec::new(), 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next).or_problem(|| next.display().to_string()) {
            Ok(entries) => entries,
            Err(problem) => {
                lines.push(problem.line());
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(meta) = entry.metadata() else { continue };
            if lines.len() >= ENTRIES {
                left_out += 1;
                continue;
            }
            lines.push(format!(
                "{:04o} {}:{} {:>12} {}",
                meta.permissions().mode() & 0o7777,
                meta.uid(),
                meta.gid(),
                meta.len(),
                path.strip_prefix(folder).unwrap_or(&path).display(),
            ));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    lines.sort_by(|a, b| a.rsplit(' ').next().cmp(&b.rsplit(' ').next()));
    format!("{}\n{left_out} more are not listed\n", lines.join("\n"))
}
