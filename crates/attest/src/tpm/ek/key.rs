//! An endorsement key that somebody vouches for.

use std::collections::BTreeSet;

use thiserror::Error;

use super::kdf::Hash;
use super::public::{EkName, EkPublic, Template};
use super::{Purpose, TpmCertificate};
use crate::Digest;
use crate::x509::PublicKey;

/// Who says that the key is one of a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The maker of the TPM, by a certificate.
    Maker,
    /// Whoever enrolled the machine.
    Enrolled,
}

/// An endorsement key with its trust. Only a checked certificate or an enrolment makes one.
#[derive(Debug)]
pub struct EndorsementKey {
    pub(super) key: PublicKey,
    pub(super) hash: Hash,
    pub(super) aes_length: u8,
    trust: Trust,
}

/// Why a certificate's key is no endorsement key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndorsementKeyError {
    /// The certificate is one of an attestation key.
    #[error("the certificate is about an attestation key, not an endorsement key")]
    Purpose,
    /// The template makes keys of another kind.
    #[error("the template {0:?} makes keys of another kind than the certificate's")]
    Template(Template),
}

impl EndorsementKey {
    /// The key of a maker's certificate. Which template made it is for the machine to say: with a wrong one its TPM
    /// cannot answer a challenge, and nothing else follows from it.
    ///
    /// # Errors
    /// When the certificate is about another kind of key.
    pub fn from_certificate(
        certificate: &TpmCertificate,
        template: Template,
    ) -> Result<Self, EndorsementKeyError> {
        match certificate.purpose() {
            Purpose::Endorsement => {}
            Purpose::Attestation => return Err(EndorsementKeyError::Purpose),
        }
        let key = certificate.path().leaf().public_key();
        if !template.fits(key) {
            return Err(EndorsementKeyError::Template(template));
        }
        Ok(Self {
            key: key.clone(),
            hash: template.hash(),
            aes_length: template.aes_length(),
            trust: Trust::Maker,
        })
    }

    /// Who vouches for it.
    #[must_use]
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// SHA-256 of the key's point or modulus: the same for a key by certificate and by enrolment, so that it tells TPMs
    /// apart.
    #[must_use]
    pub fn id(&self) -> Digest {
        match &self.key {
            PublicKey::P256(point) => Digest::of(point),
            PublicKey::P384(point) => Digest::of(point),
            PublicKey::Rsa(key) => Digest::of(&key.modulus),
        }
    }
}

/// Endorsement keys that somebody who could see the machines wrote down, by their TPM names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enrolled(BTreeSet<EkName>);

/// A key that nobody enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the endorsement key {0} is not enrolled")]
pub struct NotEnrolled(EkName);

impl Enrolled {
    /// Those and no others. None admits nobody.
    #[must_use]
    pub const fn new(names: BTreeSet<EkName>) -> Self {
        Self(names)
    }

    /// The key, if it is enrolled.
    ///
    /// # Errors
    /// When it is not.
    pub fn admit(&self, public: EkPublic) -> Result<EndorsementKey, NotEnrolled> {
        if !self.0.contains(&public.name) {
            return Err(NotEnrolled(public.name));
        }
        Ok(EndorsementKey {
            key: public.key,
            hash: public.hash,
            aes_length: public.aes_length,
            trust: Trust::Enrolled,
        })
    }
}
