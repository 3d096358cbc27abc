//! `TPMT_SIGNATURE` (11.3.4), and the bare forms that tools save instead of it.

use super::alg;
use super::public::padded;
use super::reader::{ParseError, Reader};
use super::{HashAlgorithm, KeyScheme, PublicKey};

const MAX_RSA_SIGNATURE: usize = 512;
const P256_NUMBER: usize = 32;
const P384_NUMBER: usize = 48;
/// `INTEGER` and `SEQUENCE` of DER.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// An ECDSA signature as DER, with P-384's numbers.
const MAX_DER: usize = 110;

/// A signature as the TPM wrote it, in the form the verifier takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    scheme: KeyScheme,
    hash: HashAlgorithm,
    numbers: Numbers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    Ecdsa(EcdsaNumbers),
    Rsa(Vec<u8>),
}

/// As long as P-384's: a `TPMT_SIGNATURE` does not say which curve it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EcdsaNumbers {
    r: [u8; P384_NUMBER],
    s: [u8; P384_NUMBER],
}

impl EcdsaNumbers {
    /// `SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279, 2.2.3), the form that verifies on either curve.
    pub(super) fn to_der(&self) -> Vec<u8> {
        let mut der = vec![SEQUENCE, 0];
        for number in [&self.r, &self.s] {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            // zero itself has one digit
            let digits = number.get(zeros.min(P384_NUMBER - 1)..).unwrap_or_default();
            let is_high = digits.first().is_some_and(|byte| byte & 0x80 != 0);
            der.push(INTEGER);
            der.push(short(digits.len() + usize::from(is_high)));
            if is_high {
                der.push(0);
            }
            der.extend_from_slice(digits);
        }
        let length = short(der.len() - 2);
        if let Some(place) = der.get_mut(1) {
            *place = length;
        }
        der
    }
}

/// A length of DER's short form, which two numbers of P-384 do not leave ([`MAX_DER`]).
fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

impl Signature {
    /// Parses a `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// When the bytes are not exactly one signature: RSASSA, RSAPSS or ECDSA, with SHA-256, SHA-384 or SHA-512, and numbers
    /// no longer than those of RSA-4096 and P-384.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::big_endian(bytes);
        let id = reader.u16("sigAlg")?;
        let scheme = match id {
            alg::ECDSA => KeyScheme::Ecdsa,
            alg::RSASSA => KeyScheme::Rsassa,
            alg::RSAPSS => KeyScheme::Rsapss,
            other => {
                return Err(ParseError::Unsupported {
                    field: "sigAlg",
                    value: other.into(),
                });
            }
        };
        let hash = signing_hash(&mut reader, "signature hash")?;
        let numbers = match scheme {
            KeyScheme::Ecdsa => Numbers::Ecdsa(EcdsaNumbers {
                r: padded(reader.sized("signatureR", P384_NUMBER)?),
                s: padded(reader.sized("signatureS", P384_NUMBER)?),
            }),
            KeyScheme::Rsassa | KeyScheme::Rsapss => {
                Numbers::Rsa(reader.sized("signature", MAX_RSA_SIGNATURE)?.to_vec())
            }
        };
        reader.finish("TPMT_SIGNATURE")?;
        Ok(Self {
            scheme,
            hash,
            numbers,
        })
    }

    /// Parses a signature of `key` in one of the forms that are found in files: a `TPMT_SIGNATURE`, or what tools save of
    /// it, which is the number of an RSASSA signature with SHA-256 and an ECDSA signature as DER with the hash of its curve.
    ///
    /// # Errors
    /// When the bytes have none of these forms.
    pub fn parse_any_form(key: &PublicKey, bytes: &[u8]) -> Result<Self, ParseError> {
        match key {
            PublicKey::Rsa { modulus, .. } if bytes.len() == modulus.len() => Ok(Self {
                scheme: KeyScheme::Rsassa,
                hash: HashAlgorithm::Sha256,
                numbers: Numbers::Rsa(bytes.to_vec()),
            }),
            PublicKey::P256(_) if is_der(bytes) => Ok(Self {
                scheme: KeyScheme::Ecdsa,
                hash: HashAlgorithm::Sha256,
                numbers: Numbers::Ecdsa(der_pair(bytes, P256_NUMBER)?),
            }),
            PublicKey::P384(_) if is_der(bytes) => Ok(Self {
                scheme: KeyScheme::Ecdsa,
                hash: HashAlgorithm::Sha384,
                numbers: Numbers::Ecdsa(der_pair(bytes, P384_NUMBER)?),
            }),
            PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Rsa { .. } => Self::parse(bytes),
        }
    }

    /// How it was made.
    #[must_use]
    pub const fn scheme(&self) -> KeyScheme {
        self.scheme
    }

    /// The hash of the signing scheme, which is also the one a quote's PCR digest is made with.
    #[must_use]
    pub const fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    pub(super) const fn numbers(&self) -> &Numbers {
        &self.numbers
    }
}

/// The hash of a signing scheme: SHA-1 is none.
pub(super) fn signing_hash(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<HashAlgorithm, ParseError> {
    let id = reader.u16(field)?;
    match HashAlgorithm::from_tpm_id(id) {
        Some(hash @ (HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)) => {
            Ok(hash)
        }
        Some(HashAlgorithm::Sha1) | None => Err(ParseError::Unsupported {
            field,
            value: id.into(),
        }),
    }
}

/// A `TPMT_SIGNATURE` begins with a zero byte, a DER sequence with 0x30.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&SEQUENCE)
}

/// `SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279, 2.2.3), in its one encoding: lengths of one byte, numbers without a spare zero.
fn der_pair(bytes: &[u8], length: usize) -> Result<EcdsaNumbers, ParseError> {
    let mut outer = Reader::big_endian(bytes);
    let body = der_element(&mut outer, "ECDSA signature", SEQUENCE, MAX_DER)?;
    outer.finish("ECDSA signature")?;
    let mut inner = Reader::big_endian(body);
    let r = padded(der_number(&mut inner, "signatureR", length)?);
    let s = padded(der_number(&mut inner, "signatureS", length)?);
    inner.finish("ECDSA signature")?;
    Ok(EcdsaNumbers { r, s })
}

fn der_element<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    tag: u8,
    bound: usize,
) -> Result<&'a [u8], ParseError> {
    let found = reader.u8(field)?;
    if found != tag {
        return Err(ParseError::Unsupported {
            field,
            value: found.into(),
        });
    }
    let value = usize::from(reader.u8(field)?);
    if value > bound {
        return Err(ParseError::TooLarge {
            field,
            value,
            bound,
        });
    }
    reader.bytes(field, value)
}

fn der_number<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    length: usize,
) -> Result<&'a [u8], ParseError> {
    let number = der_element(reader, field, INTEGER, length.saturating_add(1))?;
    let digits = match number {
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => rest,
        [first, ..] if *first != 0 && first & 0x80 == 0 => number,
        _ => {
            return Err(ParseError::Unsupported {
                field,
                value: number.first().copied().unwrap_or_default().into(),
            });
        }
    };
    if digits.len() > length {
        return Err(ParseError::TooLarge {
            field,
            value: digits.len(),
            bound: length,
        });
    }
    Ok(digits)
}
