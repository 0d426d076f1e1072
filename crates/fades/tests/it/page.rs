//! The page of a node, in a browser and without one.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::browser::Browser;
use crate::stage::{Begun, LONG, Stage, can_run, signal, until};

/// A name that would do something, were it markup.
const EVIL: &str = "<img src=x onerror=window.hacked=1>";

/// One task at a time, and a device with such a name.
fn stage() -> Stage {
    let stage = Stage::with_node();
    let file = stage.folder().join("node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replacen("# parallel = 2 ", "parallel = 1   ", 1);
    assert!(text.contains("\nparallel = 1"));
    let source = "\n[source.odd]\ntype = \"csv\"\nfiles = \"odd.csv\"\ntime = { column = \"time\" }\n\
                  device = \"{who}\"\nlocation = \"yard\"\n\
                  points = [{ column = \"level\", unit = \"m\" }]\n";
    std::fs::write(&file, text + source).unwrap();
    let rows =
        format!("time,who,level\n2026-07-01T00:00:00Z,{EVIL},1\n2026-07-01T00:01:00Z,{EVIL},2\n");
    stage.write("fades-node/odd.csv", rows);
    stage
}

/// `fades page`, and the address that it prints.
struct Page {
    command: Begun,
    address: String,
}

fn page(stage: &Stage) -> Page {
    let command = stage.begin(&["page", "fades-node"]);
    let line = command.line().expect("it prints the address");
    let address = line.strip_prefix("here: ").expect(&line).to_owned();
    Page { command, address }
}

impl Page {
    fn host(&self) -> &str {
        let rest = self.address.strip_prefix("http://").unwrap();
        rest.split('/').next().unwrap()
    }

    /// Sends a request of these lines; gives the stream, out of which the
    /// answer can be read.
    fn send(&self, lines: &[&str]) -> TcpStream {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
            .write_all((lines.join("\r\n") + "\r\n\r\n").as_bytes())
            .unwrap();
        stream
    }

    /// The whole answer to a GET, of a path and with more lines.
    fn get(&self, path: &str, lines: &[&str]) -> String {
        let host = format!("Host: {}", self.host());
        let first = format!("GET {path} HTTP/1.1");
        let mut all = vec![&*first, "Connection: close"];
        if !lines.iter().any(|l| l.starts_with("Host:")) {
            all.push(&host);
        }
        all.extend(lines);
        let mut answer = String::new();
        self.send(&all).read_to_string(&mut answer).unwrap();
        answer
    }

    /// The line with the cookie that the key gives.
    fn cookie(&self) -> String {
        let path = self
            .address
            .strip_prefix(&format!("http://{}", self.host()));
        let answer = self.get(path.unwrap(), &[]);
        let line = answer
            .lines()
            .find_map(|l| l.strip_prefix("set-cookie: "))
            .unwrap();
        format!("Cookie: {}", line.split(';').next().unwrap())
    }
}

#[track_caller]
fn is(answer: &str, status: u16) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
}

#[test]
fn the_way_to_the_page_is_open_to_its_user_alone_and_only_for_reading() {
    if !can_run("the_way_to_the_page_is_open_to_its_user_alone") {
        return;
    }
    let stage = stage();
    stage
        .run(&["page", "fades-node"])
        .said(2, &["cannot reach node here", "fades node"]);
    let node = stage.node();
    let page = page(&stage);
    let port = page.host().rsplit_once(':').unwrap().1.to_owned();
    stage
        .run(&["page", "fades-node", "--port", &port])
        .said(2, &["cannot listen", "--port"]);
    let cookie = page.cookie();
    let cookie = cookie.as_str();
    is(&page.get("/v1/node", &[]), 401);
    is(&page.get("/?key=0000", &[]), 401);
    is(&page.get("/v1/node", &[cookie, "Host: evil.example"]), 421);
    is(
        &page.get("/v1/node", &[cookie, "Origin: http://evil.example"]),
        403,
    );
    is(&page.get("/elsewhere", &[cookie]), 404);
    let post = [
        &format!("POST /v1/reload HTTP/1.1\r\nHost: {}", page.host()),
        cookie,
        "Connection: close",
        "Content-Length: 0",
    ];
    let mut answer = String::new();
    page.send(&post).read_to_string(&mut answer).unwrap();
    is(&answer, 405);
    let html = page.get("/", &[cookie]);
    is(&html, 200);
    assert!(html.contains("content-security-policy: default-src 'none'"));
    // What the browser says of itself does not make somebody else of the user.
    let list = page.get("/v1/tasks?limit=1", &[cookie, "Authorization: FADES e30"]);
    is(&list, 200);
    // A node that is gone is said, and found again when it is back.
    node.kill();
    let away = page.get("/v1/node", &[cookie]);
    is(&away, 502);
    assert!(away.contains("cannot reach node here"), "{away}");
    let _node = stage.node();
    is(&page.get("/v1/node", &[cookie]), 200);
    signal(page.command.pid(), Signal::INT);
    assert_eq!(page.command.code(), Some(0));
}

