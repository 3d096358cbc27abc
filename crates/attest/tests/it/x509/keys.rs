//! Keys and signature schemes.

use attest::x509::{
    BadSignature, Certificate, Path, PathError, PathRules, PublicKey, PublicKeyError, Revocation,
    SignatureScheme, X509Error,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};

use super::ca::{
    Algorithm, Authority, Key, SHA256, SHA384, SHA512, Template, now, oid, pss, seq, tlv,
};
use super::{at, certificate};

const NO_CRLS: Revocation<'_> = Revocation::DangerousNotLookedAt;
const MESSAGE: &[u8] = b"message";

const ECDSA: [SignatureScheme; 6] = [
    SignatureScheme::EcdsaP256Sha256Fixed,
    SignatureScheme::EcdsaP256Sha256Asn1,
    SignatureScheme::EcdsaP256Sha384Asn1,
    SignatureScheme::EcdsaP384Sha384Fixed,
    SignatureScheme::EcdsaP384Sha384Asn1,
    SignatureScheme::EcdsaP384Sha256Asn1,
];
const RSA: [SignatureScheme; 5] = [
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
];

/// Verifies by the one scheme, and by no other, and not after a change.
fn verifies_by(key: &PublicKey, scheme: SignatureScheme, signature: &[u8]) {
    for other in ECDSA.into_iter().chain(RSA) {
        let expected = if other == scheme {
            Ok(())
        } else {
            Err(BadSignature)
        };
        assert_eq!(key.verify(other, MESSAGE, signature), expected, "{other:?}");
    }
    key.verify(scheme, b"massage", signature).unwrap_err();
    key.verify(scheme, MESSAGE, &[]).unwrap_err();
    let mut flipped = signature.to_vec();
    flipped[signature.len() / 2] ^= 1;
    key.verify(scheme, MESSAGE, &flipped).unwrap_err();
    key.verify(scheme, MESSAGE, &[signature, &[0]].concat())
        .unwrap_err();
}

#[test]
fn a_signature_verifies_by_its_scheme_alone() {
    let p256 = Key::p256();
    let key = PublicKey::from_spki(&p256.spki()).unwrap();
    let signature = p256.sign(Algorithm::EcdsaSha256, MESSAGE);
    verifies_by(&key, SignatureScheme::EcdsaP256Sha256Asn1, &signature);
    let p384 = Key::p384();
    let key = PublicKey::from_spki(&p384.spki()).unwrap();
    let signature = p384.sign(Algorithm::EcdsaSha384, MESSAGE);
    verifies_by(&key, SignatureScheme::EcdsaP384Sha384Asn1, &signature);

    let random = SystemRandom::new();
    for (algorithm, scheme) in [
        (
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            SignatureScheme::EcdsaP256Sha256Fixed,
        ),
        (
            &ECDSA_P384_SHA384_FIXED_SIGNING,
            SignatureScheme::EcdsaP384Sha384Fixed,
        ),
    ] {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = pair.public_key().as_ref();
        let key = match point.len() {
            65 => PublicKey::P256(point.try_into().unwrap()),
            _ => PublicKey::P384(point.try_into().unwrap()),
        };
        let signature = pair.sign(&random, MESSAGE).unwrap();
        verifies_by(&key, scheme, signature.as_ref());
    }

    let rsa = Key::rsa();
    let key = PublicKey::from_spki(&rsa.spki()).unwrap();
    for (algorithm, scheme) in [
        (Algorithm::RsaPkcs1Sha256, SignatureScheme::RsaPkcs1Sha256),
        (Algorithm::RsaPkcs1Sha384, SignatureScheme::RsaPkcs1Sha384),
        (Algorithm::RsaPkcs1Sha512, SignatureScheme::RsaPkcs1Sha512),
        (Algorithm::RsaPssSha256, SignatureScheme::RsaPssSha256),
        (Algorithm::RsaPssSha384, SignatureScheme::RsaPssSha384),
    ] {
        verifies_by(&key, scheme, &rsa.sign(algorithm, MESSAGE));
    }
}

#[test]
fn certificates_are_verified_with_the_algorithm_they_name() {
    for (key, algorithms) in [
        (Key::p256(), vec![Algorithm::EcdsaSha256]),
        (Key::p384(), vec![Algorithm::EcdsaSha384]),
        (
            Key::rsa(),
            vec![
                Algorithm::RsaPkcs1Sha256,
                Algorithm::RsaPkcs1Sha384,
                Algorithm::RsaPkcs1Sha512,
                Algorithm::RsaPssSha256,
                Algorithm::RsaPssSha384,
            ],
        ),
    ] {
        let root = Authority::root_of(Template::authority("root"), key);
        for algorithm in algorithms {
            let leaf = root.leaf(&Template {
                algorithm: Some(algorithm),
                ..Template::leaf("leaf")
            });
            check(&leaf, &root).unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
        }
    }
}

