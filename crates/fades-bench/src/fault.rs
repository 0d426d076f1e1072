//! Why a figure could not be taken.

use std::io;
use std::path::{Path, PathBuf};

use fades_abi::batch::BatchError;
use fades_orc::shell::ShellError;
use fades_task::exit::Exit;
use fades_task::message::Refused;
use fades_wire::WireError;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A file or folder.
    #[error("cannot {doing} {path}: {source}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
    /// A program is not where it should be.
    #[error(
        "{0} is not there: build it with `cargo xtask bench`, which makes all that is measured"
    )]
    NotBuilt(PathBuf),
    /// A program that was run to its end failed.
    #[error("{program} failed: {said}")]
    Program { program: String, said: String },
    /// A node did not come up, or went away.
    #[error("the node ended or never was ready: {0}")]
    Node(String),
    /// The API answered what it should not.
    #[error("{method} {path} was answered with status {status}: {body}")]
    Answer {
        method: &'static str,
        path: String,
        status: u16,
        body: String,
    },
    /// The API's answer is no HTTP as this client knows it.
    #[error("the node's answer to {path} is not understood: {reason}")]
    Http { path: String, reason: &'static str },
    /// Text that should be JSON of a certain shape.
    #[error("{what} is not what it should be: {source}")]
    Json {
        what: &'static str,
        source: serde_json::Error,
    },
    /// A tender went away.
    #[error("a tender went away while it should {0}")]
    TenderGone(&'static str),
    /// A tender refused.
    #[error("a tender refused: {0:?}")]
    Refused(Refused),
    /// There is no shell or no template.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// A batch could not be laid out.
    #[error("a batch could not be laid out: {0}")]
    Batch(#[from] BatchError),
    /// A function ended in another way than it should.
    #[error("the function should have ended with \"{expected}\", it ended with \"{exit}\"")]
    Exit {
        expected: &'static str,
        exit: Box<Exit>,
    },
    /// The channel to another process.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// SQLite.
    #[error("SQLite failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The readings store.
    #[error("the readings store failed: {0}")]
    Store(#[from] fades_drb::measure::MeasureError),
    /// The `parquet` crate.
    #[error("the parquet crate failed: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Two that must answer the same do not.
    #[error(
        "{what}: {ours} here and {theirs} there: they must agree before their times are compared"
    )]
    Differs {
        what: String,
        ours: String,
        theirs: String,
    },
    /// A value that must be there for the figure to mean anything.
    #[error("{0}: the figure would mean nothing")]
    Meaningless(String),
    /// Something is larger after many runs than before them.
    #[error("{what} grew from {before} to {after} over {runs} runs, {most} were allowed")]
    Grown {
        what: &'static str,
        before: u64,
        after: u64,
        runs: usize,
        most: u64,
    },
}

impl Fault {
    /// For `map_err`, where a file was touched.
    pub(crate) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// For `map_err`, where the operating system was asked.
    pub(crate) fn system<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            doing,
            source: source.into(),
        }
    }

    /// For `map_err`, where JSON was read.
    pub(crate) fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { what, source }
    }
}
