//! Public keys of certificates and the one place that verifies with them.

use std::fmt;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RsaParameters,
    UnparsedPublicKey,
};
use thiserror::Error;

use super::der::{DerError, Reader, tag};
use super::oid::Oid;

/// Octets of the largest RSA modulus that is verified with: 8192 bits.
const MAX_MODULUS: usize = 1024;

const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const RSAES_OAEP: &str = "1.2.840.113549.1.1.7";
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const SECP256R1: &str = "1.2.840.10045.3.1.7";
const SECP384R1: &str = "1.3.132.0.34";

/// Contents octets of the identifier that all signatures of PKCS #1 have before their last arc: 1.2.840.113549.1.1.
const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
/// The same of ECDSA with a hash of SHA-2: 1.2.840.10045.4.3.
const ECDSA_WITH_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3];

/// A public key. That it is one (a point of its curve, a modulus of fair size) shows only when it verifies.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// NIST P-256: the uncompressed point, `04 || x || y`.
    P256([u8; 65]),
    /// NIST P-384: the uncompressed point, `04 || x || y`.
    P384([u8; 97]),
    /// RSA of 2048 to 8192 bits.
    Rsa(RsaKey),
}

/// An RSA public key: two big endian numbers without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RsaKey {
    /// The modulus.
    pub modulus: Box<[u8]>,
    /// The public exponent.
    pub exponent: Box<[u8]>,
}

/// How a signature was made. `Fixed` is r || s, each as long as the curve's order; `Asn1` is the DER sequence of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// ECDSA over P-256 with SHA-256, r || s.
    EcdsaP256Sha256Fixed,
    /// ECDSA over P-256 with SHA-256, DER.
    EcdsaP256Sha256Asn1,
    /// ECDSA over P-256 with SHA-384, DER.
    EcdsaP256Sha384Asn1,
    /// ECDSA over P-384 with SHA-384, r || s.
    EcdsaP384Sha384Fixed,
    /// ECDSA over P-384 with SHA-384, DER.
    EcdsaP384Sha384Asn1,
    /// ECDSA over P-384 with SHA-256, DER.
    EcdsaP384Sha256Asn1,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RsaPkcs1Sha512,
    /// RSA-PSS with SHA-256, MGF1 of SHA-256, a salt of 32 bytes.
    RsaPssSha256,
    /// RSA-PSS with SHA-384, MGF1 of SHA-384, a salt of 48 bytes.
    RsaPssSha384,
}

/// A signature that the key did not make over the message by the scheme. Nothing more is said: there is nothing to repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

enum Algorithm {
    Ecdsa(&'static EcdsaVerificationAlgorithm),
    Rsa(&'static RsaParameters),
}

impl SignatureScheme {
    const fn algorithm(self) -> Algorithm {
        match self {
            Self::EcdsaP256Sha256Fixed => Algorithm::Ecdsa(&ECDSA_P256_SHA256_FIXED),
            Self::EcdsaP256Sha256Asn1 => Algorithm::Ecdsa(&ECDSA_P256_SHA256_ASN1),
            Self::EcdsaP256Sha384Asn1 => Algorithm::Ecdsa(&ECDSA_P256_SHA384_ASN1),
            Self::EcdsaP384Sha384Fixed => Algorithm::Ecdsa(&ECDSA_P384_SHA384_FIXED),
            Self::EcdsaP384Sha384Asn1 => Algorithm::Ecdsa(&ECDSA_P384_SHA384_ASN1),
            Self::EcdsaP384Sha256Asn1 => Algorithm::Ecdsa(&ECDSA_P384_SHA256_ASN1),
            Self::RsaPkcs1Sha256 => Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::RsaPkcs1Sha384 => Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::RsaPkcs1Sha512 => Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::RsaPssSha256 => Algorithm::Rsa(&RSA_PSS_2048_8192_SHA256),
            Self::RsaPssSha384 => Algorithm::Rsa(&RSA_PSS_2048_8192_SHA384),
        }
    }
}

impl PublicKey {
    /// Whether this key signed `message`.
    ///
    /// # Errors
    ///
    /// If it did not, if the scheme is not one of this kind of key, or if the key is none.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let verified = match (self, scheme.algorithm()) {
            // the algorithm knows its curve: a point of the other one has the wrong length for it
            (Self::P256(point), Algorithm::Ecdsa(algorithm)) => {
                UnparsedPublicKey::new(algorithm, point.as_slice()).verify(message, signature)
            }
            (Self::P384(point), Algorithm::Ecdsa(algorithm)) => {
                UnparsedPublicKey::new(algorithm, point.as_slice()).verify(message, signature)
            }
            (Self::Rsa(key), Algorithm::Rsa(parameters)) => PublicKeyComponents {
                n: &*key.modulus,
                e: &*key.exponent,
            }
            .verify(parameters, message, signature),
            (Self::P256(_) | Self::P384(_), Algorithm::Rsa(_))
            | (Self::Rsa(_), Algorithm::Ecdsa(_)) => return Err(BadSignature),
        };
        verified.map_err(|_| BadSignature)
    }

