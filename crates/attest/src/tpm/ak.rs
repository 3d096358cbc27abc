//! A key that may vouch for PCRs.

use super::{HashAlgorithm, KeyScheme, PublicArea, PublicKey, Signature};
use crate::Digest;

/// An attestation key that a variant's root vouches for. There is no way to get one from a key in a document: each variant has
/// one place that makes it, after its own checks.
#[derive(Debug, PartialEq, Eq)]
pub struct TrustedAk {
    key: PublicKey,
    /// Of the key, where something says it: a certificate and a JWK of an RSA key do not.
    scheme: Option<(KeyScheme, HashAlgorithm)>,
    id: Digest,
    origin: &'static str,
}

impl TrustedAk {
    /// `origin` completes "the attestation key ...".
    pub(crate) fn of_public_area(area: &PublicArea, origin: &'static str) -> Self {
        Self {
            key: area.key().clone(),
            scheme: Some((area.scheme(), area.hash())),
            id: area.id(),
            origin,
        }
    }

    /// `origin` completes "the attestation key ...".
    pub(crate) fn of_key(key: PublicKey, origin: &'static str) -> Self {
        Self {
            id: key.fingerprint(),
            key,
            scheme: None,
            origin,
        }
    }

    /// A key the operator carried over by hand from a machine of his own, so that it is he who vouches for it and for what kind of
    /// TPM holds it. Never for a key that came with the evidence.
    #[must_use]
    pub fn enrolled_by_operator(key: PublicKey) -> Self {
        Self::of_key(key, "the operator enrolled")
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Tells keys apart in logs: SHA-256 of the public area, or of the key's numbers where there is no such area.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// Where the key is from, as an end of "the attestation key ...".
    #[must_use]
    pub const fn origin(&self) -> &'static str {
        self.origin
    }

    pub(super) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let is_scheme = self
            .scheme
            .is_none_or(|scheme| scheme == (signature.scheme(), signature.hash()));
        is_scheme && self.key.verify(message, signature)
    }
}
