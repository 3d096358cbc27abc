//! `TPMT_SIGNATURE` (11.3.4), and the bare forms that tools save instead of it.

use super::alg;
use super::public::padded;
use super::reader::{ParseError, Reader};
use super::{HashAlgorithm, KeyScheme, PublicKey};

const MAX_RSA_SIGNATURE: usize = 512;
const P256_NUMBER: usize = 32;
const P384_NUMBER: usize = 48;
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
    /// r and s.
    P256([u8; 2 * P256_NUMBER]),
    /// r and s.
    P384([u8; 2 * P384_NUMBER]),
    Rsa(Vec<u8>),
}

impl Signature {
    /// Parses a `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// When the bytes are not exactly one signature: RSASSA or RSAPSS with SHA-256, SHA-384 or SHA-512, or ECDSA with SHA-256
    /// (then on P-256) or SHA-384 (then on P-384).
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
        let hash = signing_hash(&mut reader, "signature hash", scheme)?;
        let numbers = match (scheme, hash) {
            (KeyScheme::Ecdsa, HashAlgorithm::Sha384) => {
                Numbers::P384(pair::<P384_NUMBER, { 2 * P384_NUMBER }>(&mut reader)?)
            }
            (KeyScheme::Ecdsa, _) => {
                Numbers::P256(pair::<P256_NUMBER, { 2 * P256_NUMBER }>(&mut reader)?)
            }
            (KeyScheme::Rsassa | KeyScheme::Rsapss, _) => {
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
                numbers: Numbers::P256(der_pair::<P256_NUMBER, { 2 * P256_NUMBER }>(bytes)?),
            }),
            PublicKey::P384(_) if is_der(bytes) => Ok(Self {
                scheme: KeyScheme::Ecdsa,
                hash: HashAlgorithm::Sha384,
                numbers: Numbers::P384(der_pair::<P384_NUMBER, { 2 * P384_NUMBER }>(bytes)?),
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

/// The hash of a signing scheme: SHA-1 is none, and a curve has one.
pub(super) fn signing_hash(
    reader: &mut Reader<'_>,
    field: &'static str,
    scheme: KeyScheme,
) -> Result<HashAlgorithm, ParseError> {
    let id = reader.u16(field)?;
    match (HashAlgorithm::from_tpm_id(id), scheme) {
        (Some(hash @ (HashAlgorithm::Sha256 | HashAlgorithm::Sha384)), _) => Ok(hash),
        (Some(hash @ HashAlgorithm::Sha512), KeyScheme::Rsassa | KeyScheme::Rsapss) => Ok(hash),
        (Some(HashAlgorithm::Sha512), KeyScheme::Ecdsa) | (Some(HashAlgorithm::Sha1) | None, _) => {
            Err(ParseError::Unsupported {
                field,
                value: id.into(),
            })
        }
    }
}

fn pair<const N: usize, const BOTH: usize>(
    reader: &mut Reader<'_>,
) -> Result<[u8; BOTH], ParseError> {
    let r = padded::<N>(reader.sized("signatureR", N)?);
    let s = padded::<N>(reader.sized("signatureS", N)?);
    Ok(joined(&r, &s))
}

fn joined<const BOTH: usize>(r: &[u8], s: &[u8]) -> [u8; BOTH] {
    let mut both = [0; BOTH];
    for (to, from) in both.iter_mut().zip(r.iter().chain(s)) {
        *to = *from;
    }
    both
}

/// A `TPMT_SIGNATURE` begins with a zero byte, a DER sequence with 0x30.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30)
}

/// `SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279, 2.2.3), in its one encoding: lengths of one byte, numbers without a spare zero.
fn der_pair<const N: usize, const BOTH: usize>(bytes: &[u8]) -> Result<[u8; BOTH], ParseError> {
    let mut outer = Reader::big_endian(bytes);
    let body = der_element(&mut outer, "ECDSA signature", 0x30, MAX_DER)?;
    outer.finish("ECDSA signature")?;
    let mut inner = Reader::big_endian(body);
    let r = padded::<N>(der_number(&mut inner, "signatureR", N)?);
    let s = padded::<N>(der_number(&mut inner, "signatureS", N)?);
    inner.finish("ECDSA signature")?;
    Ok(joined(&r, &s))
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
    let number = der_element(reader, field, 0x02, length.saturating_add(1))?;
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