fn check(leaf: &Certificate, root: &Authority) -> Result<Path, PathError> {
    Path::build(
        leaf,
        &[],
        &[root.certificate.clone()],
        &NO_CRLS,
        now(),
        &PathRules::end_entity(),
    )
}

/// Made by openssl: the library we sign with has no such pairs.
#[test]
fn a_curve_may_be_used_with_the_other_hash() {
    for pair in ["p256-sha384", "p384-sha256"] {
        let root = [certificate(&format!("x509/root-{pair}.der"))];
        let leaf = certificate(&format!("x509/leaf-{pair}.der"));
        let now = at("2030-01-01T00:00:00Z");
        Path::build(&leaf, &[], &root, &NO_CRLS, now, &PathRules::end_entity()).unwrap();
        let mut der = leaf.der().to_vec();
        let serial = der.windows(3).position(|it| it == [0, 0x80, 1]).unwrap();
        der[serial + 2] ^= 2;
        let forged = Certificate::parse(&der).unwrap();
        let error =
            Path::build(&forged, &[], &root, &NO_CRLS, now, &PathRules::end_entity()).unwrap_err();
        assert!(matches!(error, PathError::Signature { .. }), "{error}");
    }
}

#[test]
fn pss_parameters_are_one_hash_and_its_length() {
    let root = Authority::root_of(Template::authority("root"), Key::rsa());
    let leaf = |parameters: Vec<u8>, algorithm| {
        root.leaf(&Template {
            algorithm: Some(algorithm),
            inner_algorithm_der: Some(parameters),
            ..Template::leaf("leaf")
        })
    };
    let good = leaf(pss(SHA384, SHA384, 48, Some(1)), Algorithm::RsaPssSha384);
    check(&good, &root).unwrap();
    let good = leaf(pss(SHA256, SHA256, 32, Some(1)), Algorithm::RsaPssSha256);
    check(&good, &root).unwrap();
    for (what, parameters) in [
        ("mask of another hash", pss(SHA256, SHA384, 32, None)),
        ("mask of another hash", pss(SHA384, SHA256, 48, None)),
        ("salt of another length", pss(SHA256, SHA256, 20, None)),
        ("salt of another length", pss(SHA384, SHA384, 32, None)),
        ("another trailer", pss(SHA256, SHA256, 32, Some(2))),
        ("another hash", pss(SHA512, SHA512, 64, None)),
        (
            "another hash",
            pss("1.3.14.3.2.26", "1.3.14.3.2.26", 20, None),
        ),
        (
            "defaults, which are SHA-1",
            seq(&[&oid("1.2.840.113549.1.1.10"), &seq(&[])]),
        ),
    ] {
        let leaf = leaf(parameters, Algorithm::RsaPssSha256);
        let error = check(&leaf, &root).unwrap_err();
        assert!(
            matches!(error, PathError::Algorithm { .. }),
            "{what}: {error}"
        );
    }
    // parameters that fit, and a signature that was made by others
    let leaf = leaf(pss(SHA384, SHA384, 48, None), Algorithm::RsaPssSha256);
    let error = check(&leaf, &root).unwrap_err();
    assert!(matches!(error, PathError::Signature { .. }), "{error}");
}

#[test]
fn sha1_and_sha512_over_curves_are_not_verified() {
    let root = Authority::root("root");
    let rsa = Authority::root_of(Template::authority("rsa"), Key::rsa());
    for (authority, algorithm) in [
        (&root, "1.2.840.10045.4.1"),
        (&root, "1.2.840.10045.4.3.4"),
        (&rsa, "1.2.840.113549.1.1.5"),
        (&rsa, "1.2.840.113549.1.1.4"),
    ] {
        let leaf = authority.leaf(&Template {
            inner_algorithm_der: Some(seq(&[&oid(algorithm)])),
            ..Template::leaf("leaf")
        });
        let error = check(&leaf, authority).unwrap_err();
        assert!(matches!(error, PathError::Algorithm { .. }), "{error}");
    }
}

fn spki(algorithm: &[&[u8]], bits: &[u8]) -> Vec<u8> {
    seq(&[&seq(algorithm), &tlv(3, &[&[0], bits].concat())])
}

