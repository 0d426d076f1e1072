//! For those who ask: `submit`, `ps`, `show`, `result`, `logs`, `cancel`.

pub(crate) mod cancel;
pub(crate) mod client;
pub(crate) mod data;
pub(crate) mod draft;
pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod ps;
pub(crate) mod render;
pub(crate) mod result;
mod secure;
pub(crate) mod show;
mod signed;
pub(crate) mod stream;
pub(crate) mod submit;
pub(crate) mod target;
