//! Wire messages: the `.proto` files, the code generated from them, and the conversions between wire and domain.
//!
//! One module per package. The generated code is checked in and made by `cargo xtask codegen`; packages, services and field
//! numbers are those of the original where it has the field. Messages that carry a secret have a `Debug` that shows sizes only
//! (`redacted`). What both ends of a service need is converted here (`convert`): wire to domain is strict and names the field.
//! Nothing here dials or listens: a client takes a connection, which for everything that hands out a secret comes
//! from the crate `channel`.

mod convert;
mod redacted;

pub use convert::FieldError;

/// Package `backup`: makes backups of a cluster, and takes one to make a cluster of.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod backup {
    include!("generated/backup.rs");
}

/// Package `components`: files that a node fetches and installs.
pub mod components {
    include!("generated/components.rs");
}

/// Package `init`: makes the first node of a cluster.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod init {
    include!("generated/init.rs");
}

/// Package `join`: admits a node to the cluster, or again after a reboot.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod join {
    include!("generated/join.rs");
}

/// Package `kms`: keys derived from the cluster's master secret.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod kms {
    include!("generated/kms.rs");
}

/// Package `recoverproto`: keys for a node whose cluster cannot give them.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod recover {
    include!("generated/recoverproto.rs");
}

/// Package `verify`: a machine's statement over the caller's nonce.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod verify {
    include!("generated/verify.rs");
}
