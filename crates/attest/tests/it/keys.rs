//! Attestation keys of every form that is accepted, and of forms next to it.

use attest::Outcome;
use attest::qemu_vtpm::Document;
use attest::tpm::{KeyScheme, ParseError, PublicArea, PublicKey, Signature};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaSignatureEncoding,
};
use testkit::boot::Image;
use testkit::tee::{AK_ATTRIBUTES, SoftTpm, tpm2b};

use crate::{binding, named, verdict};

const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const SHA1: u16 = 0x0004;
const SHA256: u16 = 0x000b;
const SHA384: u16 = 0x000c;
const SHA512: u16 = 0x000d;
const NULL: u16 = 0x0010;

/// The fields of a `TPMT_PUBLIC` of an RSA signing key.
#[derive(Clone)]
struct RsaParts {
    name_alg: u16,
    policy: Vec<u8>,
    symmetric: u16,
    scheme: (u16, u16),
    bits: u16,
    exponent: u32,
    modulus: Vec<u8>,
}

impl RsaParts {
    fn of(modulus: Vec<u8>) -> Self {
        Self {
            name_alg: SHA256,
            policy: Vec::new(),
            symmetric: NULL,
            scheme: (RSASSA, SHA256),
            bits: 2048,
            exponent: 0,
            modulus,
        }
    }

    fn to_tpm2b(&self) -> Vec<u8> {
        let mut area = vec![0x00, 0x01]; // RSA
        area.extend(self.name_alg.to_be_bytes());
        area.extend(AK_ATTRIBUTES.to_be_bytes());
        area.extend(tpm2b(&self.policy));
        for number in [self.symmetric, self.scheme.0, self.scheme.1, self.bits] {
            area.extend(number.to_be_bytes());
        }
        area.extend(self.exponent.to_be_bytes());
        area.extend(tpm2b(&self.modulus));
        tpm2b(&area)
    }
}

fn modulus(key: &KeyPair) -> Vec<u8> {
    // RSAPublicKey: a sequence of the modulus, with a zero in front, and the exponent 65537
    let der = key.public_key().as_ref();
    der[9..9 + 256].to_vec()
}

fn sign(key: &KeyPair, scheme: u16, statement: &[u8]) -> Vec<u8> {
    sign_with(key, (scheme, SHA256), statement)
}

fn sign_with(key: &KeyPair, (scheme, hash): (u16, u16), statement: &[u8]) -> Vec<u8> {
    let padding: &RsaSignatureEncoding = match (scheme, hash) {
        (RSASSA, SHA256) => &RSA_PKCS1_SHA256,
        (RSASSA, SHA384) => &RSA_PKCS1_SHA384,
        (RSASSA, SHA512) => &RSA_PKCS1_SHA512,
        (_, SHA384) => &RSA_PSS_SHA384,
        (_, SHA512) => &RSA_PSS_SHA512,
        _ => &RSA_PSS_SHA256,
    };
    let padding: &dyn RsaEncoding = padding;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), statement, &mut signature)
        .unwrap();
    let head = [scheme.to_be_bytes(), hash.to_be_bytes()].concat();
    [head, tpm2b(&signature)].concat()
}

/// A key signs with one hash. One that the signature names instead is not the key's.
#[test]
fn longer_hashes_are_good_with_their_own_keys_only() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let schemes = [RSASSA, RSAPSS].map(|it| [SHA256, SHA384, SHA512].map(|hash| (it, hash)));
    let schemes = schemes.as_flattened();
    for scheme in schemes {
        let parts = RsaParts {
            scheme: *scheme,
            ..RsaParts::of(modulus(&key))
        };
        let public = PublicArea::parse(&parts.to_tpm2b()).unwrap();
        assert_eq!(public.hash().tpm_id(), scheme.1);
        for other in schemes {
            let signature = Signature::parse(&sign_with(&key, *other, b"statement")).unwrap();
            let holds = public.verify(b"statement", &signature);
            assert_eq!(holds, scheme == other, "{scheme:x?} {other:x?}");
            assert!(!public.verify(b"statemen", &signature));
        }
    }
}

/// Points of two keys that `openssl ecparam -genkey` made.
const P256_POINT: &str = "045d5569e8e9c22779b011817d2c0100028c8c83ea4cbbbebdcd41683326055728df185103eb8349d9c6387afd22e808469ba44c1a986e6707b3acc5a681afbdb0";
const P384_POINT: &str = "0486e0b1435ed5d957b27afda2fd58ca417f0905358b5215acb9296ef3e177844ae1f0d56330ebfa6bdc95097cb322147f8393576593e2833f0a217fd30eaace5217561c2ade5870268afd2b39d0eac263c0576c9ce6827ae2fa9bc256c900ba79";

