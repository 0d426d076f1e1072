//! The terminal: taken at the beginning, given back at every end, and what
//! keys do.

use fades_task::time::Time;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw;
use super::model::Model;
use crate::problem::{Attempt, Problem};

/// Rows that a page moves by.
const PAGE: isize = 15;

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// What runs, waits and ended.
    Tasks,
    /// Devices and how they do.
    Devices,
    /// How the node is.
    Node,
}

impl View {
    /// All of them, in the order of the tabs.
    pub(super) const ALL: [Self; 3] = [Self::Tasks, Self::Devices, Self::Node];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Tasks => "Tasks",
            Self::Devices => "Devices",
            Self::Node => "Node",
        }
    }

    fn after(self, by: usize) -> Self {
        let at = Self::ALL
            .iter()
            .position(|v| *v == self)
            .unwrap_or_default();
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) view: View,
    /// The row that is marked.
    pub(super) row: usize,
    /// The keys are listed.
    pub(super) help: bool,
    /// The terminal has colours.
    pub(super) colour: bool,
}

/// What became of a key.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Pressed {
    /// Go on.
    Seen,
    /// It was the last.
    End,
}

/// A terminal that is drawn on.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    look: Look,
}

impl Screen {
    /// Takes the terminal. When a thread panics, it is given back before the
    /// words of the panic are printed.
    pub(super) fn open(colour: bool) -> Result<Self, Problem> {
        let terminal = ratatui::try_init().or_problem(|| "cannot use this terminal".to_owned())?;
        let look = Look {
            view: View::Tasks,
            row: 0,
            help: false,
            colour,
        };
        Ok(Self { terminal, look })
    }

    /// Gives the terminal back.
    pub(super) fn close(self) {
        drop(self);
    }

    pub(super) fn draw(&mut self, model: &Model, now: Time) -> Result<(), Problem> {
        let rows = draw::rows(model, self.look.view);
        self.look.row = self.look.row.min(rows.saturating_sub(1));
        let look = self.look;
        let drawn = self
            .terminal
            .draw(|frame| draw::all(frame, model, look, now));
        drawn
            .map(drop)
            .or_problem(|| "cannot draw on this terminal".to_owned())
    }

    pub(super) fn press(&mut self, key: &KeyEvent, model: &Model) -> Pressed {
        self.look.press(key, draw::rows(model, self.look.view))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Look {
    /// What a key does, where there are so many rows.
    fn press(&mut self, key: &KeyEvent, rows: usize) -> Pressed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Pressed::End,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::End,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Tab | KeyCode::Right => self.to(self.view.after(1)),
            KeyCode::BackTab | KeyCode::Left => self.to(self.view.after(2)),
            KeyCode::Char('1') => self.to(View::Tasks),
            KeyCode::Char('2') => self.to(View::Devices),
            KeyCode::Char('3') => self.to(View::Node),
            KeyCode::Down | KeyCode::Char('j') => self.step(1, rows),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1, rows),
            KeyCode::PageDown | KeyCode::Char(' ') => self.step(PAGE, rows),
            KeyCode::PageUp => self.step(-PAGE, rows),
            KeyCode::Home | KeyCode::Char('g') => self.row = 0,
            KeyCode::End | KeyCode::Char('G') => self.row = rows.saturating_sub(1),
            _ => {}
        }
        Pressed::Seen
    }

    fn to(&mut self, view: View) {
        (self.view, self.row) = (view, 0);
    }

    fn step(&mut self, by: isize, rows: usize) {
        let last = rows.saturating_sub(1);
        self.row = self.row.saturating_add_signed(by).min(last);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{Look, Pressed, View};

    fn look() -> Look {
        Look {
            view: View::Tasks,
            row: 0,
            help: false,
            colour: true,
        }
    }

    fn press(look: &mut Look, code: KeyCode) -> Pressed {
        look.press(&KeyEvent::new(code, KeyModifiers::NONE), 30)
    }

    #[test]
    fn the_mark_stays_on_the_rows_that_there_are() {
        let mut look = look();
        for (code, row) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 16),
            (KeyCode::PageDown, 29),
            (KeyCode::Down, 29),
            (KeyCode::PageUp, 14),
            (KeyCode::Home, 0),
            (KeyCode::End, 29),
        ] {
            assert_eq!(press(&mut look, code), Pressed::Seen);
            assert_eq!(look.row, row, "{code:?}");
        }
        let down = KeyEvent::new(KeyCode::Down, KeyModifiers::NONE);
        let mut empty = super::tests::look();
        assert_eq!(empty.press(&down, 0), Pressed::Seen);
        assert_eq!(empty.row, 0);
    }

    /// Says that this process is the one that panics.
    const PANICS: &str = "FADES_TEST_SCREEN_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_before_its_words_are_printed() {
        if std::env::var_os(PANICS).is_some() {
            let _screen = super::Screen::open(true).unwrap();
            panic!("something unforeseen");
        }
        // This test again, in a terminal of its own.
        let me = std::env::current_exe().unwrap();
        let test = "a_panic_gives_the_terminal_back_before_its_words_are_printed";
        let command = format!("{} {test} --nocapture", me.display());
        let ended = std::process::Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env(PANICS, "1")
            .env("TERM", "xterm-256color")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(!ended.status.success());
        let text = String::from_utf8_lossy(&ended.stdout);
        let at = |what: &str| {
            text.find(what)
                .unwrap_or_else(|| panic!("{what:?}: {text:?}"))
        };
        // Another screen, this one again, and only then the words.
        assert!(at("\x1b[?1049h") < at("\x1b[?1049l"), "{text:?}");
        assert!(at("\x1b[?1049l") < at("something unforeseen"), "{text:?}");
    }

    #[test]
    fn escape_ends_the_help_first() {
        let mut look = look();
        for key in [KeyCode::Char('?'), KeyCode::Esc] {
            assert_eq!(press(&mut look, key), Pressed::Seen);
        }
        assert!(!look.help);
        assert_eq!(press(&mut look, KeyCode::Esc), Pressed::End);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(look.press(&control, 1), Pressed::End);
        assert_eq!(press(&mut look, KeyCode::Char('c')), Pressed::Seen);
    }
}
