//! The courier against real servers, brokers and folders.
#![expect(
    clippy::print_stdout,
    reason = "skipped tests are counted from the output"
)]

mod bounds;
mod folder;
mod inbox;
mod mqtt;
mod node;
mod posting;
mod server;
mod tls;