/// Curve, hash, and r and s over `statement`, by `openssl dgst -sign`.
const ECDSA: [(u16, u16, &str, &str); 6] = [
    (
        3,
        SHA256,
        "2f6b9a830d4a9318ddd08ee962411410a50a4bedea1ee69f6641147ed2f12c38",
        "d40f0c455e7258abdfc903699edc5231ffd0bc70c52ecfc6ea308814de86d44f",
    ),
    (
        3,
        SHA384,
        "5216c143953ded2660d64f4f06bdf6e296e4f79f92d795b3950fb1bd7a97c286",
        "cb548323b663321080e9330a63a29fe45980d62626bfbe8b6771da13100401cd",
    ),
    (
        3,
        SHA512,
        "3f8f2f9781b99a02ccb12cdd9440af9e5d19b69208b503d192871440045cec5c",
        "960121c837266bcde8cf493e7aeaa11eb8977733c2265c7527944e04769e3f08",
    ),
    (
        4,
        SHA256,
        "dadd82fd4e4bd6d32d34348185bdacc0de593090c5ad910ae2f39b9771f0beb5f212e0c5905b09909d1ac8f9b1ede9c4",
        "d924ba2d4a59562da3865b24bd9b41ac111b0616c7315b6cf270cc2ce1d090e97569991b29c175f7d0b74a4940de1b12",
    ),
    (
        4,
        SHA384,
        "d4929d549a867406f3b6bcd87790eeb683cabf69dfeec050960bf3c731c4123fd514adcef080f3d55eb5f91d445315f9",
        "eba5b38b1cf5e0ec310fdad005d3df6bb6e68d8e58c419ef7e2876f73fb3e4821c2737ae32c9924db4fdb9f4f7456a1a",
    ),
    (
        4,
        SHA512,
        "83e395f5e6e97119c2ef24a118cf49fa7c9a751cb05cd53ddf97548c699db75217feb480af9d06198d42cae17ac0bff2",
        "fc846e4b3974dfc1e32a8804b7e602916b4afcc1dad2655ce92eab11ecf1034ffbcd674eb24127f74ca68aca39141850",
    ),
];

fn ecdsa_area(curve: u16, hash: u16) -> Result<PublicArea, ParseError> {
    let point = hex::decode(if curve == 3 { P256_POINT } else { P384_POINT }).unwrap();
    let (x, y) = point[1..].split_at(point.len() / 2);
    let mut parts = SoftTpm::boot(&Image::default()).public_parts();
    parts.curve = curve;
    parts.scheme.1 = hash;
    parts.point = (x.to_vec(), y.to_vec());
    PublicArea::parse(&parts.to_tpm2b())
}

fn ecdsa_signature(hash: u16, r: &[u8], s: &[u8]) -> Result<Signature, ParseError> {
    let head = [0x0018_u16, hash].map(u16::to_be_bytes).concat();
    Signature::parse(&[head, tpm2b(r), tpm2b(s)].concat())
}

/// A TPM signs with any hash on any curve, and a key with one: its own.
#[test]
fn an_ecdsa_key_is_good_with_its_own_curve_and_hash_only() {
    for (curve, hash, ..) in ECDSA {
        let public = ecdsa_area(curve, hash).unwrap();
        assert_eq!(public.scheme(), KeyScheme::Ecdsa);
        assert_eq!(public.hash().tpm_id(), hash);
        assert_eq!(matches!(public.key(), PublicKey::P384(_)), curve == 4);
        for (other_curve, other_hash, r, s) in ECDSA {
            let (r, s) = (hex::decode(r).unwrap(), hex::decode(s).unwrap());
            let is_own = (curve, hash) == (other_curve, other_hash);
            // as it is, and as if it were made with the key's hash
            for said in [other_hash, hash] {
                let signature = ecdsa_signature(said, &r, &s).unwrap();
                assert_eq!(
                    public.verify(b"statement", &signature),
                    is_own,
                    "{curve} {hash:#x}: {other_curve} {other_hash:#x}, said {said:#x}"
                );
                assert!(!public.verify(b"statemen", &signature));
            }
        }
    }
    for (curve, hash, refused) in [
        (5, SHA384, "curveID"),
        (0, SHA256, "curveID"),
        (4, SHA1, "scheme hash"),
        (3, SHA1, "scheme hash"),
    ] {
        let error = ecdsa_area(curve, hash).unwrap_err();
        assert_eq!(field(&error), refused, "{curve} {hash:#x}");
    }
    let refused = |hash, length| field(&ecdsa_signature(hash, &vec![1; length], &[1]).unwrap_err());
    assert_eq!(refused(SHA1, 32), "signature hash");
    assert_eq!(refused(SHA256, 49), "signatureR");
}

