//! The document of AWS: a COSE_Sign1 (RFC 9052, 4.2) whose payload is a CBOR map. Parsing believes nothing.
//!
//! The map is the one of the Nitro Enclaves' "attestation document specification"; NitroTPM's has the same fields, but
//! names its PCRs `nitrotpm_pcrs`.

use std::fmt;

use jiff::Timestamp;
use thiserror::Error;

use crate::Digest384;
use crate::cbor::{Cbor, CborError, Entries, push_bytes};

/// Larger than any document with fields at their bounds.
pub const MAX_DOCUMENT: usize = 32 * 1024;
/// Bytes of a certificate in the document.
pub(super) const MAX_CERTIFICATE: usize = 1024;
/// Certificates in `cabundle`; AWS sends four.
pub(super) const MAX_BUNDLE: usize = 8;
/// Bytes of `public_key`, `user_data` and `nonce`.
const MAX_CLAIM: usize = 1024;
const MAX_MODULE_ID: usize = 256;
/// Registers a document may hold.
const MAX_PCRS: usize = 32;
const MAX_HEADER: usize = 64;
const MAX_HEADER_ENTRIES: usize = 8;
const MAX_FIELDS: usize = 32;
const MAX_NAME: usize = 64;
/// COSE_Sign1 (RFC 9052, 2).
const TAG_SIGN1: u64 = 18;
/// Header labels (RFC 9052, 3.1).
const LABEL_ALG: i64 = 1;
const LABEL_CRIT: i64 = 2;
/// ECDSA with SHA-384 (RFC 9053, 2.1).
const ES384: i64 = -35;
/// r and s on P-384.
const SIGNATURE: usize = 96;

/// Which of the two makers of such documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The Nitro Security Module of an enclave: `pcrs` describe the enclave's image.
    Enclave,
    /// The NitroTPM of an instance: `nitrotpm_pcrs` are the SHA-384 bank of its TPM.
    NitroTpm,
}

impl Kind {
    /// The name of the registers in the document.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Enclave => "pcrs",
            Self::NitroTpm => "nitrotpm_pcrs",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enclave => "Nitro Enclave",
            Self::NitroTpm => "NitroTPM",
        })
    }
}

/// Why bytes are not a document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Longer than any.
    #[error("the document has {0} bytes, more than {MAX_DOCUMENT}")]
    TooLong(usize),
    /// Not the CBOR it should be.
    #[error("the document is not the CBOR it should be")]
    Cbor(#[from] CborError),
    /// A tag that is not COSE_Sign1's.
    #[error("the document has the tag {0}, and must have 18 (COSE_Sign1) or none")]
    Tag(u64),
    /// Another number of parts.
    #[error("COSE_Sign1 has four parts, and the document {0}")]
    Parts(usize),
    /// The protected header has no algorithm, or not the only one AWS uses.
    #[error("the protected header names the algorithm {0:?}, and must name -35 (ES384)")]
    Algorithm(Option<i64>),
    /// A header that must be understood, and is not.
    #[error("the protected header has a list of critical headers, none of which is known")]
    Critical,
    /// A field given twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// A field that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field with a value it cannot have.
    #[error("{field} {what}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A document, read and not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: [u8; SIGNATURE],
    claims: Claims<'a>,
}

/// The fields of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claims<'a> {
    kind: Kind,
    module_id: &'a str,
    digest: &'a str,
    timestamp: Timestamp,
    pcrs: Vec<(u8, Digest384)>,
    certificate: &'a [u8],
    cabundle: Vec<&'a [u8]>,
    public_key: Option<&'a [u8]>,
    user_data: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
}

