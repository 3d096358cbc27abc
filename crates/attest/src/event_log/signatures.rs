//! `EFI_SIGNATURE_LIST` (UEFI 32.4.1): the content of PK, KEK, db and dbx.

use super::Guid;
use crate::tpm::{ParseError, Reader};

/// Ten times what the longest published dbx has.
const MAX_SIGNATURES: usize = 4096;
const MAX_LISTS: usize = 1024;

const X509: Guid = Guid::from_fields(
    0xa5c0_59a1,
    0x94e4,
    0x4aa7,
    [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72],
);
const SHA256: Guid = Guid::from_fields(
    0xc1c4_1626,
    0x504c,
    0x4092,
    [0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28],
);
const X509_SHA256: Guid = Guid::from_fields(
    0x3bd2_a492,
    0x96c0,
    0x4079,
    [0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed],
);

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureKind<'a> {
    /// A certificate in DER. Nobody parsed it.
    Certificate(&'a [u8]),
    /// The Authenticode SHA-256 of an image.
    Sha256(&'a [u8; 32]),
    /// The SHA-256 of a certificate to be signed, and `EFI_TIME` of its revocation.
    CertificateSha256 {
        /// The digest.
        digest: &'a [u8; 32],
        /// Since when; all zero for always.
        revoked_at: &'a [u8; 16],
    },
    /// Something else.
    Other {
        /// Its type.
        kind: Guid,
        /// Its content.
        data: &'a [u8],
    },
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Who put it there.
    pub owner: Guid,
    /// What it is about.
    pub kind: SignatureKind<'a>,
}

/// The entries of a Secure Boot variable, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureDatabase<'a> {
    signatures: Vec<Signature<'a>>,
}

impl<'a> SignatureDatabase<'a> {
    /// Reads all lists of a variable, without a byte left over. A variable without content has no list.
    ///
    /// # Errors
    /// When a list is cut off, its sizes do not agree, or a bound is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(bytes);
        let mut database = Self::default();
        let mut lists = 0_usize;
        while !reader.is_empty() {
            lists += 1;
            if lists > MAX_LISTS {
                return Err(ParseError::TooLarge {
                    field: "number of signature lists",
                    value: lists,
                    bound: MAX_LISTS,
                });
            }
            database.list(&mut reader)?;
        }
        Ok(database)
    }

    fn list(&mut self, reader: &mut Reader<'a>) -> Result<(), ParseError> {
        const HEAD: usize = 28;
        const OWNER: usize = 16;
        let kind = Guid::from_bytes(reader.array("SignatureType")?);
        let list = reader.count("SignatureListSize", reader.rest().len() + OWNER)?;
        let header = reader.count("SignatureHeaderSize", list)?;
        let size = reader.count("SignatureSize", list)?;
        let unsupported = |field, value: usize| ParseError::Unsupported {
            field,
            value: value as u64,
        };
        if size <= OWNER {
            return Err(unsupported("SignatureSize", size));
        }
        reader.bytes("SignatureHeader", header)?;
        let entries = list
            .checked_sub(HEAD + header)
            .filter(|entries| entries % size == 0)
            .ok_or_else(|| unsupported("SignatureListSize", list))?;
        for _ in 0..entries / size {
            if self.signatures.len() == MAX_SIGNATURES {
                return Err(ParseError::TooLarge {
                    field: "number of signatures",
                    value: MAX_SIGNATURES + 1,
                    bound: MAX_SIGNATURES,
                });
            }
            let owner = Guid::from_bytes(reader.array("SignatureOwner")?);
            let data = reader.bytes("SignatureData", size - OWNER)?;
            self.signatures.push(Signature {
                owner,
                kind: kind_of(kind, data),
            });
        }
        Ok(())
    }

    /// The entries.
    #[must_use]
    pub fn signatures(&self) -> &[Signature<'a>] {
        &self.signatures
    }

    /// The certificates among them.
    pub fn certificates(&self) -> impl Iterator<Item = &'a [u8]> {
        self.signatures.iter().filter_map(|signature| {
            let SignatureKind::Certificate(der) = signature.kind else {
                return None;
            };
            Some(der)
        })
    }
}

fn kind_of(kind: Guid, data: &[u8]) -> SignatureKind<'_> {
    let other = SignatureKind::Other { kind, data };
    match kind {
        X509 => SignatureKind::Certificate(data),
        SHA256 => data.try_into().map_or(other, SignatureKind::Sha256),
        X509_SHA256 => match (data.first_chunk(), data.last_chunk(), data.len()) {
            (Some(digest), Some(revoked_at), 48) => {
                SignatureKind::CertificateSha256 { digest, revoked_at }
            }
            (_, _, _) => other,
        },
        _ => other,
    }
}
