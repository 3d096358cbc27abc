//! Documents of AWS at their edges, under a root of a test's own.

use std::collections::BTreeMap;

use attest::Findings;
use attest::aws::{Claim, Document, Kind, MAX_DOCUMENT, Requirements, Roots, appraise};
use attest::x509::Certificate;
use jiff::Timestamp;
use testkit::nitro::{Claims, NitroCa, cbor, es384};

/// Seconds since 1970.
const FROM: u64 = 1_770_000_000;
const NONCE: &[u8] = b"asked by this test";

fn claims(ca: &NitroCa) -> Claims {
    Claims::nitro_tpm(ca, FROM + 60, NONCE)
}

#[test]
fn a_document_has_a_bound() {
    let ca = NitroCa::new(FROM).unwrap();
    let of = |room: usize| {
        let mut claims = claims(&ca);
        claims.set("later", cbor::bytes(&vec![0; room]));
        ca.sign(&es384(), &claims.encode()).unwrap().encode()
    };
    let frame = of(20_000).len() - 20_000;
    for (size, is_read) in [
        (MAX_DOCUMENT - 1, true),
        (MAX_DOCUMENT, true),
        (MAX_DOCUMENT + 1, false),
    ] {
        let bytes = of(size - frame);
        assert_eq!(bytes.len(), size);
        assert_eq!(Document::parse(&bytes).is_ok(), is_read, "{size}");
    }
}

#[test]
fn nothing_stands_behind_header_or_payload() {
    let ca = NitroCa::new(FROM).unwrap();
    let parse = |behind_header: &[u8], behind_payload: &[u8]| {
        let header = [&es384()[..], behind_header].concat();
        let payload = [&claims(&ca).encode()[..], behind_payload].concat();
        let bytes = ca.sign(&header, &payload).unwrap().encode();
        Document::parse(&bytes).is_ok()
    };
    assert!(parse(&[], &[]));
    assert!(!parse(&cbor::null(), &[]));
    assert!(!parse(&[], &cbor::null()));
}

#[test]
fn every_claim_stands_once() {
    let ca = NitroCa::new(FROM).unwrap();
    let payload = claims(&ca).encode();
    assert_eq!(payload[0], 0xa9);
    for (name, value) in &claims(&ca).0 {
        // a map with one entry more
        let twice = [&[0xaa], &payload[1..], &cbor::text(name), value].concat();
        let bytes = ca.sign(&es384(), &twice).unwrap().encode();
        assert!(Document::parse(&bytes).is_err(), "{name}");
    }
}

#[test]
fn registers_are_told_in_the_order_of_their_numbers() {
    let ca = NitroCa::new(FROM).unwrap();
    let mut claims = claims(&ca);
    let pairs: Vec<_> = [7_u64, 23, 0, 4]
        .iter()
        .map(|index| (cbor::unsigned(*index), cbor::bytes(&[9; 48])))
        .collect();
    claims.set("nitrotpm_pcrs", cbor::map(&pairs));
    let bytes = ca.sign(&es384(), &claims.encode()).unwrap().encode();
    let document = Document::parse(&bytes).unwrap();
    let read: BTreeMap<_, _> = document.pcrs().iter().copied().collect();
    assert_eq!(read.len(), 4);
    let order: Vec<u8> = document.pcrs().iter().map(|(index, _)| *index).collect();
    assert_eq!(order, [0, 4, 7, 23]);
}

/// A check that is missing here was not made, or is not told.
#[test]
fn a_verdict_names_every_check_that_was_made() {
    let ca = NitroCa::new(FROM).unwrap();
    let bytes = ca.sign(&es384(), &claims(&ca).encode()).unwrap().encode();
    let mut findings = Findings::new();
    let roots = Roots::new(vec![Certificate::parse(&ca.root).unwrap()]);
    let requirements = Requirements::new(Kind::NitroTpm, Claim::Exactly(NONCE.to_vec()));
    let now = Timestamp::from_second(i64::try_from(FROM + 61).unwrap()).unwrap();
    let appraised = appraise(&bytes, &roots, &requirements, now, &mut findings);
    assert!(appraised.is_ok(), "{findings}");
    let checks: Vec<String> = findings
        .checks()
        .iter()
        .map(|check| format!("{}: {}", check.step, check.name))
        .collect();
    assert_eq!(
        checks,
        [
            "evidence document: AWS document format",
            "evidence document: AWS document kind",
            "endorsements: certificates in the AWS document",
            "endorsements: AWS certificate chain",
            "hardware report: AWS document signature",
            "hardware report: digest of the PCRs",
            "hardware report: time of the AWS document",
            "hardware report: nonce",
            "hardware report: user data",
            "hardware report: public key",
            "platform: age of the AWS document",
            "platform: PCRs of the kind"
        ]
    );
}
