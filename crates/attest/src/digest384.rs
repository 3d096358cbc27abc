//! SHA-384 digests as values: 48 bytes, hex outside. What SEV-SNP and TDX measure a launch with, and AWS a boot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A SHA-384 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest384([u8; 48]);

/// A text that is not a SHA-384 digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected 96 hexadecimal digits (SHA-384), got {length} characters")]
pub struct Digest384Error {
    length: usize,
}

impl Digest384 {
    /// What a register holds before anything was measured into it.
    pub const ZERO: Self = Self([0; 48]);

    /// A digest somebody else computed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }
}

impl fmt::Display for Digest384 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest384 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest384 {
    type Err = Digest384Error;

    fn from_str(text: &str) -> Result<Self, Digest384Error> {
        let mut bytes = [0; 48];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(Digest384Error {
                length: text.chars().count(),
            }),
        }
    }
}

impl TryFrom<String> for Digest384 {
    type Error = Digest384Error;

    fn try_from(text: String) -> Result<Self, Digest384Error> {
        text.parse()
    }
}

impl From<Digest384> for String {
    fn from(digest: Digest384) -> Self {
        digest.to_string()
    }
}
