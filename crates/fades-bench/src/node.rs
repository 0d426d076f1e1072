//! A node in a folder of its own, asked over its Unix socket.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fades_task::identity::ImageRef;
use fades_task::mtw::Mtw;
use fades_trust::key::SecretKey;
use fades_trust::task::sign_task;
use serde_json::{Value, json};

use crate::bench::{Bench, output, wait_until};
use crate::fault::Fault;

pub(crate) mod connection;
pub(crate) mod load;

use connection::Connection;

/// A node that was told to end has this long to do so.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Name of every node here.
const NAME: &str = "bench";

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    folder: PathBuf,
    program: PathBuf,
    process: Child,
    key: SecretKey,
}

/// A task that was signed beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) id: String,
    pub(crate) envelope: String,
}

impl Node {
    /// Makes a node called `name` with `settings` (lines of `[node]`, then
    /// sources), starts it and waits until it takes tasks.
    pub(crate) fn start(bench: &Bench, name: &str, settings: &str) -> Result<Self, Fault> {
        let folder = bench.folder.join(name);
        let program = bench.programs.fades.clone();
        output(
            Command::new(&program)
                .arg("init")
                .arg(&folder)
                .args(["--name", NAME]),
        )?;
        let config = folder.join("node.toml");
        let text = format!("[node]\nname = \"{NAME}\"\n{settings}");
        fs::write(&config, text).map_err(Fault::file(&config, "write"))?;
        let key = folder.join("keys/development-ask.key");
        let key = fs::read_to_string(&key).map_err(Fault::file(&key, "read"))?;
        let key = SecretKey::from_text(&key).map_err(|e| Fault::Node(e.to_string()))?;
        let log = folder.join("bench.log");
        let log = fs::File::create(&log).map_err(Fault::file(&log, "make"))?;
        let process = Command::new(&program)
            .arg("node")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(Fault::system("start a node"))?;
        let mut node = Self {
            folder,
            program,
            process,
            key,
        };
        node.wait_ready()?;
        Ok(node)
    }

    fn wait_ready(&mut self) -> Result<(), Fault> {
        let said = self.process.stdout.take();
        let line = said.and_then(|out| BufReader::new(out).lines().next());
        match line {
            Some(Ok(line)) if line.starts_with("ready") => Ok(()),
            _ => Err(self.lost()),
        }
    }

    /// Why the node is of no use, in its own words.
    fn lost(&self) -> Fault {
        let log = fs::read_to_string(self.folder.join("bench.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        Fault::Node(last.into_iter().rev().collect::<Vec<_>>().join("; "))
    }

    /// Publishes an image; what tasks call it.
    pub(crate) fn publish(&self, image: &Path) -> Result<ImageRef, Fault> {
        output(self.fades("publish").arg(image))?;
        let list = output(self.fades("functions").args(["-o", "json"]))?;
        let list: Value = serde_json::from_str(&list).map_err(Fault::json("fades functions"))?;
        let name = image.file_stem().unwrap_or_default().to_string_lossy();
        let functions = list.as_array().into_iter().flatten();
        let digest = functions
            .filter(|f| f["name"] == *name)
            .find_map(|f| f["digest"].as_str());
        let text = format!("{name}@{}", digest.unwrap_or_default());
        text.parse()
            .map_err(|_| Fault::Node(format!("{name} is not among its functions: {list}")))
    }

    /// The command, asking this node.
    fn fades(&self, word: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(word).arg("--folder").arg(&self.folder);
        command
    }

    /// Signs a task for this node: `rest` has whatever parts it needs besides
    /// id, audience and function.
    pub(crate) fn sign(&self, id: &str, image: &ImageRef, rest: &Value) -> Result<Signed, Fault> {
        let mut task = json!({
            "task": {
                "id": id, "name": "bench", "service": "local", "for": [NAME],
                "expires": "2200-01-01T00:00:00Z",
            },
            "function": { "image": image },
        });
        merge(&mut task, rest);
        let mtw: Mtw = serde_json::from_value(task).map_err(Fault::json("a task"))?;
        Ok(Signed {
            id: id.to_owned(),
            envelope: sign_task(&mtw, &self.key).to_json(),
        })
    }

    /// A connection to its API.
    pub(crate) fn connect(&self) -> Result<Connection, Fault> {
        Connection::open(&self.folder.join("node.sock"))
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its own process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It has ended already, or will be killed below.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let ended = wait_until(END_WITHIN, || !matches!(self.process.try_wait(), Ok(None)));
        if !ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Puts the fields of `more` into `into`, table by table.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_merged_and_everything_else_is_replaced() {
        let mut into = json!({ "function": { "image": "hello" }, "list": [1] });
        merge(
            &mut into,
            &json!({ "function": { "limits": {} }, "list": [2], "new": 3 }),
        );
        let wanted =
            json!({ "function": { "image": "hello", "limits": {} }, "list": [2], "new": 3 });
        assert_eq!(into, wanted);
    }
}