    /// A `SubjectPublicKeyInfo` (RFC 5280, 4.1; RFC 3279, 2.3; RFC 5480, 2).
    ///
    /// # Errors
    ///
    /// If it is not well-formed, or a key of a kind that this release does not know.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        const FIELD: &str = "the public key";
        let mut outer = Reader::new(spki);
        let mut info = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let mut algorithm = info.sequence(FIELD)?;
        let kind = algorithm.oid(FIELD)?;
        let bits = info.bit_octets(FIELD)?;
        info.finish(FIELD)?;
        if kind.is(EC_PUBLIC_KEY) {
            let curve = algorithm.oid(FIELD)?;
            algorithm.finish(FIELD)?;
            return Self::point(curve, bits);
        }
        // makers of TPMs say of an endorsement key what it is for; the key itself has one form
        if kind.is(RSA_ENCRYPTION) || kind.is(RSAES_OAEP) || kind.is(RSASSA_PSS) {
            return Self::rsa(bits);
        }
        Err(PublicKeyError::Algorithm {
            algorithm: kind.to_string(),
        })
    }

    fn point(curve: Oid<'_>, bits: &[u8]) -> Result<Self, PublicKeyError> {
        let point = if curve.is(SECP256R1) {
            bits.try_into().map(Self::P256).ok()
        } else if curve.is(SECP384R1) {
            bits.try_into().map(Self::P384).ok()
        } else {
            return Err(PublicKeyError::Algorithm {
                algorithm: format!("{EC_PUBLIC_KEY} with the curve {curve}"),
            });
        };
        match (bits.first(), point) {
            (Some(4), Some(point)) => Ok(point),
            _ => Err(PublicKeyError::Point),
        }
    }

    fn rsa(bits: &[u8]) -> Result<Self, PublicKeyError> {
        const FIELD: &str = "the RSA key";
        let mut outer = Reader::new(bits);
        let mut key = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let modulus = key.positive_integer(FIELD)?;
        let exponent = key.positive_integer(FIELD)?;
        key.finish(FIELD)?;
        if modulus.len() > MAX_MODULUS || exponent.len() > MAX_MODULUS {
            return Err(PublicKeyError::Modulus {
                bits: modulus.len().max(exponent.len()) * 8,
            });
        }
        Ok(Self::Rsa(RsaKey {
            modulus: modulus.into(),
            exponent: exponent.into(),
        }))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256(point) => write!(f, "P-256 {}", hex::encode(point)),
            Self::P384(point) => write!(f, "P-384 {}", hex::encode(point)),
            Self::Rsa(key) => write!(f, "{key:?}"),
        }
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RSA {}", hex::encode(&self.modulus))
    }
}

