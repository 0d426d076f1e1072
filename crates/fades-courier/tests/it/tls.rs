//! Certificates of both sides.

use crate::mqtt::certificates;
use crate::node::{Node, folder};
use crate::server::{Server, status};

#[test]
fn only_a_server_that_is_trusted_gets_anything() {
    let folder = folder();
    certificates(folder.path(), "127.0.0.1");
    let server = Server::secure(folder.path(), |_| status(204));
    let at = |name: &str, more: &str| {
        let url = server.url("/");
        format!("[destination.{name}]\nurl = \"{url}\"\ntoken-file = \"token\"\n{more}\n")
    };
    let own = "certificate-file = \"client.pem\"\nkey-file = \"client.key\"\n";
    let ca = "ca-file = \"ca.pem\"\n";
    let named = at("named", ca).replace("127.0.0.1", "localhost");
    let inbox = format!("[inbox.in]\nurl = \"{}\"\n{ca}", server.url("/in"));
    let tables = [
        at("good", ca),
        at("mutual", &format!("{ca}{own}")),
        at("web", ""),
        at("gone", "ca-file = \"none.pem\""),
        named,
        inbox,
    ];
    let mut node = Node::start_in(folder, &tables.concat());
    let mut outcome = |parcel, name: &str| {
        node.deliver(parcel, &format!("destination.{name}"), b"{}");
        node.outcome(parcel).map_err(|why| {
            assert!(!why.refused);
            why.reason
        })
    };
    outcome(1, "good").unwrap();
    outcome(2, "mutual").unwrap();
    let wrong = |outcome: Result<(), String>, words: &str| {
        let reason = outcome.unwrap_err();
        assert!(reason.contains(words), "{reason}");
    };
    wrong(outcome(3, "web"), "not trusted");
    wrong(outcome(4, "gone"), "none.pem cannot be used");
    wrong(outcome(5, "named"), "another name");
    let state = node.inbox("in", |s| s.asked.is_some());
    assert_eq!(state.error, None);
    assert!(server.asked("POST", 2).len() == 2, "the others got nothing");
}