/// A TPM may leave out zeros in front of a number, or write them.
#[test]
fn numbers_of_a_signature_verify_with_and_without_zeros_in_front() {
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = key.public_key().as_ref();
    let mut parts = SoftTpm::boot(&Image::default()).public_parts();
    parts.curve = 4;
    parts.scheme.1 = SHA384;
    parts.point = (point[1..49].to_vec(), point[49..].to_vec());
    let public = PublicArea::parse(&parts.to_tpm2b()).unwrap();
    let verifies = |r: &[u8], s: &[u8]| {
        let signature = ecdsa_signature(SHA384, r, s).unwrap();
        public.verify(b"statement", &signature)
    };
    let numbers = (0..100_000)
        .map(|_| key.sign(&SystemRandom::new(), b"statement").unwrap())
        .find(|numbers| numbers.as_ref()[0] == 0)
        .unwrap();
    let (r, s) = numbers.as_ref().split_at(48);
    assert!(verifies(r, s));
    assert!(verifies(&r[1..], s));
    // no number of the curve
    for zero in [&[][..], &[0; 1], &[0; 48], &[0xff; 48]] {
        assert!(!verifies(zero, s));
        assert!(!verifies(r, zero));
    }
}

/// What a TPM calls a key, and so what a challenge is bound to (Part 1, 16).
#[test]
fn a_key_is_named_by_its_own_hash() {
    use aws_lc_rs::digest;
    for (name_alg, algorithm) in [
        (SHA256, &digest::SHA256),
        (SHA384, &digest::SHA384),
        (SHA512, &digest::SHA512),
    ] {
        let parts = RsaParts {
            name_alg,
            ..RsaParts::of(vec![0xff; 256])
        };
        let whole = parts.to_tpm2b();
        let public = PublicArea::parse(&whole).unwrap();
        let digest = digest::digest(algorithm, &whole[2..]);
        assert_eq!(
            public.name(),
            [&name_alg.to_be_bytes()[..], digest.as_ref()].concat()
        );
        assert_eq!(public.id(), attest::Digest::of(&whole[2..]));
    }
}

#[test]
fn a_quote_of_an_rsa_key_is_good_with_its_own_scheme_only() {
    let image = Image::default();
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let other = KeyPair::generate(KeySize::Rsa2048).unwrap();
    for (scheme, another) in [(RSASSA, RSAPSS), (RSAPSS, RSASSA)] {
        let parts = RsaParts {
            scheme: (scheme, SHA256),
            ..RsaParts::of(modulus(&key))
        };
        let document = Document {
            ak_public: parts.to_tpm2b(),
            ..SoftTpm::boot(&image).document(&binding())
        };
        let statement = &document.quote[2..];
        let signed = |signature| Document {
            signature,
            ..document.clone()
        };
        verdict(&signed(sign(&key, scheme, statement)), &image.policy())
            .unwrap_or_else(|refusal| panic!("{scheme:#x}: {refusal}"));
        for lie in [
            sign(&key, another, statement),
            sign(&other, scheme, statement),
            sign(&key, scheme, &statement[1..]),
        ] {
            let refusal = verdict(&signed(lie), &image.policy()).unwrap_err();
            assert_eq!(named(refusal.checks(), Outcome::Failed), ["signature"]);
        }
    }
}

/// The scheme of a signature is the key's, not what the signature says about itself.
#[test]
fn a_signature_with_another_padding_than_it_says_is_refused() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = PublicArea::parse(&RsaParts::of(modulus(&key)).to_tpm2b()).unwrap();
    let mut signature = sign(&key, RSAPSS, b"statement");
    signature[..2].copy_from_slice(&RSASSA.to_be_bytes());
    let signature = Signature::parse(&signature).unwrap();
    assert!(!public.verify(b"statement", &signature));
}

#[test]
fn an_exponent_of_zero_is_the_default_one() {
    let parts = RsaParts::of(vec![0xff; 256]);
    let written = RsaParts {
        exponent: 65_537,
        ..parts.clone()
    };
    let [zero, written] = [parts, written].map(|p| PublicArea::parse(&p.to_tpm2b()).unwrap());
    assert_eq!(zero.scheme(), KeyScheme::Rsassa);
    assert_eq!(zero.key(), written.key());
    let PublicKey::Rsa { exponent, .. } = zero.key() else {
        panic!("an RSA key")
    };
    assert_eq!(exponent, &[0, 1, 0, 1]);
}

