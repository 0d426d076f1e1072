//! The tree of subcommands, and the words of their help.
//!
//! Every subcommand is a module with `Args` (its options, as clap reads them)
//! and `run`. Options that several have are in [`shared`]; the help of the
//! whole command, in groups, is made by [`help`].

pub(crate) mod help;
pub(crate) mod shared;

use clap::{Parser, Subcommand};

use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::{ask, author, completions, keys, operate, schema};

/// The `fades` command.
#[derive(Debug, Parser)]
#[command(
    name = "fades",
    version,
    about = "Sends a small question to where much data lives, and brings back the small answer.",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project for a function
    #[command(after_help = help::NEW)]
    New(author::new::Args),
    /// Build a function: the image and its symbols
    #[command(after_help = help::BUILD)]
    Build(author::build::Args),
    /// Run an image on a CSV file, here and now
    #[command(after_help = help::TEST)]
    Test(author::test::Args),
    /// Sign a function and upload it to a node
    #[command(after_help = help::PUBLISH)]
    Publish(author::publish::Args),
    /// Put a signed function into a registry or a folder
    #[command(after_help = help::PUSH)]
    Push(author::push::Args),
    /// Take a function out of a registry or a folder
    #[command(after_help = help::PULL)]
    Pull(author::pull::Args),
    /// Show what a function says of itself, in a file, a registry or a folder
    #[command(after_help = help::INSPECT)]
    Inspect(author::inspect::Args),

    /// Ask a node: sign a task and hand it in
    #[command(after_help = help::SUBMIT)]
    Submit(Box<ask::submit::Args>),
    /// List tasks
    #[command(after_help = help::PS)]
    Ps(ask::ps::Args),
    /// Show a task: what was asked and what became of it
    #[command(after_help = help::SHOW)]
    Show(ask::show::Args),
    /// Show the answer of a task
    #[command(after_help = help::RESULT)]
    Result(ask::result::Args),
    /// Show what a task's function logged
    #[command(after_help = help::LOGS)]
    Logs(ask::logs::Args),
    /// End a task
    #[command(after_help = help::CANCEL)]
    Cancel(ask::cancel::Args),

    /// Make a node's folder
    #[command(after_help = help::INIT)]
    Init(operate::init::Args),
    /// Run a node
    #[command(after_help = help::NODE)]
    Node(operate::node::Args),
    /// Check or show a node's configuration
    #[command(after_help = help::CONFIG)]
    Config(operate::config::Args),
    /// Explain what a node's grants allow
    #[command(after_help = help::GRANTS)]
    Grants(operate::grants::Args),
    /// Test a source of a node
    #[command(after_help = help::SOURCE)]
    Source(operate::source::Args),
    /// List the devices that a node knows
    #[command(after_help = help::RESOURCES)]
    Resources(operate::resources::Args),
    /// Show what a task would read, without running anything
    #[command(after_help = help::READ)]
    Read(Box<operate::read::Args>),
    /// List the functions that a node has
    #[command(after_help = help::FUNCTIONS)]
    Functions(operate::functions::Args),
    /// Show where tasks come from and answers go, and what waits
    #[command(after_help = help::OUTBOX)]
    Outbox(operate::outbox::Args),
    /// Show a node in this terminal, live: what runs, waits, ended, and how it is
    #[command(after_help = help::TOP)]
    Top(operate::top::Args),
    /// Show a node in a browser: what runs, waits, was answered, and how it is
    #[command(after_help = help::PAGE)]
    Page(operate::page::Args),
    /// Write everything that a node has into one file
    #[command(after_help = help::BACKUP)]
    Backup(operate::backup::Args),
    /// Make a node's folder out of a backup
    #[command(after_help = help::RESTORE)]
    Restore(operate::restore::Args),
    /// Say what this host offers, what is used, and what would improve it
    #[command(after_help = help::DOCTOR)]
    Doctor(operate::doctor::Args),
    /// Write what somebody who helps needs to know of a node into one file
    #[command(after_help = help::SUPPORT)]
    Support(operate::support::Args),
    /// Play a demonstration in a temporary folder
    #[command(after_help = help::DEMO)]
    Demo(operate::demo::Args),

    /// Make, list and trust keys
    #[command(after_help = help::KEY)]
    Key(keys::key::Args),
    /// Change whom nodes trust, by what administrators sign
    #[command(after_help = help::TRUST)]
    Trust(keys::trust::Args),
    /// Bring trust, functions and tasks to a node in one file
    #[command(after_help = help::BUNDLE)]
    Bundle(operate::bundle::Args),
    /// Sign a task file or an image
    #[command(after_help = help::SIGN)]
    Sign(keys::sign::Args),
    /// Check a signature, without a node
    #[command(after_help = help::VERIFY)]
    Verify(keys::verify::Args),

    /// Print what a shell needs to complete this command line
    #[command(after_help = help::COMPLETIONS)]
    Completions(completions::Args),
    /// Print the JSON Schema of a task or of node.toml
    #[command(after_help = help::SCHEMA)]
    Schema(schema::Args),

    /// Write the manual pages; for those who make packages
    #[command(hide = true)]
    Man(completions::ManArgs),
    /// Write what programs are made of; for those who make packages
    #[command(hide = true)]
    Materials(author::materials::Args),
    /// The broker of a node; started by the node itself
    #[command(hide = true)]
    Broker(operate::node::ChildArgs),
    /// The courier of a node; started by the node itself
    #[command(hide = true)]
    Courier(operate::node::ChildArgs),
}

