//! A node in a temporary folder, asked over its socket.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::tree::{Fault, Tree, must, output};

/// A running node.
pub(super) struct Bench {
    folder: PathBuf,
    program: PathBuf,
    node: Child,
}

impl Bench {
    /// Starts a node with `sources` in its configuration, and publishes
    /// `functions`.
    pub(super) fn start(tree: &Tree, sources: &str, functions: &[&str]) -> Result<Self, Fault> {
        let folder = tree.target.join("measure/node");
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| Fault::File(folder.clone(), e))?;
        }
        let program = tree.binary("release", "fades");
        must(
            Command::new(&program)
                .arg("init")
                .arg(&folder)
                .args(["--name", "bench"])
                .stderr(Stdio::null()),
        )?;
        let config = format!("[node]\nname = \"bench\"\nmemory = \"1GiB\"\n\n{sources}");
        let path = folder.join("node.toml");
        fs::write(&path, config).map_err(|e| Fault::File(path, e))?;
        let mut node = Command::new(&program)
            .arg("node")
            .arg(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Fault::Program("fades node".to_owned(), e))?;
        let ready = node
            .stdout
            .take()
            .and_then(|out| BufReader::new(out).lines().next());
        println!("{}", ready.and_then(Result::ok).unwrap_or_default());
        let bench = Self {
            folder,
            program,
            node,
        };
        for name in functions {
            let image = tree.images().join(format!("{name}.fades"));
            output(bench.fades(&["publish"]).arg(image).stderr(Stdio::null()))?;
        }
        Ok(bench)
    }

    /// Folder of the node.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The command, asking this node.
    pub(super) fn fades(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--folder").arg(&self.folder);
        command
    }

    /// Submits and waits; the result.
    pub(super) fn ask(&self, words: &[&str]) -> Result<Value, Fault> {
        let mut submit = self.fades(&["submit"]);
        submit.args(words).args(["--wait", "-o", "json"]);
        parsed(&output(&mut submit)?)
    }

    /// One request over the socket, with nothing of `fades` in between.
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> Result<Value, Fault> {
        let socket = self.folder.join("node.sock");
        let lost = |e| Fault::File(socket.clone(), e);
        let mut stream = UnixStream::connect(&socket).map_err(lost)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(lost)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(lost)?;
        parsed(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body))
    }

    /// Proportional set size of the node and its children, bytes, each with its
    /// command.
    pub(super) fn memory(&self) -> Vec<(String, u64)> {
        let id = self.node.id();
        let of = |pid: u32| (name(pid), proportional(pid));
        std::iter::once(id).chain(children(id)).map(of).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let id = self.node.id().to_string();
        // When it cannot be told, it is killed.
        let told = Command::new("kill").arg(id).status();
        if !told.is_ok_and(|s| s.success()) {
            let _ = self.node.kill();
        }
        let _ = self.node.wait();
    }
}

fn parsed(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|e| Fault::Output(format!("{e}: {text}")))
}

fn children(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task");
    let tasks = fs::read_dir(path).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    let pids = lists.flat_map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    pids.filter_map(|p| p.parse().ok()).collect()
}

fn name(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split('\0');
    let program = words
        .next()
        .unwrap_or_default()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    format!("{program} {}", words.next().unwrap_or_default())
}

fn proportional(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
