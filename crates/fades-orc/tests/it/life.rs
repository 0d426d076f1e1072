//! What becomes of a task that is taken.

use fades_orc::api::types::{
    LogLine, Logs, TaskDetail, TaskList, TaskResult, TaskState, TaskSummary,
};
use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::result::{Failure, RetrievalFailure};
use rustix::process::Signal;
use serde_json::json;

use crate::certificates::Authority;
use crate::client::{Kept, over_tls};
use crate::site::{IMAGE, Site, header, signed, task};

#[test]
fn a_signed_task_is_answered_with_coverage_and_a_breakdown_that_adds_up() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    let result = node.result("t1");
    assert_eq!(result.state, TaskState::Done, "{result:?}");
    let answer = result.answer.as_ref().unwrap();
    assert_eq!(answer["zone"], "Europe/London");
    assert_eq!(answer["image"], IMAGE.len());
    assert_eq!(result.isolation, Some(Isolation::Process));
    assert_eq!(result.coverage[0].name.as_str(), "pm");
    assert_eq!((result.attempts, result.answer_bytes > 0), (1, true));
    let parts = result.breakdown;
    let sum =
        parts.queue_us + parts.retrieve_us + parts.boot_us + parts.transfer_us + parts.compute_us;
    let total = (result.finished.unwrap().0 - result.accepted.0) / 1000;
    assert!(sum.abs_diff(total as u64) < 20_000, "{sum} of {total} us");
}

#[test]
fn the_same_task_again_is_the_same_task_and_runs_once() {
    let site = Site::new();
    let node = site.start();
    let once = task("t1", |_| ());
    node.takes(&once);
    let first = node.result("t1");
    assert_eq!(node.submit(&once).status, 200);
    assert_eq!(node.result("t1"), first);
    let other = task("t1", |t| t["task"]["name"] = "other".into());
    node.submit(&other).refuses(409, "choose a new id");
    let list: TaskList = node.get("/v1/tasks").json();
    assert_eq!(list.tasks.len(), 1);
}

#[test]
fn the_same_task_handed_in_by_many_at_once_is_one_task_with_equal_answers() {
    let site = Site::new();
    let node = site.start();
    for round in 0..10 {
        let body = signed(&task(&format!("t{round}"), |t| {
            t["function"]["params"] = json!({ "act": "hang" });
        }));
        let answers: Vec<_> = std::thread::scope(|scope| {
            let hand_in = || scope.spawn(|| node.post("/v1/tasks", &body));
            let all: Vec<_> = (0..4).map(|_| hand_in()).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let fresh = answers.iter().filter(|a| a.status == 201).count();
        let known = answers.iter().filter(|a| a.status == 200).count();
        assert_eq!((fresh, known), (1, 3));
        let first: TaskSummary = answers[0].json();
        for answer in &answers {
            let other: TaskSummary = answer.json();
            assert_eq!(
                (other.id, other.accepted),
                (first.id.clone(), first.accepted)
            );
        }
        node.post(&format!("/v1/tasks/t{round}/cancel"), b"");
    }
    let list: TaskList = node.get("/v1/tasks").json();
    assert_eq!(list.tasks.len(), 10);
}

#[test]
fn one_connection_serves_one_request_after_the_other() {
    let site = Site::new();
    let node = site.start();
    let mut kept = Kept::open(&site.path("api.sock"));
    for id in ["a", "b", "c"] {
        let body = signed(&task(id, |_| ()));
        assert_eq!(kept.ask("POST", "/v1/tasks", &body).0, 201);
        let result = format!("/v1/tasks/{id}/result?wait=25s");
        let (status, waited) = kept.ask("GET", &result, b"");
        assert_eq!(status, 200);
        assert_eq!(kept.ask("GET", &result, b""), (200, waited));
    }
    assert_eq!(kept.ask("GET", "/v1/tasks/none/result", b"").0, 404);
    assert_eq!(node.info().tasks.done, 3);
}

#[test]
fn a_task_is_handed_in_and_its_result_waited_for_in_one_request() {
    let site = Site::new();
    let node = site.start();
    let body = signed(&task("t1", |_| ()));
    let answer = node.post("/v1/tasks?wait=25s", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json::<TaskResult>(), node.result("t1"));
    let again = node.post("/v1/tasks?wait=25s", &body);
    assert_eq!((again.status, again.body), (200, answer.body));
    let hangs = signed(&task("t2", |t| {
        t["function"]["params"] = json!({ "act": "hang" });
    }));
    let answer = node.post("/v1/tasks?wait=10ms", &hangs);
    assert_eq!(answer.status, 202);
    assert!(!answer.json::<TaskResult>().state.is_final());
    node.post("/v1/tasks?colour=red", &body)
        .refuses(400, "colour");
}

#[test]
fn who_has_an_envelope_and_may_not_read_hands_it_in_without_its_result() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let node = site.start();
    let body = signed(&task("t1", |_| ()));
    let path = "/v1/tasks?wait=25s";
    let nobody = authority.client(&["https://example.org/"]);
    let post = |authorization: Option<&str>, path| {
        over_tls(address, &nobody, ("POST", path), authorization, &body).unwrap()
    };
    post(None, path).refuses(401, "names nobody");
    let foreign = header(4, "POST", path, "n1");
    post(Some(&foreign), path).refuses(403, "may not read");
    node.get("/v1/tasks/t1").refuses(404, "no task");
    assert_eq!(post(None, "/v1/tasks").status, 201);
    let own = header(1, "POST", path, "n2");
    assert_eq!(post(Some(&own), path).status, 200);
}

#[test]
fn a_result_is_the_same_from_memory_and_from_the_disk() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    let told = node.result("t1");
    node.stop();
    let node = site.start_bare();
    assert_eq!(node.result("t1"), told);
}

