//! The checks of a TPM maker's certificate, by name.

use std::fmt;

/// One check of [`super::appraise_certificate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// A certificate, followed by nothing but the padding of an NV area, and its extensions can be read.
    Format,
    /// It leads to a root of the makers that are accepted, now.
    Chain,
    /// Its issuer said that it is not revoked.
    Revocation,
    /// Its key is for the demanded purpose, and for no other.
    KeyUsage,
    /// If it says which kind of TPM key it is for, it is the demanded kind.
    ExtendedKeyUsage,
    /// If it says which specification the TPM follows, it is TPM 2.0.
    Specification,
    /// It says which TPM it is about.
    Identity,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Format => "TPM certificate format",
            Self::Chain => "TPM certificate chain",
            Self::Revocation => "TPM certificate revocation",
            Self::KeyUsage => "TPM certificate key usage",
            Self::ExtendedKeyUsage => "TPM certificate extended key usage",
            Self::Specification => "TPM specification",
            Self::Identity => "TPM identity",
        })
    }
}
