//! `TPM2B_PUBLIC` of an endorsement key, and the templates by which every TPM of a maker makes the same key again.

use std::fmt;

use super::kdf::Hash;
use crate::tpm::public::{expect, padded};
use crate::tpm::{ParseError, Reader, alg};
use crate::x509::{PublicKey, RsaKey};

const MAX_PUBLIC: usize = 1024;
const MAX_POLICY: usize = 64;
const MAX_MODULUS: usize = 512;
const EXPONENT: [u8; 3] = [0x01, 0x00, 0x01];
const DEFAULT_EXPONENT: u32 = 65_537;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;

// `TPMA_OBJECT` (Part 2, 8.3)
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// A storage key that was made in its TPM and cannot leave it: it decrypts nothing for whoever is not the TPM.
const DEMANDED: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT;

/// The policy of the templates of the low range: whoever knows the endorsement hierarchy's password.
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// The policies of the high range: policy A, or one that the owner may store in the TPM.
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3,
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

/// The default templates (EK Credential Profile 2.5, B.3 and B.4) of keys this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// RSA 2048, low range: what most TPMs have a certificate for.
    L1,
    /// ECC P-256, low range.
    L2,
    /// RSA 2048, high range.
    H1,
    /// ECC P-256, high range.
    H2,
    /// ECC P-384, high range.
    H3,
    /// RSA 3072, high range.
    H6,
    /// RSA 4096, high range.
    H7,
}

/// What a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Rsa(u16),
    Ecc { curve: u16, length: usize },
}

impl Template {
    /// Every template of this release.
    pub const ALL: [Self; 7] = [
        Self::L1,
        Self::L2,
        Self::H1,
        Self::H2,
        Self::H3,
        Self::H6,
        Self::H7,
    ];

    /// Whether the key is used by its policy alone: `TPM2_PolicySecret` of the endorsement hierarchy.
    #[must_use]
    pub const fn needs_policy(self) -> bool {
        matches!(self, Self::L1 | Self::L2)
    }

    const fn shape(self) -> Shape {
        const P256: Shape = Shape::Ecc {
            curve: CURVE_P256,
            length: 32,
        };
        match self {
            Self::L1 | Self::H1 => Shape::Rsa(2048),
            Self::L2 | Self::H2 => P256,
            Self::H3 => Shape::Ecc {
                curve: CURVE_P384,
                length: 48,
            },
            Self::H6 => Shape::Rsa(3072),
            Self::H7 => Shape::Rsa(4096),
        }
    }

    pub(super) const fn hash(self) -> Hash {
        match self {
            Self::L1 | Self::L2 | Self::H1 | Self::H2 => Hash::Sha256,
            Self::H3 | Self::H6 | Self::H7 => Hash::Sha384,
        }
    }