/// Why a public key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublicKeyError {
    /// Not the structure it should be.
    #[error(transparent)]
    Der(#[from] DerError),
    /// Neither RSA nor ECDSA over P-256 or P-384.
    #[error("keys of the kind {algorithm} are not supported")]
    Algorithm {
        /// Object identifiers.
        algorithm: String,
    },
    /// Not an uncompressed point of the curve's length.
    #[error("the elliptic curve point is not in the uncompressed form")]
    Point,
    /// An RSA key beyond 8192 bits.
    #[error("an RSA key of {bits} bits is longer than any that is verified with")]
    Modulus {
        /// Length of the longer of its numbers.
        bits: usize,
    },
}

/// The signature algorithm of a certificate or CRL, as far as this release knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    Ecdsa(Hash),
    RsaPkcs1(Hash),
    RsaPss(Hash),
    /// Carried, and never verified: a root's signature of itself need not be understood.
    Unsupported(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl SignatureAlgorithm {
    /// An `AlgorithmIdentifier` (RFC 4055, RFC 5758).
    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, DerError> {
        const FIELD: &str = "the signature algorithm";
        let oid = reader.oid(FIELD)?;
        let pkcs1 = oid.contents().strip_prefix(&PKCS1);
        let ecdsa = oid.contents().strip_prefix(&ECDSA_WITH_SHA2);
        let (algorithm, may_be_null) = match (pkcs1, ecdsa) {
            (_, Some([2])) => (Self::Ecdsa(Hash::Sha256), false),
            (_, Some([3])) => (Self::Ecdsa(Hash::Sha384), false),
            (_, Some([4])) => (Self::Ecdsa(Hash::Sha512), false),
            (Some([11]), _) => (Self::RsaPkcs1(Hash::Sha256), true),
            (Some([12]), _) => (Self::RsaPkcs1(Hash::Sha384), true),
            (Some([13]), _) => (Self::RsaPkcs1(Hash::Sha512), true),
            (Some([10]), _) => {
                return Ok(match pss_hash(&mut reader)? {
                    Some(hash) => Self::RsaPss(hash),
                    None => Self::Unsupported(format!("{RSASSA_PSS} with these parameters")),
                });
            }
            _ => return Ok(Self::Unsupported(oid.to_string())),
        };
        if may_be_null {
            reader.optional(FIELD, tag::NULL)?;
        }
        reader.finish(FIELD)?;
        Ok(algorithm)
    }

    /// The scheme by which `key` verifies it, if there is one.
    pub(crate) const fn scheme(&self, key: &PublicKey) -> Option<SignatureScheme> {
        Some(match (self, key) {
            (Self::Ecdsa(Hash::Sha256), PublicKey::P256(_)) => SignatureScheme::EcdsaP256Sha256Asn1,
            (Self::Ecdsa(Hash::Sha384), PublicKey::P256(_)) => SignatureScheme::EcdsaP256Sha384Asn1,
            (Self::Ecdsa(Hash::Sha256), PublicKey::P384(_)) => SignatureScheme::EcdsaP384Sha256Asn1,
            (Self::Ecdsa(Hash::Sha384), PublicKey::P384(_)) => SignatureScheme::EcdsaP384Sha384Asn1,
            (Self::RsaPkcs1(Hash::Sha256), PublicKey::Rsa(_)) => SignatureScheme::RsaPkcs1Sha256,
            (Self::RsaPkcs1(Hash::Sha384), PublicKey::Rsa(_)) => SignatureScheme::RsaPkcs1Sha384,
            (Self::RsaPkcs1(Hash::Sha512), PublicKey::Rsa(_)) => SignatureScheme::RsaPkcs1Sha512,
            (Self::RsaPss(Hash::Sha256), PublicKey::Rsa(_)) => SignatureScheme::RsaPssSha256,
            (Self::RsaPss(Hash::Sha384), PublicKey::Rsa(_)) => SignatureScheme::RsaPssSha384,
            (
                Self::Ecdsa(_) | Self::RsaPkcs1(_) | Self::RsaPss(_) | Self::Unsupported(_),
                PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Rsa(_),
            ) => return None,
        })
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecdsa(hash) => write!(f, "ECDSA with {hash:?}"),
            Self::RsaPkcs1(hash) => write!(f, "RSA PKCS#1 v1.5 with {hash:?}"),
            Self::RsaPss(hash) => write!(f, "RSA-PSS with {hash:?}"),
            Self::Unsupported(oid) => write!(f, "the algorithm {oid}"),
        }
    }
}

