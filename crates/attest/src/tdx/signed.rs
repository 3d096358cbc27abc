//! A statement of Intel's provisioning certification service: a JSON object with one member, and a signature over the bytes of
//! exactly that member as they were sent (PCS API v4, "Get TDX TCB Info", "Get TDX QE Identity").

use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::x509::{BadSignature, PublicKey, SignatureScheme};

/// Real statements have up to 20 KiB.
pub const MAX_STATEMENT: usize = 256 * 1024;

/// Why bytes are not a statement of Intel's.
#[derive(Debug, Error)]
pub enum StatementError {
    /// Longer than any statement.
    #[error("the statement has {size} bytes, at most {MAX_STATEMENT} are allowed")]
    TooLong {
        /// What it has.
        size: usize,
    },
    /// Not an object with the member and its signature.
    #[error("the statement is not an object with a body and its signature")]
    Envelope(#[source] serde_json::Error),
    /// A body without the fields it must have, or with a field given twice.
    #[error("the statement's body is not of the documented form")]
    Body(#[source] serde_json::Error),
    /// Not a statement about what was asked for.
    #[error("the statement is about {id:?} in version {version}; {expected} is needed")]
    Kind {
        /// What it is about.
        id: String,
        /// Its version.
        version: u32,
        /// What is read here.
        expected: &'static str,
    },
    /// Values that are given in another way than this release knows.
    #[error("the statement's TCB is of type {tcb_type}; type 0 is supported")]
    TcbType {
        /// What it says.
        tcb_type: u32,
    },
    /// More entries than Intel has ever published.
    #[error("the statement has {count} {what}, at most {most} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        most: usize,
    },
}

/// A body, with the bytes and the signature that vouch for it. Not believed before [`Signed::verified_by`] hands it out.
#[derive(Clone, Debug)]
pub(super) struct Signed<T> {
    body: T,
    bytes: Vec<u8>,
    signature: [u8; 64],
    /// The key that is known to have signed these bytes: nothing of this changes, so it is verified once.
    signer: OnceLock<PublicKey>,
}

impl<T> Signed<T> {
    /// What the statement claims. Nobody has vouched for it.
    pub(super) const fn claimed(&self) -> &T {
        &self.body
    }

    /// What `key` says.
    pub(super) fn verified_by(&self, key: &PublicKey) -> Result<&T, BadSignature> {
        if self.signer.get() != Some(key) {
            key.verify(
                SignatureScheme::EcdsaP256Sha256Fixed,
                &self.bytes,
                &self.signature,
            )?;
            self.signer.get_or_init(|| key.clone());
        }
        Ok(&self.body)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbInfoEnvelope<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    body: &'a RawValue,
    #[serde(deserialize_with = "bytes_of_hex")]
    signature: [u8; 64],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QeIdentityEnvelope<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    body: &'a RawValue,
    #[serde(deserialize_with = "bytes_of_hex")]
    signature: [u8; 64],
}

/// Reads `{"tcbInfo": .., "signature": ".."}`.
pub(super) fn tcb_info<T: DeserializeOwned>(bytes: &[u8]) -> Result<Signed<T>, StatementError> {
    let envelope: TcbInfoEnvelope<'_> = envelope(bytes)?;
    body(envelope.body, envelope.signature)
}

/// Reads `{"enclaveIdentity": .., "signature": ".."}`.
pub(super) fn enclave_identity<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<Signed<T>, StatementError> {
    let envelope: QeIdentityEnvelope<'_> = envelope(bytes)?;
    body(envelope.body, envelope.signature)
}

fn envelope<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StatementError> {
    if bytes.len() > MAX_STATEMENT {
        return Err(StatementError::TooLong { size: bytes.len() });
    }
    serde_json::from_slice(bytes).map_err(StatementError::Envelope)
}

fn body<T: DeserializeOwned>(
    raw: &RawValue,
    signature: [u8; 64],
) -> Result<Signed<T>, StatementError> {
    Ok(Signed {
        body: serde_json::from_str(raw.get()).map_err(StatementError::Body)?,
        bytes: raw.get().as_bytes().to_vec(),
        signature,
        signer: OnceLock::new(),
    })
}

/// A field of exactly `N` bytes in hexadecimal digits of either case.
pub(super) fn bytes_of_hex<'de, D, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error>
where
    D: serde::Deserializer<'de>,
{
    deserializer.deserialize_str(HexVisitor)
}

/// Decodes from where the text stands.
struct HexVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for HexVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; N], E> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| E::custom(format_args!("expected {} hexadecimal digits", 2 * N)))?;
        Ok(bytes)
    }
}
