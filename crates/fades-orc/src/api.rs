//! The HTTP API under `/v1`.

pub mod types;
