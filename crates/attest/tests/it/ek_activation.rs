//! The other end of a challenge: what a TPM does with it, computed here from the specification (TPM 2.0 Part 1, 24 and annexes B.10
//! and C.6). The same challenges against a real TPM: `crates/tee/tests/it/activation.rs`.

use std::collections::BTreeSet;

use attest::tpm::PublicArea;
use attest::tpm::ek::{Challenge, EkPublic, EndorsementKey, Enrolled, Randomness, Template};
use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::{digest, encoding, hmac};
use testkit::tee::{AK_ATTRIBUTES, PublicParts, tpm2b};

/// What a challenge is made of: 32 bytes of secret, then the seed or the number of the ephemeral key.
fn randomness() -> Randomness {
    let mut bytes = [0x17; Randomness::LENGTH];
    bytes[..32].copy_from_slice(&SECRET);
    Randomness::new(bytes)
}

const SECRET: [u8; 32] = [0x5e; 32];

fn ak() -> Vec<u8> {
    let parts = PublicParts {
        attributes: AK_ATTRIBUTES,
        curve: 0x0003,
        scheme: (0x0018, 0x000b),
        symmetric: 0x0010,
        point: (vec![1; 32], vec![2; 32]),
    };
    parts.to_tpm2b()
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, &parts.concat()).as_ref().to_vec()
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        let key = hmac::Key::new(algorithm, key);
        hmac::sign(&key, &parts.concat()).as_ref().to_vec()
    }

    fn length(self) -> usize {
        self.digest(&[]).len()
    }

    /// KDFa of one block.
    fn kdf_a(self, key: &[u8], label: &[u8], context: &[u8], length: usize) -> Vec<u8> {
        assert!(length <= self.length());
        let bits = u32::try_from(length * 8).unwrap().to_be_bytes();
        let mut out = self.hmac(key, &[&[0, 0, 0, 1], label, &[0], context, &bits]);
        out.truncate(length);
        out
    }
}

/// An endorsement key in its TPM.
enum Key {
    Ecc(PrivateKey, Vec<u8>),
    Rsa(PrivateDecryptingKey, Vec<u8>),
}

struct Tpm {
    key: Key,
    hash: Hash,
    aes_bits: u16,
}

