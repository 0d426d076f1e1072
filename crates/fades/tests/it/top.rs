//! `fades top` in a terminal of its own, and without one.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::stage::{LONG, Stage, can_run, children, signal};

/// A terminal with a program in it; what the program draws is put together as
/// a terminal does.
struct Terminal {
    child: Child,
    here: File,
    drawn: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    modes: LocalModes,
}

const fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// An empty screen of this size.
fn drawing(rows: u16, columns: u16) -> vt100::Parser {
    let size = |n| NonZero::new(n).expect("a screen has rows and columns");
    vt100::Parser::new(size(rows), size(columns), 0)
}

impl Terminal {
    fn start(stage: &Stage, words: &[&str]) -> Self {
        let here = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&here).unwrap();
        unlockpt(&here).unwrap();
        tcsetwinsize(&here, size(24, 100)).unwrap();
        let name = ptsname(&here, Vec::new()).unwrap().into_string().unwrap();
        let there = || {
            let file = File::options().read(true).write(true).open(&name).unwrap();
            Stdio::from(file)
        };
        let modes = tcgetattr(&here).unwrap().local_modes;
        // A session of its own, whose terminal this is: resizes reach it.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(crate::stage::fades())
            .args(words)
            .current_dir(stage.home())
            .env("HOME", stage.home())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(there())
            .stdout(there())
            .stderr(there())
            .spawn()
            .unwrap();
        let here = File::from(here);
        let mut from = here.try_clone().unwrap();
        let (sender, drawn) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read) = from.read(&mut piece) {
                if read == 0 || sender.send(piece[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = drawing(24, 100);
        Self {
            child,
            here,
            drawn,
            screen,
            modes,
        }
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until what is on the screen is as it should be.
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + LONG;
        while !done(&self.text()) {
            assert!(Instant::now() < deadline, "{what}: {}", self.text());
            match self.drawn.recv_timeout(Duration::from_millis(200)) {
                Ok(bytes) => self.screen.process(&bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {}", self.text()),
            }
        }
    }

    #[track_caller]
    fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.here.write_all(keys.as_bytes()).unwrap();
    }

    /// It ends by itself, and leaves the terminal as it was; its exit code.
    #[track_caller]
    fn ends(mut self) -> Option<i32> {
        let deadline = Instant::now() + LONG;
        let code = loop {
            while let Ok(bytes) = self.drawn.try_recv() {
                self.screen.process(&bytes);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        // The last of what it wrote may come after its end.
        while let Ok(bytes) = self.drawn.recv_timeout(Duration::from_millis(300)) {
            self.screen.process(&bytes);
        }
        let screen = self.screen.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert_eq!(tcgetattr(&self.here).unwrap().local_modes, self.modes);
        assert!(self.modes.contains(LocalModes::ICANON | LocalModes::ECHO));
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended of itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LOOP: [&str; 6] = ["submit", "misbehave", "--param", "do=loop", "--cpu", "60s"];

#[test]
fn what_happens_is_drawn_as_it_happens_and_the_terminal_is_given_back() {
    if !can_run("what_happens_is_drawn_as_it_happens") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
    stage.publish(&["misbehave"]);
    let mut terminal = Terminal::start(&stage, &["top", "--folder", "fades-node"]);
    terminal.shows("live");
    terminal.shows("no tasks yet");
    let named = |name| [&LOOP[..], &["--name", name, "--id", name]].concat();
    stage.run(&named("busy")).good();
    terminal.until("it runs", |s| {
        s.lines()
            .any(|l| l.contains("running") && l.contains("busy"))
    });
    stage.run(&["cancel", "busy"]).good();
    terminal.until("it was cancelled", |s| {
        s.lines()
            .any(|l| l.contains("cancelled") && l.contains("busy"))
    });
    terminal.shows("cancelled by");
    // Other views, keys, the list of keys.
    terminal.press("\t");
    terminal.shows("house/north");
    terminal.press("\t");
    terminal.shows("development keys are trusted");
    terminal.press("?");
    terminal.shows("ends the command");
    terminal.press("\x1b");
    terminal.until("the list is gone", |s| !s.contains("ends the command"));
    terminal.press("1");
    terminal.shows("PHASES");
    // A larger terminal is used, a small one is no reason to fail.
    for (rows, columns) in [(40, 140), (5, 20), (24, 100)] {
        tcsetwinsize(&terminal.here, size(rows, columns)).unwrap();
        terminal.screen = drawing(rows, columns);
        terminal.shows("here");
    }
    terminal.shows("PHASES");
    node.kill();
    terminal.shows("LOST");
    let _node = stage.node();
    terminal.shows("live");
    terminal.until("what ended before is there", |s| {
        s.contains("busy") && !s.contains("LOST")
    });
    terminal.press("q");
    assert_eq!(terminal.ends(), Some(0));
}

#[test]
fn whatever_ends_it_the_terminal_is_given_back() {
    if !can_run("whatever_ends_it_the_terminal_is_given_back") {
        return;
    }
    let stage = Stage::with_node();
    let _node = stage.node();
    let start = || {
        let mut terminal = Terminal::start(&stage, &["top", "--folder", "fades-node"]);
        terminal.shows("live");
        terminal
    };
    let mut terminal = start();
    terminal.press("\x03");
    assert_eq!(terminal.ends(), Some(0));
    for kind in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = start();
        // `setsid` becomes the program, or waits for it where it leads a group.
        let child = terminal.child.id();
        let pid = children(child).first().map_or(child, |(pid, _)| *pid);
        signal(pid, kind);
        assert_eq!(terminal.ends(), Some(0), "{kind:?}");
    }
    // A node that is not there is told in words.
    let mut terminal = Terminal::start(&stage, &["top", "--folder", "nowhere"]);
    terminal.shows("error:");
    assert_eq!(terminal.ends(), Some(2));
}

#[test]
fn without_a_terminal_it_says_once_how_things_are() {
    if !can_run("without_a_terminal_it_says_once_how_things_are") {
        return;
    }
    let stage = Stage::with_node();
    let node = stage.node();
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
    stage.run(&[&LOOP[..], &["--name", "busy"]].concat()).good();
    let words = ["top", "--folder", "fades-node"];
    crate::stage::until("the task runs", || {
        stage.run(&words).good().out.contains("running    busy")
            || stage.run(&words).good().out.contains("running  busy")
    });
    let text = stage.run(&words).good().out;
    for word in [
        "here FADES ",
        "running 1 of ",
        "first",
        "COMPUTE",
        "house/north",
        "better: keys",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    node.kill();
    stage.run(&words).said(2, &["cannot reach node here"]);
}
