//! The command as people and programs use it: the real programs, real sockets,
//! real images.
//!
//! `fades-tender` lies beside `fades` once the workspace is built; the images
//! are in the folder that `FADES_IMAGES` names, real data in the one that
//! `FADES_TEST_DATA` names. `cargo xtask test` sees to all of it.

mod backup;
mod browser;
mod bundles;
mod cancelling;
mod certificates;
mod clock;
mod command;
mod completions;
mod configuration;
mod courier;
mod data;
mod grants;
mod help;
mod keys;
mod lives;
mod misdeeds;
mod page;
mod proofs;
mod questions;
mod reach;
mod reading;
mod recording;
mod refusals;
mod registry;
mod reload;
mod secrets;
mod stage;
mod staying;
mod supervision;
mod top;
mod trying;
mod watching;
