//! Tasks, runs and results, as values.
//!
//! The words of the whole system are defined here once: what a task says
//! ([`mtw`]), its limits ([`limits`]) and quantities ([`quantity`], [`time`]),
//! how a run ends ([`exit`], [`result`]), which data stood behind an answer
//! ([`coverage`]), and what the processes of a node tell each other
//! ([`message`], [`courier`], [`dial`]), and what an operator decides about the tasks
//! of others ([`policy`], [`allowance`]). JSON on the wire, TOML for people, and the
//! command line use the same types.
//!
//! Nothing here reads a clock, a file or a socket: time comes in as an
//! argument.

pub mod allowance;
pub mod cbor;
pub mod courier;
pub mod coverage;
pub mod dial;
pub mod exit;
pub mod export;
pub mod gauge;
pub mod grant;
pub mod identity;
pub mod limits;
pub mod logging;
pub mod message;
pub mod mtw;
pub mod policy;
pub mod quantity;
pub mod replace;
pub mod resource;
pub mod result;
pub mod schedule;
pub mod shell;
pub mod time;
pub mod window;
