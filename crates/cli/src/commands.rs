//! The commands, one file each.

pub(crate) mod apply;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod man;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod version;
