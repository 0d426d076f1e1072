//! The help of the whole command, in groups, and the examples of each
//! subcommand.
//!
//! clap has no groups of subcommands, so the page is written here from the
//! subcommands' own one-line texts; a test sees to it that none is missing.

use clap::{Command, CommandFactory};

use super::Cli;

/// Headings, and the subcommands below them.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Write a function",
        &["new", "build", "test", "publish", "push", "pull", "inspect"],
    ),
    (
        "Ask a question",
        &["submit", "ps", "show", "result", "logs", "cancel"],
    ),
    (
        "Operate a node",
        &[
            "init",
            "node",
            "config",
            "grants",
            "source",
            "resources",
            "read",
            "functions",
            "outbox",
            "top",
            "page",
            "backup",
            "restore",
            "doctor",
            "support",
            "demo",
        ],
    ),
    ("Trust", &["key", "trust", "bundle", "sign", "verify"]),
];

/// Subcommands outside of the four groups.
const REST: [&str; 3] = ["completions", "schema", "help"];

/// The command as clap knows it, without the page.
pub(crate) fn tree() -> Command {
    Cli::command()
}

/// The command with its help in groups.
pub(crate) fn command() -> Command {
    let command = tree();
    let page = page(&command);
    command.override_help(page)
}

fn page(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    let mut page = about.unwrap_or_default();
    page += "\n\nUsage: fades COMMAND\n";
    for (heading, names) in GROUPS {
        page += &format!("\n{heading}\n");
        names.iter().for_each(|name| page += &line(command, name));
    }
    page += "\nOther\n";
    REST.iter().for_each(|name| page += &line(command, name));
    page += "\n`fades help COMMAND` shows the options of a command, with examples.\n";
    page += "Exit codes: 0 done, 1 the answer is no (failed, refused), 2 could not run.\n";
    page
}

fn line(command: &Command, name: &str) -> String {
    let about = match name {
        "help" => Some("Show this page, or the page of a command".to_owned()),
        _ => command
            .find_subcommand(name)
            .and_then(Command::get_about)
            .map(ToString::to_string),
    };
    format!("  {name:<11} {}\n", about.unwrap_or_default())
}

pub(super) const NEW: &str = "\
Examples:
  fades new overheat               a project in ./overheat
  cd overheat && cargo test        its own tests, as ordinary Rust";

pub(super) const BUILD: &str = "\
Examples:
  fades build                      the function in this folder
  fades build path/to/overheat     the one over there";

pub(super) const TEST: &str = "\
Examples:
  fades test --csv rooms.csv --param limit=27
  fades test target/fades/overheat.fades --csv rooms.csv --isolation process";

pub(super) const PUBLISH: &str = "\
Examples:
  fades publish target/fades/overheat.fades
  fades publish overheat.fades --as room-overheat --node harbour-07";

pub(super) const PUSH: &str = "\
Examples:
  fades push overheat.fades registry.example/air/overheat:1.0 --key publisher
  fades push overheat.fades oci:stick:1.0

Passwords are those that other tools for registries keep in their auth file. A
registry without TLS is named with http:// in front.";

pub(super) const PULL: &str = "\
Examples:
  fades pull registry.example/air/overheat:1.0 --out images
  fades pull oci:stick:1.0 --publish --folder harbour-07";

pub(super) const INSPECT: &str = "\
Examples:
  fades inspect target/fades/overheat.fades
  fades inspect registry.example/air/overheat:1.0 -o json";

pub(super) const SUBMIT: &str = "\
Examples:
  fades submit overheat --kind temperature --last 24h --param limit=27 --wait
  fades submit summary --kind pm10 --kind pm2.5 --location 'aberdeen/*' \\
        --from 2018-01-01 --to 2019-01-01 --param by=location
  fades submit summary --kind pm10 --save air.toml --dry-run
  fades submit -f air.toml --wait

Times are RFC 3339 (2026-12-01T08:00Z), dates, `now`, or such as `2h ago`.
A parameter's value is a number, true, false or a JSON value when it looks like
one, and text otherwise.";

pub(super) const PS: &str = "\
Examples:
  fades ps                         tasks that are not finished, and the last ones
  fades ps --all -o json
  fades ps --watch                 and each new state, until interrupted";

pub(super) const SHOW: &str = "\
Examples:
  fades show 3f2c                  the beginning of an id is enough";

pub(super) const RESULT: &str = "\
Examples:
  fades result 3f2c                tables
  fades result 3f2c -o json        everything, for a program
  fades result                     of the last task";

pub(super) const LOGS: &str = "\
Examples:
  fades logs 3f2c
  fades logs -f                    of the last task, until it has ended";

pub(super) const CANCEL: &str = "\
Examples:
  fades cancel 3f2c";

pub(super) const INIT: &str = "\
Examples:
  fades init harbour-07            a folder with node.toml, keys and sample data
  fades init /srv/fades --name harbour-07 --production    no development keys";

