//! What evidence is made over: 64 bytes that belong to one session and one role, or to one caller's nonce.
//!
//! Does not know TLS; `channel` passes in what its session exported. Design: attested channel, version 1, step "binding".

use std::fmt;

use aws_lc_rs::digest::{Context, SHA512};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;

const CHANNEL_LABEL: &[u8] = b"constellation attested channel v1";
const VERIFICATION_LABEL: &[u8] = b"constellation verification v1";
/// Keeps a statement for a caller of the verification service apart from one for a session, whatever the nonce.
const VERIFICATION_SUBJECT: &[u8] = b"VerifyService";

/// Who a party of an attested channel is. The attester's role is part of the binding, so evidence of a joining node
/// never stands for evidence of the join service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The administrator's program. Proves nothing about its machine.
    Cli,
    /// A machine of the cluster, or one that wants to be.
    Node,
    /// The service that hands out join tickets.
    JoinService,
}

/// A role number that this version of the protocol does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown role {0}")]
pub struct UnknownRole(pub u32);

impl Role {
    /// The number on the wire and in the binding.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Cli => 1,
            Self::Node => 2,
            Self::JoinService => 3,
        }
    }

    /// The role of a number from the wire.
    ///
    /// # Errors
    /// For any number but 1, 2 and 3.
    pub const fn from_number(number: u32) -> Result<Self, UnknownRole> {
        match number {
            1 => Ok(Self::Cli),
            2 => Ok(Self::Node),
            3 => Ok(Self::JoinService),
            other => Err(UnknownRole(other)),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cli => "cli",
            Self::Node => "node",
            Self::JoinService => "join service",
        })
    }
}

/// The 64 bytes evidence is made over. Constructors are by purpose, each with its own label, so a binding of one purpose
/// cannot be equal to one of another.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding([u8; 64]);

impl Binding {
    /// The binding of one attested channel: `role` is the attester's, `exporter` the TLS exporter's output with
    /// `transcript` as its context, the SPKIs are those of the certificates whose possession this handshake proved.
    #[must_use]
    pub fn for_channel(
        role: Role,
        exporter: &[u8; 64],
        transcript: &[u8; 32],
        server_spki: &[u8],
        client_spki: Option<&[u8]>,
    ) -> Self {
        Self::hash(&[
            CHANNEL_LABEL,
            &[role.number()],
            exporter,
            transcript,
            server_spki,
            client_spki.unwrap_or_default(),
        ])
    }

    /// The binding of a statement the verification service makes over a caller's nonce.
    #[must_use]
    pub fn for_verification(nonce: &[u8; 32]) -> Self {
        Self::hash(&[VERIFICATION_LABEL, VERIFICATION_SUBJECT, nonce])
    }

    /// The bytes, as they stand in a report's REPORT_DATA.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// A TPM's qualifying data holds a digest only: SHA-256 of the binding.
    #[must_use]
    pub fn qualifying_data(&self) -> Digest {
        Digest::of(&self.0)
    }

    fn hash(fields: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA512);
        for field in fields {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        let mut bytes = [0; 64];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Binding")
            .field(&hex::encode(self.0))
            .finish()
    }
}
