//! The HTTP API under `/v1`.
//!
//! The only part of this crate that is asynchronous. A handler checks who asks
//! (`auth`), reads and writes the store on a thread that may block, and sends
//! the driver what concerns it; it decides nothing about running tasks.

pub(crate) mod auth;
mod backup;
mod bundle;
mod certified;
mod connection;
mod events;
mod follow;
mod functions;
pub mod listen;
mod logging;
mod metrics;
pub mod openapi;
mod operator;
mod page;
mod plan;
pub(crate) mod problem;
mod remote;
mod routes;
mod scheduling;
mod seats;
pub(crate) mod server;
mod tasks;
mod trust;
pub mod types;
