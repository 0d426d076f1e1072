//! The broker through its one entry point: requests in, batches and reports out.

mod broker;
mod examples;