#[test]
fn browsers_that_went_away_do_not_keep_the_node_busy() {
    if !can_run("browsers_that_went_away_do_not_keep_the_node_busy") {
        return;
    }
    let stage = stage();
    let _node = stage.node();
    let page = page(&stage);
    let cookie = page.cookie();
    // A node has sixteen places for those who watch it as its operator.
    for _ in 0..40 {
        let host = format!("Host: {}", page.host());
        let lines = ["GET /v1/events HTTP/1.1", &host, &cookie];
        // A place becomes free as soon as its browser is seen to have gone.
        until("there is a place to watch from", || {
            let mut stream = page.send(&lines);
            let (mut text, mut piece) = (String::new(), [0; 512]);
            while !text.contains("event: node") {
                let read = stream.read(&mut piece).unwrap();
                text += std::str::from_utf8(&piece[..read]).unwrap();
                if text.starts_with("HTTP/1.1 503") {
                    return false;
                }
                assert!(read > 0, "{text}");
            }
            true
        });
    }
}

/// Whether the page has a link to a run of this name in the panel of this title.
fn listed(panel: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('.panel')].some(p => p.querySelector('h2').textContent === '{panel}' \
         && [...p.querySelectorAll('tbody a')].some(a => a.textContent === '{name}'))"
    )
}

const LOOP: [&str; 5] = ["misbehave", "--param", "do=loop", "--cpu", "60s"];

