//! The courier of a FADES node: it fetches signed tasks from *inboxes* and brings
//! answers to *destinations*. Outbound only: nobody connects to it. It holds no
//! keys, no readings and no database, and does not understand what it carries.
//!
//! * [`config`]: the `[inbox.NAME]` and `[destination.NAME]` tables of a node's
//!   configuration.

pub mod config;
