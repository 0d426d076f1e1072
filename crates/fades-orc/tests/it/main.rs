//! A node with stand-ins for tender and broker, from outside: over its API,
//! its files and its processes.

mod client;
mod deaths;
mod events;
mod life;
mod places;
mod pool;
mod questions;
mod refusals;
mod shells;
mod site;