/// `TPM2B`s one after another.
fn sized(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_at(2);
    rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn only(bytes: &[u8]) -> &[u8] {
    let (inside, rest) = sized(bytes);
    assert!(rest.is_empty());
    inside
}

impl Tpm {
    fn ecc(curve: &'static agreement::Algorithm, hash: Hash, aes_bits: u16) -> Self {
        let key = PrivateKey::generate(curve).unwrap();
        let point = key.compute_public_key().unwrap().as_ref().to_vec();
        Self {
            key: Key::Ecc(key, point),
            hash,
            aes_bits,
        }
    }

    /// The endorsement key, as it was enrolled.
    fn ek(&self) -> EndorsementKey {
        let (kind, key) = match &self.key {
            Key::Ecc(_, point) => {
                let (x, y) = point[1..].split_at(point.len() / 2);
                let curve: u16 = if x.len() == 32 { 3 } else { 4 };
                let scheme = [&curve.to_be_bytes()[..], &[0, 0x10]].concat();
                (0x0023_u16, [scheme, tpm2b(x), tpm2b(y)].concat())
            }
            Key::Rsa(_, modulus) => {
                let bits = u16::try_from(modulus.len() * 8).unwrap();
                let head = [&bits.to_be_bytes()[..], &[0; 4]].concat();
                (0x0001, [head, tpm2b(modulus)].concat())
            }
        };
        let mut area = kind.to_be_bytes().to_vec();
        area.extend(self.hash.id().to_be_bytes());
        area.extend(0x0003_00b2_u32.to_be_bytes());
        area.extend(tpm2b(&[]));
        for number in [0x0006, self.aes_bits, 0x0043, 0x0010] {
            area.extend(u16::to_be_bytes(number));
        }
        area.extend(key);
        let public = EkPublic::parse(&tpm2b(&area)).unwrap();
        let enrolled = Enrolled::new(BTreeSet::from([public.name().clone()]));
        enrolled.admit(public).unwrap()
    }

    fn seed(&self, encrypted: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Ecc(key, own) => {
                let (x, rest) = sized(encrypted);
                let y = only(rest);
                let coordinates = own.len() / 2;
                assert_eq!((x.len(), y.len()), (coordinates, coordinates));
                let point = [&[4], x, y].concat();
                let own_x = &own[1..=coordinates];
                agreement::agree(
                    key,
                    UnparsedPublicKey::new(key.algorithm(), &point),
                    aws_lc_rs::error::Unspecified,
                    |z| {
                        let parts = [&[0, 0, 0, 1], z, b"IDENTITY\0", x, own_x];
                        Ok(self.hash.digest(&parts))
                    },
                )
                .unwrap()
            }
            Key::Rsa(key, _) => {
                let key = OaepPrivateDecryptingKey::new(key.clone()).unwrap();
                let oaep = match self.hash {
                    Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
                    Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
                    Hash::Sha512 => &OAEP_SHA512_MGF1SHA512,
                };
                let mut space = vec![0; key.min_output_size()];
                let seed = key.decrypt(oaep, encrypted, &mut space, Some(b"IDENTITY\0"));
                seed.unwrap().to_vec()
            }
        }
    }

    /// `TPM2_ActivateCredential` for the object with this name.
    fn activate(&self, challenge: &Challenge, name: &[u8]) -> Option<Vec<u8>> {
        let seed = self.seed(only(challenge.encrypted_secret()));
        assert_eq!(seed.len(), self.hash.length());
        let blob = only(challenge.credential_blob());
        let (integrity, encrypted) = sized(blob);
        let key = self
            .hash
            .kdf_a(&seed, b"INTEGRITY", &[], self.hash.length());
        if integrity != self.hash.hmac(&key, &[encrypted, name]) {
            return None;
        }
        let aes = self
            .hash
            .kdf_a(&seed, b"STORAGE", name, usize::from(self.aes_bits / 8));
        let cipher = if self.aes_bits == 128 {
            &AES_128
        } else {
            &AES_256
        };
        let key = UnboundCipherKey::new(cipher, &aes).unwrap();
        let mut bytes = encrypted.to_vec();
        let plain = DecryptingKey::cfb128(key)
            .unwrap()
            .decrypt(
                &mut bytes,
                DecryptionContext::Iv128(FixedLength::from([0; 16])),
            )
            .unwrap();
        Some(only(plain).to_vec())
    }
}

fn name_of(tpm2b: &[u8]) -> Vec<u8> {
    [&[0x00, 0x0b], &Hash::Sha256.digest(&[only(tpm2b)])[..]].concat()
}

fn is_activated_by(tpm: &Tpm) {
    let ak = ak();
    let challenge =
        Challenge::new(&tpm.ek(), PublicArea::parse(&ak).unwrap(), randomness()).unwrap();
    let answer = tpm.activate(&challenge, &name_of(&ak)).unwrap();
    assert_eq!(answer, SECRET);
    // for another object of the same TPM nothing is given out
    let mut other = ak;
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(tpm.activate(&challenge, &name_of(&other)), None);
    assert!(challenge.answer(&answer).is_ok());
}

#[test]
fn a_tpm_with_an_ecc_key_gives_the_secret_out() {
    for hash in Hash::ALL {
        for aes_bits in [128, 256] {
            is_activated_by(&Tpm::ecc(&ECDH_P256, hash, aes_bits));
            is_activated_by(&Tpm::ecc(&ECDH_P384, hash, aes_bits));
        }
    }
}

#[test]
fn a_tpm_with_an_rsa_key_gives_the_secret_out() {
    use encoding::AsDer as _;
    let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let der: encoding::PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    // the modulus: 2048 bits, whose first is one, behind a zero byte
    let head = der
        .as_ref()
        .windows(4)
        .position(|it| it == [0x82, 0x01, 0x01, 0x00]);
    let start = head.unwrap() + 4;
    let modulus = der.as_ref()[start..start + 256].to_vec();
    for hash in Hash::ALL {
        is_activated_by(&Tpm {
            key: Key::Rsa(key.clone(), modulus.clone()),
            hash,
            aes_bits: 128,
        });
    }
}

