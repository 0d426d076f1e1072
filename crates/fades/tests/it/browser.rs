//! A browser without a window, spoken to over the protocol that its own tools
//! use, through two pipes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{LONG, skipped};

/// The program, and Debian's package of the same name.
const PROGRAM: &str = "chromium";

/// How often a page is looked at while something is waited for.
const GLANCE: Duration = Duration::from_millis(30);

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: Option<String>,
    calls: u64,
    /// What it told that nobody asked for.
    told: VecDeque<Value>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts one; if there is none, says which test is skipped.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|f| f.join(PROGRAM).is_file()) {
            skipped(test, "no chromium; apt-get install chromium");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = (folder.path().join("to"), folder.path().join("from"));
        for pipe in [&to, &from] {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<to 4>from", "sh", PROGRAM])
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--user-data-dir=profile",
            ])
            // It shows pages of a node under test and nothing else.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--hide-scrollbars",
            ])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // For both ways: opening neither waits for the browser.
        let open = |pipe| File::options().read(true).write(true).open(pipe).unwrap();
        let (sender, receiver) = channel();
        let answers = BufReader::new(open(&from));
        std::thread::spawn(move || {
            let messages = answers.split(0).map_while(Result::ok);
            let mut parsed = messages.map_while(|m| serde_json::from_slice(&m).ok());
            parsed.try_for_each(|message| sender.send(message))
        });
        let mut browser = Self {
            child,
            to: open(&to),
            from: receiver,
            session: None,
            calls: 0,
            told: VecDeque::new(),
            _folder: folder,
        };
        browser.begin();
        Some(browser)
    }

    fn begin(&mut self) {
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.size(1280, 860);
    }

    /// Has it do something, and gives the answer.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message = self.from.recv_timeout(left).expect("the browser answers");
            if message["id"] == self.calls {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.told.push_back(message);
        }
    }

    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    pub(crate) fn go(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address }));
    }

    /// The value of an expression on the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + LONG;
        // On its way from one page to another it has no answer to give.
        let guarded = format!(
            "(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        );
        while self.value(&guarded) != json!(true) {
            if Instant::now() > deadline {
                let text = self.value("document.body.innerText");
                panic!("waited in vain: {expression}; the page says {text}");
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Waits until the page shows a text.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) {
        self.until(&format!(
            "document.body.innerText.includes({})",
            json!(text)
        ));
    }

    /// Presses a key; of those that write nothing, only the name is given.
    pub(crate) fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            one if one.chars().count() == 1 => one,
            _ => "",
        };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let kind = if text.is_empty() {
            "rawKeyDown"
        } else {
            "keyDown"
        };
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code }),
        );
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }),
        );
    }

    /// Errors that a developer would see in the console.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.value("0");
        let events = self.told.iter();
        let bad = events.filter(|e| match e["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => e["params"]["type"] != "debug",
            Some("Log.entryAdded") => e["params"]["entry"]["level"] != "verbose",
            _ => false,
        });
        bad.map(Value::to_string).collect()
    }

    /// Addresses that were asked for, in order.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.value("0");
        let events = self.told.iter();
        let sent = events.filter(|e| e["method"] == "Network.requestWillBeSent");
        let sent = sent.filter_map(|e| e["params"]["request"]["url"].as_str());
        sent.map(str::to_owned).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended of itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
