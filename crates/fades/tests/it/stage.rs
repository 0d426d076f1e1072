//! A folder with a node in it, and the command run there.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest that anything may take; far more than it does.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The program under test.
pub(crate) fn fades() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_fades"))
}

/// Whether images and tender are there; if not, says which test is skipped.
pub(crate) fn can_run(test: &str) -> bool {
    if images().is_none() {
        skipped(test, "FADES_IMAGES is not set, `cargo xtask test` sets it");
        return false;
    }
    let tender = fades().with_file_name("fades-tender");
    assert!(
        tender.is_file(),
        "build the workspace first: cargo build --workspace"
    );
    true
}

#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
pub(crate) fn skipped(test: &str, reason: &str) {
    println!("SKIPPED: {test}: {reason}");
}

pub(crate) fn images() -> Option<PathBuf> {
    std::env::var_os("FADES_IMAGES").map(PathBuf::from)
}

pub(crate) fn image(name: &str) -> String {
    let folder = images().expect("asked for before");
    folder.join(format!("{name}.fades")).display().to_string()
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Ended with `code`, and said all of `words` on standard error.
    #[track_caller]
    pub(crate) fn said(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {}", self.err);
        }
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"));
        self
    }
}

/// A folder of one's own: a home, and a node in it.
#[derive(Debug)]
pub(crate) struct Stage {
    home: tempfile::TempDir,
}

impl Stage {
    /// An empty home.
    pub(crate) fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home }
    }

    /// A home with a node's folder as `fades init` makes it.
    pub(crate) fn with_node() -> Self {
        let stage = Self::empty();
        stage.run(&["init", "fades-node", "--name", "here"]).good();
        stage
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home().join("fades-node")
    }

    /// Writes a file below the home.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, words: &[&str]) -> Command {
        self.command_of(fades(), words)
    }

    fn command_of(&self, program: impl AsRef<std::ffi::OsStr>, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(self.home())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command in the home; it must end by itself.
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        ended(self.command(words), words)
    }

    /// Runs a program in the home by another, which becomes it.
    pub(crate) fn run_by(&self, launcher: &[&str], program: &str, words: &[&str]) -> Ended {
        let (first, rest) = launcher.split_first().unwrap();
        let all = [rest, &[program], words].concat();
        ended(self.command_of(first, &all), words)
    }

    /// Starts the command in the home, for reading what it prints.
    pub(crate) fn begin(&self, words: &[&str]) -> Begun {
        let mut child = self.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|l| sender.send(l))
        });
        Begun { child, lines }
    }

    /// Starts the node, and returns when it takes tasks.
    pub(crate) fn node(&self) -> Node {
        self.node_with(&[]).unwrap_or_else(|said| panic!("{said}"))
    }

    /// Starts the node; the text is what it said when it ended instead.
    pub(crate) fn node_with(&self, words: &[&str]) -> Result<Node, String> {
        self.node_logged(words, &[]).map(|(node, _)| node)
    }

    /// Starts the node with more variables; also what it logs, once it has ended.
    pub(crate) fn node_logged(
        &self,
        words: &[&str],
        variables: &[(&str, &Path)],
    ) -> Result<(Node, JoinHandle<String>), String> {
        let mut command = self.command(&[&["node", "fades-node"], words].concat());
        command.envs(variables.iter().copied());
        self.started(command)
    }

    /// Starts the node by another program, which becomes it.
    pub(crate) fn node_by(&self, launcher: &[&str]) -> Node {
        let program = fades().display().to_string();
        let (first, rest) = launcher.split_first().unwrap();
        let words = [rest, &[&program, "node", "fades-node"]].concat();
        let started = self.started(self.command_of(first, &words));
        started.unwrap_or_else(|said| panic!("{said}")).0
    }

    /// A node that takes tasks, and what it logs, once it has ended; or what it said
    /// when it ended instead.
    fn started(&self, mut command: Command) -> Result<(Node, JoinHandle<String>), String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let err = reader(child.stderr.take().unwrap());
        let (sender, first) = channel();
        std::thread::spawn(move || sender.send(BufReader::new(out).lines().next()));
        match first.recv_timeout(LONG).unwrap() {
            Some(Ok(ready)) => {
                assert!(ready.starts_with("ready: node "), "{ready}");
                let child = Some(child);
                Ok((Node { child, ready }, err))
            }
            _ => {
                wait(&mut child, &["node"]);
                Err(err.join().unwrap())
            }
        }
    }

    /// What the node says of a path: the head and the body.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder().join("node.sock")).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Publishes ready-made functions.
    pub(crate) fn publish(&self, names: &[&str]) {
        for name in names {
            self.run(&["publish", &image(name)]).good();
        }
    }

    /// Submits, waits, and gives the result as JSON.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        let words = [&["submit"], words, &["--wait", "-o", "json"]].concat();
        self.run(&words).json()
    }
}

/// What a command did, which must end by itself.
#[track_caller]
fn ended(mut command: Command, words: &[&str]) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = reader(child.stdout.take().unwrap());
    let err = reader(child.stderr.take().unwrap());
    let status = wait(&mut child, words);
    Ended {
        code: status.code().unwrap_or(-1),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is what there is.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[track_caller]
fn wait(child: &mut Child, what: &[&str]) -> ExitStatus {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{what:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `done` says so.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A command that goes on; killed when dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    child: Child,
    lines: Receiver<String>,
}

impl Begun {
    /// The next line that it prints; none when it has ended.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it prints nothing"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended; its exit code.
    pub(crate) fn code(mut self) -> Option<i32> {
        wait(&mut self.child, &["a command that went on"]).code()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // It may have ended of itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Option<Child>,
    pub(crate) ready: String,
}

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Its exit code, once it has ended of itself.
    pub(crate) fn code(mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        wait(&mut child, &["node"]).code()
    }

    /// Ends it as an operator does; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        signal(child.id(), Signal::TERM);
        wait(&mut child, &["node"]).code()
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        wait(&mut child, &["node"]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended of itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Signals a process that may be gone already.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// Children of a process, with their command lines.
pub(crate) fn children(of: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let Some(pid) = path
            .file_name()
            .and_then(|n| n.to_str()?.parse::<u32>().ok())
        else {
            continue;
        };
        // A process may be gone between the listing and the reading.
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else {
            continue;
        };
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if state != Some("Z") && parent == Some(&of.to_string()) {
            let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            found.push((pid, line.replace('\0', " ")));
        }
    }
    found
}

/// Whether a process is there, as a zombie or otherwise.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|s| {
        !s.rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}