#[test]
fn what_happens_is_seen_as_it_happens() {
    let test = "what_happens_is_seen_as_it_happens";
    if !can_run(test) {
        return;
    }
    let Some(mut browser) = Browser::start(test) else {
        return;
    };
    let stage = stage();
    let _node = stage.node();
    stage.publish(&["misbehave", "summary"]);
    let page = page(&stage);
    browser.go(&page.address);
    browser.until("document.getElementById('link').dataset.state === 'live'");
    browser.shows("Nothing runs.");
    // Were the page loaded again, this would be gone.
    browser.value("window.mark = 1");
    let submit = |words: &[&str]| {
        stage.run(&[&["submit"], words].concat()).good();
    };
    submit(&[&LOOP[..], &["--name", "busy", "--id", "busy"]].concat());
    browser.until(&listed("Running", "busy"));
    submit(&[
        "summary",
        "--source",
        "odd",
        "--param",
        "by=device",
        "--name",
        "levels",
        "--id",
        "levels",
    ]);
    browser.until(&listed("Queue", "levels"));
    browser.value("location.hash = '#run/levels'");
    browser.shows("queued");
    stage.run(&["cancel", "busy"]).good();
    // The answer, its chart and what stood behind it.
    browser.until("document.querySelector('h1').textContent.includes('done')");
    browser.shows("groups");
    browser.shows("1 of 1");
    browser.shows(EVIL);
    browser.value("location.hash = '#now'");
    browser.until(&listed("Latest ends", "busy"));
    browser.until("document.querySelectorAll('.phases li').length === 2");
    for view in ["devices", "node", "functions", "standing", "history"] {
        browser.value(&format!("location.hash = '#{view}'"));
        browser.until(&format!(
            "document.querySelector('nav [aria-current]').dataset.view === '{view}'"
        ));
        if view == "devices" {
            browser.shows(EVIL);
        }
    }
    browser.until("document.querySelectorAll('main tbody tr').length === 2");
    assert_eq!(browser.value("window.mark"), 1);
    assert_eq!(
        browser.value("[window.hacked ?? 0, document.images.length].join()"),
        "0,0"
    );
    narrow(&mut browser);
    let base = format!("http://{}/", page.host());
    let requests = browser.requests();
    assert!(
        requests.iter().all(|r| r.starts_with(&base)),
        "{requests:?}"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// As wide as a small phone: nothing has to be scrolled sideways.
fn narrow(browser: &mut Browser) {
    browser.size(360, 740);
    for view in [
        "now",
        "history",
        "standing",
        "devices",
        "functions",
        "node",
        "run/levels",
    ] {
        browser.value(&format!("location.hash = '#{view}'"));
        browser.until("document.querySelectorAll('main tbody tr, main .empty').length > 0");
        browser.until("!document.querySelector('main').textContent.includes('…')");
        let wide = browser.value("document.documentElement.scrollWidth");
        assert_eq!(wide, 360, "{view}");
    }
    browser.size(1280, 860);
}

#[test]
fn a_lost_node_is_said_and_what_was_missed_is_shown_when_it_is_back() {
    let test = "a_lost_node_is_said_and_what_was_missed_is_shown";
    if !can_run(test) {
        return;
    }
    let Some(mut browser) = Browser::start(test) else {
        return;
    };
    let stage = stage();
    let node = stage.node();
    stage.publish(&["misbehave"]);
    let page = page(&stage);
    browser.go(&page.address);
    browser.until("document.getElementById('link').dataset.state === 'live'");
    browser.value("window.mark = 1");
    node.kill();
    browser.shows("Connection lost at ");
    browser.shows("What is shown is as it was then.");
    browser.until("document.body.classList.contains('stale')");
    let _node = stage.node();
    stage.run(&[
        "submit",
        "misbehave",
        "--param",
        "do=log",
        "--name",
        "meanwhile",
        "--wait",
    ]);
    browser.shows("Connected again at ");
    browser.until(&listed("Latest ends", "meanwhile"));
    browser.until("!document.body.classList.contains('stale')");
    assert_eq!(browser.value("window.mark"), 1);
    // The way there is lost as well when the command ends.
    signal(page.command.pid(), Signal::INT);
    assert_eq!(page.command.code(), Some(0));
    browser.shows("nobody answers");
}

#[test]
fn what_the_page_asks_for_at_first_is_little() {
    let test = "what_the_page_asks_for_at_first_is_little";
    if !can_run(test) {
        return;
    }
    let Some(mut browser) = Browser::start(test) else {
        return;
    };
    let stage = stage();
    let _node = stage.node();
    let page = page(&stage);
    browser.go(&page.address);
    browser.until("document.getElementById('link').dataset.state === 'live'");
    browser.until("document.querySelectorAll('.figures div').length > 0");
    let requests = browser.requests();
    let asked: Vec<&String> = requests.iter().filter(|r| r.contains("/v1/")).collect();
    // Whatever the store holds: the node about itself, a stream, and five lists.
    assert!((3..=9).contains(&asked.len()), "{asked:?}");
    for list in asked.iter().filter(|r| r.contains("/v1/tasks")) {
        let limit = list
            .split("limit=")
            .nth(1)
            .and_then(|l| l.parse::<u32>().ok());
        assert!(limit.is_some_and(|l| l <= 60), "{list}");
    }
    // Nothing is asked again while nothing happens.
    let before = requests.len();
    browser.value("new Promise(done => setTimeout(done, 3000))");
    assert!(browser.requests().len() <= before + 2);
}

#[test]
fn everything_is_reached_by_keyboard() {
    let test = "everything_is_reached_by_keyboard";
    if !can_run(test) {
        return;
    }
    let Some(mut browser) = Browser::start(test) else {
        return;
    };
    let stage = stage();
    let _node = stage.node();
    stage.publish(&["misbehave"]);
    stage.run(&[
        "submit",
        "misbehave",
        "--param",
        "do=log",
        "--name",
        "first",
        "--wait",
    ]);
    let page = page(&stage);
    browser.go(&page.address);
    browser.until(&listed("Latest ends", "first"));
    let focus = "document.activeElement.textContent.trim()";
    browser.press("Tab");
    assert_eq!(browser.value(focus), "Skip to the content");
    let ring = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.value(ring), "solid");
    browser.press("Enter");
    assert_eq!(browser.value("document.activeElement.id"), "main");
    browser.press("2");
    browser.until("document.querySelector('h1').textContent === 'History'");
    assert_eq!(browser.value("document.activeElement.tagName"), "H1");
    browser.until("document.querySelectorAll('main tbody a').length === 1");
    browser.press("j");
    assert_eq!(browser.value(focus), "first");
    browser.press("Enter");
    browser.until("document.querySelector('h1').textContent.startsWith('first')");
    browser.shows("a quiet line");
    browser.press("u");
    browser.until("document.querySelector('h1').textContent === 'History'");
    // In a field, letters are letters.
    browser.press("/");
    browser.press("Tab");
    browser.press("1");
    assert_eq!(browser.value("document.activeElement.value"), "1");
    assert_eq!(
        browser.value("document.querySelector('h1').textContent"),
        "History"
    );
    browser.value("document.activeElement.blur()");
    browser.press("?");
    browser.until("document.getElementById('help').open");
    assert_eq!(
        browser.value("document.querySelectorAll('#help-keys tr').length > 5"),
        true
    );
    browser.press("Escape");
    browser.until("!document.getElementById('help').open");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