pub(super) const NODE: &str = "\
Examples:
  fades node                       the node whose folder this is
  fades node harbour-07            ends cleanly at SIGTERM or Ctrl-C";

pub(super) const CONFIG: &str = "\
Examples:
  fades config check
  fades config show                every value, and where it comes from
  fades config reload              the running node takes what needs no restart
  fades config log debug --for 10m";

pub(super) const GRANTS: &str = "\
Examples:
  fades grants list
  fades grants check air.toml      each condition of each grant; ends with 1 when refused
  fades grants check air.toml --service city-air -o json";

pub(super) const SOURCE: &str = "\
Examples:
  fades source test citizen";

pub(super) const RESOURCES: &str = "\
Examples:
  fades resources
  fades resources --kind 'pm*' --location 'aberdeen/*'";

pub(super) const READ: &str = "\
Examples:
  fades read --kind temperature --last 1h
  fades read --label floor=3 --now
  fades read --near 57.15,-2.09,2km --kind 'pm*' --unit ug/m3 --last 24h
  fades read --source hall --collect 10s
  fades read --file task.toml       what each retrieve entry of a task means";

pub(super) const FUNCTIONS: &str = "\
Examples:
  fades functions";

pub(super) const OUTBOX: &str = "\
Examples:
  fades outbox                     ends with 1 when an inbox or a destination has trouble
  fades outbox --json";

pub(super) const TOP: &str = "\
Examples:
  fades top                        q ends it, ? lists its keys
  fades top --node harbour-07 | less     once, as text";

pub(super) const PAGE: &str = "\
Examples:
  fades page                       prints an address to open; Ctrl-C ends it
  fades page harbour-07 --open     opens it in the browser
  fades page --node harbour-07 --port 7423";

pub(super) const BACKUP: &str = "\
Examples:
  fades backup /mnt/backups/harbour-07.fades        while the node runs, or not
  fades backup nightly.fades --folder /var/lib/fades --force";

pub(super) const RESTORE: &str = "\
Examples:
  fades restore harbour-07.fades fades-node         nothing is run or delivered twice
  fades restore harbour-07.fades fades-node --again    the old node has not worked since";

pub(super) const DOCTOR: &str = "\
Examples:
  fades doctor                     ends with 1 when something needed is missing";

pub(super) const SUPPORT: &str = "\
Examples:
  fades support                    without secrets, answers and readings; the node may be down
  fades config log debug --for 5m  before that, to have more in its log";

pub(super) const DEMO: &str = "\
Examples:
  fades demo --images target/images";

pub(super) const KEY: &str = "\
Examples:
  fades key new alice              ~/.config/fades/keys/alice.key and .pub
  fades key list
  fades key trust alice.pub --role submit --role read --service city-air";

pub(super) const TRUST: &str = "\
Examples:
  fades trust show
  fades trust draft next.toml --for harbours     the table in force, to be edited
  fades trust sign next.toml --key root1         writes next.dsse
  fades trust sign next.dsse --key root2         adds a signature
  fades trust update next.dsse
  fades trust revoke city --reason 'laptop stolen' --key root1
  fades trust update revocations-1.dsse";

pub(super) const BUNDLE: &str = "\
Examples:
  fades bundle make site.bundle next.dsse images/summary.fades air.dsse
  fades bundle show site.bundle
  fades bundle load site.bundle --check      asks, and changes nothing
  fades bundle load site.bundle --folder /var/lib/fades

A node takes all of a bundle or nothing of it. The same bundle again changes
nothing, and completes what a full queue cut off.";

pub(super) const SIGN: &str = "\
Examples:
  fades sign air.toml --key alice          writes air.dsse
  fades sign target/fades/overheat.fades         writes target/fades/overheat.dsse";

pub(super) const VERIFY: &str = "\
Examples:
  fades verify air.dsse
  fades verify overheat.dsse --image target/fades/overheat.fades --trust trust.toml
  fades verify next.dsse --trust trust.toml      what administrators signed";

pub(super) const COMPLETIONS: &str = "\
Examples:
  fades completions bash > ~/.local/share/bash-completion/completions/fades
  fades completions zsh > ~/.zfunc/_fades
  fades completions fish > ~/.config/fish/completions/fades.fish";

pub(super) const SCHEMA: &str = "\
Examples:
  fades schema task > task.schema.json
  fades schema node > node.schema.json";

#[cfg(test)]
mod tests {
    use super::{GROUPS, REST, command};

    #[test]
    fn every_subcommand_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|g| g.1)
            .chain(&REST)
            .copied()
            .collect();
        for sub in command().get_subcommands().filter(|s| !s.is_hide_set()) {
            let name = sub.get_name();
            assert_eq!(grouped.iter().filter(|g| **g == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_tree_of_subcommands_is_sound() {
        command().debug_assert();
    }
}
