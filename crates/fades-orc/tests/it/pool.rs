//! Tenders made ahead of need: who gets which, and what becomes of them.

use std::collections::BTreeSet;
use std::path::Path;

use fades_orc::api::types::{TaskList, TaskResult, TaskState};
use fades_task::limits::Isolation;
use fades_task::mtw::Mtw;
use fades_task::result::Failure;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::site::{Running, Site, signal_process, task};

/// A site whose node has microVMs, as the stand-in understands them.
fn site(parallel: u64) -> Site {
    Site::new()
        .with("microvm", json!(true))
        .with("parallel", json!(parallel))
}

fn behave(site: &Site, how: Value) {
    std::fs::write(site.path("tender.json"), how.to_string()).unwrap();
}

/// How many tenders were asked for this: `shell`, `template`, `microvm`.
fn asked(site: &Site, what: &str) -> usize {
    let entries = std::fs::read_dir(site.path("")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with(&format!("{what}-"))).count()
}

fn acting(id: &str, act: &str) -> Mtw {
    task(id, |t| t["function"]["params"] = json!({ "act": act }))
}

fn in_process(id: &str) -> Mtw {
    task(id, |t| t["function"]["isolation"] = json!(["process"]))
}

/// The tender that answered.
#[track_caller]
fn pid(result: &TaskResult) -> u32 {
    assert_eq!(result.state, TaskState::Done, "{result:?}");
    result.answer.as_ref().unwrap()["pid"].as_u64().unwrap() as u32
}

impl Running<'_> {
    #[track_caller]
    fn answered_by(&self, task: &Mtw) -> u32 {
        self.takes(task);
        pid(&self.result(task.task.id.as_str()))
    }

    /// All processes that it has started and not waited for.
    fn children(&self) -> BTreeSet<u32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let lists = threads.flatten().map(|thread| {
            // A thread may end meanwhile.
            std::fs::read_to_string(thread.path().join("children")).unwrap_or_default()
        });
        let pids = lists.flat_map(|l| {
            l.split(' ')
                .filter_map(|p| p.parse().ok())
                .collect::<Vec<_>>()
        });
        pids.collect()
    }

    /// The tenders among them.
    fn tenders(&self) -> BTreeSet<u32> {
        let is_tender = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(self.site.path("tender").as_os_str().as_encoded_bytes())
        };
        self.children().into_iter().filter(is_tender).collect()
    }

    fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(path).unwrap().count()
    }

    #[track_caller]
    fn wait_for_idle(&mut self, count: usize) {
        self.wait_until("so many tenders wait", |node| {
            let shells = node.info().shells;
            shells.idle == count && shells.making + shells.leaving + shells.busy == 0
        });
    }

    /// The one tender that waits.
    #[track_caller]
    fn idle_tender(&mut self) -> u32 {
        self.wait_for_idle(1);
        let tenders = self.tenders();
        assert_eq!(tenders.len(), 1);
        tenders.into_iter().next().unwrap()
    }
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_tender_is_ready_before_the_first_task_and_works_for_one_after_the_other() {
    let site = site(1);
    let mut node = site.start();
    let ready = node.idle_tender();
    for id in ["a", "b", "c"] {
        assert_eq!(node.answered_by(&task(id, |_| ())), ready);
    }
    assert_eq!((asked(&site, "shell"), asked(&site, "template")), (1, 1));
    node.wait_for_idle(1);
    let shells = node.info().shells;
    assert_eq!(shells.templates, 1);
    assert!(shells.template_bytes.0 > 0);
}

#[test]
fn a_tender_that_ended_badly_never_works_again() {
    let site = site(1);
    let mut node = site.start();
    for act in ["panic", "soil", "dawdle", "babble", "refuse", "swap"] {
        let good = node.answered_by(&task(&format!("{act}-before"), |_| ()));
        node.takes(&acting(act, act));
        let result = node.result(act);
        let done = matches!(act, "soil" | "dawdle" | "babble");
        assert_eq!(result.state == TaskState::Done, done, "{result:?}");
        let next = node.answered_by(&task(&format!("{act}-after"), |_| ()));
        assert_ne!(next, good, "after {act}");
        node.wait_until("it is gone", |_| !exists(good));
    }
}

#[test]
fn a_process_is_used_once() {
    let site = Site::new().with("parallel", json!(1));
    let mut node = site.start();
    let ready = node.idle_tender();
    let first = node.answered_by(&in_process("a"));
    assert_eq!(first, ready);
    assert_ne!(node.answered_by(&in_process("b")), first);
    let next = node.idle_tender();
    assert_eq!(
        node.answered_by(&in_process("c")),
        next,
        "a spare was made meanwhile"
    );
}

