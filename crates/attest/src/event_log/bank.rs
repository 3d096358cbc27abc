//! The banks of a log, and digests that know theirs.

use std::fmt;

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use thiserror::Error;

use crate::tpm::alg;

/// The longest digest of a bank.
const MAX: usize = 64;

/// The hash algorithm of a bank of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// SHA-1. Read for old logs; it proves nothing against somebody who can make collisions.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384: also the RTMRs of a TD.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SM3. Its digests are read and carried; there is no code here that computes one, so nothing is ever explained by it.
    Sm3_256,
}

/// Bytes that are no digest of a bank.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a digest of {bank} has {} bytes, not {length}", .bank.size())]
pub struct BankDigestError {
    bank: Bank,
    length: usize,
}

impl Bank {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sm3_256,
    ];

    /// The bank of a `TPM_ALG_ID`, if it is one.
    #[must_use]
    pub const fn from_algorithm(id: u16) -> Option<Self> {
        match id {
            alg::SHA1 => Some(Self::Sha1),
            alg::SHA256 => Some(Self::Sha256),
            alg::SHA384 => Some(Self::Sha384),
            alg::SHA512 => Some(Self::Sha512),
            alg::SM3_256 => Some(Self::Sm3_256),
            _ => None,
        }
    }

    /// Its `TPM_ALG_ID` (TPM 2.0 part 2, 6.3).
    #[must_use]
    pub const fn algorithm(self) -> u16 {
        match self {
            Self::Sha1 => alg::SHA1,
            Self::Sha256 => alg::SHA256,
            Self::Sha384 => alg::SHA384,
            Self::Sha512 => alg::SHA512,
            Self::Sm3_256 => alg::SM3_256,
        }
    }

    /// The length of its digests in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3_256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn hash(self) -> Option<&'static Algorithm> {
        match self {
            Self::Sha1 => Some(&SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha256 => Some(&SHA256),
            Self::Sha384 => Some(&SHA384),
            Self::Sha512 => Some(&SHA512),
            Self::Sm3_256 => None,
        }
    }

    /// Whether digests of this bank can be computed here.
    #[must_use]
    pub fn is_computed(self) -> bool {
        self.hash().is_some()
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&alg::name(self.algorithm()))
    }
}

/// A digest of a bank, or the value of a register in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BankDigest {
    bank: Bank,
    /// Zero beyond the bank's size.
    bytes: [u8; MAX],
}

impl BankDigest {
    /// A digest that somebody else computed.
    ///
    /// # Errors
    /// When the bytes are not as many as the bank's.
    pub fn new(bank: Bank, digest: &[u8]) -> Result<Self, BankDigestError> {
        let mut bytes = [0; MAX];
        let wrong = || BankDigestError {
            bank,
            length: digest.len(),
        };
        if digest.len() != bank.size() {
            return Err(wrong());
        }
        bytes
            .get_mut(..digest.len())
            .ok_or_else(wrong)?
            .copy_from_slice(digest);
        Ok(Self { bank, bytes })
    }

    /// The digest of the parts, one after another; nothing if the bank's hash is not computed here.
    #[must_use]
    pub fn of(bank: Bank, parts: &[&[u8]]) -> Option<Self> {
        let mut context = Context::new(bank.hash()?);
        for part in parts {
            context.update(part);
        }
        Self::new(bank, context.finish().as_ref()).ok()
    }

    /// A register in which every byte has this value.
    pub(super) fn filled(bank: Bank, value: u8) -> Self {
        let mut bytes = [0; MAX];
        for byte in bytes.iter_mut().take(bank.size()) {
            *byte = value;
        }
        Self { bank, bytes }
    }

    /// A register of zeros that ends with a locality.
    pub(super) fn locality(bank: Bank, locality: u8) -> Self {
        let mut value = Self::filled(bank, 0);
        if let Some(last) = value.bytes.get_mut(bank.size() - 1) {
            *last = locality;
        }
        value
    }

    /// What a register of this value becomes when `digest` is extended into it.
    pub(super) fn extended_by(&self, digest: &Self) -> Option<Self> {
        Self::of(self.bank, &[self.as_bytes(), digest.as_bytes()])
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The bytes, as many as the bank has.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.bank.size()).unwrap_or_default()
    }
}

impl fmt::Display for BankDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for BankDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.bank)
    }
}
