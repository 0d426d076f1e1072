//! Options that several subcommands have.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Which node a subcommand talks to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NodeChoice {
    /// A node of your configuration (~/.config/fades/config.toml), or its
    /// address: https://HOST:PORT
    #[arg(long, value_name = "NAME", help_heading = "Which node")]
    pub(crate) node: Option<String>,
    /// A node's folder on this host
    #[arg(
        long,
        value_name = "FOLDER",
        conflicts_with = "node",
        help_heading = "Which node"
    )]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: CertificateChoice,
}

/// Certificates for a node that is reached by its address; what is given here
/// replaces what the configuration says.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CertificateChoice {
    /// Your certificate, for a node with an address
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "folder",
        help_heading = "Which node"
    )]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's secret key; in the same file otherwise
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        help_heading = "Which node"
    )]
    pub(crate) cert_key: Option<PathBuf>,
    /// The CA of the node's certificate
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "folder",
        help_heading = "Which node"
    )]
    pub(crate) ca: Option<PathBuf>,
}

/// In which form data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

fn form(word: &str) -> Form {
    match word {
        "json" => Form::Json,
        _ => Form::Table,
    }
}

/// The option `-o`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Output {
    /// In which form: for people or for programs
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORM",
        default_value = "table",
        value_parser = PossibleValuesParser::new(["table", "json"]).map(|w| form(&w))
    )]
    pub(crate) form: Form,
}

impl Output {
    /// Programs read it.
    pub(crate) fn json(&self) -> bool {
        self.form == Form::Json
    }
}
