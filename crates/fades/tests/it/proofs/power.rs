//! Power cuts while a backup is written and while the courier writes into folders:
//! whatever was not synced is lost or torn, and what has its final name is whole.
//! The store has such a test of its own, in `fades-orc`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::asker::Asker;
use super::trace::{CALLS, Cuts, Left, Step, steps};
use crate::stage::{Stage, can_run, children, fades, signal, skipped, until};

/// Whether everything that the proofs need is here; if not, says so.
fn can_trace(test: &str) -> bool {
    if Command::new("strace").arg("-V").output().is_err() {
        skipped(test, "no strace; apt-get install strace");
        return false;
    }
    can_run(test)
}

/// Follows a program through a trace: after each step, no way of cutting the power
/// leaves a file with a final name that is not whole. Calls `also` after each step,
/// with all that may be left.
fn cut_anywhere(
    cuts: &mut Cuts,
    steps: &[Step],
    is_final: impl Fn(&Path) -> bool,
    mut also: impl FnMut(&Step, &[PathBuf]),
) {
    for step in steps {
        cuts.take(step);
        let ways = cuts.left();
        let mut sure: Option<Vec<PathBuf>> = None;
        for way in ways {
            let finals = way.into_iter().filter(|(path, _)| is_final(path));
            let finals: Vec<(PathBuf, Left)> = finals.collect();
            for (path, left) in &finals {
                assert_eq!(*left, Left::Whole, "{} after {step:?}", path.display());
            }
            let there = finals.into_iter().map(|(path, _)| path);
            sure = Some(match sure {
                None => there.collect(),
                Some(before) => there.filter(|path| before.contains(path)).collect(),
            });
        }
        also(step, &sure.unwrap_or_default());
    }
}

#[test]
fn a_power_cut_leaves_a_whole_backup_or_none() {
    if !can_trace("a_power_cut_leaves_a_whole_backup_or_none") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["hello"]);
    stage.ask(&["hello", "--kind", "temperature"]);
    let folder = stage.home().canonicalize().unwrap().join("safe");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("node.backup");
    for more in [&[][..], &["--force"]] {
        let before = file.metadata().ok().map(|m| m.len());
        let traced = stage.home().join("trace");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-y", "-s", "16", "-e", CALLS, "-o"])
            .arg(&traced)
            .arg(fades())
            .args(["backup", file.to_str().unwrap()])
            .args(["--folder", stage.folder().to_str().unwrap()])
            .args(more)
            .env("HOME", stage.home());
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let trace = std::fs::read_to_string(&traced).unwrap();
        let steps = steps(&trace, &folder, "nothing is told");
        let written = steps.iter().map(|step| match step {
            Step::Append(_, more) => *more,
            _ => 0,
        });
        assert_eq!(
            written.sum::<u64>(),
            file.metadata().unwrap().len(),
            "all was seen"
        );
        let mut cuts = Cuts::default();
        if let Some(length) = before {
            cuts.holds(&file, length);
        }
        let mut last = Vec::new();
        cut_anywhere(
            &mut cuts,
            &steps,
            |path| path == file,
            |step, sure| {
                let there = before.is_none() || !sure.is_empty();
                assert!(there, "the earlier backup is lost after {step:?}");
                last = sure.to_vec();
            },
        );
        assert_eq!(
            last,
            std::slice::from_ref(&file),
            "it is there when the command has ended"
        );
    }
    // A reader agrees that it is whole.
    let restore = ["restore", "safe/node.backup", "elsewhere"];
    stage.run(&restore).good();
    assert_eq!(node.stop(), Some(0));
}

/// A tracer of a process that runs; it lets go when told.
struct Tracer(Child);

impl Tracer {
    fn attach(pid: u32, to: &Path) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-y", "-s", "300", "-e", CALLS, "-o"])
            .arg(to)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("all threads are traced", || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let status = |thread: std::fs::DirEntry| thread.path().join("status");
            let mut all = threads.flatten().map(status);
            all.all(|path| {
                let status = std::fs::read_to_string(path).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        });
        Self(child)
    }

    fn let_go(mut self) {
        signal(self.0.id(), Signal::INT);
        self.0.wait().unwrap();
    }
}

#[test]
fn a_power_cut_leaves_whole_events_in_folders_and_all_that_were_delivered() {
    let test = "a_power_cut_leaves_whole_events_in_folders_and_all_that_were_delivered";
    if !can_trace(test) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped(test, "only root can trace another process");
    }
    let stage = Stage::with_node();
    let home = stage.home().canonicalize().unwrap();
    let (post, city) = (home.join("post"), home.join("city"));
    for folder in [&post, &city] {
        std::fs::create_dir(folder).unwrap();
    }
    let tables = format!(
        "[inbox.post]\nfolder = \"{}\"\n[destination.city]\nfolder = \"{}\"\n",
        post.display(),
        city.display()
    );
    stage.write("fades-node/conf.d/proof.toml", tables);
    let node = stage.node();
    let asker = Asker::new(&stage);
    let courier = children(node.pid()).into_iter();
    let mut courier = courier.filter(|(_, line)| line.contains(" courier "));
    let traced = home.join("trace");
    let tracer = Tracer::attach(courier.next().unwrap().0, &traced);
    let letter = |name: &str, envelope: &str| {
        std::fs::write(post.join(format!("{name}.part")), envelope).unwrap();
        let to = post.join(format!("{name}.json"));
        std::fs::rename(post.join(format!("{name}.part")), to).unwrap();
    };
    let deliver = serde_json::json!([{"to": "city"}]);
    let ids = ["t0", "t1", "t2", "t3"];
    for id in ids {
        letter(
            id,
            &asker.signed(id, |task| task["deliver"] = deliver.clone()),
        );
    }
    letter("noise", "{}");
    let files = |id: &str| {
        [
            city.join(format!("{id}.json")),
            post.join(format!("answers/{id}.json")),
        ]
    };
    until("all is written", || {
        ids.iter()
            .flat_map(|id| files(id))
            .all(|file| file.exists())
            && post.join("refused/noise.json").exists()
    });
    until("the node knows", || {
        let outbox = stage.run(&["outbox", "-o", "json"]).json();
        let mut receivers = outbox["receivers"].as_array().unwrap().iter();
        receivers.all(|r| r["waiting"] == 0)
    });
    tracer.let_go();
    assert_eq!(node.stop(), Some(0));

    let trace = std::fs::read_to_string(&traced).unwrap();
    let steps = steps(&trace, &home, r#"\"delivered\""#);
    let told = steps.iter().filter(|step| **step == Step::Told).count();
    assert_eq!(told, 2 * ids.len(), "each delivery was told");
    let mut cuts = Cuts::default();
    for id in ids.iter().chain(&["noise"]) {
        cuts.holds(&post.join(format!("{id}.json")), 1);
    }
    let is_final = |path: &Path| path.extension().is_some_and(|end| end == "json");
    let mut told = 0;
    cut_anywhere(&mut cuts, &steps, is_final, |step, sure| {
        told += usize::from(*step == Step::Told);
        let written = ids.iter().flat_map(|id| files(id));
        let written = written.filter(|file| sure.contains(file)).count();
        assert!(
            written >= told,
            "{told} were told, {written} would outlive a cut"
        );
    });
}
