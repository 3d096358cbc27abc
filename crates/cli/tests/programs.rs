//! Layer 2: the real binary against files, sockets and machines that are there, and against those that are not.
//!
//! Needs root (a small file system is mounted in a namespace of its own) and the packages of `cargo xtask packages`.

#![expect(
    clippy::unwrap_used,
    reason = "the whole crate is a test; clippy exempts only the functions marked as one"
)]

#[path = "programs/backup.rs"]
mod backup;
#[path = "programs/backup_restore.rs"]
mod backup_restore;
#[path = "programs/collateral.rs"]
mod collateral;
#[path = "programs/config.rs"]
mod config;
#[path = "programs/evidence.rs"]
mod evidence;
#[path = "programs/harness.rs"]
mod harness;
#[path = "programs/host.rs"]
mod host;
#[path = "programs/init.rs"]
mod init;
#[path = "programs/policy.rs"]
mod policy;
#[path = "programs/recover.rs"]
mod recover;
#[path = "programs/serve.rs"]
mod serve;
#[path = "programs/verify.rs"]
mod verify;
