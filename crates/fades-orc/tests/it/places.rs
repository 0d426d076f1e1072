//! Folders, sockets, keys and disks that a node cannot use.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use fades_orc::api::types::TaskState;
use serde_json::json;

use crate::certificates::Authority;
use crate::client::{over_socket, over_tls};
use crate::site::{Site, header, task};

#[test]
fn two_nodes_never_share_a_folder_or_a_socket() {
    let site = Site::new();
    let node = site.start();
    let words = site.fails_to_start();
    assert!(words.contains("another node (process"), "{words}");
    assert!(words.contains(&node.process.id().to_string()), "{words}");
    let neighbour = Site::new();
    std::os::unix::fs::symlink(site.path("api.sock"), neighbour.path("api.sock")).unwrap();
    let words = neighbour.fails_to_start();
    assert!(words.contains("no socket"), "{words}");
    std::fs::remove_file(neighbour.path("api.sock")).unwrap();
    std::fs::hard_link(site.path("api.sock"), neighbour.path("api.sock")).unwrap();
    let words = neighbour.fails_to_start();
    assert!(words.contains("already listens"), "{words}");
}

#[test]
fn a_node_that_was_killed_leaves_nothing_that_stops_the_next_one() {
    let site = Site::new();
    let mut node = site.start();
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    assert!(site.path("api.sock").exists());
    let next = site.start_bare();
    assert_eq!(next.info().functions, 1);
}

#[test]
fn a_broker_that_refuses_its_configuration_stops_the_start() {
    let site = Site::new().with("sources", json!({ "refuse": "source.x: no files match" }));
    let words = site.fails_to_start();
    assert!(words.contains("source.x: no files match"), "{words}");
}

#[test]
fn a_table_of_keys_with_a_mistake_stops_the_start_and_later_each_request() {
    let site = Site::new();
    let node = site.start();
    let good = std::fs::read_to_string(site.path("trust.toml")).unwrap();
    std::fs::write(site.path("trust.toml"), format!("{good}colour = 1\n")).unwrap();
    node.submit(&task("t1", |_| ())).refuses(500, "colour");
    drop(node);
    let words = site.fails_to_start();
    assert!(words.contains("colour"), "{words}");
}

#[test]
fn a_key_that_is_no_longer_trusted_is_refused_at_once() {
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    std::fs::write(site.path("trust.toml"), "").unwrap();
    node.submit(&task("t2", |_| ()))
        .refuses(401, "does not trust");
}

#[test]
fn over_tcp_as_over_the_socket_a_signature_counts_instead_of_who_connects() {
    let authority = Authority::new("clients");
    let (site, address) = Site::new().listening(&authority);
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    node.result("t1");
    let operator = authority.client(&["urn:fades:operator"]);
    let ask = |header: Option<&str>, path| {
        over_tls(address, &operator, ("GET", path), header, b"").unwrap()
    };
    assert_eq!(ask(None, "/v1/tasks").status, 200);
    let signed = header(3, "GET", "/v1/tasks", "n1");
    assert_eq!(ask(Some(&signed), "/v1/tasks").status, 200);
    ask(Some(&signed), "/v1/tasks").refuses(401, "served already");
    let other = header(3, "GET", "/v1/functions", "n2");
    ask(Some(&other), "/v1/tasks").refuses(403, "sign each request");
    let publisher = header(2, "GET", "/v1/tasks", "n3");
    ask(Some(&publisher), "/v1/tasks").refuses(403, "may not read");
    node.ask_as(&header(2, "GET", "/v1/tasks", "n7"), "GET", "/v1/tasks")
        .refuses(403, "may not read");
    let unknown = header(9, "GET", "/v1/tasks", "n4");
    node.ask_as(&unknown, "GET", "/v1/tasks")
        .refuses(401, "does not trust");

    // Whoever submits for a service sees that service's tasks, and no others.
    let own = header(1, "GET", "/v1/tasks/t1", "n5");
    assert_eq!(node.ask_as(&own, "GET", "/v1/tasks/t1").status, 200);
    let foreign = header(4, "GET", "/v1/tasks/t1", "n6");
    node.ask_as(&foreign, "GET", "/v1/tasks/t1")
        .refuses(404, "no task t1");
    let foreign = header(4, "POST", "/v1/tasks/t1/cancel", "n7");
    node.ask_as(&foreign, "POST", "/v1/tasks/t1/cancel")
        .refuses(404, "no task t1");
    let reader = header(3, "POST", "/v1/tasks/t1/cancel", "n8");
    node.ask_as(&reader, "POST", "/v1/tasks/t1/cancel")
        .refuses(403, "may not submit");
}

