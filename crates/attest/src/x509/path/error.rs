//! Why a certificate is not trusted, in words that say which one and what to do.

use jiff::Timestamp;
use thiserror::Error;

use crate::x509::Certificate;

/// Why there is no path to a root of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// More intermediates than are looked at.
    #[error(
        "more than {most} intermediate certificates were offered; send those of this chain only"
    )]
    TooManyIntermediates {
        /// The bound.
        most: usize,
    },
    /// A path longer than any that a vendor has.
    #[error("the chain has more than {most} certificates; send those of this chain only")]
    TooLong {
        /// The bound.
        most: usize,
    },
    /// So many certificates of one name that trying them all would take long.
    #[error("the certificates offered make too many chains; send those of this chain only")]
    TooMuchWork,
    /// The leaf is an authority and should not be, or the other way round.
    #[error(
        "the certificate of {subject} is not {expected}; send the certificate that signs the evidence"
    )]
    LeafKind {
        /// Whose certificate.
        subject: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Nobody of the issuer's name is among intermediates and roots.
    #[error(
        "the certificate of {subject} is issued by {issuer}, which is neither a trusted root nor among the intermediates; \
         send the missing intermediate, or trust this root if it is the vendor's"
    )]
    NoIssuer {
        /// Whose certificate.
        subject: String,
        /// Who issued it.
        issuer: String,
    },
    /// Validity begins later.
    #[error(
        "the certificate of {subject} is valid from {not_before}, and it is {now}; check the clock"
    )]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// The first second.
        not_before: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Validity has ended.
    #[error(
        "the certificate of {subject} expired at {not_after}, and it is {now}; fetch a new one, or check the clock"
    )]
    Expired {
        /// Whose certificate.
        subject: String,
        /// The last second.
        not_after: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Constraints that are not processed here.
    #[error(
        "the certificate of {subject} constrains names, which is not supported; do not trust this authority"
    )]
    NameConstraints {
        /// Whose certificate.
        subject: String,
    },
    /// A critical extension that nobody here understands.
    #[error(
        "the certificate of {subject} has the critical extension {oid}, which is not understood; look for a newer release"
    )]
    CriticalExtension {
        /// Whose certificate.
        subject: String,
        /// The extension.
        oid: String,
    },
    /// The issuer is no authority.
    #[error(
        "the certificate of {subject} is not an authority's, but issued another; do not trust this chain"
    )]
    NotAuthority {
        /// Whose certificate.
        subject: String,
    },
    /// The issuer's key is not for certificates.
    #[error("the key of {subject} may not sign certificates, but did; do not trust this chain")]
    MayNotIssue {
        /// Whose certificate.
        subject: String,
    },
    /// More authorities between issuer and leaf than the issuer may have.
    #[error(
        "{subject} allows {allowed} authorities below it, and there are {below}; do not trust this chain"
    )]
    PathLength {
        /// Whose certificate.
        subject: String,
        /// By its basic constraints.
        allowed: usize,
        /// In this path.
        below: usize,
    },
    /// The signature is by an algorithm that does not fit the issuer's key, or is unknown or weak.
    #[error(
        "the certificate of {subject} is signed with {algorithm}, which is not supported for the key of {issuer}; \
         look for a newer release"
    )]
    Algorithm {
        /// Whose certificate.
        subject: String,
        /// The algorithm.
        algorithm: String,
        /// Who issued it.
        issuer: String,
    },
    /// The signature is not the issuer's.
    #[error(
        "the certificate of {subject} is not signed by {issuer}; it was altered, or another key of this name signed it: fetch the chain again"
    )]
    Signature {
        /// Whose certificate.
        subject: String,
        /// Who should have signed it.
        issuer: String,
    },
    /// The issuer has withdrawn it.
    #[error(
        "the certificate of {subject} (serial {serial}) is revoked by {issuer}; do not trust this machine until it has a new one"
    )]
    Revoked {
        /// Whose certificate.
        subject: String,
        /// Its serial number in hex.
        serial: String,
        /// Who revoked it.
        issuer: String,
    },
    /// The issuer's word on revocation cannot be had.
    #[error(
        "whether the certificate of {subject} is revoked cannot be told; fetch the CRL of {issuer} again"
    )]
    Crl {
        /// Whose certificate.
        subject: String,
        /// Whose CRL.
        issuer: String,
        /// What is wrong with it.
        #[source]
        fault: CrlFault,
    },
}

impl PathError {
    pub(super) fn no_issuer(certificate: &Certificate) -> Self {
        Self::NoIssuer {
            subject: named(certificate),
            issuer: certificate.issuer().to_string(),
        }
    }
}

/// Why a CRL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CrlFault {
    /// There is none of this issuer.
    #[error("there is no CRL")]
    Missing,
    /// The issuer's certificate does not let it sign CRLs.
    #[error("the issuer's key may not sign CRLs")]
    MayNotSign,
    /// The signature is by an algorithm that does not fit the issuer's key, or is unknown or weak.
    #[error("the CRL is signed with an algorithm that is not supported")]
    Algorithm,
    /// The signature is not the issuer's.
    #[error("the CRL is not signed by its issuer")]
    Signature,
    /// It was made later.
    #[error("the CRL is valid from {this_update}, and it is {now}")]
    NotYetValid {
        /// When it was made.
        this_update: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Another one should have been made by now.
    #[error("the CRL ran out at {next_update}, and it is {now}")]
    Stale {
        /// When it ran out.
        next_update: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// A newer one is demanded.
    #[error("the CRL is of {this_update}, and one from {demanded} on is demanded")]
    TooOld {
        /// When it was made.
        this_update: Timestamp,
        /// The earliest time that is accepted.
        demanded: Timestamp,
    },
    /// It does not say how long it holds.
    #[error("the CRL does not say when the next one comes")]
    NoNextUpdate,
    /// So many CRLs and certificates of one name that trying them all would take long.
    #[error("there are too many CRLs and certificates of one name")]
    TooMuchWork,
}

/// The subject, and for the many keys of TPMs that have none the serial number.
pub(super) fn named(certificate: &Certificate) -> String {
    if certificate.subject().is_empty() {
        return format!("serial {}", hex::encode(certificate.serial()));
    }
    certificate.subject().to_string()
}