#[test]
fn keys_of_other_kinds_are_refused_by_name() {
    let ec = oid("1.2.840.10045.2.1");
    for (spki, named) in [
        (spki(&[&oid("1.3.101.112")], &[0; 32]), "1.3.101.112"),
        (
            spki(&[&ec, &oid("1.3.132.0.35")], &[4; 133]),
            "1.3.132.0.35",
        ),
        (spki(&[&ec, &oid("1.3.132.0.10")], &[4; 65]), "1.3.132.0.10"),
    ] {
        let error = PublicKey::from_spki(&spki).unwrap_err();
        assert!(matches!(error, PublicKeyError::Algorithm { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let root = Authority::root("root");
    let der =
        Template::leaf("leaf").signed("root", &root.key, &spki(&[&oid("1.3.101.112")], &[0; 32]));
    let error = Certificate::parse(&der).unwrap_err();
    assert!(
        matches!(&error, X509Error::PublicKey { subject, .. } if subject == "CN=leaf"),
        "{error}"
    );
}

#[test]
fn points_have_one_form_and_the_length_of_their_curve() {
    let ec = oid("1.2.840.10045.2.1");
    let p256 = oid("1.2.840.10045.3.1.7");
    let p384 = oid("1.3.132.0.34");
    PublicKey::from_spki(&spki(&[&ec, &p256], &[4; 65])).unwrap();
    PublicKey::from_spki(&spki(&[&ec, &p384], &[4; 97])).unwrap();
    for (curve, bits) in [
        (&p256, vec![4; 97]),
        (&p384, vec![4; 65]),
        (&p256, vec![2; 33]),
        (&p256, vec![2; 65]),
        (&p384, vec![3; 97]),
        (&p256, vec![]),
    ] {
        let error = PublicKey::from_spki(&spki(&[&ec, curve], &bits)).unwrap_err();
        assert_eq!(error, PublicKeyError::Point);
    }
    // a point that is not on the curve verifies nothing
    let key = PublicKey::P256([4; 65]);
    let signature = Key::p256().sign(Algorithm::EcdsaSha256, MESSAGE);
    key.verify(SignatureScheme::EcdsaP256Sha256Asn1, MESSAGE, &signature)
        .unwrap_err();
}

#[test]
fn rsa_keys_are_read_whatever_they_are_said_to_be_for() {
    let key = Key::rsa();
    let plain = PublicKey::from_spki(&key.spki()).unwrap();
    let PublicKey::Rsa(numbers) = &plain else {
        panic!("{plain:?}");
    };
    assert_eq!(numbers.modulus.len(), 256);
    assert_eq!(*numbers.exponent, [1, 0, 1]);
    let bits = seq(&[
        &tlv(2, &[&[0], &*numbers.modulus].concat()),
        &tlv(2, &numbers.exponent),
    ]);
    for kind in [
        "1.2.840.113549.1.1.1",
        "1.2.840.113549.1.1.7",
        "1.2.840.113549.1.1.10",
    ] {
        assert_eq!(
            PublicKey::from_spki(&spki(&[&oid(kind)], &bits)).unwrap(),
            plain
        );
    }
}

#[test]
fn rsa_numbers_are_positive_and_bounded() {
    let rsa = oid("1.2.840.113549.1.1.1");
    let key = |modulus: &[u8], exponent: &[u8]| {
        let bits = seq(&[&tlv(2, modulus), &tlv(2, exponent)]);
        PublicKey::from_spki(&spki(&[&rsa], &bits))
    };
    let modulus = [&[0], [0xff; 256].as_slice()].concat();
    key(&modulus, &[3]).unwrap();
    for (modulus, exponent) in [
        (&modulus[1..], &[3][..]),
        (&modulus, &[0]),
        (&modulus, &[]),
        (&modulus, &[0x83]),
        (&[0, 0, 0xff], &[3]),
        (&[0, 0x7f], &[3]),
    ] {
        let error = key(modulus, exponent).unwrap_err();
        assert!(matches!(error, PublicKeyError::Der(_)), "{error}");
    }
    let largest = [&[0], [0xff; 1024].as_slice()].concat();
    key(&largest, &[3]).unwrap();
    let long = [&[0], [0xff; 1025].as_slice()].concat();
    for (modulus, exponent) in [(&long, &modulus), (&modulus, &long)] {
        let error = key(modulus, exponent).unwrap_err();
        assert_eq!(error, PublicKeyError::Modulus { bits: 8200 });
    }
}

/// 1024 bits, which can be factored.
#[test]
fn short_rsa_keys_verify_nothing() {
    let short = PublicKey::Rsa(attest::x509::RsaKey {
        modulus: vec![0xff; 128].into(),
        exponent: vec![1].into(),
    });
    // with the exponent one, the padded digest is its own signature
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, MESSAGE);
    let info = seq(&[
        &seq(&[&oid(SHA256), &tlv(5, &[])]),
        &tlv(4, digest.as_ref()),
    ]);
    let mut padded = vec![0xff; 128];
    padded[..2].copy_from_slice(&[0, 1]);
    padded[127 - info.len()] = 0;
    padded[128 - info.len()..].copy_from_slice(&info);
    short
        .verify(SignatureScheme::RsaPkcs1Sha256, MESSAGE, &padded)
        .unwrap_err();
}
