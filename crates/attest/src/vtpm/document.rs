//! Evidence documents of machines with a TPM: strict JSON, so that one set of bytes has one reading.
//!
//! Each kind of machine has a document of its own, made by [`documents`]: the fields of [`TpmEvidence`] and what vouches for the TPM's
//! key there. A field of another kind is an unknown field.

mod field;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::event_log::MAX_LOG;
use crate::{Digest, PcrIndex, PcrValues};

pub(crate) use field::Field;

/// More certificates than any one list of a document needs: a key's and two of its authorities.
pub const MAX_CERTIFICATES: usize = 4;
/// The kernel takes 2 kB on x86 and 4 kB elsewhere.
const MAX_COMMAND_LINE: usize = 4096;
/// Each TPM structure of the document.
const MAX_STRUCTURE: usize = 2048;

/// What a TPM states of its machine. By itself the document of `qemu-vtpm`; part of every other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmEvidence {
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
    #[error("not the JSON of a {variant} document: {reason}")]
    Json {
        /// The kind of machine whose document it was to be.
        variant: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
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

/// A bank that is not SHA-256 would be an unknown field, and is refused as one.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub(crate) struct Banks {
    #[serde(deserialize_with = "bank")]
    sha256: BTreeMap<PcrIndex, Digest>,
}

crate::strict::objects!(Banks);

fn bank<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<PcrIndex, Digest>, D::Error> {
    crate::strict::unique_map(deserializer)
}

/// The fields of [`TpmEvidence`] as they stand in a document.
pub(crate) struct TpmFields {
    pub(crate) ak_public: String,
    pub(crate) quote: String,
    pub(crate) signature: String,
    pub(crate) pcrs: Banks,
    pub(crate) event_log: String,
    pub(crate) command_line: Option<String>,
}

impl TpmFields {
    pub(crate) fn read(self) -> Result<TpmEvidence, DocumentError> {
        let mut values = [Digest::ZERO; PcrIndex::COUNT];
        if self.pcrs.sha256.len() != values.len() {
            return Err(DocumentError::Pcrs(self.pcrs.sha256.len()));
        }
        // 24 different keys of 24 possible ones, in order
        for (slot, value) in values.iter_mut().zip(self.pcrs.sha256.values()) {
            *slot = *value;
        }
        if let Some(line) = &self.command_line {
            bounded("commandLine", line.len(), MAX_COMMAND_LINE)?;
        }
        Ok(TpmEvidence {
            ak_public: decoded("akPublic", &self.ak_public, MAX_STRUCTURE)?,
            quote: decoded("quote", &self.quote, MAX_STRUCTURE)?,
            signature: decoded("signature", &self.signature, MAX_STRUCTURE)?,
            pcrs: PcrValues::from_values(values),
            event_log: decoded("eventLog", &self.event_log, MAX_LOG)?,
            command_line: self.command_line,
        })
    }

    pub(crate) fn of(tpm: &TpmEvidence) -> Self {
        let values = tpm.pcrs.iter().map(|(index, value)| (index, *value));
        Self {
            ak_public: STANDARD.encode(&tpm.ak_public),
            quote: STANDARD.encode(&tpm.quote),
            signature: STANDARD.encode(&tpm.signature),
            pcrs: Banks {
                sha256: values.collect(),
            },
            event_log: STANDARD.encode(&tpm.event_log),
            command_line: tpm.command_line.clone(),
        }
    }
}

/// Makes the documents of kinds of machine: `$field ($name, $bound)` is a field with its name in JSON and the bytes it has at most, each
/// of a list's elements too.
macro_rules! documents {
    ($(
        $(#[$about:meta])*
        $vis:vis struct $document:ident of $variant:ident {$(
            $(#[$meaning:meta])*
            $field:ident ($name:literal, $bound:expr): $kind:ty
        ),*}
    )+) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $document {
            /// What the TPM states.
            pub tpm: $crate::vtpm::TpmEvidence,
            $($(#[$meaning])* pub $field: $kind,)*
        }

        const _: () = {
            use $crate::vtpm::document::{Banks, DocumentError, TpmFields};

            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(remote = "Self", deny_unknown_fields)]
            struct Json {
                #[serde(rename = "akPublic")]
                ak_public: String,
                quote: String,
                signature: String,
                pcrs: Banks,
                #[serde(rename = "eventLog")]
                event_log: String,
                #[serde(
                    rename = "commandLine",
                    default,
                    deserialize_with = "crate::strict::present",
                    skip_serializing_if = "Option::is_none"
                )]
                command_line: Option<String>,
                $(#[serde(rename = $name)] $field: <$kind as $crate::vtpm::document::Field>::Json,)*
            }

            $crate::strict::objects!(Json);

            impl $document {
                /// Parses a document.
                ///
                /// # Errors
                /// When it is not of exactly this form, or a field is beyond its bound.
                $vis fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
                    let json: Json =
                        serde_json::from_slice(bytes).map_err(|error| DocumentError::Json {
                            variant: $crate::policy::Machine::$variant.as_str(),
                            reason: error.to_string(),
                        })?;
                    $(let $field =
                        $crate::vtpm::document::Field::read(json.$field, $name, $bound)?;)*
                    let tpm = TpmFields {
                        ak_public: json.ak_public,
                        quote: json.quote,
                        signature: json.signature,
                        pcrs: json.pcrs,
                        event_log: json.event_log,
                        command_line: json.command_line,
                    };
                    Ok(Self { tpm: tpm.read()?, $($field,)* })
                }

                /// Writes the document.
                #[must_use]
                $vis fn to_json(&self) -> Vec<u8> {
                    let tpm = TpmFields::of(&self.tpm);
                    let json = Json {
                        ak_public: tpm.ak_public,
                        quote: tpm.quote,
                        signature: tpm.signature,
                        pcrs: tpm.pcrs,
                        event_log: tpm.event_log,
                        command_line: tpm.command_line,
                        $($field: $crate::vtpm::document::Field::write(&self.$field),)*
                    };
                    // every key is text or a number, which is all that could make this fail
                    serde_json::to_vec(&json).unwrap_or_default()
                }
            }
        };
    )+};
}
pub(crate) use documents;

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
