//! The TPM 2.0 structures that attestation needs, parsed from foreign bytes and verified.
//!
//! Parsing says only what the bytes claim; [`PublicKey::verify`] is the one place that checks a signature. Whether a
//! key may be trusted is its variant's business. Sections name TCG "TPM 2.0 Library, Part 2: Structures".

mod public;
mod quote;
mod reader;
mod signature;

pub use public::{KeyScheme, ObjectAttributes, PublicArea, PublicKey};
pub use quote::{PcrSelection, Quote, Statement, StatementHeader};
pub use reader::ParseError;
pub(crate) use reader::Reader;
pub use signature::Signature;

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
        match id {
            SHA1 => "sha1".into(),
            SHA256 => "sha256".into(),
            SHA384 => "sha384".into(),
            SHA512 => "sha512".into(),
            SM3_256 => "sm3-256".into(),
            other => format!("algorithm {other:#06x}"),
        }
    }
}
