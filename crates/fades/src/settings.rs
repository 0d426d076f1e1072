//! Files that people write: a node's `node.toml` and the user's own
//! configuration.

pub(crate) mod layers;
pub(crate) mod node_file;
pub(crate) mod suggestion;
pub(crate) mod user_file;