#[test]
fn tasks_are_listed_and_shown() {
    let site = Site::new();
    let node = site.start();
    for id in ["a", "b", "c"] {
        node.takes(&task(id, |_| ()));
        node.result(id);
    }
    let page: TaskList = node.get("/v1/tasks?limit=2&state=done").json();
    let ids: Vec<_> = page.tasks.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, ["c", "b"]);
    let rest: TaskList = node
        .get(&format!("/v1/tasks?after={}", page.next.unwrap()))
        .json();
    assert_eq!((rest.tasks.len(), rest.next), (1, None));
    let none: TaskList = node.get("/v1/tasks?service=noise").json();
    assert!(none.tasks.is_empty());
    let detail: TaskDetail = node.get("/v1/tasks/b").json();
    assert_eq!(detail.task.task.id.as_str(), "b");
    assert_eq!(detail.summary.signer.as_str(), "city");
}

#[test]
fn readings_that_a_function_answers_with_are_given_as_bytes() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |t| {
        t["function"]["params"] = json!({ "act": "readings" });
    }));
    assert_eq!(node.result("t1").readings_bytes, 4);
    let readings = node.get("/v1/tasks/t1/readings");
    assert_eq!(
        (readings.status, readings.body.as_slice()),
        (200, &b"rows"[..])
    );
    assert_eq!(readings.kind, "application/octet-stream");
    node.takes(&task("t2", |_| ()));
    node.result("t2");
    node.get("/v1/tasks/t2/readings")
        .refuses(404, "no readings");
}

#[test]
fn a_log_is_read_while_the_function_runs_and_cut_at_its_limit() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&task("t1", |t| {
        t["function"]["params"] = json!({ "act": "hang", "lines": 1000 });
        t["function"]["limits"]["log"] = "70B".into();
    }));
    let mut logs = Logs::default();
    node.wait_until("the log is full", |node| {
        logs = node.get("/v1/tasks/t1/logs").json();
        logs.cut > 0
    });
    let line = |n| LogLine {
        level: 3,
        text: format!("line {n}"),
    };
    assert_eq!(logs.lines, (0..10).map(line).collect::<Vec<_>>());
    node.post("/v1/tasks/t1/cancel", b"");
    let logs: Logs = node.get("/v1/tasks/t1/logs").json();
    assert_eq!(logs.lines.len(), 10);
}

