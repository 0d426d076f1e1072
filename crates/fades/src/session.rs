//! What a subcommand knows of its surroundings: the environment, read once in
//! `main`, and the terminal.

use std::ffi::OsString;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fades_task::time::Time;

use crate::problem::Problem;

/// The variables that the command looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
    /// `FADES_NODE`: a node's name in the user's configuration, or its folder.
    pub(crate) node: Option<String>,
    /// `FADES_TENDER`: the tender's program.
    pub(crate) tender: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: where other tools keep passwords for registries.
    pub(crate) registry_auth: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`: where systemd puts credentials.
    pub(crate) credentials: Option<PathBuf>,
    /// `NOTIFY_SOCKET`: where systemd wants to be told how the node is.
    pub(crate) notify: Option<OsString>,
    /// `WATCHDOG_USEC`: how long the node may be silent there.
    pub(crate) watchdog: Option<Duration>,
    /// `NO_COLOR` is set and not empty.
    pub(crate) no_color: bool,
    /// `TERM` is `dumb`.
    pub(crate) dumb: bool,
}

impl Environment {
    /// Reads the process's environment; only `main` calls this.
    pub(crate) fn read() -> Self {
        let text = |name| std::env::var_os(name).filter(|v: &OsString| !v.is_empty());
        Self {
            home: text("HOME").map(PathBuf::from),
            config_home: text("XDG_CONFIG_HOME").map(PathBuf::from),
            node: text("FADES_NODE").and_then(|v| v.into_string().ok()),
            tender: text("FADES_TENDER").map(PathBuf::from),
            registry_auth: text("REGISTRY_AUTH_FILE").map(PathBuf::from),
            credentials: text("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            notify: text("NOTIFY_SOCKET"),
            watchdog: watchdog(text("WATCHDOG_USEC"), text("WATCHDOG_PID")),
            no_color: text("NO_COLOR").is_some(),
            dumb: text("TERM").is_some_and(|t| t == "dumb"),
        }
    }

    /// Folder of the user's configuration and keys.
    pub(crate) fn config_folder(&self) -> Result<PathBuf, Problem> {
        let base = self
            .config_home
            .clone()
            .filter(|p| p.is_absolute())
            .or_else(|| self.home.as_ref().map(|h| h.join(".config")));
        base.map(|b| b.join("fades")).ok_or_else(|| {
            Problem::new("no folder for the configuration")
                .reason("neither HOME nor XDG_CONFIG_HOME is set")
                .remedy("export HOME=/path/to/your/home")
        })
    }
}

/// How long the node may be silent, when it is this process that is meant.
fn watchdog(micros: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let pid = pid.and_then(|pid| pid.into_string().ok()?.parse().ok());
    let other = pid.is_some_and(|pid: u32| pid != std::process::id());
    let micros = micros?.into_string().ok()?.parse().ok()?;
    (micros > 0 && !other).then(|| Duration::from_micros(micros))
}

/// Colours that the command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Headings and names of columns.
    Strong,
    /// What matters less.
    Faint,
    /// Good ends.
    Good,
    /// Bad ends.
    Bad,
    /// What is neither.
    Odd,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Odd => "33",
        }
    }
}

/// Surroundings of one call.
#[derive(Debug)]
pub(crate) struct Session {
    /// The environment.
    pub(crate) env: Environment,
    data_colour: bool,
    talk_colour: bool,
    live: bool,
}

impl Session {
    /// Looks at the terminal.
    pub(crate) fn new(env: Environment) -> Self {
        let colour = !env.no_color && !env.dumb;
        let live = stderr().is_terminal();
        Self {
            data_colour: colour && stdout().is_terminal(),
            talk_colour: colour && live,
            live: live && !env.dumb,
            env,
        }
    }

    /// Writes data to standard output. A reader that has gone away, as `head`
    /// does, is no error.
    pub(crate) fn data(&self, text: &str) -> Result<(), Problem> {
        self.data_taken(text).map(drop)
    }

    /// As [`Self::data`], for what has no end of its own: whether the reader
    /// is still there.
    pub(crate) fn data_taken(&self, text: &str) -> Result<bool, Problem> {
        let mut out = stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(Problem::new("cannot write to standard output").because(&e)),
        }
    }

    /// Writes a line of talk to standard error.
    pub(crate) fn talk(&self, line: &str) {
        // Nobody can be told that telling failed.
        let _ = writeln!(stderr().lock(), "{line}");
    }

    /// Replaces the current line of the terminal; nothing when there is none.
    pub(crate) fn progress(&self, line: &str) {
        if self.live {
            let _ = write!(stderr().lock(), "\r\x1b[2K{line}");
            let _ = stderr().flush();
        }
    }

    /// Ends a line that [`Self::progress`] wrote.
    pub(crate) fn progress_end(&self) {
        self.progress("");
    }

    /// `text` in a colour, where standard output takes colours.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        painted(self.data_colour, ink, text)
    }

    /// `text` in a colour, where standard error takes colours.
    pub(crate) fn talk_ink(&self, ink: Ink, text: &str) -> String {
        painted(self.talk_colour, ink, text)
    }
}

/// The time by this host's clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
}

fn painted(colour: bool, ink: Ink, text: &str) -> String {
    if colour {
        format!("\x1b[{}m{text}\x1b[0m", ink.code())
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_configuration_follows_xdg_and_falls_back_to_home() {
        let mut env = Environment {
            home: Some(PathBuf::from("/home/me")),
            ..Environment::default()
        };
        assert_eq!(
            env.config_folder().unwrap(),
            Path::new("/home/me/.config/fades")
        );
        env.config_home = Some(PathBuf::from("/etc/mine"));
        assert_eq!(env.config_folder().unwrap(), Path::new("/etc/mine/fades"));
        env.config_home = Some(PathBuf::from("relative"));
        assert_eq!(
            env.config_folder().unwrap(),
            Path::new("/home/me/.config/fades")
        );
        assert!(Environment::default().config_folder().is_err());
    }
}
