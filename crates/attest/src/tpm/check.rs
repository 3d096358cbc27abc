//! The names of the checks of a key's endorsement.

use std::fmt;

/// One check of what vouches for an attestation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The certificate can be read.
    CertificateFormat,
    /// Nothing but zeros follows it.
    CertificatePadding,
    /// It leads to a root that is built in.
    CertificatePath,
    /// Somebody said that it is not revoked.
    CertificateRevocation,
    /// It is of a key that signs for a TPM.
    CertificatePurpose,
    /// Its key is one that a TPM has.
    CertifiedKey,
    /// The key that signs is the one that is vouched for.
    EndorsedKey,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CertificateFormat => "AK certificate format",
            Self::CertificatePadding => "AK certificate padding",
            Self::CertificatePath => "AK certificate chain",
            Self::CertificateRevocation => "AK certificate revocation",
            Self::CertificatePurpose => "AK certificate purpose",
            Self::CertifiedKey => "certified key",
            Self::EndorsedKey => "key that is vouched for",
        })
    }
}