#[test]
fn more_runs_than_tenders_wait_for_their_turn() {
    const RUNS: usize = 40;
    let site = site(3);
    let mut node = site.start();
    for n in 0..RUNS {
        node.takes(&task(&format!("t{n}"), |_| ()));
    }
    let pids: BTreeSet<u32> = (0..RUNS)
        .map(|n| {
            let result = node.result(&format!("t{n}"));
            assert_eq!(result.attempts, 1);
            pid(&result)
        })
        .collect();
    assert!(pids.len() <= 3, "{pids:?}");
    node.wait_until("all wait again", |node| node.info().shells.busy == 0);
    assert!(asked(&site, "shell") <= 3);
}

#[test]
fn a_tender_that_is_killed_while_it_waits_is_replaced_before_anybody_needs_it() {
    let site = site(1);
    let mut node = site.start();
    let first = node.idle_tender();
    signal_process(first, Signal::KILL);
    node.wait_until("another waits", |node| {
        node.info().shells.idle == 1 && node.tenders().iter().all(|&t| t != first)
    });
    node.takes(&task("a", |_| ()));
    let result = node.result("a");
    assert_ne!(pid(&result), first);
    assert_eq!(result.attempts, 1);
}

#[test]
fn a_tender_that_is_killed_between_two_runs_costs_the_second_no_attempt() {
    let site = site(1);
    let mut node = site.start();
    let first = node.answered_by(&task("a", |_| ()));
    node.wait_for_idle(1);
    // It is sent the run and does not come to reading it.
    signal_process(first, Signal::STOP);
    node.takes(&task("b", |_| ()));
    assert_eq!(node.wait_for_tender("b"), first);
    signal_process(first, Signal::KILL);
    let result = node.result("b");
    assert_ne!(pid(&result), first);
    assert_eq!(result.attempts, 1);
}

#[test]
fn a_tender_that_takes_its_time_to_end_holds_nobody_up() {
    let site = site(2);
    let node = site.start();
    // Each of its attempts takes two seconds to be given up.
    node.takes(&acting("linger", "linger"));
    for n in 0..10 {
        node.answered_by(&task(&format!("t{n}"), |_| ()));
    }
    let running: TaskList = node.get("/v1/tasks?state=running").json();
    let queued: TaskList = node.get("/v1/tasks?state=queued").json();
    let ids: Vec<_> = running
        .tasks
        .iter()
        .chain(&queued.tasks)
        .map(|t| t.id.as_str())
        .collect();
    assert_eq!(ids, ["linger"]);
    node.post("/v1/tasks/linger/cancel", b"");
}

#[test]
fn tenders_that_die_of_every_run_unread_are_not_tried_for_ever() {
    let site = site(1);
    behave(&site, json!({ "deaf": true }));
    let node = site.start();
    node.takes(&task("a", |_| ()));
    let failure = node.result("a").failure;
    let Some(Failure::Attempts { attempts: 5, last }) = failure else {
        panic!("{failure:?}");
    };
    assert!(last.contains("before it read what to run"), "{last}");
}

#[test]
fn tenders_that_cannot_be_made_fail_the_task_with_the_reason() {
    let site = site(1);
    behave(&site, json!({ "shells": 0 }));
    let node = site.start();
    node.takes(&task("a", |_| ()));
    let failure = node.result("a").failure;
    let Some(Failure::Attempts { attempts: 5, last }) = failure else {
        panic!("{failure:?}");
    };
    assert!(
        last.contains("before it was ready: exit status: 1"),
        "{last}"
    );
}

#[test]
fn a_template_that_can_still_be_changed_is_not_used() {
    let site = site(1);
    behave(&site, json!({ "unsealed": true }));
    let node = site.start();
    node.takes(&task("a", |_| ()));
    let failure = node.result("a").failure;
    let Some(Failure::Attempts { last, .. }) = failure else {
        panic!("{failure:?}");
    };
    assert!(last.contains("not sealed"), "{last}");
    assert_eq!(node.info().shells.templates, 0);
}

#[test]
fn templates_are_made_for_each_limit_and_the_oldest_are_let_go() {
    let site = site(1);
    let node = site.start();
    let sized = |id: &str, kib: u64| {
        task(id, |t| {
            t["function"]["limits"]["memory"] = format!("{kib}KiB").into();
        })
    };
    for n in 0..70 {
        node.answered_by(&sized(&format!("t{n}"), 1024 + n));
    }
    assert_eq!(node.info().shells.templates, 64);
    node.answered_by(&sized("last", 1024 + 69));
    assert_eq!(asked(&site, "template"), 70);
    node.answered_by(&sized("first", 1024));
    assert_eq!(asked(&site, "template"), 71);
}

