//! The numbers of a public key, and the one place that verifies a TPM's signature with them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use thiserror::Error;

use super::HashAlgorithm;
use super::signature::{EcdsaNumbers, Numbers, Signature};
use crate::{Digest, x509};

pub(super) const P256_COORDINATE: usize = 32;
pub(super) const P384_COORDINATE: usize = 48;
/// RSA-4096.
pub(super) const MAX_MODULUS: usize = 512;
/// The only exponent a TPM's key has; zero stands for it (TPM 2.0 part 2, 12.2.3.5).
pub(super) const DEFAULT_EXPONENT: u32 = 65_537;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScheme {
    /// ECDSA.
    Ecdsa,
    /// RSA, PKCS #1 v1.5.
    Rsassa,
    /// RSA, PSS with a salt as long as the digest.
    Rsapss,
}

/// The numbers of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// A point on P-256, uncompressed.
    P256([u8; 1 + 2 * P256_COORDINATE]),
    /// A point on P-384, uncompressed.
    P384([u8; 1 + 2 * P384_COORDINATE]),
    /// Modulus and exponent.
    Rsa {
        /// Big endian, without leading zeros.
        modulus: Vec<u8>,
        /// Big endian.
        exponent: [u8; 4],
    },
}

/// Why two numbers are no RSA key of a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RsaKeyError {
    /// A modulus of another length than 2048, 3072 or 4096 bits, or with a zero in front.
    #[error(
        "the modulus has {0} bytes or a leading zero bit; 2048, 3072 or 4096 bits are expected"
    )]
    Modulus(usize),
    /// An exponent that no TPM uses.
    #[error("the public exponent is {0:#x}, not 65537")]
    Exponent(u64),
}

impl TryFrom<&x509::PublicKey> for PublicKey {
    type Error = RsaKeyError;

    /// The key of a certificate, if a TPM can have it.
    fn try_from(key: &x509::PublicKey) -> Result<Self, RsaKeyError> {
        match key {
            x509::PublicKey::P256(point) => Ok(Self::P256(*point)),
            x509::PublicKey::P384(point) => Ok(Self::P384(*point)),
            x509::PublicKey::Rsa(key) => {
                let exponent = match *key.exponent {
                    [1, 0, 1] => DEFAULT_EXPONENT,
                    ref other => {
                        let number = other
                            .iter()
                            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
                        return Err(RsaKeyError::Exponent(number));
                    }
                };
                Self::rsa(&key.modulus, exponent)
            }
        }
    }
}

impl PublicKey {
    /// An RSA key of a TPM. An exponent of zero stands for 65537.
    ///
    /// # Errors
    /// When the modulus is not of 2048, 3072 or 4096 bits, or the exponent is another one.
    pub fn rsa(modulus: &[u8], exponent: u32) -> Result<Self, RsaKeyError> {
        let is_whole = matches!(modulus.len(), 256 | 384 | MAX_MODULUS)
            && modulus.first().is_some_and(|byte| byte & 0x80 != 0);
        if !is_whole {
            return Err(RsaKeyError::Modulus(modulus.len()));
        }
        if exponent != 0 && exponent != DEFAULT_EXPONENT {
            return Err(RsaKeyError::Exponent(exponent.into()));
        }
        Ok(Self::Rsa {
            modulus: modulus.to_vec(),
            exponent: DEFAULT_EXPONENT.to_be_bytes(),
        })
    }

    /// A name of the key for logs and reports: SHA-256 over its numbers.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        match self {
            Self::P256(point) => Digest::of(point),
            Self::P384(point) => Digest::of(point),
            Self::Rsa { modulus, exponent } => Digest::of_parts(&[modulus, exponent]),
        }
    }

    /// What the key is, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = match self {
            Self::P256(_) => "P-256".to_owned(),
            Self::P384(_) => "P-384".to_owned(),
            Self::Rsa { modulus, .. } => format!("RSA-{}", modulus.len().saturating_mul(8)),
        };
        format!("{kind} {}", self.fingerprint())
    }

    /// Whether this key made `signature` over `message`, in the scheme that the signature names.
    pub(super) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let hash = signature.hash();
        match (self, signature.numbers()) {
            (Self::P256(point), Numbers::Ecdsa(numbers)) => {
                is_ecdsa(p256_algorithm(hash), point, message, numbers)
            }
            (Self::P384(point), Numbers::Ecdsa(numbers)) => {
                is_ecdsa(p384_algorithm(hash), point, message, numbers)
            }
            (Self::Rsa { modulus, exponent }, Numbers::Rsa(bytes)) => {
                rsa_parameters(signature.scheme(), hash).is_some_and(|parameters| {
                    rsa_components(modulus, exponent)
                        .verify(parameters, message, bytes)
                        .is_ok()
                })
            }
            (Self::P256(_) | Self::P384(_), Numbers::Rsa(_))
            | (Self::Rsa { .. }, Numbers::Ecdsa(_)) => false,
        }
    }
}

/// The library verifies a curve with the hash of another length in DER's form only.
fn is_ecdsa(
    algorithm: Option<&'static EcdsaVerificationAlgorithm>,
    point: &[u8],
    message: &[u8],
    numbers: &EcdsaNumbers,
) -> bool {
    algorithm.is_some_and(|algorithm| {
        UnparsedPublicKey::new(algorithm, point)
            .verify(message, &numbers.to_der())
            .is_ok()
    })
}

fn p256_algorithm(hash: HashAlgorithm) -> Option<&'static EcdsaVerificationAlgorithm> {
    Some(match hash {
        HashAlgorithm::Sha256 => &ECDSA_P256_SHA256_ASN1,
        HashAlgorithm::Sha384 => &ECDSA_P256_SHA384_ASN1,
        HashAlgorithm::Sha512 => &ECDSA_P256_SHA512_ASN1,
        HashAlgorithm::Sha1 => return None,
    })
}

fn p384_algorithm(hash: HashAlgorithm) -> Option<&'static EcdsaVerificationAlgorithm> {
    Some(match hash {
        HashAlgorithm::Sha256 => &ECDSA_P384_SHA256_ASN1,
        HashAlgorithm::Sha384 => &ECDSA_P384_SHA384_ASN1,
        HashAlgorithm::Sha512 => &ECDSA_P384_SHA512_ASN1,
        HashAlgorithm::Sha1 => return None,
    })
}

fn rsa_parameters(scheme: KeyScheme, hash: HashAlgorithm) -> Option<&'static RsaParameters> {
    Some(match (scheme, hash) {
        (KeyScheme::Rsassa, HashAlgorithm::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        (KeyScheme::Rsassa, HashAlgorithm::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        (KeyScheme::Rsassa, HashAlgorithm::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        (KeyScheme::Rsapss, HashAlgorithm::Sha256) => &RSA_PSS_2048_8192_SHA256,
        (KeyScheme::Rsapss, HashAlgorithm::Sha384) => &RSA_PSS_2048_8192_SHA384,
        (KeyScheme::Rsapss, HashAlgorithm::Sha512) => &RSA_PSS_2048_8192_SHA512,
        (KeyScheme::Rsassa | KeyScheme::Rsapss, HashAlgorithm::Sha1) | (KeyScheme::Ecdsa, _) => {
            return None;
        }
    })
}

fn rsa_components<'a>(
    modulus: &'a [u8],
    exponent: &'a [u8; 4],
) -> RsaPublicKeyComponents<&'a [u8]> {
    let leading = exponent.iter().take_while(|byte| **byte == 0).count();
    RsaPublicKeyComponents {
        n: modulus,
        e: exponent.get(leading..).unwrap_or_default(),
    }
}
