//! The data resource broker (DRB) of a FADES node: the only part that reads
//! sources. It turns what a DTO names into batches and hands them straight to
//! the tender that asked.
//!
//! * [`config`]: the `[source.NAME]` tables of a node's configuration.
//! * [`process`]: the broker as a process, `run(control)`.
//! * [`measure`]: the readings store by itself, for benchmarks.
//!
//! ```text
//! Sources ─► Engine ─► selector ─┬► plan (which files, which series) ─► fetch ─┬► chunks ─► batch files ─► tender
//!                                └► flow (whatever a source sends) ────────────┘
//! ```
//! # Running it without a node
//! `fades test` and tests run a broker in a thread of their own:
//!
//! ```
//! use fades_drb::config::Sources;
//! use fades_task::message::{BrokerReport, BrokerRequest};
//! use fades_wire::Channel;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("rooms.csv");
//! # std::fs::write(&path, "time,room,temperature\n2026-01-01T00:00:00Z,1,21.5\n")?;
//! let sources = Sources::guess(&path)?;
//! let (orchestrator, control) = Channel::pair()?;
//! let broker = std::thread::spawn(move || fades_drb::process::run(control));
//! let configure = BrokerRequest::Configure {
//!     folder: folder.path().join("batches").display().to_string(),
//!     budget: "64MiB".parse()?,
//!     chunk: "8MiB".parse()?,
//!     base: "/".to_owned(),
//!     readings: None,
//!     credentials: None,
//! };
//! orchestrator.send(&configure, &serde_json::to_vec(&sources)?, &[])?;
//! let ready = orchestrator.receive::<BrokerReport>(None)?.ok_or("gone")?;
//! assert!(matches!(ready.message, BrokerReport::Ready { .. }));
//! // Retrieve { run, dtos } with one end of another pair as descriptor: the
//! // other end gets `Feed` frames and answers `Release::Batch`.
//! drop(orchestrator);
//! broker.join().map_err(|_| "panicked")??;
//! # Ok(())
//! # }
//! ```

pub mod config;
pub mod measure;
pub mod process;

mod answers;
mod batches;
mod chunk;
mod coap;
mod columns;
mod confine;
mod csv;
mod flow;
mod hands;
mod http;
mod influx;
mod live;
mod memory;
mod modbus;
mod mqtt;
mod notes;
mod parquet;
mod payload;
mod pool;
mod readings;
mod retrieve;
mod selector;
mod series;
mod source;
mod tally;
mod units;

/// What the courier has too.
use fades_outside::{breaker, client, dial, secret};
