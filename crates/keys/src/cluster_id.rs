//! The cluster ID: public, derived from the measurement secret, and the mark in PCR 15 of every machine of the cluster.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};

use crate::derivation::hkdf_sha256;
use crate::secret::{LengthError, RandomError};
use crate::{MeasurementSecret, secret::SECRET_LENGTH};

/// The id under which the cluster ID is derived. Not a row of [`KeyId`](crate::KeyId): its key material is the measurement
/// secret, not the master secret.
const CLUSTER_ID: &str = "clusterID";

/// The salt beside the measurement secret. It is public: the state file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurementSalt([u8; SECRET_LENGTH]);

impl MeasurementSalt {
    /// A random salt, for a new cluster.
    pub fn generate() -> Result<Self, RandomError> {
        let mut bytes = [0; SECRET_LENGTH];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
        Ok(Self(bytes))
    }

    /// Exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, LengthError> {
        exact("the measurement salt", bytes).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; SECRET_LENGTH] {
        &self.0
    }
}

/// The identity of a cluster. Public.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterId([u8; SECRET_LENGTH]);

impl ClusterId {
    /// HKDF-SHA256 of the measurement secret.
    pub fn derive(secret: &MeasurementSecret, salt: &MeasurementSalt) -> Self {
        Self(*hkdf_sha256(secret.expose_bytes(), &salt.0, CLUSTER_ID).expose())
    }

    /// Exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, LengthError> {
        exact("the cluster ID", bytes).map(Self)
    }

    /// The bytes. These are the data of the TPM event that marks a machine (`TPM2_PCR_Event` hashes them itself).
    pub fn as_bytes(&self) -> &[u8; SECRET_LENGTH] {
        &self.0
    }

    /// The digest that `TPM2_PCR_Event` over the cluster ID extends into the SHA-256 bank.
    pub fn mark_digest(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    /// The value of PCR 15 (SHA-256 bank) of a machine that was marked once, from zero.
    pub fn pcr15(&self) -> [u8; 32] {
        let mut extended = [0; 64];
        extended[32..].copy_from_slice(&self.mark_digest());
        sha256(&extended)
    }
}

/// Hex.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A text is no cluster ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cluster ID is 64 hexadecimal digits")]
pub struct ClusterIdError;

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let mut bytes = [0; SECRET_LENGTH];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ClusterIdError)?;
        Ok(Self(bytes))
    }
}

fn exact(what: &'static str, bytes: &[u8]) -> Result<[u8; SECRET_LENGTH], LengthError> {
    bytes.try_into().map_err(|_| LengthError {
        what,
        expected: "32",
        actual: bytes.len(),
    })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = ClusterId([0x5a; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "5a", &"5a".repeat(33), &"zz".repeat(32)] {
            assert_eq!(text.parse::<ClusterId>(), Err(ClusterIdError), "{text}");
        }
    }

    /// The mark is the hash of the ID: extending the raw ID would give another value.
    #[test]
    fn the_mark_is_hashed_before_it_is_extended() {
        let id = ClusterId([7; 32]);
        let mut raw = [0; 64];
        raw[32..].copy_from_slice(id.as_bytes());
        assert_ne!(id.pcr15(), sha256(&raw));
        assert_ne!(&id.mark_digest(), id.as_bytes());
    }

    #[test]
    fn a_salt_has_32_bytes() {
        let error = MeasurementSalt::from_slice(&[0; 16]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the measurement salt has 16 bytes, it must have 32"
        );
    }
}