    const fn policy(self) -> &'static [u8] {
        match self {
            Self::L1 | Self::L2 => &POLICY_A_SHA256,
            Self::H1 | Self::H2 => &POLICY_B_SHA256,
            Self::H3 | Self::H6 | Self::H7 => &POLICY_B_SHA384,
        }
    }

    /// Bytes of the AES key that protects what is sent to the template's key.
    pub(super) const fn aes_length(self) -> u8 {
        match self {
            Self::L1 | Self::L2 | Self::H1 | Self::H2 => 16,
            Self::H3 | Self::H6 | Self::H7 => 32,
        }
    }

    /// Whether a key is of the template's kind.
    pub(super) fn fits(self, key: &PublicKey) -> bool {
        match (self.shape(), key) {
            (Shape::Rsa(bits), PublicKey::Rsa(key)) => {
                key.modulus.len() == usize::from(bits / 8)
                    && key.modulus.first().is_some_and(|byte| byte & 0x80 != 0)
            }
            (Shape::Ecc { curve, .. }, PublicKey::P256(_)) => curve == CURVE_P256,
            (Shape::Ecc { curve, .. }, PublicKey::P384(_)) => curve == CURVE_P384,
            (Shape::Rsa(_), PublicKey::P256(_) | PublicKey::P384(_))
            | (Shape::Ecc { .. }, PublicKey::Rsa(_)) => false,
        }
    }

    /// The `TPMT_PUBLIC` to give to `TPM2_CreatePrimary` in the endorsement hierarchy.
    #[must_use]
    pub fn public_area(self) -> Vec<u8> {
        let (kind, hash) = (
            match self.shape() {
                Shape::Rsa(_) => alg::RSA,
                Shape::Ecc { .. } => alg::ECC,
            },
            match self.hash() {
                Hash::Sha256 => alg::SHA256,
                Hash::Sha384 => alg::SHA384,
                Hash::Sha512 => alg::SHA512,
            },
        );
        let by_password = if self.needs_policy() {
            0
        } else {
            USER_WITH_AUTH
        };
        let mut out = Vec::with_capacity(MAX_PUBLIC);
        out.extend(kind.to_be_bytes());
        out.extend(hash.to_be_bytes());
        out.extend((DEMANDED | ADMIN_WITH_POLICY | by_password).to_be_bytes());
        push_sized(&mut out, self.policy());
        out.extend(AES.to_be_bytes());
        out.extend((u16::from(self.aes_length()) * 8).to_be_bytes());
        out.extend(CFB.to_be_bytes());
        out.extend(alg::NULL.to_be_bytes()); // scheme
        // the low range fills the place of the key with zeros, the high range leaves it empty
        let place = |length: usize| vec![0; if self.needs_policy() { length } else { 0 }];
        match self.shape() {
            Shape::Rsa(bits) => {
                out.extend(bits.to_be_bytes());
                out.extend(0_u32.to_be_bytes());
                push_sized(&mut out, &place(usize::from(bits / 8)));
            }
            Shape::Ecc { curve, length } => {
                out.extend(curve.to_be_bytes());
                out.extend(alg::NULL.to_be_bytes()); // kdf
                push_sized(&mut out, &place(length));
                push_sized(&mut out, &place(length));
            }
        }
        out
    }
}

/// A TPM2B. Every caller's bytes are far below 64 KiB.
pub(super) fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= MAX_PUBLIC);
    out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// The TPM name of an endorsement key: algorithm and digest of its public area.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EkName(Vec<u8>);

impl EkName {
    /// A name somebody else computed, for [`super::Enrolled`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for EkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for EkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A public area that says it is an endorsement key's. Worth nothing until it is enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    pub(super) key: PublicKey,
    pub(super) hash: Hash,
    pub(super) aes_length: u8,
    pub(super) name: EkName,
}

