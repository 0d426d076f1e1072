//! Tries the package as an operator would: in a clean Debian, where systemd starts the
//! node by the unit's own command line.
//!
//! Each step has its time, and says the end of the node's log when it comes to nothing.

mod machine;
mod unit;

use std::fs;
use std::path::Path;
use std::process::Command;

use machine::Machine;
use serde_json::Value;

use crate::system;
use crate::tree::{Fault, Tree, output};

/// The unit, as it is installed.
const UNIT: &str = "usr/lib/systemd/system/fades.service";

/// The node's folder.
const STATE: &str = "/var/lib/fades";

/// A function of the package.
const FUNCTION: &str = "/usr/lib/fades/functions/summary.fades";

/// Installs `deb` and tries it; returns what could not be tried.
pub(super) fn run(tree: &Tree, deb: &Path) -> Result<Vec<String>, Fault> {
    let skipped = |why: String| Ok(vec![format!("package, installed: {why}")]);
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return skipped("only root can boot a Debian of its own; run it as root".to_owned());
    }
    for (program, package) in [
        ("debootstrap", "debootstrap"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("timeout", "coreutils"),
    ] {
        if !system::exists(program) {
            return skipped(format!("no {program}; apt-get install {package}"));
        }
    }
    println!("trying the package in a clean Debian");
    let machine = match Machine::boot(tree)? {
        Ok(machine) => machine,
        Err(reason) => return skipped(reason),
    };
    let to = machine.root.join("var/tmp/fades.deb");
    fs::copy(deb, &to).map_err(|e| Fault::File(to, e))?;
    Trial { machine }.run()?;
    Ok(Vec::new())
}

struct Trial {
    machine: Machine,
}

impl Trial {
    fn run(&self) -> Result<(), Fault> {
        self.install()?;
        self.documents()?;
        self.start()?;
        let task = self.ask()?;
        self.confined()?;
        self.upgrade(&task)?;
        self.remove(&task)
    }

    /// Installed, nothing runs, and nobody but the node sees its folder.
    fn install(&self) -> Result<(), Fault> {
        self.dpkg("--install", "/var/tmp/fades.deb")?;
        let unit = self.unit()?;
        for (setting, value) in [("User", "fades"), ("NoNewPrivileges", "yes")] {
            let found = unit::service(&unit, setting);
            self.holds(setting, found == Some(value), || format!("{found:?}"))?;
        }
        let state = self.root(10, &["stat", "-c", "%U:%G %a", STATE])?;
        self.holds("the node's folder", state == "fades:fades 700", || {
            state.clone()
        })?;
        let groups = self.root(10, &["id", "-nG", "fades"])?;
        let both = groups.split(' ').any(|group| group == "kvm");
        self.holds("the user's groups", both, || groups.clone())?;
        // As udev does on a machine of its own.
        if Path::new("/dev/kvm").exists() {
            self.root(10, &["chgrp", "kvm", "/dev/kvm"])?;
            self.root(10, &["chmod", "660", "/dev/kvm"])?;
        }
        // Without a node.toml it does not start, which is no failure.
        self.root(30, &["systemctl", "start", "fades"])?;
        let active = self.active()?;
        self.holds("before there is a node", active == "inactive", || {
            active.clone()
        })
    }

    /// Examples, manual pages and completions are good for what they are there for.
    fn documents(&self) -> Result<(), Fault> {
        let examples = "/usr/share/doc/fades/examples";
        let verify = "systemd-analyze verify --man=no /usr/lib/systemd/system/fades.service \
                      \"$0\"/fades-backup.service \"$0\"/fades-backup.timer 2>&1";
        let said = self.root(60, &["sh", "-c", verify, examples])?;
        self.holds("systemd-analyze verify", said.is_empty(), || said.clone())?;
        let level = "systemd-analyze security --no-pager fades.service | tail -n 1";
        println!("  {}", self.root(60, &["sh", "-c", level])?);
        self.root(
            60,
            &["bash", "-n", "/usr/share/bash-completion/completions/fades"],
        )?;
        let page = "zcat /usr/share/man/man1/fades-submit.1.gz | grep -q fades-submit";
        self.root(10, &["sh", "-c", page])?;
        let try_example = "cp -r /usr/share/doc/fades/examples/site.toml conf.d/ && \
                           fades config check --folder .";
        self.fades(30, &["init", "/tmp/site", "--name", "site"])?;
        self.user(30, &["sh", "-c", &format!("cd /tmp/site && {try_example}")])?;
        Ok(())
    }

