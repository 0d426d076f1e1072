//! A clean Debian with systemd, in namespaces of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tree::{Fault, Tree, must};

/// What debootstrap may take; without an answer of a mirror it would try for long.
const BOOTSTRAP: &str = "240";

/// What is in it besides what a Debian needs at least.
const PACKAGES: &str = "--include=systemd-sysv,procps";

/// Longest wait for systemd to have started what it starts.
const BOOT: Duration = Duration::from_secs(60);

/// A Debian that runs; everything of it ends with this value.
pub(super) struct Machine {
    init: Child,
    /// Its first process, in this host's numbers.
    pid: u32,
    /// Its files.
    pub(super) root: PathBuf,
    cgroup: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its processes die with the first one, and mounts with the last process.
        let _ = self.init.kill();
        let _ = self.init.wait();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !removed(&self.cgroup) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Takes control groups away, from the inside; whether all are gone.
fn removed(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            removed(&entry.path());
        }
    }
    let gone = fs::remove_dir(group);
    gone.is_ok() || !group.exists()
}

/// Why there is none, and what helps.
pub(super) type Reason = String;

impl Machine {
    /// Boots a copy of a clean Debian, which is made when there is none yet.
    pub(super) fn boot(tree: &Tree) -> Result<Result<Self, Reason>, Fault> {
        let Some(cgroups) = cgroups() else {
            return Ok(Err("no cgroup2 is mounted here".to_owned()));
        };
        let clean = match clean(tree)? {
            Ok(clean) => clean,
            Err(reason) => return Ok(Err(reason)),
        };
        let root = tree.target.join("dist/root");
        let _ = fs::remove_dir_all(&root);
        must(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .args([&clean, &root]),
        )?;
        let cgroup = cgroups.join(format!("fades-package-{}", std::process::id()));
        let script = tree.root.join("xtask/src/dist/smoke/boot.sh");
        let mut boot = Command::new("sh");
        boot.arg(script).args([&root, &cgroup]);
        boot.stdin(Stdio::null()).stdout(Stdio::piped());
        let failed = |e| Fault::Program("sh boot.sh".to_owned(), e);
        let mut init = boot.stderr(Stdio::piped()).spawn().map_err(failed)?;
        let mut said = String::new();
        if let Some(out) = init.stdout.take() {
            // It ends with the script when that fails.
            let _ = BufReader::new(out).read_line(&mut said);
        }
        let pid = first_child(init.id()).filter(|_| said == "up\n");
        let mut machine = Self {
            init,
            pid: pid.unwrap_or_default(),
            root,
            cgroup,
        };
        if pid.is_none() {
            let mut why = String::new();
            let _ = machine.init.kill();
            if let Some(errors) = machine.init.stderr.as_mut() {
                let _ = errors.read_to_string(&mut why);
            }
            let why = why.trim();
            return Ok(Err(format!("no namespaces can be made here ({why})")));
        }
        machine.wait()?;
        Ok(Ok(machine))
    }

    /// Until systemd has started what it starts.
    fn wait(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + BOOT;
        loop {
            let mut ask = self.inside(10, &["systemctl", "is-system-running"]);
            let said = ask.output();
            let said = said.map_err(|e| Fault::Program("systemctl".to_owned(), e))?;
            let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            // Degraded: something that needs a real machine did not start.
            if ["running", "degraded"].contains(&said.as_str()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Fault::Tried {
                    what: "starting a clean Debian".to_owned(),
                    came: format!("systemd is {said:?} after {} s", BOOT.as_secs()),
                    log: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command in it, as root, that may take so many seconds.
    pub(super) fn inside(&self, seconds: u32, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &seconds.to_string(), "nsenter"]);
        command.args(["--mount", "--pid", "--uts", "--ipc", "--cgroup"]);
        command.args(["--target", &self.pid.to_string()]);
        command.args(["--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["LC_ALL=C.UTF-8", "HOME=/root"]);
        command.arg("DEBIAN_FRONTEND=noninteractive").args(words);
        command.stdin(Stdio::null());
        command
    }
}

/// A clean Debian's files. It is kept: making it takes a while, and the network.
fn clean(tree: &Tree) -> Result<Result<PathBuf, Reason>, Fault> {
    let clean = tree.target.join("dist/debian");
    if clean.exists() {
        return Ok(Ok(clean));
    }
    println!("making a clean Debian (once)");
    let begun = tree.target.join("dist/debian.begun");
    let _ = fs::remove_dir_all(&begun);
    let log = tree.target.join("dist/debootstrap.log");
    let lines = fs::File::create(&log).map_err(|e| Fault::File(log.clone(), e))?;
    let mut make = Command::new("timeout");
    make.args(["--kill-after=10", BOOTSTRAP, "debootstrap"]);
    make.args(["--variant=minbase", PACKAGES, "stable"]);
    make.arg(&begun).stdin(Stdio::null()).stdout(lines);
    let ended = make.output();
    let ended = ended.map_err(|e| Fault::Program("debootstrap".to_owned(), e))?;
    if !ended.status.success() {
        let _ = fs::remove_dir_all(&begun);
        let said = fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().next_back().unwrap_or_default();
        return Ok(Err(format!(
            "no clean Debian could be made ({last}); see {}",
            log.display()
        )));
    }
    fs::rename(&begun, &clean).map_err(|e| Fault::File(begun, e))?;
    Ok(Ok(clean))
}

/// Where this host's control groups are.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' '));
    fields
        .filter_map(|mut fields| Some((fields.nth(1)?, fields.next()?)))
        .find_map(|(at, kind)| (kind == "cgroup2").then(|| PathBuf::from(at)))
}

fn first_child(of: u32) -> Option<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let children = fs::read_to_string(path).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
