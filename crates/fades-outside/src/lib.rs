//! Talking to the outside, confined: what the broker and the courier of a node have
//! in common. Neither has a network of its own, and each is held to what its
//! configuration names.
//!
//! * [`connection`], [`field`]: options that are written alike everywhere, and what
//!   can be wrong with one.
//! * [`secret`]: secrets, read from files when they are needed.
//! * [`dial`]: connections that the orchestrator makes.
//! * [`client`]: HTTP over such connections, with bounded waits.
//! * [`logging`]: how much the process logs.
//! * [`mqtt`]: how a connection to an MQTT broker is set up.
//! * [`breaker`]: when something that failed is tried again.
//! * [`confine`]: the layers of a process' confinement; what each process may do
//!   is its own data.
//!
//! It knows neither sources nor letters.

pub mod breaker;
pub mod client;
pub mod confine;
pub mod connection;
pub mod dial;
pub mod field;
pub mod logging;
pub mod mqtt;
pub mod secret;
