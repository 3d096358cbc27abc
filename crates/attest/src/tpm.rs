//! The TPM 2.0 structures that attestation needs, parsed from foreign bytes and verified.
//!
//! Parsing says only what the bytes claim. [`VerifiedQuote`] is what a verifier may believe: PCR values that a [`TrustedAk`]
//! signed. Whether a key may be trusted is its variant's business. Sections name TCG "TPM 2.0 Library, Part 2: Structures".

mod ak;
mod authorities;
mod bank;
mod check;
pub mod ek;
mod endorsed;
mod hash;
mod key;
mod public;
mod quote;
mod reader;
mod requirements;
mod signature;
mod verified;

pub use ak::TrustedAk;
pub use authorities::AkAuthorities;
pub use bank::{BankValues, BankValuesError, PcrValue, PcrValueError};
pub use check::CheckName;
pub use endorsed::EndorsedAk;
pub(crate) use endorsed::{AkCertificate, Purpose};
pub use hash::HashAlgorithm;
pub use key::{KeyScheme, PublicKey, RsaKeyError};
pub use public::{ObjectAttributes, PublicArea};
pub use quote::{PcrSelection, Quote, Statement, StatementHeader};
pub use reader::ParseError;
pub(crate) use reader::Reader;
pub use requirements::{AcceptedPcrs, PcrRequirements, PcrRequirementsError, Selection};
pub use signature::Signature;
pub use verified::{NotWholeBank, QualifyingData, QualifyingDataError, SignedQuote, VerifiedQuote};

/// `TPM_ALG_ID` values (6.3).
pub(crate) mod alg {
    pub(crate) const RSA: u16 = 0x0001;
    pub(crate) const SHA1: u16 = 0x0004;
    pub(crate) const SHA256: u16 = 0x000b;
    pub(crate) const SHA384: u16 = 0x000c;
    pub(crate) const SHA512: u16 = 0x000d;
    pub(crate) const NULL: u16 = 0x0010;
    pub(crate) const SM3_256: u16 = 0x0012;
    pub(crate) const RSASSA: u16 = 0x0014;
    pub(crate) const RSAPSS: u16 = 0x0016;
    pub(crate) const ECDSA: u16 = 0x0018;
    pub(crate) const ECC: u16 = 0x0023;

    /// The name of an algorithm for a person.
    pub(crate) fn name(id: u16) -> String {
        match super::HashAlgorithm::from_tpm_id(id) {
            Some(algorithm) => algorithm.name().into(),
            None if id == SM3_256 => "sm3-256".into(),
            None => format!("algorithm {id:#06x}"),
        }
    }
}
