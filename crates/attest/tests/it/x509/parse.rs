//! What is a certificate and what is not: one lie per structure.

use attest::x509::{Certificate, Crl, MAX_CERTIFICATE, X509Error};
use jiff::Timestamp;
use proptest::prelude::*;

use super::ca::{Algorithm, Authority, Extension, Template, basic_constraints, oid, seq, tlv};
use super::{at, sample};

fn root() -> Authority {
    Authority::root("root")
}

fn der_error(bytes: &[u8]) -> String {
    match Certificate::parse(bytes) {
        Err(X509Error::Der(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_has_a_bound_and_an_end() {
    let der = root().leaf_der(&Template::leaf("leaf"));
    assert_eq!(
        der_error(&[der.as_slice(), &[0]].concat()),
        "1 bytes follow the end of the certificate"
    );
    for end in 0..der.len() {
        assert!(Certificate::parse(&der[..end]).is_err(), "{end}");
    }
    let stuffed = |length: usize| {
        root().leaf_der(&Template {
            extensions: vec![Extension {
                oid: "1.2.3.4",
                critical: false,
                value: vec![0; length],
            }],
            ..Template::leaf("leaf")
        })
    };
    let overhead = stuffed(4096).len() - 4096;
    let fits = stuffed(MAX_CERTIFICATE - overhead - 4);
    assert!(fits.len() <= MAX_CERTIFICATE);
    Certificate::parse(&fits).unwrap();
    let error = Certificate::parse(&stuffed(MAX_CERTIFICATE - overhead + 8)).unwrap_err();
    assert!(matches!(error, X509Error::TooLarge { .. }), "{error}");
}

#[test]
fn a_row_of_certificates_is_read_one_by_one() {
    let (root, leaf) = (root(), Template::leaf("leaf"));
    let (first, second) = (root.leaf(&leaf), root.certificate.clone());
    let row = [first.der(), second.der(), &[0xff; 3]].concat();
    let (read, rest) = Certificate::parse_prefix(&row).unwrap();
    assert_eq!(read, first);
    let (read, rest) = Certificate::parse_prefix(rest).unwrap();
    assert_eq!(read, second);
    assert_eq!(rest, [0xff; 3]);
}

#[test]
fn lengths_are_minimal_and_definite() {
    let contents = root().leaf_der(&Template::leaf("leaf"))[4..].to_vec();
    let length = contents.len();
    let with = |head: &[u8]| der_error(&[head, contents.as_slice()].concat());
    let expected = "the certificate has a length that is not DER";
    assert_eq!(with(&[0x30, 0x80]), expected);
    assert_eq!(
        with(&[0x30, 0x83, 0, (length >> 8) as u8, length as u8]),
        expected
    );
    assert_eq!(
        with(&[0x30, 0x84, 0, 0, (length >> 8) as u8, length as u8]),
        expected
    );
    assert_eq!(der_error(&[0x30, 0x81, 0x7f]), expected);
    assert_eq!(der_error(&[0x30, 0x81, 0x80]), "the certificate is cut off");
    assert_eq!(der_error(&[0x30]), "the certificate is cut off");
    assert_eq!(der_error(&[]), "the certificate is cut off");
    assert_eq!(
        der_error(&[0x31, 0]),
        "the certificate has the tag 0x31, expected 0x30"
    );
    assert_eq!(
        der_error(&[0x3f, 0x21, 0]),
        "the certificate is not a valid tag"
    );
}

#[test]
fn the_signed_algorithm_is_the_one_outside() {
    let error = Certificate::parse(&root().leaf_der(&Template {
        outer_algorithm_der: Some(Algorithm::EcdsaSha384.der()),
        ..Template::leaf("leaf")
    }))
    .unwrap_err();
    assert!(matches!(error, X509Error::TwoAlgorithms { .. }), "{error}");
}

#[test]
fn versions_are_one_to_three_and_only_the_third_has_extensions() {
    let parse = |version, extensions| {
        Certificate::parse(&root().leaf_der(&Template {
            version,
            extensions,
            ..Template::leaf("leaf")
        }))
    };
    let some = || vec![basic_constraints(false, None)];
    for version in 1..=3 {
        parse(version, vec![]).unwrap();
    }
    parse(3, some()).unwrap();
    for (version, extensions) in [(1, some()), (2, some()), (4, vec![])] {
        let error = parse(version, extensions).unwrap_err();
        assert!(
            matches!(error, X509Error::Version { version: named, .. } if named == u32::from(version)),
            "{error}"
        );
    }
}

#[test]
fn an_extension_stands_once() {
    let der = root().leaf_der(&Template {
        extensions: vec![
            basic_constraints(false, None),
            basic_constraints(true, None),
        ],
        ..Template::leaf("leaf")
    });
    assert_eq!(
        der_error(&der),
        "the extensions is not a valid set of different extensions"
    );
}

#[test]
fn serial_numbers_stand_as_they_are() {
    for serial in [
        vec![0x80],
        vec![0],
        vec![0, 0x80],
        vec![0xff; 20],
        vec![0, 0, 1],
        vec![],
    ] {
        let certificate = root().leaf(&Template {
            serial: serial.clone(),
            ..Template::leaf("leaf")
        });
        assert_eq!(certificate.serial(), serial);
    }
}

#[test]
fn times_are_of_two_forms_and_end_where_timestamps_end() {
    let root = root();
    let template = Template::leaf("leaf");
    let (first, last) = (b"20260101000000Z", b"20261231235959Z");
    let der = root.leaf_der(&template);
    let position = der.windows(15).position(|it| it == last).unwrap();
    assert!(der.windows(15).any(|it| it == first));
    let with = |time: &[u8; 15]| {
        let mut der = der.clone();
        der[position..position + 15].copy_from_slice(time);
        Certificate::parse(&der).map(|certificate| certificate.not_after())
    };
    assert_eq!(with(last).unwrap(), at("2026-12-31T23:59:59Z"));
    assert_eq!(with(b"99991231235959Z").unwrap(), Timestamp::MAX);
    assert_eq!(
        with(b"20240229000000Z").unwrap(),
        at("2024-02-29T00:00:00Z")
    );
    for wrong in [
        b"20261331235959Z",
        b"20260230000000Z",
        b"20260101240000Z",
        b"20260101006000Z",
        b"2026010100000+Z",
        b"20260101000000z",
        b"202601010000000",
        b"2026010100000-1",
    ] {
        assert!(with(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
    }
    // UTCTime: two digits, of this century below fifty
    let utc = |not_before| {
        let der = root.leaf_der(&Template {
            not_before,
            ..Template::leaf("leaf")
        });
        Certificate::parse(&der).map(|certificate| certificate.not_before())
    };
    assert_eq!(
        utc("utc:491231235959Z").unwrap(),
        at("2049-12-31T23:59:59Z")
    );
    assert_eq!(
        utc("utc:500101000000Z").unwrap(),
        at("1950-01-01T00:00:00Z")
    );
    for wrong in [
        "utc:5001010000000",
        "utc:5001010000Z",
        "utc:20500101000000Z",
        "utc:",
    ] {
        assert!(utc(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn extensions_of_ours_must_be_well_formed() {
    let parse = |oid, value: Vec<u8>| {
        Certificate::parse(&root().leaf_der(&Template {
            extensions: vec![Extension {
                oid,
                critical: true,
                value,
            }],
            ..Template::leaf("leaf")
        }))
    };
    for value in [
        vec![],
        seq(&[&tlv(1, &[1])]),
        seq(&[&tlv(1, &[0xff, 0xff])]),
        seq(&[&tlv(1, &[0xff]), &tlv(2, &[0xff])]),
        seq(&[&tlv(1, &[0xff]), &tlv(2, &[0]), &tlv(2, &[0])]),
        [seq(&[]), vec![0]].concat(),
    ] {
        assert!(parse("2.5.29.19", value.clone()).is_err(), "{value:x?}");
    }
    // the default spelled out is not DER, and found in the field
    let spelled = parse("2.5.29.19", seq(&[&tlv(1, &[0])])).unwrap();
    assert!(!spelled.is_ca());
    let long = parse(
        "2.5.29.19",
        seq(&[&tlv(1, &[0xff]), &tlv(2, &[1, 2, 3, 4])]),
    )
    .unwrap();
    assert_eq!(long.basic_constraints().path_length, Some(0x0102_0304));
    let zero = parse("2.5.29.19", seq(&[&tlv(1, &[0xff]), &tlv(2, &[0])])).unwrap();
    assert_eq!(zero.basic_constraints().path_length, Some(0));
    let longer = seq(&[&tlv(1, &[0xff]), &tlv(2, &[1, 2, 3, 4, 5])]);
    assert!(parse("2.5.29.19", longer).is_err());
    for value in [
        vec![],
        tlv(3, &[]),
        tlv(3, &[8, 0]),
        tlv(3, &[1]),
        tlv(3, &[0, 1, 2, 3]),
        tlv(4, &[0, 1]),
        [tlv(3, &[0, 1]), vec![0]].concat(),
    ] {
        assert!(parse("2.5.29.15", value.clone()).is_err(), "{value:x?}");
    }
}

#[test]
fn key_usages_are_told_apart() {
    let usage = |octets: &[u8]| {
        let certificate = root().leaf(&Template {
            extensions: vec![Extension {
                oid: "2.5.29.15",
                critical: true,
                value: tlv(3, &[&[0], octets].concat()),
            }],
            ..Template::leaf("leaf")
        });
        let usage = certificate.key_usage().unwrap();
        [
            usage.digital_signature(),
            usage.key_encipherment(),
            usage.key_agreement(),
            usage.key_cert_sign(),
            usage.crl_sign(),
        ]
    };
    assert_eq!(usage(&[0x80]), [true, false, false, false, false]);
    assert_eq!(usage(&[0x20]), [false, true, false, false, false]);
    assert_eq!(usage(&[0x08]), [false, false, true, false, false]);
    assert_eq!(usage(&[0x04]), [false, false, false, true, false]);
    assert_eq!(usage(&[0x02, 0x80]), [false, false, false, false, true]);
    assert_eq!(usage(&[0x51, 0x80]), [false; 5]);
    assert_eq!(usage(&[]), [false; 5]);
}

#[test]
fn names_show_what_a_terminal_can_bear() {
    let certificate = root().leaf(&Template::leaf("evil\u{1b}[2J\nleaf"));
    assert_eq!(
        certificate.subject().common_name(),
        Some("evil\u{1b}[2J\nleaf")
    );
    assert_eq!(
        certificate.subject().to_string(),
        "CN=evil\\u{1b}[2J\\nleaf"
    );
    assert_eq!(
        format!("{certificate:?}"),
        "Certificate(CN=evil\\u{1b}[2J\\nleaf)"
    );
    assert!(!certificate.subject().is_empty());
    let nameless = root().leaf(&Template::leaf(""));
    assert!(nameless.subject().is_empty());
    assert_eq!(nameless.subject().to_string(), "(empty name)");
    assert_eq!(nameless.subject().common_name(), None);
    assert!(!nameless.is_self_issued());
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let digits = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = digits
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[test]
fn pem_is_read_with_the_text_around_it() {
    let root = root();
    let leaf = root.leaf(&Template::leaf("leaf"));
    let (one, two) = (pem(leaf.der()), pem(root.certificate.der()));
    let both = [leaf, root.certificate.clone()];
    for text in [
        format!("{one}{two}"),
        format!("subject=leaf\n{one}\nissuer=root\n\n{two}\0"),
        format!("{one}{two}").replace('\n', "\r\n"),
    ] {
        assert_eq!(
            Certificate::chain_from_pem(text.as_bytes(), 2).unwrap(),
            both
        );
    }
    assert!(Certificate::chain_from_pem(b"", 2).unwrap().is_empty());
    let text = format!("{one}{two}");
    let error = Certificate::chain_from_pem(text.as_bytes(), 1).unwrap_err();
    assert_eq!(error, X509Error::TooMany { most: 1 });
}

#[test]
fn pem_that_is_broken_is_refused_with_its_line() {
    let one = pem(root().certificate.der());
    let line = |text: &str| match Certificate::chain_from_pem(text.as_bytes(), 4) {
        Err(X509Error::Pem { line }) => line,
        other => panic!("{other:?}"),
    };
    let lines = one.lines().count();
    assert_eq!(line(&one.replace("-----END CERTIFICATE-----\n", "")), lines);
    assert_eq!(line(&one.replace('M', "!")), lines);
    assert_eq!(
        line("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        1
    );
    assert_eq!(
        line(&format!("{one}{}", "-----BEGIN CERTIFICATE REQUEST-----\n")),
        lines + 1
    );
    // a block inside a block
    assert_eq!(
        line(&format!("-----BEGIN CERTIFICATE-----\n{one}")),
        lines + 1
    );
    let long = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n",
        "A".repeat(MAX_CERTIFICATE * 2)
    );
    let error = Certificate::chain_from_pem(long.as_bytes(), 4).unwrap_err();
    assert!(matches!(error, X509Error::TooLarge { .. }), "{error}");
}

#[test]
fn equality_is_of_bytes() {
    let root = root();
    let one = root.leaf(&Template::leaf("leaf"));
    let other = root.leaf(&Template::leaf("leaf"));
    assert_eq!(one, Certificate::parse(one.der()).unwrap());
    assert_eq!(
        one.digest(),
        Certificate::parse(one.der()).unwrap().digest()
    );
    assert_ne!(one, other);
    assert_eq!(one.subject(), other.subject());
    assert_ne!(one.subject(), root.certificate.subject());
    assert_eq!(one.issuer(), root.certificate.subject());
    assert!(root.certificate.is_self_issued());
}

#[test]
fn object_identifiers_end_and_have_no_padding() {
    let with = |contents: &[u8]| {
        let extension = seq(&[&tlv(6, contents), &tlv(4, &[])]);
        let good = Extension {
            oid: "1.2.3.4",
            critical: false,
            value: vec![],
        };
        let der = root().leaf_der(&Template {
            extensions: vec![good.clone()],
            ..Template::leaf("leaf")
        });
        assert_eq!(extension.len(), good.der().len());
        let at = der
            .windows(extension.len())
            .position(|it| it == good.der())
            .unwrap();
        let mut der = der;
        der[at..at + extension.len()].copy_from_slice(&extension);
        Certificate::parse(&der)
    };
    assert_eq!(oid("1.2.3.4").len(), 5);
    with(&[0x2a, 3, 5]).unwrap();
    with(&[0x2a, 0x81, 0]).unwrap();
    assert!(with(&[0x2a, 3, 0x84]).is_err());
    assert!(with(&[0x2a, 0x80, 4]).is_err());
    // arcs beyond 64 bits have another form, and are found by nobody's dotted text
    let certificate = root().leaf(&Template {
        extensions: vec![Extension {
            oid: "2.5.4.18446744073709551615",
            critical: false,
            value: vec![1],
        }],
        ..Template::leaf("leaf")
    });
    assert!(certificate.extension("2.5.4.3").is_none());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(Certificate::parse_prefix(&bytes));
        drop(Crl::parse(&bytes));
        drop(Certificate::chain_from_pem(&bytes, 4));
    }

    #[test]
    fn no_change_of_real_bytes_panics(at in 0_usize..1700, value: u8, cut in 0_usize..1700) {
        for name in ["roots/amd/ask-genoa.der", "tpm-ek/stm/rsa-ek/cert.der", "roots/intel/sgx-root-ca.der"] {
            let mut bytes = sample(&format!("evidence/{name}"));
            let at = at % bytes.len();
            bytes[at] = value;
            drop(Certificate::parse(&bytes));
            bytes.truncate(cut);
            drop(Certificate::parse(&bytes));
        }
    }

    #[test]
    fn no_change_of_a_crl_panics(at in 0_usize..300, value: u8) {
        let mut bytes = sample("evidence/roots/amd-crl/crl-genoa-2022-10-31.der");
        let at = at % bytes.len();
        bytes[at] = value;
        drop(Crl::parse(&bytes));
    }
}