impl Cli {
    /// Carries out the subcommand.
    pub(crate) fn run(self, session: &Session) -> Result<Outcome, Problem> {
        match self.command {
            Command::New(args) => author::new::run(&args, session),
            Command::Build(args) => author::build::run(&args, session),
            Command::Test(args) => author::test::run(&args, session),
            Command::Publish(args) => author::publish::run(&args, session),
            Command::Push(args) => author::push::run(&args, session),
            Command::Pull(args) => author::pull::run(&args, session),
            Command::Inspect(args) => author::inspect::run(&args, session),
            Command::Submit(args) => ask::submit::run(&args, session),
            Command::Ps(args) => ask::ps::run(&args, session),
            Command::Show(args) => ask::show::run(&args, session),
            Command::Result(args) => ask::result::run(&args, session),
            Command::Logs(args) => ask::logs::run(&args, session),
            Command::Cancel(args) => ask::cancel::run(&args, session),
            Command::Init(args) => operate::init::run(&args, session),
            Command::Node(args) => operate::node::run(&args, session),
            Command::Config(args) => operate::config::run(&args, session),
            Command::Grants(args) => operate::grants::run(&args, session),
            Command::Source(args) => operate::source::run(&args, session),
            Command::Resources(args) => operate::resources::run(&args, session),
            Command::Read(args) => operate::read::run(&args, session),
            Command::Functions(args) => operate::functions::run(&args, session),
            Command::Outbox(args) => operate::outbox::run(&args, session),
            Command::Top(args) => operate::top::run(&args, session),
            Command::Page(args) => operate::page::run(&args, session),
            Command::Backup(args) => operate::backup::run(&args, session),
            Command::Restore(args) => operate::restore::run(&args, session),
            Command::Doctor(args) => operate::doctor::run(&args, session),
            Command::Support(args) => operate::support::run(&args, session),
            Command::Demo(args) => operate::demo::run(&args, session),
            Command::Key(args) => keys::key::run(&args, session),
            Command::Trust(args) => keys::trust::run(&args, session),
            Command::Bundle(args) => operate::bundle::run(&args, session),
            Command::Sign(args) => keys::sign::run(&args, session),
            Command::Verify(args) => keys::verify::run(&args, session),
            Command::Schema(args) => schema::run(&args, session),
            Command::Completions(args) => completions::run(&args, session),
            Command::Materials(args) => author::materials::run(&args, session),
            Command::Man(args) => completions::run_man(&args),
            Command::Broker(args) => operate::node::run_broker(&args),
            Command::Courier(args) => operate::node::run_courier(&args),
        }
    }
}
