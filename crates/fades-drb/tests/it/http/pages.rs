//! Lists on several pages, and answers that did not change.

use std::time::Duration;

use serde_json::json;

use super::{ONE, ask, now, start};
use crate::web::{Reply, Web};

fn page(path: &str, next: Option<String>) -> Reply {
    let link = |to| ("Link".to_owned(), format!("<{to}>; rel=\"next\""));
    let body = json!([{ "id": path, "t": 1, "h": 2 }]).to_string();
    Reply::Status(200, next.map(link).into_iter().collect(), body.into_bytes())
}

#[test]
fn pages_in_a_circle_are_read_once() {
    for circle in [
        ["/a", "/b", "/c", "/a"].as_slice(),
        &["/a", "/b", "/c", "/b"],
        &["/a", "/a"],
        &["/a", "/b", "/b"],
    ] {
        let steps: Vec<String> = circle.iter().map(|s| (*s).to_owned()).collect();
        let pages: std::collections::BTreeSet<String> = steps.iter().cloned().collect();
        let web = Web::start(move |asked| {
            let at = steps
                .iter()
                .rposition(|s| *s == asked.path && Some(s) != steps.last());
            let at = at
                .or_else(|| steps.iter().position(|s| *s == asked.path))
                .unwrap();
            page(&asked.path, steps.get(at + 1).cloned())
        });
        let rest = format!("{ONE}items = \"\"\npages = 100\n");
        let coverage = ask(&format!("{}/a", web.url), &rest).0.good();
        assert_eq!(coverage.matched as usize, pages.len(), "{circle:?}");
        assert_eq!(
            coverage.rows as usize,
            2 * pages.len(),
            "each page once: {circle:?}"
        );
        assert_eq!(web.asked().len(), pages.len(), "{circle:?}");
    }
}

#[test]
fn a_page_at_another_host_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "geheim\n").unwrap();
    let other = Web::start(|_| page("/stolen", None));
    let port = other.url.rsplit(':').next().unwrap().to_owned();
    for to in [
        format!("{}/x", other.url),
        format!("//127.0.0.1:{port}/x"),
        format!("http://127.0.0.1:{port}"),
        format!("HTTP://127.0.0.1:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("https://127.0.0.1:{port}/x"),
    ] {
        let shown = to.clone();
        let web = Web::start(move |asked| match asked.path.as_str() {
            "/list" => page("/list", Some(to.clone())),
            _ => Reply::Status(302, vec![("Location".to_owned(), to.clone())], Vec::new()),
        });
        for path in ["list", "moved"] {
            let rest = format!(
                "{ONE}items = \"\"\npages = 3\nheaders = {{ X-Tenant = \"lab\" }}\n\
                 [source.web.auth]\ntoken-file = \"token\"\n"
            );
            let table = super::table(&format!("{}/{path}", web.url), &rest);
            let broker =
                crate::broker::Broker::start(&crate::broker::sources(&table), folder.path());
            let text = broker.run(&[now()]).0.failure_text();
            assert!(text.contains("another server"), "{shown}: {text}");
            assert!(!text.contains("geheim"), "{text}");
        }
        let asked = web.asked();
        assert!(
            asked
                .iter()
                .all(|a| a.header("authorization") == Some("Bearer geheim"))
        );
    }
    assert_eq!(other.asked().len(), 0, "nobody else is asked anything");
}

#[test]
fn an_answer_that_did_not_change_is_not_sent_again() {
    for (name, value, condition) in [
        ("ETag", "\"v1\"", "if-none-match"),
        (
            "Last-Modified",
            "Mon, 05 Jan 2026 10:00:00 GMT",
            "if-modified-since",
        ),
    ] {
        let web = Web::start(move |asked| {
            if asked.header(condition) == Some(value) {
                return Reply::Status(304, Vec::new(), Vec::new());
            }
            let padding = "x".repeat(100_000);
            let body = json!({ "id": "d", "t": 1, "h": 2, "other": padding });
            let header = (name.to_owned(), value.to_owned());
            Reply::Status(200, vec![header], body.to_string().into_bytes())
        });
        let broker = start(&web.url, ONE);
        let (ended, first) = broker.run(&[now()]);
        let whole = ended.good().bytes;
        assert!(whole > 100_000, "{whole}");
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(1100));
            let (ended, totals) = broker.run(&[now()]);
            let coverage = ended.good();
            assert_eq!(coverage.used, 2, "what it said before still holds");
            assert!((1..1000).contains(&coverage.bytes), "{}", coverage.bytes);
            assert_eq!(totals.of("d", "temperature"), first.of("d", "temperature"));
        }
        assert_eq!(web.asked().len(), 3);
    }
}

#[test]
fn an_answer_on_several_pages_is_asked_for_whole_each_time() {
    let web = Web::start(|asked| {
        assert_eq!(asked.header("if-none-match"), None);
        let next = (asked.path == "/1").then(|| "/2".to_owned());
        match page(&asked.path, next) {
            Reply::Status(status, mut headers, body) => {
                headers.push(("ETag".to_owned(), "\"v1\"".to_owned()));
                Reply::Status(status, headers, body)
            }
            other => other,
        }
    });
    let rest = format!("{ONE}items = \"\"\npages = 2\n");
    let broker = start(&format!("{}/1", web.url), &rest);
    for _ in 0..2 {
        assert_eq!(broker.run(&[now()]).0.good().matched, 2);
        std::thread::sleep(Duration::from_millis(1100));
    }
}
