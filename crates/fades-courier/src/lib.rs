//! The courier of a FADES node: it fetches signed tasks from *inboxes* and brings
//! answers to *destinations*. Outbound only: nobody connects to it. It holds no
//! keys, no readings and no database, and does not understand what it carries.
//!
//! * [`config`]: the `[inbox.NAME]` and `[destination.NAME]` tables of a node's
//!   configuration.
//! * [`process`]: the courier as a process, `run_confined(control)`.
//!
//! ```text
//! inbox thread ─► desk ─► Letter … Verdict ─► inbox thread ─► inbox
//! Deliver ─► deliveries ─► one of a few threads ─► destination ─► (Not)Delivered
//! ```
//! What inboxes and destinations can rely on is in `docs/inbox.md` and
//! `docs/destinations.md`.

pub mod config;
pub mod process;

mod confine;
mod deliver;
mod desk;
mod inbox;
mod pace;
mod report;
mod stop;
mod web;