impl EkPublic {
    /// Parses a `TPM2B_PUBLIC`.
    ///
    /// # Errors
    /// When the bytes are not exactly one public area, or not that of a restricted decryption key (RSA 2048, 3072, 4096,
    /// ECC P-256, P-384; name by SHA-256, SHA-384 or SHA-512; AES-128 or AES-256 in CFB) that was made in its TPM and
    /// cannot leave it.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, ParseError> {
        let mut outer = Reader::big_endian(tpm2b);
        let area = outer.sized("TPM2B_PUBLIC", MAX_PUBLIC)?;
        outer.finish("TPM2B_PUBLIC")?;
        let mut reader = Reader::big_endian(area);
        let kind = reader.u16("type")?;
        let name_alg = reader.u16("nameAlg")?;
        let hash = match name_alg {
            alg::SHA256 => Hash::Sha256,
            alg::SHA384 => Hash::Sha384,
            alg::SHA512 => Hash::Sha512,
            other => return Err(unsupported("nameAlg", other.into())),
        };
        let attributes = reader.u32("objectAttributes")?;
        if attributes & DEMANDED != DEMANDED || attributes & SIGN != 0 {
            return Err(unsupported("objectAttributes", attributes.into()));
        }
        reader.sized("authPolicy", MAX_POLICY)?;
        expect("symmetric", reader.u16("symmetric")?, AES)?;
        let aes_length = match reader.u16("symmetric keyBits")? {
            128 => 16,
            256 => 32,
            other => return Err(unsupported("symmetric keyBits", other.into())),
        };
        expect("symmetric mode", reader.u16("symmetric mode")?, CFB)?;
        expect("scheme", reader.u16("scheme")?, alg::NULL)?;
        let key = match kind {
            alg::RSA => rsa(&mut reader)?,
            alg::ECC => ecc(&mut reader)?,
            other => return Err(unsupported("type", other.into())),
        };
        reader.finish("TPMT_PUBLIC")?;
        let mut name = name_alg.to_be_bytes().to_vec();
        name.extend_from_slice(aws_lc_rs::digest::digest(hash.digest(), area).as_ref());
        Ok(Self {
            key,
            hash,
            aes_length,
            name: EkName(name),
        })
    }

    /// The TPM name.
    #[must_use]
    pub const fn name(&self) -> &EkName {
        &self.name
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

fn rsa(reader: &mut Reader<'_>) -> Result<PublicKey, ParseError> {
    let bits = reader.u16("keyBits")?;
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(unsupported("keyBits", bits.into()));
    }
    match reader.u32("exponent")? {
        0 | DEFAULT_EXPONENT => {}
        other => return Err(unsupported("exponent", other.into())),
    }
    let modulus = reader.sized("modulus", MAX_MODULUS)?;
    let is_whole = modulus.len() == usize::from(bits / 8)
        && modulus.first().is_some_and(|byte| byte & 0x80 != 0);
    if !is_whole {
        return Err(unsupported("modulus length", modulus.len() as u64));
    }
    Ok(PublicKey::Rsa(RsaKey {
        modulus: modulus.into(),
        exponent: EXPONENT.into(),
    }))
}

fn ecc(reader: &mut Reader<'_>) -> Result<PublicKey, ParseError> {
    let curve = reader.u16("curveID")?;
    expect("kdf", reader.u16("kdf")?, alg::NULL)?;
    match curve {
        CURVE_P256 => point::<32, 65>(reader).map(PublicKey::P256),
        CURVE_P384 => point::<48, 97>(reader).map(PublicKey::P384),
        other => Err(unsupported("curveID", other.into())),
    }
}

/// Both coordinates as an uncompressed point: `WHOLE` is one more than twice `PART`.
fn point<const PART: usize, const WHOLE: usize>(
    reader: &mut Reader<'_>,
) -> Result<[u8; WHOLE], ParseError> {
    let x = padded::<PART>(reader.sized("x", PART)?);
    let y = padded::<PART>(reader.sized("y", PART)?);
    let mut point = [0; WHOLE];
    for (to, from) in point.iter_mut().zip([0x04].iter().chain(&x).chain(&y)) {
        *to = *from;
    }
    Ok(point)
}

const fn unsupported(field: &'static str, value: u64) -> ParseError {
    ParseError::Unsupported { field, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa_key(bytes: usize, first: u8) -> PublicKey {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = first;
        PublicKey::Rsa(RsaKey {
            modulus: modulus.into(),
            exponent: EXPONENT.into(),
        })
    }

    #[test]
    fn a_key_fits_the_templates_of_its_kind() {
        use Template::{H1, H2, H3, H6, H7, L1, L2};
        for (key, fitting) in [
            (rsa_key(256, 0x80), &[L1, H1][..]),
            (rsa_key(256, 0xff), &[L1, H1]),
            // one bit short of 2048
            (rsa_key(256, 0x7f), &[]),
            (rsa_key(257, 0x80), &[]),
            (rsa_key(384, 0x80), &[H6]),
            (rsa_key(512, 0x80), &[H7]),
            (PublicKey::P256([4; 65]), &[L2, H2]),
            (PublicKey::P384([4; 97]), &[H3]),
        ] {
            let fits: Vec<Template> = Template::ALL
                .into_iter()
                .filter(|template| template.fits(&key))
                .collect();
            assert_eq!(fits, fitting, "{key:?}");
        }
    }
}