fn field(error: &ParseError) -> &'static str {
    match error {
        ParseError::Truncated { field, .. }
        | ParseError::TooLarge { field, .. }
        | ParseError::Unsupported { field, .. } => field,
        ParseError::Trailing { structure, .. } => structure,
    }
}

#[test]
fn rsa_keys_next_to_the_accepted_form_are_refused() {
    type Edit = fn(&mut RsaParts);
    let rows: [(&str, &str, Edit); 16] = [
        ("named by SHA-1", "nameAlg", |k| k.name_alg = SHA1),
        ("a huge policy", "authPolicy", |k| k.policy = vec![1; 65]),
        ("for storage", "symmetric", |k| k.symmetric = 6),
        ("no scheme", "scheme", |k| k.scheme.0 = NULL),
        ("OAEP", "scheme", |k| k.scheme.0 = 0x17),
        ("ECDSA", "scheme", |k| k.scheme.0 = 0x18),
        ("SHA-1 in RSASSA", "scheme hash", |k| k.scheme.1 = SHA1),
        ("SHA-1 in RSAPSS", "scheme hash", |k| {
            k.scheme = (RSAPSS, SHA1)
        }),
        ("1024 bits", "keyBits", |k| {
            k.bits = 1024;
            k.modulus.truncate(128);
        }),
        ("2047 bits", "keyBits", |k| k.bits = 2047),
        ("exponent 1", "exponent", |k| k.exponent = 1),
        ("exponent 3", "exponent", |k| k.exponent = 3),
        ("a short modulus", "modulus length", |k| {
            k.modulus.truncate(255)
        }),
        ("a long modulus", "modulus length", |k| k.modulus.push(1)),
        ("another length than it says", "modulus length", |k| {
            k.bits = 3072
        }),
        ("a modulus with a zero in front", "modulus length", |k| {
            k.modulus[0] = 0x7f;
        }),
    ];
    for (what, refused, edit) in rows {
        let mut parts = RsaParts::of(vec![0xff; 256]);
        assert!(PublicArea::parse(&parts.to_tpm2b()).is_ok());
        edit(&mut parts);
        let error = PublicArea::parse(&parts.to_tpm2b()).expect_err(what);
        assert_eq!(field(&error), refused, "{what}");
    }
    for (bits, length) in [(3072, 384), (4096, 512)] {
        let parts = RsaParts {
            bits,
            ..RsaParts::of(vec![0xff; length])
        };
        assert!(PublicArea::parse(&parts.to_tpm2b()).is_ok(), "{bits}");
    }
}

/// Fields of an ECC key that come before those of its kind, or that no honest key sets.
#[test]
fn ecc_keys_next_to_the_accepted_form_are_refused() {
    /// In the `TPM2B_PUBLIC` of a key without a policy.
    const NAME_ALG: usize = 4;
    const POLICY: usize = 10;
    const KDF: usize = 20;
    let public = SoftTpm::boot(&Image::default()).public_parts().to_tpm2b();
    let set = |at: usize, value: u16| {
        let mut public = public.clone();
        public[at..at + 2].copy_from_slice(&value.to_be_bytes());
        public
    };
    let with_policy = |policy: &[u8]| {
        let area = [&public[2..POLICY], &tpm2b(policy), &public[POLICY + 2..]].concat();
        tpm2b(&area)
    };
    assert_eq!(set(NAME_ALG, SHA256), public);
    assert_eq!(set(KDF, NULL), public);
    assert!(PublicArea::parse(&with_policy(&[1; 32])).is_ok());
    for (refused, public) in [
        ("nameAlg", set(NAME_ALG, SHA1)),
        ("kdf", set(KDF, 0x0007)),
        ("authPolicy", with_policy(&[1; 65])),
    ] {
        let error = PublicArea::parse(&public).expect_err(refused);
        assert_eq!(field(&error), refused);
    }
}

#[test]
fn every_attribute_that_decides_is_named() {
    let mut parts = SoftTpm::boot(&Image::default()).public_parts();
    parts.attributes |= 1 << 17 | 1 << 19;
    let public = PublicArea::parse(&parts.to_tpm2b()).unwrap();
    let described = public.attributes().describe();
    for name in ["restricted", "sign", "decrypt", "x509sign"] {
        assert!(described.contains(name), "{described}");
        assert!(attest::tpm::ObjectAttributes::DEMAND.contains(name));
    }
}