#[test]
fn templates_take_no_more_than_their_share_of_memory() {
    let site = site(1);
    behave(&site, json!({ "template-bytes": 20 << 20 }));
    let node = site.start();
    for n in 0..5 {
        node.answered_by(&task(&format!("t{n}"), |t| {
            t["function"]["limits"]["memory"] = format!("{}MiB", n + 1).into();
        }));
    }
    let shells = node.info().shells;
    assert_eq!((shells.templates, shells.template_bytes.0), (3, 60 << 20));
}

#[test]
fn as_many_tenders_wait_as_memory_allows() {
    for (memory, idle) in [(32_u64 << 20, 4), (16 << 20, 2), (4 << 20, 0)] {
        let site = site(4).with("memory", json!(memory));
        let mut node = site.start();
        let tasks: Vec<_> = (0..4).map(|n| format!("t{n}")).collect();
        for id in &tasks {
            node.takes(&acting(id, "pause"));
        }
        node.wait_until("all run", |node| node.info().shells.busy == 4);
        std::fs::write(site.path("go"), "").unwrap();
        for id in &tasks {
            assert_eq!(node.result(id).state, TaskState::Done);
        }
        node.wait_for_idle(idle);
    }
}

#[test]
fn tenders_that_nobody_needs_any_more_are_ended() {
    let site = site(4).with("spare-for-ms", json!(300));
    let mut node = site.start();
    for n in 0..4 {
        node.takes(&acting(&format!("t{n}"), "pause"));
    }
    node.wait_until("all run", |node| node.info().shells.busy == 4);
    std::fs::write(site.path("go"), "").unwrap();
    node.wait_until("all wait", |node| node.info().shells.idle == 4);
    node.wait_for_idle(1);
    node.wait_until("they are gone", |node| node.tenders().len() == 1);
}

#[test]
fn runs_of_every_kind_leave_no_process_and_no_descriptor() {
    let site = site(2);
    let mut node = site.start();
    let round = |node: &mut Running<'_>, round: usize, runs: usize| {
        let ids: Vec<String> = (0..runs).map(|n| format!("r{round}-{n}")).collect();
        for (n, id) in ids.iter().enumerate() {
            node.takes(&match n % 5 {
                0 => acting(id, "panic"),
                1 => acting(id, "soil"),
                2 => in_process(id),
                _ => task(id, |_| ()),
            });
        }
        for id in &ids {
            assert!(node.result(id).state.is_final());
        }
        node.wait_until("nothing is under way", |node| {
            let shells = node.info().shells;
            shells.busy + shells.making + shells.leaving == 0 && shells.idle > 0
        });
    };
    round(&mut node, 0, 20);
    let (children, descriptors) = (node.children().len(), node.descriptors());
    let idle = node.info().shells.idle;
    round(&mut node, 1, 300);
    let now = node.info().shells.idle;
    // The broker, and those that wait.
    assert_eq!(node.children().len(), children + now - idle);
    node.wait_until("its descriptors are closed", |node| {
        node.descriptors() <= descriptors + 2 * now.saturating_sub(idle)
    });
}

#[test]
fn a_run_waits_while_the_system_has_no_descriptors_and_says_so() {
    let site = site(1);
    let mut node = site.start();
    node.wait_for_idle(1);
    let process = Pid::from_raw(node.process.id() as i32);
    let most = getrlimit(Resource::Nofile);
    let limit = |current| {
        let limit = Rlimit {
            current: Some(current),
            ..most
        };
        prlimit(process, Resource::Nofile, limit).unwrap();
    };
    // One for a request, and one more.
    limit(node.descriptors() as u64 + 2);
    node.takes(&task("a", |_| ()));
    node.wait_until("it waits", |node| node.info().shells.shortage.is_some());
    let shells = node.info().shells;
    assert!(shells.shortage.unwrap().contains("Too many open files"));
    assert_eq!(shells.waiting, 1);
    let running: TaskList = node.get("/v1/tasks?state=running").json();
    assert_eq!(running.tasks[0].attempts, 1);
    limit(most.maximum.or(most.current).unwrap());
    let result = node.result("a");
    assert_eq!((result.state, result.attempts), (TaskState::Done, 1));
    assert_eq!(node.info().shells.shortage, None);
}