impl<'a> Document<'a> {
    /// Parses a document with or without COSE_Sign1's tag.
    ///
    /// # Errors
    /// When the bytes are not exactly one, or a field is missing, given twice, or beyond its bound. Fields that AWS may
    /// add later are stepped over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLong(bytes.len()));
        }
        let mut cbor = Cbor::new(bytes);
        match cbor.tag("document")? {
            None | Some(TAG_SIGN1) => {}
            Some(other) => return Err(DocumentError::Tag(other)),
        }
        let mut parts = cbor.open_array("document", 4)?;
        let mut part = |cbor: &mut Cbor<'a>| match parts.next(cbor)? {
            true => Ok(()),
            false => Err(DocumentError::Parts(parts.read())),
        };
        part(&mut cbor)?;
        let protected = cbor.bytes("protected header", MAX_HEADER)?;
        check_header(protected)?;
        part(&mut cbor)?;
        // signed by nobody, so nothing in it counts
        let mut unprotected = cbor.open_map("unprotected header", MAX_HEADER_ENTRIES)?;
        while unprotected.next(&mut cbor)? {
            cbor.skip("unprotected header")?;
            cbor.skip("unprotected header")?;
        }
        part(&mut cbor)?;
        let payload = cbor.bytes("payload", MAX_DOCUMENT)?;
        part(&mut cbor)?;
        let signature =
            <[u8; SIGNATURE]>::try_from(cbor.bytes("signature", SIGNATURE)?).map_err(|_| {
                DocumentError::Value {
                    field: "signature",
                    what: "has not the 96 bytes of ES384",
                }
            })?;
        if parts.next(&mut cbor)? {
            return Err(DocumentError::Parts(parts.read()));
        }
        cbor.finish("document")?;
        Ok(Self {
            protected,
            payload,
            signature,
            claims: Claims::parse(payload)?,
        })
    }

    /// What the signature is over (RFC 9052, 4.4), without external data.
    #[must_use]
    pub fn signed(&self) -> Vec<u8> {
        const CONTEXT: &[u8] = b"\x84\x6aSignature1";
        let mut out =
            Vec::with_capacity(CONTEXT.len() + self.protected.len() + self.payload.len() + 16);
        out.extend_from_slice(CONTEXT);
        push_bytes(&mut out, self.protected);
        push_bytes(&mut out, &[]);
        push_bytes(&mut out, self.payload);
        out
    }

    /// r and s.
    #[must_use]
    pub const fn signature(&self) -> &[u8; SIGNATURE] {
        &self.signature
    }

    /// What the document says it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.claims.kind
    }

    /// The instance and the module of it that made the document.
    #[must_use]
    pub const fn module_id(&self) -> &'a str {
        self.claims.module_id
    }

    /// The hash of the registers.
    #[must_use]
    pub const fn digest(&self) -> &'a str {
        self.claims.digest
    }

    /// When it was made, by the host's clock.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.claims.timestamp
    }

    /// The registers in the order of their numbers.
    #[must_use]
    pub fn pcrs(&self) -> &[(u8, Digest384)] {
        &self.claims.pcrs
    }

    /// DER of the certificate whose key signed.
    #[must_use]
    pub const fn certificate(&self) -> &'a [u8] {
        self.claims.certificate
    }

    /// DER of the certificates above it, the root first.
    #[must_use]
    pub fn cabundle(&self) -> &[&'a [u8]] {
        &self.claims.cabundle
    }

    /// The key the caller had put in.
    #[must_use]
    pub const fn public_key(&self) -> Option<&'a [u8]> {
        self.claims.public_key
    }

    /// The data the caller had put in.
    #[must_use]
    pub const fn user_data(&self) -> Option<&'a [u8]> {
        self.claims.user_data
    }

    /// The nonce the caller had put in.
    #[must_use]
    pub const fn nonce(&self) -> Option<&'a [u8]> {
        self.claims.nonce
    }
}

fn check_header(protected: &[u8]) -> Result<(), DocumentError> {
    const FIELD: &str = "protected header";
    let mut cbor = Cbor::new(protected);
    let mut entries = cbor.open_map(FIELD, MAX_HEADER_ENTRIES)?;
    let mut algorithm = None;
    while entries.next(&mut cbor)? {
        match cbor.integer(FIELD)? {
            LABEL_ALG => once(&mut algorithm, "alg", cbor.integer("alg")?)?,
            LABEL_CRIT => return Err(DocumentError::Critical),
            _ => cbor.skip(FIELD)?,
        }
    }
    cbor.finish(FIELD)?;
    if algorithm == Some(ES384) {
        Ok(())
    } else {
        Err(DocumentError::Algorithm(algorithm))
    }
}

