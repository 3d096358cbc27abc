//! Every secret type, the one table of derived keys, and the one table of who may ask for which.
//!
//! This crate decides and computes; it does no IO, reads no clock and no environment (randomness is the
//! system's generator). It does not keep keys: where they lie is the matter of the programs.
//! Specification: `docs/life-of-a-key.md`. The derivation is the original's, byte for byte, so that its volumes
//! and recovery files stay usable.
//!
//! There is no trait for a key-encryption key or a store yet: the only mode is the constellation-managed one, which
//! derives every key from the master secret and has nothing to wrap or to keep. They come with their first back end.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
pub mod backup;
mod cluster_id;
mod derivation;
mod key_id;
mod master_secret;
mod secret;
mod ssh;
pub mod uri;

pub use cluster_id::{ClusterId, MeasurementSalt};
pub use derivation::{DataKey, WrongRole, derive};
pub use key_id::{KeyId, KeyIdError};
pub use master_secret::{MasterSecret, MasterSecretFile, MasterSecretFileError, Salt};
pub use secret::{
    BackupKey, DiskKey, FirstBootKey, LengthError, MeasurementSecret, RandomError, SshCaSeed,
};
