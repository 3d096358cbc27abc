//! The checks of an AWS document, by name.

use std::fmt;

/// One check of [`super::appraise`] and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// A COSE_Sign1 with ES384 and the fields of an attestation document.
    DocumentFormat,
    /// NitroTPM or enclave, as demanded.
    Kind,
    /// Certificate and `cabundle` are certificates.
    Certificates,
    /// They lead to the root, now.
    Chain,
    /// The certificate's key signed the document.
    Signature,
    /// `digest` is SHA384.
    Digest,
    /// Made while the certificate was valid, and not in the future.
    Timestamp,
    /// Not older than is accepted.
    Age,
    /// `nonce` is the demanded one.
    Nonce,
    /// `user_data` is the demanded one.
    UserData,
    /// `public_key` is the demanded one.
    PublicKey,
    /// All registers of the kind are there.
    PcrSet,
    /// The enclave was not started in debug mode.
    Debug,
    /// The register has the demanded value.
    Pcr(u8),
    /// The document has a key, a nonce and registers that a quote can agree with.
    QuoteDocument,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DocumentFormat => "AWS document format",
            Self::Kind => "AWS document kind",
            Self::Certificates => "certificates in the AWS document",
            Self::Chain => "AWS certificate chain",
            Self::Signature => "AWS document signature",
            Self::Digest => "digest of the PCRs",
            Self::Timestamp => "time of the AWS document",
            Self::Age => "age of the AWS document",
            Self::Nonce => "nonce",
            Self::UserData => "user data",
            Self::PublicKey => "public key",
            Self::PcrSet => "PCRs of the kind",
            Self::Debug => "debug mode",
            Self::Pcr(index) => return f.pad(&format!("SHA-384 PCR {index}")),
            Self::QuoteDocument => "AWS document beside a quote",
        })
    }
}
