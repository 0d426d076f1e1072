//! What a node promises, proved on the real programs. `docs/proofs.md` says which
//! promise is proved where, and how the long forms are run.

mod asker;
mod client;
mod kills;
mod model;
mod namespace;
mod offline;
mod power;
mod simulated;
mod trace;
mod world;
