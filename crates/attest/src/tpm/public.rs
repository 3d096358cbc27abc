//! `TPM2B_PUBLIC` of an attestation key (12.2.4), and the one place that verifies with it.

use super::key::{DEFAULT_EXPONENT, MAX_MODULUS, P256_COORDINATE, P384_COORDINATE};
use super::reader::{ParseError, Reader};
use super::signature::{Signature, signing_hash};
use super::{HashAlgorithm, KeyScheme, PublicKey, alg};
use crate::Digest;

/// Larger than the public area of any supported key.
const MAX_PUBLIC: usize = 1024;
const MAX_POLICY: usize = 64;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;

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

/// A `TPMT_PUBLIC` of a signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicArea {
    attributes: ObjectAttributes,
    scheme: KeyScheme,
    hash: HashAlgorithm,
    key: PublicKey,
    id: Digest,
    name: Vec<u8>,
}

impl PublicArea {
    /// Parses a `TPM2B_PUBLIC`.
    ///
    /// # Errors
    /// When the bytes are not exactly one public area, or it is no signing key named by SHA-256, SHA-384 or SHA-512:
    /// RSA, or ECDSA on P-256 or P-384, with one of these hashes.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, ParseError> {
        let mut outer = Reader::big_endian(tpm2b);
        let area = outer.sized("TPM2B_PUBLIC", MAX_PUBLIC)?;
        outer.finish("TPM2B_PUBLIC")?;

        let mut reader = Reader::big_endian(area);
        let kind = reader.u16("type")?;
        let name_algorithm = name_algorithm(&mut reader)?;
        let attributes = ObjectAttributes(reader.u32("objectAttributes")?);
        reader.sized("authPolicy", MAX_POLICY)?;
        // only a storage key has a symmetric algorithm; with one this is no signing key
        expect("symmetric", reader.u16("symmetric")?, alg::NULL)?;
        let scheme = reader.u16("scheme")?;
        let (scheme, hash, key) = match kind {
            alg::ECC => {
                expect("scheme", scheme, alg::ECDSA)?;
                let hash = signing_hash(&mut reader, "scheme hash")?;
                (KeyScheme::Ecdsa, hash, point(&mut reader)?)
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
                let hash = signing_hash(&mut reader, "scheme hash")?;
                (scheme, hash, rsa(&mut reader)?)
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
            hash,
            key,
            id: Digest::of(area),
            name: [
                name_algorithm.tpm_id().to_be_bytes().to_vec(),
                name_algorithm.digest(&[area]),
            ]
            .concat(),
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

    /// The hash of the signing scheme.
    #[must_use]
    pub const fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the public area, whatever hash names the key: tells keys apart here, and is not what the TPM calls it.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// What the TPM calls the key (Part 1, 16): its `nameAlg`, and the digest of the public area by it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether this key made `signature` over `message`, in the key's own scheme.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        signature.scheme() == self.scheme
            && signature.hash() == self.hash
            && self.key.verify(message, signature)
    }
}

/// The hash a key is named by. The name says which key it is, so SHA-1 will not do.
fn name_algorithm(reader: &mut Reader<'_>) -> Result<HashAlgorithm, ParseError> {
    let id = reader.u16("nameAlg")?;
    match HashAlgorithm::from_tpm_id(id) {
        Some(hash @ (HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)) => {
            Ok(hash)
        }
        Some(HashAlgorithm::Sha1) | None => Err(ParseError::Unsupported {
            field: "nameAlg",
            value: id.into(),
        }),
    }
}

/// Curve and point. A TPM signs with any hash on any curve.
fn point(reader: &mut Reader<'_>) -> Result<PublicKey, ParseError> {
    let curve = reader.u16("curveID")?;
    expect("kdf", reader.u16("kdf")?, alg::NULL)?;
    match curve {
        CURVE_P256 => uncompressed::<P256_COORDINATE, 65>(reader).map(PublicKey::P256),
        CURVE_P384 => uncompressed::<P384_COORDINATE, 97>(reader).map(PublicKey::P384),
        other => Err(ParseError::Unsupported {
            field: "curveID",
            value: other.into(),
        }),
    }
}

fn uncompressed<const N: usize, const POINT: usize>(
    reader: &mut Reader<'_>,
) -> Result<[u8; POINT], ParseError> {
    let x = padded::<N>(reader.sized("x", N)?);
    let y = padded::<N>(reader.sized("y", N)?);
    let mut point = [0; POINT];
    for (to, from) in point.iter_mut().zip([0x04].iter().chain(&x).chain(&y)) {
        *to = *from;
    }
    Ok(point)
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