#[test]
fn queued_and_running_tasks_are_cancelled() {
    let site = Site::new().with("parallel", json!(1));
    let mut node = site.start();
    node.takes(&task("running", |t| {
        t["function"]["params"] = json!({ "act": "hang" });
    }));
    node.takes(&task("queued", |_| ()));
    let pid = node.wait_for_tender("running");
    for id in ["queued", "running", "running"] {
        let answer = node.post(&format!("/v1/tasks/{id}/cancel"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(node.result(id).state, TaskState::Cancelled);
    }
    node.wait_until("the tender is gone", |_| {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    node.takes(&task("next", |_| ()));
    assert_eq!(node.result("next").state, TaskState::Done);
    node.post("/v1/tasks/next/cancel", b"")
        .refuses(409, "done already");
    node.post("/v1/tasks/none/cancel", b"")
        .refuses(404, "no task none");
}

#[test]
fn each_way_to_fail_is_told_apart() {
    let site = Site::new();
    let node = site.start();
    let acting =
        |id: &str, act: &str| task(id, |t| t["function"]["params"] = json!({ "act": act }));
    let from = |id: &str, source: &str| task(id, |t| t["retrieve"][0]["source"] = source.into());
    node.takes(&acting("panic", "panic"));
    node.takes(&acting("refuse", "refuse"));
    node.takes(&acting("swap", "swap"));
    node.takes(&acting("vanish", "vanish"));
    node.takes(&from("broken", "broken"));
    let failure = |id: &str| {
        let result = node.result(id);
        assert_eq!(result.state, TaskState::Failed);
        result.failure.unwrap()
    };
    assert!(matches!(
        failure("panic"),
        Failure::Function {
            exit: Exit::Panicked { .. }
        }
    ));
    assert!(matches!(failure("refuse"), Failure::Image { .. }));
    assert!(matches!(failure("swap"), Failure::Isolation { .. }));
    assert!(matches!(
        failure("broken"),
        Failure::Retrieval(RetrievalFailure::Selector { .. })
    ));
    assert!(
        matches!(failure("vanish"), Failure::Attempts { attempts: 5, last } if last.contains("exit status: 3"))
    );
}

#[test]
fn a_task_that_is_not_done_in_time_fails() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |t| {
        t["task"]["finish-within"] = "50ms".into();
        t["function"]["params"] = json!({ "act": "hang" });
    }));
    assert_eq!(node.result("t1").failure, Some(Failure::TooLate));
}

#[test]
fn an_image_that_was_changed_on_the_disk_is_not_run() {
    let site = Site::new();
    let node = site.start();
    let mut image = std::fs::read(site.image()).unwrap();
    image[7] ^= 1;
    std::fs::write(site.image(), image).unwrap();
    node.takes(&task("t1", |_| ()));
    let failure = node.result("t1").failure.unwrap();
    assert!(
        matches!(&failure, Failure::Image { reason } if reason.contains("fades publish")),
        "{failure}"
    );
    node.publish();
    node.takes(&task("t2", |_| ()));
    assert_eq!(node.result("t2").state, TaskState::Done);
}

#[test]
fn a_node_that_is_asked_to_end_queues_what_runs_and_takes_it_up_again() {
    let site = Site::new();
    let mut node = site.start();
    node.takes(&task("t1", |t| t["retrieve"][0]["source"] = "slow".into()));
    let tender = node.wait_for_tender("t1");
    let broker = node.info().broker.pid.unwrap();
    node.stop();
    for pid in [tender, broker] {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    assert!(!site.path("api.sock").exists());
    let mut node = site.start_bare();
    node.wait_for_tender("t1");
    let list: TaskList = node.get("/v1/tasks?state=running").json();
    assert_eq!(
        list.tasks[0].attempts, 1,
        "the first attempt does not count"
    );
    node.signal(Signal::INT);
    assert!(node.process.wait().unwrap().success());
}
