//! `fades config`: checks a node's configuration, shows where each value comes
//! from, or has the running node take it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use fades_orc::api::types::{LogInfo, LogSetting, Reloaded};
use fades_orc::tls;
use fades_task::logging::LogLevel;
use fades_task::quantity::Duration;
use serde::Serialize;
use serde_json::Value;

use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::table::{Column, Table};
use crate::ask::target;
use crate::cli::shared::Output;
use crate::keys::key;
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::{Session, now};
use crate::settings::layers::Place;
use crate::settings::node_file::{NodeFile, leaves};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// The node's folder
    #[arg(long, value_name = "FOLDER", global = true)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check the configuration and the trusted keys
    Check,
    /// Show or change how much the running node logs
    Log {
        /// error, warn, info or debug
        level: Option<LogLevel>,
        /// For how long, such as 10m; until the node ends otherwise
        #[arg(long = "for", value_name = "TIME", requires = "level")]
        within: Option<Duration>,
    },
    /// Have the running node take what needs no restart
    Reload {
        #[command(flatten)]
        output: Output,
    },
    /// Show every value and where it comes from
    Show {
        #[command(flatten)]
        output: Output,
    },
}

/// Carries out `fades config`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let folder = folder_or_problem(args.folder.as_deref())?;
    match &args.action {
        Action::Check => check(&folder, session),
        Action::Log { level, within } => log(&folder, *level, *within, session),
        Action::Reload { output } => reload(&folder, output, session),
        Action::Show { output } => show(&folder, output, session),
    }
}

/// The folder given, or that of a node here.
pub(crate) fn folder_or_problem(given: Option<&Path>) -> Result<PathBuf, Problem> {
    target::node_folder(given).ok_or_else(|| {
        Problem::new("no node's folder here")
            .reason(format!(
                "neither ./{0} nor ./{1}/{0} is there",
                NodeFile::NAME,
                target::DEFAULT_FOLDER
            ))
            .remedy("name it with --folder FOLDER, or make one: fades init")
    })
}

fn check(folder: &Path, session: &Session) -> Result<Outcome, Problem> {
    let node = NodeFile::read(folder)?;
    let keys = key::read_trust(folder)?;
    let credentials = session.env.credentials.as_deref();
    let until = match node.listen(folder, credentials) {
        Some(listen) => {
            let wrong = || "the API could not listen".to_owned();
            let until = tls::check(&listen.tls, now()).or_problem(wrong)?;
            format!(", certificate until {until}")
        }
        None => String::new(),
    };
    session.talk(&format!(
        "{}: good; node {}, {} sources, {} trusted keys{until}",
        folder.join(NodeFile::NAME).display(),
        node.node.name,
        node.source.0.len(),
        keys.keys().len()
    ));
    Ok(Outcome::Done)
}

fn log(
    folder: &Path,
    level: Option<LogLevel>,
    within: Option<Duration>,
    session: &Session,
) -> Result<Outcome, Problem> {
    let client = target::of_folder(folder).and_then(Client::new)?;
    let LogInfo { level, until } = match level {
        None => client.get("/v1/node/log")?,
        Some(level) => client.put("/v1/node/log", &LogSetting { level, within })?,
    };
    let until = until.map(|t| format!(", until {t}")).unwrap_or_default();
    session.data(&format!("{level}{until}\n"))?;
    Ok(Outcome::Done)
}

fn reload(folder: &Path, output: &Output, session: &Session) -> Result<Outcome, Problem> {
    let client = target::of_folder(folder).and_then(Client::new)?;
    let reloaded: Reloaded = client.post("/v1/reload", &())?;
    if output.json() {
        session.data(&render::json(&reloaded))?;
        return Ok(Outcome::Done);
    }
    let Reloaded {
        changed,
        restart,
        started,
    } = reloaded;
    if !started.is_empty() {
        session.talk(&format!("started again: {}", started.join(", ")));
    }
    match changed.is_empty() {
        true => session.talk("nothing changed that the node takes while it runs"),
        false => session.talk(&format!(
            "the node goes by these now: {}",
            changed.join(", ")
        )),
    }
    if !restart.is_empty() {
        session.talk(&format!("these need a restart: {}", restart.join(", ")));
    }
    Ok(Outcome::Done)
}

/// A value and its origin.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    field: String,
    value: Value,
    origin: String,
}

/// Every value of the configuration in `folder`.
pub(super) fn shown(folder: &Path) -> Result<Vec<Shown>, Problem> {
    let layers = NodeFile::layers(folder)?;
    let node = NodeFile::parse(&layers)?;
    let value = serde_json::to_value(&node).or_problem(|| "cannot show the values".to_owned())?;
    Ok(with_origins(&value, &layers.origins()?))
}

fn show(folder: &Path, output: &Output, session: &Session) -> Result<Outcome, Problem> {
    let shown = shown(folder)?;
    if output.json() {
        session.data(&render::json(&shown))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["FIELD", "VALUE", "FROM"].map(Column::left));
    for Shown {
        field,
        value,
        origin,
    } in shown
    {
        table.row([field, value.to_string(), origin]);
    }
    session.data(&table.text(session))?;
    Ok(Outcome::Done)
}

fn with_origins(value: &Value, origins: &BTreeMap<String, Place>) -> Vec<Shown> {
    let mut shown = Vec::new();
    leaves("", value, &mut |field, value| {
        let origin = origins
            .get(&field)
            .map_or("default".to_owned(), ToString::to_string);
        shown.push(Shown {
            field,
            value: value.clone(),
            origin,
        });
    });
    shown
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::with_origins;
    use crate::settings::layers::Layers;
    use crate::settings::node_file::NodeFile;

    #[test]
    fn every_value_is_shown_with_its_origin() {
        let mut layers = Layers::default();
        layers.push(
            Path::new("node.toml"),
            "[node]\nname = \"a\"\nparallel = 2\n",
        );
        layers.push(
            Path::new("conf.d/x.toml"),
            "[node.limits]\nmemory = \"1MiB\"\n",
        );
        let node = NodeFile::parse(&layers).unwrap();
        let value = serde_json::to_value(&node).unwrap();
        let shown = with_origins(&value, &layers.origins().unwrap());
        let origin = |field: &str| {
            let found = shown.iter().find(|s| s.field == field).unwrap();
            found.origin.clone()
        };
        assert_eq!(origin("node.name"), "node.toml:2");
        assert_eq!(origin("node.limits.memory"), "conf.d/x.toml:2");
        assert_eq!(origin("node.memory"), "default");
        assert_eq!(origin("node.limits.cpu"), "default");
    }
}