    fn start(&self) -> Result<(), Fault> {
        self.fades(60, &["init", STATE, "--name", "package", "--production"])?;
        self.keys()?;
        let grant = "printf '%s\\n' '[grant.local]' 'services = [\"local\"]' \
                     'functions = [\"summary\"]' 'history = \"any\"' > \"$0\"/conf.d/grants.toml";
        self.user(10, &["sh", "-c", grant, STATE])?;
        self.root(100, &["systemctl", "start", "fades"])?;
        self.runs_as_the_unit_says()?;
        // Nobody else of this host can look into it.
        let look = ["runuser", "-u", "nobody", "--", "ls", STATE];
        let seen = self.machine.inside(10, &look).output();
        let seen = seen.is_ok_and(|seen| seen.status.success());
        self.holds("others looking into the node's folder", !seen, || {
            "they can".to_owned()
        })?;
        self.root(30, &["systemctl", "reload", "fades"])?;
        self.fades(60, &["publish", FUNCTION, "--key", "plant"])?;
        Ok(())
    }

    /// Keys of people: the package's node takes no development key.
    fn keys(&self) -> Result<(), Fault> {
        let submits = ["--role", "submit", "--role", "read", "--service", "local"];
        for (name, roles) in [("plant", &["--role", "publish"][..]), ("ask", &submits)] {
            self.fades(30, &["key", "new", name])?;
            let public = format!("{STATE}/.config/fades/keys/{name}.pub");
            let trust = ["key", "trust", &public, "--folder", STATE];
            self.fades(30, &[&trust[..], roles].concat())?;
        }
        Ok(())
    }

    /// The process is what `ExecStart=` and `User=` of the unit, as installed, say.
    fn runs_as_the_unit_says(&self) -> Result<String, Fault> {
        let active = self.active()?;
        self.holds("the service", active == "active", || active.clone())?;
        let pid = self.root(10, &["systemctl", "show", "-P", "MainPID", "fades"])?;
        let line = "tr '\\0' ' ' < /proc/$0/cmdline; echo; stat -c %U /proc/$0";
        let process = self.root(10, &["sh", "-c", line, &pid])?;
        let unit = self.unit()?;
        let said = |setting| unit::service(&unit, setting).unwrap_or_default();
        let wanted = format!("{} \n{}", said("ExecStart"), said("User"));
        self.holds("the process of the service", process == wanted, || {
            format!("is {process:?} and not {wanted:?}")
        })?;
        Ok(pid)
    }

    /// A task on each isolation that there has to be; returns one of them.
    fn ask(&self) -> Result<String, Fault> {
        let mut kvm = self
            .machine
            .inside(10, &as_user(&["test", "-w", "/dev/kvm"]));
        let kvm = kvm.status().is_ok_and(|status| status.success());
        let best = if kvm { "microvm" } else { "process" };
        let mut id = String::new();
        for (wanted, words) in [(best, &[][..]), ("process", &["--isolation", "process"])] {
            let ask = [
                "submit",
                "summary",
                "--kind",
                "temperature",
                "--key",
                "ask",
                "--service",
                "local",
                "--wait",
                "-o",
                "json",
            ];
            let said = self.fades(120, &[&ask[..], words].concat())?;
            let result = self.parsed(&said)?;
            self.holds("the isolation", result["isolation"] == wanted, || {
                format!("{} and not {wanted}", result["isolation"])
            })?;
            self.answered(&result)?;
            id = result["id"].as_str().unwrap_or_default().to_owned();
            println!("  a task ran as {wanted}");
        }
        Ok(id)
    }

    /// What the sample readings of `fades init` come to.
    fn answered(&self, result: &Value) -> Result<(), Fault> {
        let groups = &result["answer"]["groups"];
        let found = [0, 1].map(|i| (groups[i]["count"].as_u64(), groups[i]["sum"].as_f64()));
        let good = [(0, 1903.96), (1, 2191.9)].iter().all(|(at, sum)| {
            let (count, found): (Option<u64>, Option<f64>) = found[*at];
            count == Some(96) && found.is_some_and(|found| (found - sum).abs() < 1e-6)
        });
        self.holds("the answer", good, || result.to_string())
    }

    /// The unit takes nothing from the node that it needs to confine itself.
    fn confined(&self) -> Result<(), Fault> {
        let said = self.fades(60, &["doctor", "--folder", STATE])?;
        let mut lines = said.lines().peekable();
        while let Some(line) = lines.next() {
            let ours = ["batches", "network", "files", "TCP ports", "system calls"];
            let Some(rest) = line.strip_prefix("better  ") else {
                continue;
            };
            let advice = lines.peek().copied().unwrap_or_default();
            // What the kernel does not have is not the unit's fault.
            let excused = advice.contains("the kernel has no landlock");
            let good = excused || !ours.iter().any(|name| rest.starts_with(name));
            self.holds("fades doctor", good, || format!("{line}\n{advice}"))?;
        }
        Ok(())
    }

