//! The broker through its one entry point: requests in, batches and reports out.

#![expect(
    clippy::print_stdout,
    reason = "skipped tests are counted from the output, and so are tests in other processes"
)]

mod batches;
mod broker;
mod coap;
mod confined;
mod examples;
mod grants;
mod http;
mod influx;
mod limits;
mod modbus;
mod mqtt;
mod protocol;
mod reading;
mod recording;
mod semantics;
mod sharing;
mod web;
mod windows;
