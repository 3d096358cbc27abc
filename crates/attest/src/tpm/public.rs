//! `TPM2B_PUBLIC` of an attestation key (12.2.4), and the one place that verifies with it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::alg;
use super::reader::{ParseError, Reader};
use super::signature::Signature;
use crate::Digest;

/// Larger than the public area of any supported key.
const MAX_PUBLIC: usize = 1024;
const MAX_POLICY: usize = 64;
/// RSA-4096.
const MAX_MODULUS: usize = 512;
const P256_COORDINATE: usize = 32;
const CURVE_P256: u16 = 0x0003;
/// What exponent zero stands for (12.2.3.5).
const DEFAULT_EXPONENT: u32 = 65_537;

/// `TPMA_OBJECT` (8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectAttributes(u32);

impl ObjectAttributes {
    const NAMES: [(u32, &'static str); 7] = [
        (Self::FIXED_TPM, "fixedTPM"),
        (Self::FIXED_PARENT, "fixedParent"),
        (Self::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Self::RESTRICTED, "restricted"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
        (Self::X509_SIGN, "x509sign"),
    ];
    const FIXED_TPM: u32 = 1 << 1;
    const FIXED_PARENT: u32 = 1 << 4;
    const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    const RESTRICTED: u32 = 1 << 16;
    const DECRYPT: u32 = 1 << 17;
    const SIGN: u32 = 1 << 18;
    const X509_SIGN: u32 = 1 << 19;
    /// An attestation key signs only what its TPM states, was made in it and cannot leave it.
    const DEMANDED: u32 = Self::FIXED_TPM
        | Self::FIXED_PARENT
        | Self::SENSITIVE_DATA_ORIGIN
        | Self::RESTRICTED
        | Self::SIGN;
    /// A key that decrypts, or signs certificates somebody composed outside the TPM, is no attestation key.
    const FORBIDDEN: u32 = Self::DECRYPT | Self::X509_SIGN;

    /// What [`ObjectAttributes::is_attestation_key`] demands, in words.
    pub const DEMAND: &'static str =
        "fixedTPM fixedParent sensitiveDataOrigin restricted sign, without decrypt and x509sign";

    /// Whether the key is restricted, bound to its TPM, and for signing only.
    #[must_use]
    pub const fn is_attestation_key(self) -> bool {
        self.0 & Self::DEMANDED == Self::DEMANDED && self.0 & Self::FORBIDDEN == 0
    }

    /// The attributes that matter here, by their names.
    #[must_use]
    pub fn describe(self) -> String {
        let names: Vec<&str> = Self::NAMES
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        format!("{} ({:#010x})", names.join(" "), self.0)
    }
}

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScheme {
    /// ECDSA on P-256.
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
    /// Modulus and exponent.
    Rsa {
        /// Big endian, without leading zeros.
        modulus: Vec<u8>,
        /// Big endian.
        exponent: [u8; 4],
    },
}

/// A `TPMT_PUBLIC` whose parameters are those of a SHA-256 signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicArea {
    attributes: ObjectAttributes,
    scheme: KeyScheme,
    key: PublicKey,
    id: Digest,
}

impl PublicArea {
    /// Parses a `TPM2B_PUBLIC`.
    ///
    /// # Errors
    /// When the bytes are not exactly one public area, or it is no ECC P-256 or RSA signing key for SHA-256.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, ParseError> {
        let mut outer = Reader::big_endian(tpm2b);
        let area = outer.sized("TPM2B_PUBLIC", MAX_PUBLIC)?;
        outer.finish("TPM2B_PUBLIC")?;