    /// The node goes on with the new program, and has what it had.
    fn upgrade(&self, task: &str) -> Result<(), Fault> {
        let before = self.runs_as_the_unit_says()?;
        self.dpkg("--install", "/var/tmp/fades.deb")?;
        let after = self.runs_as_the_unit_says()?;
        self.holds("an upgrade", before != after, || {
            "did not restart the node".to_owned()
        })?;
        self.knows(task)?;
        println!("  upgraded while it ran: it has what it had");
        Ok(())
    }

    fn knows(&self, task: &str) -> Result<(), Fault> {
        let said = self.fades(30, &["result", task, "-o", "json"])?;
        self.answered(&self.parsed(&said)?)
    }

    /// Removed, the data stays; purged, it stays unless the operator says otherwise.
    fn remove(&self, task: &str) -> Result<(), Fault> {
        let store = self.machine.root.join("var/lib/fades/state/store.db");
        let stays = |what: &str| {
            self.holds(what, store.exists(), || {
                "the node's data is gone".to_owned()
            })
        };
        self.dpkg("--remove", "fades")?;
        let active = self.active()?;
        self.holds("removed, the service", active == "inactive", || {
            active.clone()
        })?;
        stays("removing")?;
        self.dpkg("--install", "/var/tmp/fades.deb")?;
        self.root(100, &["systemctl", "start", "fades"])?;
        self.knows(task)?;
        self.dpkg("--purge", "fades")?;
        stays("purging")?;
        self.dpkg("--install", "/var/tmp/fades.deb")?;
        let wanted = "echo fades fades/purge-data boolean true | debconf-set-selections";
        self.root(30, &["sh", "-c", wanted])?;
        self.dpkg("--purge", "fades")?;
        let folder = self.machine.root.join("var/lib/fades");
        self.holds("purging on demand", !folder.exists(), || {
            "the data is still there".to_owned()
        })?;
        println!("  removed and purged: the data stays until the operator says otherwise");
        Ok(())
    }

    fn dpkg(&self, action: &str, what: &str) -> Result<String, Fault> {
        self.root(120, &["dpkg", action, what])
    }

    fn active(&self) -> Result<String, Fault> {
        self.root(10, &["systemctl", "show", "-P", "ActiveState", "fades"])
    }

    fn unit(&self) -> Result<String, Fault> {
        let path = self.machine.root.join(UNIT);
        fs::read_to_string(&path).map_err(|e| Fault::File(path, e))
    }

    fn parsed(&self, said: &str) -> Result<Value, Fault> {
        serde_json::from_str(said).map_err(|e| self.tried("an answer", format!("{e}: {said}")))
    }

    /// `fades` with these words, as the service's user.
    fn fades(&self, seconds: u32, words: &[&str]) -> Result<String, Fault> {
        self.user(seconds, &[&["fades"], words].concat())
    }

    fn user(&self, seconds: u32, words: &[&str]) -> Result<String, Fault> {
        self.root(seconds, &as_user(words))
    }

    /// What a command says that has to succeed, in its time.
    fn root(&self, seconds: u32, words: &[&str]) -> Result<String, Fault> {
        let what = words.join(" ");
        let ended = self.machine.inside(seconds, words).output();
        let ended = ended.map_err(|e| Fault::Program(what.clone(), e))?;
        let said = String::from_utf8_lossy(&ended.stdout);
        if ended.status.success() {
            return Ok(said.trim_end().to_owned());
        }
        let errors = String::from_utf8_lossy(&ended.stderr);
        let came = match ended.status.code() {
            // What timeout says of a command that it ended.
            Some(124 | 137) => format!("nothing within {seconds} s\n{said}{errors}"),
            _ => format!("{}\n{said}{errors}", ended.status),
        };
        Err(self.tried(&what, came))
    }

    fn holds(&self, what: &str, good: bool, came: impl FnOnce() -> String) -> Result<(), Fault> {
        match good {
            true => Ok(()),
            false => Err(self.tried(what, came())),
        }
    }

    fn tried(&self, what: &str, came: String) -> Fault {
        let words = [
            "journalctl",
            "--no-pager",
            "-o",
            "cat",
            "-n",
            "30",
            "-u",
            "fades",
        ];
        let log = self.machine.inside(10, &words).output();
        let log = log.map_or_else(
            |e| e.to_string(),
            |log| String::from_utf8_lossy(&log.stdout).into_owned(),
        );
        Fault::Tried {
            what: what.to_owned(),
            came,
            log,
        }
    }
}

/// The words of a command as the service's user.
fn as_user<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let before = ["runuser", "-u", "fades", "--", "env"];
    let told = ["HOME=/var/lib/fades", "FADES_NODE=/var/lib/fades"];
    [&before[..], &told, words].concat()
}