/// `RSASSA-PSS-params` (RFC 4055, 3.1) with the same hash everywhere and a salt of its length. `None`: other parameters, among them
/// the defaults, which are SHA-1.
fn pss_hash(reader: &mut Reader<'_>) -> Result<Option<Hash>, DerError> {
    const FIELD: &str = "the PSS parameters";
    const MGF1: &str = "1.2.840.113549.1.1.8";
    let mut parameters = reader.sequence(FIELD)?;
    let hash = match parameters.optional(FIELD, tag::context_constructed(0))? {
        Some(contents) => digest_algorithm(Reader::new(contents))?,
        None => None,
    };
    let mask = match parameters.optional(FIELD, tag::context_constructed(1))? {
        Some(contents) => {
            let mut outer = Reader::new(contents);
            let mut mask = outer.sequence(FIELD)?;
            outer.finish(FIELD)?;
            if mask.oid(FIELD)?.is(MGF1) {
                digest_algorithm(mask)?
            } else {
                None
            }
        }
        None => None,
    };
    let explicit = |parameters: &mut Reader<'_>, number| {
        parameters
            .optional(FIELD, tag::context_constructed(number))?
            .map(|contents| {
                let mut outer = Reader::new(contents);
                let value = outer.small_integer(FIELD)?;
                outer.finish(FIELD)?;
                Ok(value)
            })
            .transpose()
    };
    let salt: Option<u32> = explicit(&mut parameters, 2)?;
    let trailer: Option<u32> = explicit(&mut parameters, 3)?;
    parameters.finish(FIELD)?;
    reader.clone().finish(FIELD)?;
    Ok(match (hash, mask, salt, trailer) {
        (Some(Hash::Sha256), Some(Hash::Sha256), Some(32), None | Some(1)) => Some(Hash::Sha256),
        (Some(Hash::Sha384), Some(Hash::Sha384), Some(48), None | Some(1)) => Some(Hash::Sha384),
        _ => None,
    })
}

fn digest_algorithm(mut outer: Reader<'_>) -> Result<Option<Hash>, DerError> {
    const FIELD: &str = "the hash of the PSS parameters";
    let mut algorithm = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    let dotted = algorithm.oid(FIELD)?.to_string();
    algorithm.optional(FIELD, tag::NULL)?;
    algorithm.finish(FIELD)?;
    Ok(match dotted.as_str() {
        "2.16.840.1.101.3.4.2.1" => Some(Hash::Sha256),
        "2.16.840.1.101.3.4.2.2" => Some(Hash::Sha384),
        "2.16.840.1.101.3.4.2.3" => Some(Hash::Sha512),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Value of an `AlgorithmIdentifier` without its parameters: arc and last number.
    fn read(arc: &[u8], last: u8) -> SignatureAlgorithm {
        let length = u8::try_from(arc.len() + 1).unwrap();
        let bytes = [&[tag::OID, length][..], arc, &[last]].concat();
        SignatureAlgorithm::read(Reader::new(&bytes)).unwrap()
    }

    #[test]
    fn each_algorithm_has_its_number() {
        let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
        for (last, hash) in (2..).zip(hashes) {
            assert_eq!(
                read(&ECDSA_WITH_SHA2, last),
                SignatureAlgorithm::Ecdsa(hash)
            );
        }
        for (last, hash) in (11..).zip(hashes) {
            assert_eq!(read(&PKCS1, last), SignatureAlgorithm::RsaPkcs1(hash));
        }
        for (arc, last) in [
            (&ECDSA_WITH_SHA2[..], 1),
            (&ECDSA_WITH_SHA2[..], 5),
            (&PKCS1[..], 14),
        ] {
            assert!(matches!(
                read(arc, last),
                SignatureAlgorithm::Unsupported(_)
            ));
        }
    }
}