impl<'a> Claims<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, DocumentError> {
        let mut cbor = Cbor::new(payload);
        let mut fields = cbor.open_map("payload", MAX_FIELDS)?;
        let (mut module_id, mut digest, mut timestamp) = (None, None, None);
        let (mut enclave, mut tpm) = (None, None);
        let (mut certificate, mut cabundle) = (None, None);
        let (mut public_key, mut user_data, mut nonce) = (None, None, None);
        while fields.next(&mut cbor)? {
            match cbor.text("name of a field", MAX_NAME)? {
                "module_id" => {
                    let value = cbor.text("module_id", MAX_MODULE_ID)?;
                    once(&mut module_id, "module_id", value)?;
                }
                "digest" => once(&mut digest, "digest", cbor.text("digest", MAX_NAME)?)?,
                "timestamp" => {
                    let value = cbor.unsigned("timestamp")?;
                    once(&mut timestamp, "timestamp", value)?;
                }
                "pcrs" => once(&mut enclave, "pcrs", registers(&mut cbor)?)?,
                "nitrotpm_pcrs" => once(&mut tpm, "nitrotpm_pcrs", registers(&mut cbor)?)?,
                "certificate" => {
                    let value = cbor.bytes("certificate", MAX_CERTIFICATE)?;
                    once(&mut certificate, "certificate", value)?;
                }
                "cabundle" => once(&mut cabundle, "cabundle", bundle(&mut cbor)?)?,
                "public_key" => {
                    let value = cbor.bytes_or_null("public_key", MAX_CLAIM)?;
                    once(&mut public_key, "public_key", value)?;
                }
                "user_data" => {
                    let value = cbor.bytes_or_null("user_data", MAX_CLAIM)?;
                    once(&mut user_data, "user_data", value)?;
                }
                "nonce" => {
                    let value = cbor.bytes_or_null("nonce", MAX_CLAIM)?;
                    once(&mut nonce, "nonce", value)?;
                }
                _ => cbor.skip("an unknown field")?,
            }
        }
        cbor.finish("payload")?;
        let (kind, pcrs) = match (enclave, tpm) {
            (Some(pcrs), None) => (Kind::Enclave, pcrs),
            (None, Some(pcrs)) => (Kind::NitroTpm, pcrs),
            (None, None) => return Err(DocumentError::Missing("pcrs or nitrotpm_pcrs")),
            (Some(_), Some(_)) => {
                return Err(DocumentError::Value {
                    field: "pcrs",
                    what: "stands beside nitrotpm_pcrs",
                });
            }
        };
        let module_id = module_id.ok_or(DocumentError::Missing("module_id"))?;
        if module_id.is_empty() {
            return Err(DocumentError::Value {
                field: "module_id",
                what: "is empty",
            });
        }
        Ok(Self {
            kind,
            module_id,
            digest: digest.ok_or(DocumentError::Missing("digest"))?,
            timestamp: moment(timestamp.ok_or(DocumentError::Missing("timestamp"))?)?,
            pcrs,
            certificate: certificate.ok_or(DocumentError::Missing("certificate"))?,
            cabundle: cabundle.ok_or(DocumentError::Missing("cabundle"))?,
            public_key: public_key.flatten(),
            user_data: user_data.flatten(),
            nonce: nonce.flatten(),
        })
    }
}

/// Milliseconds since 1970.
fn moment(milliseconds: u64) -> Result<Timestamp, DocumentError> {
    i64::try_from(milliseconds)
        .ok()
        .filter(|value| *value > 0)
        .and_then(|value| Timestamp::from_millisecond(value).ok())
        .ok_or(DocumentError::Value {
            field: "timestamp",
            what: "is no moment",
        })
}

fn registers(cbor: &mut Cbor<'_>) -> Result<Vec<(u8, Digest384)>, DocumentError> {
    const FIELD: &str = "PCRs";
    let mut entries = cbor.open_map(FIELD, MAX_PCRS)?;
    let mut pcrs: Vec<(u8, Digest384)> = Vec::with_capacity(MAX_PCRS);
    while entries.next(cbor)? {
        let index = u8::try_from(cbor.unsigned(FIELD)?)
            .ok()
            .filter(|index| usize::from(*index) < MAX_PCRS)
            .ok_or(DocumentError::Value {
                field: FIELD,
                what: "have a number above 31",
            })?;
        let value =
            <[u8; 48]>::try_from(cbor.bytes(FIELD, 64)?).map_err(|_| DocumentError::Value {
                field: FIELD,
                what: "have a value that is not SHA-384",
            })?;
        if pcrs.iter().any(|(known, _)| *known == index) {
            return Err(DocumentError::Twice("a PCR"));
        }
        pcrs.push((index, Digest384::from_bytes(value)));
    }
    if pcrs.is_empty() {
        return Err(DocumentError::Value {
            field: FIELD,
            what: "are none",
        });
    }
    pcrs.sort_unstable_by_key(|(index, _)| *index);
    Ok(pcrs)
}

fn bundle<'a>(cbor: &mut Cbor<'a>) -> Result<Vec<&'a [u8]>, DocumentError> {
    const FIELD: &str = "cabundle";
    let mut entries: Entries = cbor.open_array(FIELD, MAX_BUNDLE)?;
    let mut certificates = Vec::with_capacity(MAX_BUNDLE);
    while entries.next(cbor)? {
        certificates.push(cbor.bytes(FIELD, MAX_CERTIFICATE)?);
    }
    if certificates.is_empty() {
        return Err(DocumentError::Value {
            field: FIELD,
            what: "is empty",
        });
    }
    Ok(certificates)
}

fn once<T>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<(), DocumentError> {
    if slot.is_some() {
        return Err(DocumentError::Twice(field));
    }
    *slot = Some(value);
    Ok(())
}
