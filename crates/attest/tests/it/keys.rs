//! Attestation keys of every form that is accepted, and of forms next to it.

use attest::Outcome;
use attest::qemu_vtpm::Document;
use attest::tpm::{HashAlgorithm, KeyScheme, ParseError, PublicArea, PublicKey, Signature};
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

/// P-384 goes with SHA-384, P-256 with SHA-256, and neither with the other's.
#[test]
fn a_curve_has_one_hash() {
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = key.public_key().as_ref();
    let mut parts = SoftTpm::boot(&Image::default()).public_parts();
    let p256 = parts.clone();
    parts.curve = 4;
    parts.scheme.1 = SHA384;
    parts.point = (point[1..49].to_vec(), point[49..].to_vec());
    let public = PublicArea::parse(&parts.to_tpm2b()).unwrap();
    assert_eq!(public.scheme(), KeyScheme::Ecdsa);
    assert_eq!(public.hash(), HashAlgorithm::Sha384);
    assert!(matches!(public.key(), PublicKey::P384(_)));

    let numbers = key.sign(&SystemRandom::new(), b"statement").unwrap();
    let (r, s) = numbers.as_ref().split_at(48);
    let head = [0x00, 0x18, 0x00, 0x0c];
    let signature = [head.to_vec(), tpm2b(r), tpm2b(s)].concat();
    let parsed = Signature::parse(&signature).unwrap();
    assert!(public.verify(b"statement", &parsed));
    assert!(!public.verify(b"statemen", &parsed));
    assert!(
        !PublicArea::parse(&p256.to_tpm2b())
            .unwrap()
            .verify(b"statement", &parsed)
    );
    let mut other_hash = signature;
    other_hash[3] = 0x0b;
    assert_eq!(
        field(&Signature::parse(&other_hash).unwrap_err()),
        "signatureR"
    );
    other_hash[3] = 0x0d;
    assert_eq!(
        field(&Signature::parse(&other_hash).unwrap_err()),
        "signature hash"
    );

    for (curve, hash, refused) in [
        (4, SHA256, "curveID"),
        (3, SHA384, "curveID"),
        (5, SHA384, "curveID"),
        (4, SHA512, "scheme hash"),
        (4, SHA1, "scheme hash"),
    ] {
        let mut mixed = parts.clone();
        mixed.curve = curve;
        mixed.scheme.1 = hash;
        let error = PublicArea::parse(&mixed.to_tpm2b()).unwrap_err();
        assert_eq!(field(&error), refused, "{curve} {hash:#x}");
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
