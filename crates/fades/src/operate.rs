//! For those who operate a node: `init`, `node`, `config`, `source`,
//! `resources`, `read`, `functions`, `outbox`, `backup`, `restore`, `doctor`,
//! `support`, `demo`.

mod archive;
pub(crate) mod backup;
pub(crate) mod bundle;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod functions;
pub(crate) mod grants;
mod inherited;
pub(crate) mod init;
pub(crate) mod node;
pub(crate) mod outbox;
pub(crate) mod page;
pub(crate) mod probe;
pub(crate) mod read;
mod recording;
pub(crate) mod resources;
pub(crate) mod restore;
pub(crate) mod source;
pub(crate) mod support;
pub(crate) mod top;