#[test]
fn a_full_disk_refuses_tasks_and_loses_none() {
    let site = Site::new();
    let state = site.path("state");
    std::fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
        .arg(&state)
        .output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        skipped(
            "a_full_disk_refuses_tasks_and_loses_none: only root can mount a small file system",
        );
        return;
    }
    let _unmount = Unmount(&state);
    let mut node = site.start();
    node.takes(&task("blocked", |t| {
        t["retrieve"][0]["source"] = "slow".into();
    }));
    node.wait_for_tender("blocked");
    let mut taken = Vec::new();
    let mut refused = None;
    for n in 0..2000 {
        let id = format!("t{n}");
        let answer = node.submit(&task(&id, |t| {
            t["function"]["params"] = json!({ "act": "hang", "ballast": "x".repeat(20_000) });
        }));
        if answer.status != 201 {
            refused = Some((id, answer));
            break;
        }
        taken.push(id);
    }
    let (id, answer) = refused.expect("the disk is full some time");
    answer.refuses(507, "no room left");
    node.get(&format!("/v1/tasks/{id}")).refuses(404, "no task");
    // Now not even a state fits. What cannot be stored is tried again, and
    // nothing that builds on it happens before.
    let filled = std::fs::write(state.join("ballast"), vec![0; 1 << 20]);
    assert!(filled.is_err());
    // Room that the store has already, because it was used before, is used up.
    let mut small = (0..2000).map(|n| format!("s{n}"));
    let full = |id: &str| node.submit(&task(id, |_| ())).status == 507;
    assert!(small.any(|id| full(&id)), "the store is full some time");
    std::thread::scope(|scope| {
        let socket = site.path("api.sock");
        let cancel = scope.spawn(move || {
            let asked = ("POST", "/v1/tasks/blocked/cancel");
            over_socket(&socket, asked, None, b"").unwrap()
        });
        node.wait_until("the store is known to fail", |node| {
            node.info().store_error.is_some()
        });
        assert!(
            !node.info().tenders.is_empty(),
            "nothing is killed before that is stored"
        );
        grow(&state);
        let answer = cancel.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    });
    node.wait_until("the store works again", |node| {
        node.info().store_error.is_none()
    });
    assert_eq!(node.result("blocked").state, TaskState::Cancelled);
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    drop(node);
    let node = site.start_bare();
    for id in taken {
        assert_eq!(node.get(&format!("/v1/tasks/{id}")).status, 200);
    }
}

#[test]
fn another_user_of_the_socket_is_not_the_operator() {
    let nobody = rustix::process::Uid::from_raw(65_534);
    if !rustix::process::geteuid().is_root() {
        skipped(
            "another_user_of_the_socket_is_not_the_operator: only root can become another user",
        );
        return;
    }
    let site = Site::new();
    let node = site.start();
    for (name, mode) in [("", 0o711), ("api.sock", 0o666)] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(site.path(name), mode).unwrap();
    }
    let ask = |asked: (&'static str, &'static str)| {
        let socket = site.path("api.sock");
        let other = std::thread::spawn(move || {
            // Of this thread alone: the connection carries its user.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            over_socket(&socket, asked, None, b"").unwrap()
        });
        other.join().unwrap()
    };
    ask(("GET", "/v1/tasks")).refuses(401, "sign the request");
    ask(("POST", "/v1/tasks/t1/cancel")).refuses(401, "sign the request");
    assert_eq!(node.get("/v1/tasks").status, 200);
}

#[expect(
    clippy::print_stdout,
    reason = "skipped tests are counted from the output"
)]
pub(crate) fn skipped(why: &str) {
    println!("SKIPPED: {why}");
}

fn grow(folder: &std::path::Path) {
    let grown = Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(folder)
        .status();
    assert!(grown.unwrap().success());
}

struct Unmount<'a>(&'a std::path::Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