        let mut reader = Reader::big_endian(area);
        let kind = reader.u16("type")?;
        expect("nameAlg", reader.u16("nameAlg")?, alg::SHA256)?;
        let attributes = ObjectAttributes(reader.u32("objectAttributes")?);
        reader.sized("authPolicy", MAX_POLICY)?;
        // only a storage key has a symmetric algorithm; with one this is no signing key
        expect("symmetric", reader.u16("symmetric")?, alg::NULL)?;
        let scheme = reader.u16("scheme")?;
        let (scheme, key) = match kind {
            alg::ECC => {
                expect("scheme", scheme, alg::ECDSA)?;
                expect("scheme hash", reader.u16("scheme hash")?, alg::SHA256)?;
                (KeyScheme::Ecdsa, p256(&mut reader)?)
            }
            alg::RSA => {
                let scheme = match scheme {
                    alg::RSASSA => KeyScheme::Rsassa,
                    alg::RSAPSS => KeyScheme::Rsapss,
                    other => {
                        return Err(ParseError::Unsupported {
                            field: "scheme",
                            value: other.into(),
                        });
                    }
                };
                expect("scheme hash", reader.u16("scheme hash")?, alg::SHA256)?;
                (scheme, rsa(&mut reader)?)
            }
            other => {
                return Err(ParseError::Unsupported {
                    field: "type",
                    value: other.into(),
                });
            }
        };
        reader.finish("TPMT_PUBLIC")?;
        Ok(Self {
            attributes,
            scheme,
            key,
            id: Digest::of(area),
        })
    }

    /// The attributes.
    #[must_use]
    pub const fn attributes(&self) -> ObjectAttributes {
        self.attributes
    }

    /// How the key signs.
    #[must_use]
    pub const fn scheme(&self) -> KeyScheme {
        self.scheme
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the public area: the TPM name without its algorithm.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// Whether this key made `signature` over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        match (&self.key, self.scheme, signature) {
            (PublicKey::P256(point), KeyScheme::Ecdsa, Signature::Ecdsa(bytes)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, bytes)
                    .is_ok()
            }
            (PublicKey::Rsa { modulus, exponent }, KeyScheme::Rsassa, Signature::Rsassa(bytes)) => {
                rsa_components(modulus, exponent)
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, bytes)
                    .is_ok()
            }
            (PublicKey::Rsa { modulus, exponent }, KeyScheme::Rsapss, Signature::Rsapss(bytes)) => {
                rsa_components(modulus, exponent)
                    .verify(&RSA_PSS_2048_8192_SHA256, message, bytes)
                    .is_ok()
            }
            (
                PublicKey::P256(_) | PublicKey::Rsa { .. },
                KeyScheme::Ecdsa | KeyScheme::Rsassa | KeyScheme::Rsapss,
                Signature::Ecdsa(_) | Signature::Rsassa(_) | Signature::Rsapss(_),
            ) => false,
        }
    }
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

fn p256(reader: &mut Reader<'_>) -> Result<PublicKey, ParseError> {
    expect("curveID", reader.u16("curveID")?, CURVE_P256)?;
    expect("kdf", reader.u16("kdf")?, alg::NULL)?;
    let x = padded::<P256_COORDINATE>(reader.sized("x", P256_COORDINATE)?);
    let y = padded::<P256_COORDINATE>(reader.sized("y", P256_COORDINATE)?);
    let mut point = [0; 1 + 2 * P256_COORDINATE];
    for (to, from) in point.iter_mut().zip([0x04].iter().chain(&x).chain(&y)) {
        *to = *from;
    }
    Ok(PublicKey::P256(point))
}

fn rsa(reader: &mut Reader<'_>) -> Result<PublicKey, ParseError> {
    let bits = reader.u16("keyBits")?;
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(ParseError::Unsupported {
            field: "keyBits",
            value: bits.into(),
        });
    }
    let exponent = match reader.u32("exponent")? {
        0 | DEFAULT_EXPONENT => DEFAULT_EXPONENT,
        other => {
            return Err(ParseError::Unsupported {
                field: "exponent",
                value: other.into(),
            });
        }
    };
    let modulus = reader.sized("modulus", MAX_MODULUS)?;
    let is_whole = modulus.len() == usize::from(bits / 8)
        && modulus.first().is_some_and(|byte| byte & 0x80 != 0);
    if !is_whole {
        return Err(ParseError::Unsupported {
            field: "modulus length",
            value: modulus.len() as u64,
        });
    }
    Ok(PublicKey::Rsa {
        modulus: modulus.to_vec(),
        exponent: exponent.to_be_bytes(),
    })
}

/// A TPM may leave out leading zeros of a number; `bytes` is at most `N` long.
pub(super) fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut whole = [0; N];
    for (to, from) in whole.iter_mut().rev().zip(bytes.iter().rev()) {
        *to = *from;
    }
    whole
}

pub(super) fn expect(field: &'static str, value: u16, expected: u16) -> Result<(), ParseError> {
    if value == expected {
        Ok(())
    } else {
        Err(ParseError::Unsupported {
            field,
            value: value.into(),
        })
    }
}