/// As the profile prints them (TCG EK Credential Profile 2.5, annex B.3 and B.4).
#[test]
fn templates_are_those_of_the_profile() {
    const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    const POLICY_B: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
    const POLICY_B_384: &str = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";
    let empty = |size: &str| format!("{size}{}", "00".repeat(32));
    for (template, area) in [
        (
            Template::L1,
            format!(
                "0001000b000300b20020{POLICY_A}0006008000430010080000000000{}",
                format_args!("0100{}", "00".repeat(256))
            ),
        ),
        (
            Template::L2,
            format!(
                "0023000b000300b20020{POLICY_A}000600800043001000030010{}{}",
                empty("0020"),
                empty("0020")
            ),
        ),
        (
            Template::H1,
            format!("0001000b000300f20020{POLICY_B}00060080004300100800000000000000"),
        ),
        (
            Template::H2,
            format!("0023000b000300f20020{POLICY_B}00060080004300100003001000000000"),
        ),
        (
            Template::H3,
            format!("0023000c000300f20030{POLICY_B_384}00060100004300100004001000000000"),
        ),
        (
            Template::H6,
            format!("0001000c000300f20030{POLICY_B_384}00060100004300100c00000000000000"),
        ),
        (
            Template::H7,
            format!("0001000c000300f20030{POLICY_B_384}00060100004300101000000000000000"),
        ),
    ] {
        assert_eq!(hex::encode(template.public_area()), area, "{template:?}");
    }
}

/// A public area of an endorsement key with the key's own part given.
fn area(kind: u16, key: &[u8]) -> Vec<u8> {
    let mut area = kind.to_be_bytes().to_vec();
    area.extend([0x00, 0x0b]);
    area.extend(0x0003_00b2_u32.to_be_bytes());
    area.extend(tpm2b(&[]));
    for number in [0x0006_u16, 128, 0x0043, 0x0010] {
        area.extend(number.to_be_bytes());
    }
    area.extend(key);
    tpm2b(&area)
}

#[test]
fn an_rsa_key_has_its_whole_length() {
    let rsa = |bits: u16, exponent: u32, modulus: &[u8]| {
        let key = [
            &bits.to_be_bytes()[..],
            &exponent.to_be_bytes(),
            &tpm2b(modulus),
        ]
        .concat();
        EkPublic::parse(&area(0x0001, &key))
    };
    for bits in [2048_u16, 3072, 4096] {
        let whole = vec![0xff; usize::from(bits / 8)];
        assert!(rsa(bits, 0, &whole).is_ok(), "{bits}");
        assert!(rsa(bits, 65_537, &whole).is_ok(), "{bits}");
        assert!(rsa(bits, 3, &whole).is_err(), "{bits}");
        assert!(rsa(bits, 0, &whole[1..]).is_err(), "{bits}");
        let mut short = whole;
        short[0] = 0x7f;
        assert!(rsa(bits, 0, &short).is_err(), "{bits}");
    }
    for bits in [1024_u16, 2040, 2056] {
        assert!(
            rsa(bits, 0, &vec![0xff; usize::from(bits / 8)]).is_err(),
            "{bits}"
        );
    }
}

#[test]
fn a_point_has_both_its_coordinates() {
    let ecc = |kdf: u16, x: &[u8], y: &[u8]| {
        let key = [&[0, 3][..], &kdf.to_be_bytes(), &tpm2b(x), &tpm2b(y)].concat();
        EkPublic::parse(&area(0x0023, &key))
    };
    let parsed = ecc(0x0010, &[1; 32], &[2; 31]).unwrap();
    let mut point = [0; 65];
    point[0] = 4;
    point[1..33].fill(1);
    point[34..].fill(2);
    assert_eq!(parsed.key(), &attest::x509::PublicKey::P256(point));
    // with a derivation of its own it is another kind of key
    assert!(ecc(0x0020, &[1; 32], &[2; 32]).is_err());
}

#[test]
fn nothing_stands_behind_the_key_inside_a_public_area() {
    let key = [&[0, 3, 0, 0x10][..], &tpm2b(&[1; 32]), &tpm2b(&[2; 32])].concat();
    assert!(EkPublic::parse(&area(0x0023, &key)).is_ok());
    assert!(EkPublic::parse(&area(0x0023, &[&key[..], &[0]].concat())).is_err());
}
