//! The node of the demonstration, and its commands as a reader would type them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fades_orc::api::types::{NodeInfo, TaskSummary};
use fades_task::result::{TaskResult, TaskState};
use rustix::process::{Pid, Signal, kill_process};

use super::{FUNCTIONS, district, image};
use crate::ask::client::Client;
use crate::ask::target;
use crate::operate::init;
use crate::problem::{Attempt, Problem};
use crate::session::{Ink, Session};

/// A node has this long to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The set: a running node with functions and a day of readings.
pub(super) struct Stage<'a> {
    /// For what is said.
    pub(super) session: &'a Session,
    /// The node's folder.
    pub(super) folder: PathBuf,
    /// Folder of the images.
    pub(super) images: PathBuf,
    /// Bytes of readings, as files.
    pub(super) raw: u64,
    /// For what no command shows.
    pub(super) client: Client,
    program: PathBuf,
    node: Option<Child>,
}

impl<'a> Stage<'a> {
    /// Makes the folder, starts the node, publishes the functions.
    pub(super) fn set(parent: &Path, images: &Path, session: &'a Session) -> Result<Self, Problem> {
        let folder = parent.join("district-7");
        let name = "district-7"
            .parse()
            .or_problem(|| "no name for the node".to_owned())?;
        init::make(&folder, &name, false)?;
        let cannot = || format!("cannot write into {}", folder.display());
        let raw = district::write(&folder.join("district")).or_problem(cannot)?;
        let config = format!(
            "[node]\nname = \"district-7\"\nparallel = 3\n\n{}",
            district::source()
        );
        std::fs::write(folder.join("node.toml"), config).or_problem(cannot)?;
        let mut stage = Self {
            session,
            raw,
            client: Client::new(target::of_folder(&folder)?)?,
            images: images.to_owned(),
            program: std::env::current_exe()
                .or_problem(|| "cannot find this program".to_owned())?,
            node: None,
            folder,
        };
        stage.start()?;
        for name in FUNCTIONS {
            let file = image(&stage.images, name).display().to_string();
            stage.quietly(&["publish", &file])?;
        }
        Ok(stage)
    }

    fn start(&mut self) -> Result<(), Problem> {
        let cannot = || "cannot start the node".to_owned();
        let mut command = Command::new(&self.program);
        command
            .arg("node")
            .arg(&self.folder)
            .args(["--log", "error"]);
        if let Some(tender) = &self.session.env.tender {
            command.arg("--tender").arg(tender);
        }
        let mut node = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .or_problem(cannot)?;
        let out = node.stdout.take();
        self.node = Some(node);
        let (sender, ready) = channel();
        std::thread::spawn(move || {
            let first = out.and_then(|out| BufReader::new(out).lines().next());
            // The demonstration may have given up.
            let _ = sender.send(first);
        });
        match ready.recv_timeout(PATIENCE) {
            Ok(Some(Ok(line))) => self.say(&format!("{line}\n")),
            _ => Err(Problem::new(cannot()).reason("it did not say that it is ready")),
        }
    }

    /// Tells the story.
    pub(super) fn say(&self, text: &str) -> Result<(), Problem> {
        self.session.data(text)
    }

    /// A heading.
    pub(super) fn act(&self, title: &str) -> Result<(), Problem> {
        self.say(&format!("\n{}\n", self.session.ink(Ink::Strong, title)))
    }

    /// Shows a command and runs it; its exit code.
    pub(super) fn command(&self, words: &[&str]) -> Result<i32, Problem> {
        let line: Vec<String> = words.iter().map(|w| quoted(w)).collect();
        let line = format!("$ fades {}\n", line.join(" "));
        self.say(&self.session.ink(Ink::Faint, &line))?;
        let status = self.fades(words).status();
        let status = status.or_problem(|| "cannot run a command".to_owned())?;
        Ok(status.code().unwrap_or(-1))
    }

    /// Runs a command that has to succeed, without showing it.
    fn quietly(&self, words: &[&str]) -> Result<(), Problem> {
        let output = self.fades(words).output();
        let output = output.or_problem(|| "cannot run a command".to_owned())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Problem::new(format!("fades {} failed", words.join(" ")))
                .reason(String::from_utf8_lossy(&output.stderr))),
        }
    }

    fn fades(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // The node is found as one finds it from elsewhere.
        command
            .args(words)
            .env("FADES_NODE", &self.folder)
            .stdin(Stdio::null());
        command
    }

    /// The task with a name, as soon as its state is `state` or final.
    pub(super) fn until(&self, id: &str, state: TaskState) -> Result<TaskSummary, Problem> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let detail: fades_orc::api::types::TaskDetail =
                self.client.get(&format!("/v1/tasks/{id}"))?;
            let now = detail.summary.state;
            if now == state || now.is_final() || Instant::now() > deadline {
                return Ok(detail.summary);
            }
            // The API has no way to wait for a state that is not final.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The result of a task.
    pub(super) fn result(&self, id: &str) -> Result<TaskResult, Problem> {
        self.client.get(&format!("/v1/tasks/{id}/result?wait=30s"))
    }

    /// The node about itself.
    pub(super) fn info(&self) -> Result<NodeInfo, Problem> {
        self.client.get("/v1/node")
    }

    /// Ends the node.
    pub(super) fn clear(&mut self) {
        let Some(mut node) = self.node.take() else {
            return;
        };
        if let Some(pid) = i32::try_from(node.id()).ok().and_then(Pid::from_raw) {
            // It may have ended of itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(node.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = node.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// As a shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{word}'"),
    }
}
