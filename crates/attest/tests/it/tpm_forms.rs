//! Structures of a TPM at their edges: what is one byte too long, too short, or of another kind.

use attest::tpm::{
    HashAlgorithm, PcrValue, PcrValueError, PublicArea, PublicKey, Quote, RsaKeyError, Signature,
    Statement,
};
use testkit::tee::{AK_ATTRIBUTES, PublicParts, tpm2b};

/// A quote over nothing, by its parts.
fn statement(magic: u32, kind: u16, select: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_be_bytes().to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(tpm2b(&[0; 34]));
    bytes.extend(tpm2b(b"nonce"));
    bytes.extend([0; 8 + 4 + 4]);
    bytes.push(1);
    bytes.extend([0; 8]);
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend([0x00, 0x0b, u8::try_from(select.len()).unwrap()]);
    bytes.extend(select);
    bytes.extend(tpm2b(&[9; 32]));
    bytes
}

const GENERATED: u32 = 0xff54_4347;
const QUOTE: u16 = 0x8018;

#[test]
fn only_a_quote_of_a_tpm_is_read_as_one() {
    let read = |magic, kind, select: &[u8]| {
        let bytes = statement(magic, kind, select);
        let outer = tpm2b(&bytes);
        assert_eq!(
            Quote::parse(&outer).is_ok(),
            Statement::parse_bare(&bytes).unwrap().quote().is_ok()
        );
        Quote::parse(&outer).is_ok()
    };
    assert!(read(GENERATED, QUOTE, &[0xff; 3]));
    assert!(!read(GENERATED + 1, QUOTE, &[0xff; 3]));
    assert!(!read(0, QUOTE, &[0xff; 3]));
    // certifications of keys and of creations begin alike
    for kind in [0x8017, 0x801a, 0] {
        assert!(!read(GENERATED, kind, &[0xff; 3]), "{kind:#x}");
    }
    assert!(read(GENERATED, QUOTE, &[0xff; 4]));
    assert!(!read(GENERATED, QUOTE, &[0xff; 5]));
}

#[test]
fn a_statement_has_a_bound_in_bytes() {
    for (size, is_read) in [(1023, true), (1024, true), (1025, false), (2000, false)] {
        let mut bytes = statement(GENERATED, QUOTE, &[0xff; 3]);
        bytes.resize(size, 0);
        assert_eq!(Statement::parse_bare(&bytes).is_ok(), is_read, "{size}");
        assert_eq!(Statement::parse(&tpm2b(&bytes)).is_ok(), is_read, "{size}");
    }
}

#[test]
fn a_register_is_as_long_as_its_bank() {
    for (bank, length) in [
        (HashAlgorithm::Sha256, 32),
        (HashAlgorithm::Sha384, 48),
        (HashAlgorithm::Sha512, 64),
    ] {
        let value = PcrValue::from_hex(bank, &"0a".repeat(length)).unwrap();
        assert_eq!(value.as_bytes(), vec![10; length]);
        assert!(!value.is_zero());
        assert!(PcrValue::new(bank, &vec![0; length]).unwrap().is_zero());
        for other in [0, length - 1, length + 1, 65, 1000] {
            assert_eq!(
                PcrValue::from_hex(bank, &"0a".repeat(other)),
                Err(PcrValueError::Length {
                    bank,
                    length: other
                }),
                "{bank} {other}"
            );
        }
        // a text of any length costs nothing: it is refused before it is read
        assert_eq!(
            PcrValue::from_hex(bank, &"xy".repeat(65)),
            Err(PcrValueError::Length { bank, length: 65 })
        );
        assert_eq!(
            PcrValue::from_hex(bank, &"xy".repeat(length)),
            Err(PcrValueError::Hex)
        );
    }
}

#[test]
fn a_certificates_rsa_key_has_the_exponent_of_tpms() {
    use attest::x509::{PublicKey as CertifiedKey, RsaKey};
    let key = |exponent: &[u8]| {
        PublicKey::try_from(&CertifiedKey::Rsa(RsaKey {
            modulus: vec![0xff; 256].into(),
            exponent: exponent.into(),
        }))
    };
    assert!(key(&[1, 0, 1]).is_ok());
    for (exponent, number) in [
        (&[3][..], 3),
        (&[1, 0, 3], 65_539),
        (&[1, 2, 3, 4], 0x0102_0304),
    ] {
        assert!(
            matches!(key(exponent), Err(RsaKeyError::Exponent(told)) if told == number),
            "{exponent:?}: {:?}",
            key(exponent)
        );
    }
}

fn ecc_area(more: &[u8]) -> Vec<u8> {
    let parts = PublicParts {
        attributes: AK_ATTRIBUTES,
        curve: 0x0003,
        scheme: (0x0018, 0x000b),
        symmetric: 0x0010,
        point: (vec![1; 32], vec![2; 32]),
    };
    let whole = parts.to_tpm2b();
    tpm2b(&[&whole[2..], more].concat())
}

#[test]
fn nothing_stands_behind_the_key_inside_a_public_area() {
    assert!(PublicArea::parse(&ecc_area(&[])).is_ok());
    assert!(PublicArea::parse(&ecc_area(&[0])).is_err());
}

/// What tools save: a `TPMT_SIGNATURE`, or DER, for a key on either curve.
#[test]
fn an_ecdsa_signature_is_read_in_both_forms_for_both_curves() {
    for (key, length, hash) in [
        (PublicKey::P256([4; 65]), 32, HashAlgorithm::Sha256),
        (PublicKey::P384([4; 97]), 48, HashAlgorithm::Sha384),
    ] {
        let number = vec![0x11; length];
        let integer = [&[2, u8::try_from(length).unwrap()], &number[..]].concat();
        let inside = [integer.clone(), integer].concat();
        let der = [&[0x30, u8::try_from(inside.len()).unwrap()], &inside[..]].concat();
        let id: u16 = if length == 32 { 0x000b } else { 0x000c };
        let tpmt = [
            &[0x00, 0x18][..],
            &id.to_be_bytes(),
            &tpm2b(&number),
            &tpm2b(&number),
        ]
        .concat();
        let from_der = Signature::parse_any_form(&key, &der).unwrap();
        let from_tpm = Signature::parse_any_form(&key, &tpmt).unwrap();
        assert_eq!(from_der, from_tpm);
        assert_eq!(from_der.hash(), hash);
    }
}

#[test]
fn a_number_of_a_der_signature_fits_its_curve() {
    let key = PublicKey::P256([4; 65]);
    let read = |digits: &[u8]| {
        let integer = [&[2, u8::try_from(digits.len()).unwrap()], digits].concat();
        let one = [2, 1, 1];
        let inside = [&integer[..], &one].concat();
        let der = [&[0x30, u8::try_from(inside.len()).unwrap()], &inside[..]].concat();
        Signature::parse_any_form(&key, &der).is_ok()
    };
    assert!(read(&[0x7f; 32]));
    assert!(read(&[&[0][..], &[0x80; 32]].concat()));
    // one digit more, with and without the zero of a positive number
    assert!(!read(&[0x7f; 33]));
    assert!(!read(&[&[0][..], &[0x80; 33]].concat()));
    assert!(!read(&[0x7f; 40]));
}
