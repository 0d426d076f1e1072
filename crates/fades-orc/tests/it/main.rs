//! A node with stand-ins for tender and broker, from outside: over its API,
//! its files and its processes.

mod bundles;
mod certificates;
mod client;
mod contract;
mod deaths;
mod events;
mod grants;
mod keys;
mod life;
mod metrics;
mod mutual;
mod openapi;
mod places;
mod pool;
mod questions;
mod refusals;
mod scheduling;
mod shells;
mod site;
mod standing;
mod tenants;