#[test]
fn a_run_that_waits_for_a_tender_can_be_cancelled() {
    let site = site(1);
    let mut node = site.start();
    let tender = node.idle_tender();
    // Nothing can be made any more, and nothing refuses to be.
    std::fs::remove_file(site.path("tender")).unwrap();
    std::fs::write(site.path("tender"), "#!/bin/sh\nexec /bin/sleep 60\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(site.path("tender"), mode).unwrap();
    signal_process(tender, Signal::KILL);
    node.takes(&task("a", |_| ()));
    node.wait_until("it waits", |node| node.info().shells.waiting == 1);
    node.post("/v1/tasks/a/cancel", b"");
    assert_eq!(node.result("a").state, TaskState::Cancelled);
    node.wait_until("nothing waits", |node| node.info().shells.waiting == 0);
}

#[test]
fn without_kvm_a_task_gets_what_else_it_accepts_and_the_result_says_so() {
    let site = site(1);
    behave(&site, json!({ "microvms": 1 }));
    let mut node = site.start();
    let first = node.idle_tender();
    node.takes(&task("a", |_| ()));
    assert_eq!(node.result("a").isolation, Some(Isolation::Microvm));
    signal_process(first, Signal::KILL);
    node.wait_until("it is gone", |node| !node.tenders().contains(&first));
    node.takes(&task("b", |_| ()));
    let result = node.result("b");
    assert_eq!(result.state, TaskState::Done);
    assert_eq!(result.isolation, Some(Isolation::Process));
    node.takes(&task("c", |t| {
        t["function"]["isolation"] = json!(["microvm"]);
    }));
    let failure = node.result("c").failure;
    let Some(Failure::Isolation { reason, .. }) = failure else {
        panic!("{failure:?}");
    };
    assert!(reason.contains("/dev/kvm is gone"), "{reason}");
    behave(&site, json!({}));
    node.takes(&task("d", |_| ()));
    assert_eq!(node.result("d").isolation, Some(Isolation::Microvm));
}

/// The folder of a process's group that bounds memory, when there is one.
fn group(pid: u32) -> std::path::PathBuf {
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let find = |what: &str| {
        own.lines()
            .find_map(|l| l.split_once(what).map(|(_, path)| path))
    };
    let path = match find(":memory:") {
        Some(path) => format!("/sys/fs/cgroup/memory{path}"),
        None => format!("/sys/fs/cgroup{}", find("0::").unwrap()),
    };
    path.into()
}

fn bound(group: &Path) -> u64 {
    let files = ["memory.limit_in_bytes", "memory.max"];
    let found = files
        .iter()
        .find_map(|f| std::fs::read_to_string(group.join(f)).ok());
    found.unwrap().trim().parse().unwrap()
}

#[test]
fn a_run_is_bounded_by_a_group_of_its_tenders_own_that_goes_with_it() {
    const TENDER: u64 = 32 << 20;
    let site = site(1);
    let mut node = site.start();
    let info = node.info().cgroup;
    if !info.memory {
        crate::places::skipped(&format!("no group that bounds memory: {}", info.detail));
        return;
    }
    let mut pids = Vec::new();
    for (id, mib) in [("a", 1), ("b", 8)] {
        node.takes(&task(id, |t| {
            t["function"]["limits"]["memory"] = format!("{mib}MiB").into();
            t["function"]["params"] = json!({ "act": "pause" });
        }));
        let pid = node.wait_for_tender(id);
        let bound = bound(&group(pid));
        let least = (mib << 20) + TENDER;
        assert!((least..least + (4 << 20)).contains(&bound), "{bound}");
        pids.push(pid);
        std::fs::write(site.path("go"), "").unwrap();
        assert_eq!(node.result(id).state, TaskState::Done);
        std::fs::remove_file(site.path("go")).unwrap();
    }
    assert_eq!(pids[0], pids[1], "the group stays while its tender does");
    let folder = group(pids[0]);
    let of_node = folder.parent().unwrap().to_owned();
    node.takes(&acting("c", "panic"));
    node.result("c");
    node.wait_until("its group is gone", |_| !folder.exists());
    node.wait_for_idle(1);
    // What a node that is killed leaves, the next one removes.
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    assert!(of_node.exists());
    drop(node);
    let mut node = site.start_bare();
    assert!(!of_node.exists());
    let tender = node.idle_tender();
    let folder = group(tender);
    node.stop();
    assert!(!folder.parent().unwrap().exists());
}

#[test]
fn a_tender_cannot_make_many_processes() {
    let site = site(1);
    let mut node = site.start();
    let info = node.info().cgroup;
    if !info.pids {
        crate::places::skipped(&format!("no group that bounds processes: {}", info.detail));
        return;
    }
    let tender = node.idle_tender();
    let own = std::fs::read_to_string(format!("/proc/{tender}/cgroup")).unwrap();
    let find = |what: &str| {
        own.lines()
            .find_map(|l| l.split_once(what).map(|(_, path)| path))
    };
    let folder = match find(":pids:") {
        Some(path) => format!("/sys/fs/cgroup/pids{path}"),
        None => format!("/sys/fs/cgroup{}", find("0::").unwrap()),
    };
    let most = std::fs::read_to_string(format!("{folder}/pids.max")).unwrap();
    assert_eq!(most.trim(), "16");
}

#[test]
fn a_node_that_ends_takes_the_tenders_that_wait_along() {
    let site = site(2);
    let mut node = site.start();
    let tender = node.idle_tender();
    node.stop();
    assert!(!exists(tender));
}
