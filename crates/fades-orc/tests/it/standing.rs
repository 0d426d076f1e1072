//! Tasks with a schedule on a real node, which is killed between.

use fades_orc::api::types::{TaskDetail, TaskList, TaskState, TaskSummary};
use fades_task::mtw::Mtw;
use rustix::process::Signal;
use serde_json::json;

use crate::site::{Running, Site, task};

fn each_second(catch_up: &str) -> Mtw {
    task("air", |t| {
        t["schedule"] = json!({ "every": "1s", "catch-up": catch_up });
    })
}

/// The runs, oldest first.
fn runs(node: &Running<'_>) -> Vec<TaskSummary> {
    let list: TaskList = node.get("/v1/tasks?of=air&limit=500").json();
    assert_eq!(list.next, None);
    list.tasks.into_iter().rev().collect()
}

fn done(node: &Running<'_>) -> usize {
    let ended = |run: &&TaskSummary| run.state == TaskState::Done;
    runs(node).iter().filter(ended).count()
}

#[test]
fn a_schedule_neither_repeats_nor_leaves_out_a_time_when_the_node_is_killed() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&each_second("all"));
    for life in 1..4 {
        node.wait_until("two more runs", |node| done(node) >= 2 * life);
        node.signal(Signal::KILL);
        drop(node);
        node = site.start_bare();
    }
    node.wait_until("runs after the last death", |node| done(node) >= 8);
    let standing: TaskDetail = node.get("/v1/tasks/air").json();
    assert_eq!(standing.summary.state, TaskState::Standing);
    assert_eq!(standing.summary.skipped, 0);
    let _ = node.post("/v1/tasks/air/cancel", b"");
    let ended: TaskDetail = node.get("/v1/tasks/air").json();
    assert_eq!(ended.summary.state, TaskState::Cancelled);
    let runs = runs(&node);
    let due: Vec<i64> = runs.iter().map(|run| run.due.unwrap().0).collect();
    for pair in due.windows(2) {
        assert_eq!(pair[1] - pair[0], 1_000_000_000, "{due:?}");
    }
    // The last one may have been cancelled with its task.
    for run in &runs[..runs.len() - 1] {
        assert_eq!(run.state, TaskState::Done, "{run:?}");
        let result = node.result(run.id.as_str());
        assert_eq!(result.id, run.id);
    }
}

#[test]
fn what_was_due_while_the_node_was_down_is_made_up_for_once() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&each_second("latest"));
    node.wait_until("a run", |node| done(node) >= 1);
    node.signal(Signal::KILL);
    drop(node);
    let before = std::time::Instant::now();
    // What passes here is the time that is missed, not a wait for something.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let mut node = site.start_bare();
    let away = before.elapsed().as_secs();
    let mut skipped = 0;
    node.wait_until("the time that was missed", |node| {
        let standing: TaskDetail = node.get("/v1/tasks/air").json();
        skipped = standing.summary.skipped;
        skipped > 0
    });
    assert!((2..=away + 3).contains(&skipped), "{skipped} of {away}");
}
