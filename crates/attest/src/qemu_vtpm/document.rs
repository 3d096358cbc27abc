//! The evidence document of `qemu-vtpm`: strict JSON, so that one set of bytes has one reading.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::event_log::MAX_LOG;
use crate::{Digest, PcrIndex, PcrValues};

/// The kernel takes 2 kB on x86 and 4 kB elsewhere.
const MAX_COMMAND_LINE: usize = 4096;
/// Each TPM structure of the document.
const MAX_STRUCTURE: usize = 2048;

/// The parts of a `qemu-vtpm` document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `TPM2B_PUBLIC` of the attestation key.
    pub ak_public: Vec<u8>,
    /// `TPM2B_ATTEST`.
    pub quote: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// The SHA-256 bank.
    pub pcrs: PcrValues,
    /// The TCG event log.
    pub event_log: Vec<u8>,
    /// The kernel's command line, believed only where its digest is in the log.
    pub command_line: Option<String>,
}

/// Why bytes are not a document.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Not JSON, or not of this form.
    #[error("not the JSON of a qemu-vtpm document: {0}")]
    Json(String),
    /// Base64 that is not.
    #[error("{0} is not standard base64")]
    Base64(&'static str),
    /// A field beyond its bound.
    #[error("{field} has {length} bytes, more than {bound}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The bound.
        bound: usize,
    },
    /// The PCRs are not exactly 0 to 23.
    #[error("the sha256 bank has {0} PCRs, not all of 0 to 23")]
    Pcrs(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct Json {
    ak_public: String,
    quote: String,
    signature: String,
    pcrs: Banks,
    event_log: String,
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    command_line: Option<String>,
}

/// A bank that is not SHA-256 would be an unknown field, and is refused as one.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct Banks {
    #[serde(deserialize_with = "bank")]
    sha256: BTreeMap<PcrIndex, Digest>,
}

crate::strict::objects!(Json, Banks);

fn bank<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<PcrIndex, Digest>, D::Error> {
    crate::strict::unique_map(deserializer)
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// When it is not of exactly this form, or a field is beyond its bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::Json(error.to_string()))?;
        let mut values = [Digest::ZERO; PcrIndex::COUNT];
        if json.pcrs.sha256.len() != values.len() {
            return Err(DocumentError::Pcrs(json.pcrs.sha256.len()));
        }
        // 24 different keys of 24 possible ones, in order
        for (slot, value) in values.iter_mut().zip(json.pcrs.sha256.values()) {
            *slot = *value;
        }
        if let Some(line) = &json.command_line {
            bounded("commandLine", line.len(), MAX_COMMAND_LINE)?;
        }
        Ok(Self {
            ak_public: decoded("akPublic", &json.ak_public, MAX_STRUCTURE)?,
            quote: decoded("quote", &json.quote, MAX_STRUCTURE)?,
            signature: decoded("signature", &json.signature, MAX_STRUCTURE)?,
            pcrs: PcrValues::from_values(values),
            event_log: decoded("eventLog", &json.event_log, MAX_LOG)?,
            command_line: json.command_line,
        })
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let json = Json {
            ak_public: STANDARD.encode(&self.ak_public),
            quote: STANDARD.encode(&self.quote),
            signature: STANDARD.encode(&self.signature),
            pcrs: Banks {
                sha256: self
                    .pcrs
                    .iter()
                    .map(|(index, value)| (index, *value))
                    .collect(),
            },
            event_log: STANDARD.encode(&self.event_log),
            command_line: self.command_line.clone(),
        };
        // every key is text or a number, which is all that could make this fail
        serde_json::to_vec(&json).unwrap_or_default()
    }
}

fn decoded(field: &'static str, text: &str, bound: usize) -> Result<Vec<u8>, DocumentError> {
    bounded(field, text.len() / 4 * 3, bound + 2)?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| DocumentError::Base64(field))?;
    bounded(field, bytes.len(), bound)?;
    Ok(bytes)
}

const fn bounded(field: &'static str, length: usize, bound: usize) -> Result<(), DocumentError> {
    if length > bound {
        Err(DocumentError::TooLong {
            field,
            length,
            bound,
        })
    } else {
        Ok(())
    }
}
