//! Documents of AWS: real ones, real ones with one thing changed, and ones of a test's own root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attest::aws::{
    Appraised, Claim, Document, ExpectedPcrs, ExpectedPcrsError, Kind, Requirements, Roots,
    appraise, appraise_quote,
};
use attest::x509::Certificate;
use attest::{Digest384, Findings, Outcome, PolicyDocument, RefusalCode};
use jiff::{SignedDuration, Timestamp};
use testkit::nitro::{Claims, CoseParts, NitroCa, cbor, es384};
use testkit::tee::tpm2b;

/// When the synthetic certificates begin, in seconds since 1970.
const FROM: u64 = 1_770_000_000;
const NONCE: &[u8] = b"asked by this test";

fn sample(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap()
}

fn claim(value: Option<&[u8]>) -> Claim {
    value.map_or(Claim::Absent, |bytes| Claim::Exactly(bytes.to_vec()))
}

/// Demands of a document what it says of itself: for everything but what a test is about.
fn as_it_says(bytes: &[u8]) -> Requirements {
    let document = Document::parse(bytes).unwrap();
    Requirements::new(document.kind(), claim(document.nonce()))
        .with_user_data(claim(document.user_data()))
        .with_public_key(claim(document.public_key()))
}

fn failed(findings: &Findings) -> Vec<String> {
    findings
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Failed)
        .map(|check| check.name.to_string())
        .collect()
}

fn verdict(
    bytes: &[u8],
    roots: &Roots,
    requirements: &Requirements,
    now: Timestamp,
) -> Result<Appraised, (Option<RefusalCode>, Vec<String>)> {
    let mut findings = Findings::new();
    appraise(bytes, roots, requirements, now, &mut findings)
        .map_err(|_| (findings.refusal_code(), failed(&findings)))
}

struct Sample {
    directory: &'static str,
    /// From the manifest.
    at: &'static str,
    kind: Kind,
    /// The check that fails.
    refused: Option<(RefusalCode, &'static str)>,
}

const SAMPLES: [Sample; 5] = [
    Sample {
        directory: "aws-nitrotpm/vaportpm/2026-02-03",
        at: "2026-02-03T11:42:00Z",
        kind: Kind::NitroTpm,
        refused: None,
    },
    Sample {
        directory: "aws-nitrotpm/vaportpm/2026-02-02",
        at: "2026-02-02T08:58:26Z",
        kind: Kind::NitroTpm,
        refused: None,
    },
    Sample {
        directory: "aws-nitro-enclave/dstack/2025-12-25",
        at: "2025-12-25T14:45:35Z",
        kind: Kind::Enclave,
        refused: None,
    },
    Sample {
        directory: "aws-nitro-enclave/dstack/2025-12-25-debug",
        at: "2025-12-25T09:50:44Z",
        kind: Kind::Enclave,
        refused: Some((RefusalCode::Platform, "debug mode")),
    },
    Sample {
        directory: "aws-nitro-enclave/eternis/invalid",
        at: "2024-07-23T22:21:22Z",
        kind: Kind::Enclave,
        refused: Some((RefusalCode::NotAuthentic, "AWS document signature")),
    },
];

#[test]
fn every_sample_has_the_verdict_of_the_manifest() {
    for sample_ in &SAMPLES {
        let bytes = sample(&format!("{}/document.cbor", sample_.directory));
        let found = verdict(
            &bytes,
            &Roots::built_in(),
            &as_it_says(&bytes),
            at(sample_.at),
        );
        match (found, sample_.refused) {
            (Ok(appraised), None) => assert_eq!(appraised.kind(), sample_.kind),
            (Err((code, names)), Some((expected, name))) => {
                assert_eq!(code, Some(expected), "{}", sample_.directory);
                assert_eq!(names, [name], "{}", sample_.directory);
            }
            (found, _) => panic!("{}: {found:?}", sample_.directory),
        }
    }
}

fn real() -> (Vec<u8>, Timestamp) {
    let Sample {
        directory, at: now, ..
    } = &SAMPLES[0];
    (sample(&format!("{directory}/document.cbor")), at(now))
}

fn real_appraised() -> Appraised {
    let (bytes, now) = real();
    verdict(&bytes, &Roots::built_in(), &as_it_says(&bytes), now).unwrap()
}

#[test]
fn the_fields_of_a_real_document_are_read() {
    let appraised = real_appraised();
    assert_eq!(
        appraised.module_id(),
        "i-01cfb383223e42522-tpm0000000000000000"
    );
    assert_eq!(appraised.timestamp(), at("2026-02-03T10:12:02.437Z"));
    assert_eq!(
        hex::encode(appraised.nonce().unwrap()),
        "230af3f7c0ec43ccf99a4cab47ac61469a36ea74b1e79740fdf8ccfc8f56161a"
    );
    assert_eq!(appraised.user_data(), None);
    let json: serde_json::Value =
        serde_json::from_slice(&sample("aws-nitrotpm/vaportpm/2026-02-03/pcrs.json")).unwrap();
    assert_eq!(appraised.pcrs().len(), 24);
    for (index, value) in appraised.pcrs() {
        assert_eq!(json["sha384"][index.to_string()], value.to_string());
    }
}

/// Whatever byte is changed, the document is refused.
#[test]
fn no_byte_of_a_real_document_can_be_changed() {
    let (bytes, now) = real();
    let requirements = as_it_says(&bytes);
    let roots = Roots::built_in();
    // each position of head and fields, then some of the long certificates
    for position in (0..bytes.len()).filter(|position| *position < 64 || position % 29 == 0) {
        let mut changed = bytes.clone();
        changed[position] ^= 0x01;
        assert!(
            verdict(&changed, &roots, &requirements, now).is_err(),
            "byte {position}"
        );
    }
    for length in (0..bytes.len()).filter(|length| *length < 64 || length % 97 == 0) {
        assert!(Document::parse(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_changed_signature_is_refused() {
    let (mut bytes, now) = real();
    let requirements = as_it_says(&bytes);
    *bytes.last_mut().unwrap() ^= 1;
    let refused = verdict(&bytes, &Roots::built_in(), &requirements, now).unwrap_err();
    assert_eq!(
        refused,
        (
            Some(RefusalCode::NotAuthentic),
            vec!["AWS document signature".to_owned()]
        )
    );
}

#[test]
fn the_tag_of_cose_sign1_may_stand_in_front_and_no_other() {
    let (bytes, now) = real();
    let tagged = [vec![0xd2], bytes.clone()].concat();
    verdict(&tagged, &Roots::built_in(), &as_it_says(&bytes), now).unwrap();
    let other = [vec![0xd1], bytes.clone()].concat();
    assert_eq!(
        Document::parse(&other).unwrap_err().to_string(),
        "the document has the tag 17, and must have 18 (COSE_Sign1) or none"
    );
    assert!(Document::parse(&[vec![0xd2, 0xd2], bytes].concat()).is_err());
}

/// Real documents, with demands they do not meet.
#[test]
fn a_real_document_that_is_not_what_was_asked_for_is_refused() {
    let (bytes, now) = real();
    let document = Document::parse(&bytes).unwrap();
    let nonce = claim(document.nonce());
    let key = claim(document.public_key());
    let ask = |nonce: &Claim| {
        Requirements::new(Kind::NitroTpm, nonce.clone()).with_public_key(key.clone())
    };
    let other = Claim::Exactly(vec![7; 32]);
    let longer = Claim::Exactly([document.nonce().unwrap(), &[0]].concat());
    let shorter = Claim::Exactly(document.nonce().unwrap()[..31].to_vec());
    let empty = Claim::Exactly(Vec::new());
    let binding = RefusalCode::WrongBinding;
    for (requirements, now, code, name) in [
        (ask(&other), now, binding, "nonce"),
        (ask(&longer), now, binding, "nonce"),
        (ask(&shorter), now, binding, "nonce"),
        (ask(&empty), now, binding, "nonce"),
        (ask(&Claim::Absent), now, binding, "nonce"),
        (
            ask(&nonce).with_public_key(Claim::Absent),
            now,
            binding,
            "public key",
        ),
        (
            ask(&nonce).with_public_key(other.clone()),
            now,
            binding,
            "public key",
        ),
        (
            ask(&nonce).with_user_data(other.clone()),
            now,
            binding,
            "user data",
        ),
        // nothing is not the same as no bytes
        (ask(&nonce).with_user_data(empty), now, binding, "user data"),
        (
            ask(&nonce).with_max_age(SignedDuration::from_mins(89)),
            now,
            binding,
            "age of the AWS document",
        ),
        (
            Requirements::new(Kind::Enclave, nonce.clone()).with_public_key(key.clone()),
            now,
            RefusalCode::UnsupportedVariant,
            "AWS document kind",
        ),
        (
            ask(&nonce),
            at("2026-02-03T13:12:03Z"),
            RefusalCode::NotAuthentic,
            "AWS certificate chain",
        ),
        (
            ask(&nonce),
            at("2026-02-03T10:11:58Z"),
            RefusalCode::NotAuthentic,
            "AWS certificate chain",
        ),
    ] {
        let refused = verdict(&bytes, &Roots::built_in(), &requirements, now).unwrap_err();
        assert_eq!(refused, (Some(code), vec![name.to_owned()]));
    }
    verdict(
        &bytes,
        &Roots::built_in(),
        &ask(&nonce).with_max_age(SignedDuration::from_mins(90)),
        now,
    )
    .unwrap();
}

#[test]
fn two_wrong_claims_are_both_told() {
    let (bytes, now) = real();
    let requirements = Requirements::new(Kind::NitroTpm, Claim::Absent);
    let (_, names) = verdict(&bytes, &Roots::built_in(), &requirements, now).unwrap_err();
    assert_eq!(names, ["nonce", "public key"]);
}

#[test]
fn without_its_root_no_document_is_accepted() {
    let (bytes, now) = real();
    let requirements = as_it_says(&bytes);
    let refused = verdict(&bytes, &Roots::new(Vec::new()), &requirements, now).unwrap_err();
    assert_eq!(refused.1, ["AWS certificate chain"]);
}

#[test]
fn measurements_of_a_real_document_are_compared() {
    let appraised = real_appraised();
    let value = |index: usize| appraised.pcrs()[index].1;
    let expect = |pairs: &[(u8, Digest384)]| ExpectedPcrs::new(pairs.iter().copied().collect());
    let outcome = |expected: &ExpectedPcrs| {
        let mut findings = Findings::new();
        let result = appraised.demand_pcrs(expected, &mut findings);
        (result.is_ok(), findings.refusal_code(), failed(&findings))
    };
    let right = expect(&[(0, value(0)), (4, value(4)), (11, Digest384::ZERO)]).unwrap();
    assert_eq!(outcome(&right), (true, None, Vec::new()));
    // all that differ are told, and a register that is not there differs
    let wrong = expect(&[
        (0, value(1)),
        (4, value(4)),
        (9, Digest384::from_bytes([1; 48])),
        (31, value(0)),
    ]);
    assert_eq!(
        outcome(&wrong.unwrap()),
        (
            false,
            Some(RefusalCode::Measurements),
            vec![
                "SHA-384 PCR 0".to_owned(),
                "SHA-384 PCR 9".to_owned(),
                "SHA-384 PCR 31".to_owned()
            ]
        )
    );
    assert_eq!(expect(&[]), Err(ExpectedPcrsError::Nothing));
    assert_eq!(
        expect(&[(3, Digest384::ZERO)]),
        Err(ExpectedPcrsError::OnlyZero)
    );
}

/// A policy for a document with these registers, and an older one for a document whose PCR 9 is another.
fn policy(pcrs: &[(u8, Digest384)], older_pcr_9: Digest384) -> PolicyDocument {
    let six = |change: &dyn Fn(u8) -> Option<Digest384>| -> String {
        [4, 8, 9, 11, 12, 13]
            .map(|index| {
                let own = pcrs.iter().find(|(known, _)| *known == index).unwrap().1;
                let value = change(index).unwrap_or(own);
                format!(
                    "        {index}: {{ expected: {value}, warnOnly: {} }}\n",
                    index == 8
                )
            })
            .concat()
    };
    let text = format!(
        "version: 2\nvariant: aws-nitro-tpm\nmeasurements:\n  generations:\n    - image: v2\n      pcrs:\n{}    - image: v1\n      expires: 2026-12-31T00:00:00Z\n      pcrs:\n{}",
        six(&|_| None),
        six(&|index| (index == 9).then_some(older_pcr_9)),
    );
    PolicyDocument::parse("policy", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn a_policy_is_compared_with_the_registers_of_a_document() {
    let ca = NitroCa::new(FROM).unwrap();
    let of = |change: &dyn Fn(&mut BTreeMap<u8, [u8; 48]>)| {
        let mut registers: BTreeMap<u8, [u8; 48]> =
            (0..24).map(|index| (index, [index; 48])).collect();
        change(&mut registers);
        let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
        let encoded: Vec<_> = registers
            .iter()
            .map(|(index, value)| (cbor::unsigned((*index).into()), cbor::bytes(value)))
            .collect();
        claims.set("nitrotpm_pcrs", cbor::map(&encoded));
        let bytes = signed(&ca, &claims).encode();
        verdict(&bytes, &roots(&ca), &as_it_says(&bytes), seconds(FROM + 61)).unwrap()
    };
    let newer = of(&|_| {});
    let older = of(&|registers| {
        registers.insert(9, [0x99; 48]);
    });
    let policy = policy(newer.pcrs(), Digest384::from_bytes([0x99; 48]));
    let (newest, oldest) = (policy.newest(), policy.older().unwrap());
    let outcome = |appraised: &Appraised, generation| {
        let expected = ExpectedPcrs::try_from(generation).unwrap();
        let mut findings = Findings::new();
        let result = appraised.demand_pcrs(&expected, &mut findings);
        assert_eq!(result.is_ok(), findings.refusal_code().is_none());
        let of = |outcome| {
            let checks = findings.checks().iter();
            checks
                .filter(|check| check.outcome == outcome)
                .map(|check| check.name.to_string())
                .collect::<Vec<_>>()
        };
        (
            of(Outcome::Failed),
            of(Outcome::Warning),
            of(Outcome::Passed).len(),
        )
    };
    let none = Vec::<String>::new;
    assert_eq!(outcome(&newer, newest), (none(), none(), 6));
    assert_eq!(outcome(&older, oldest), (none(), none(), 6));
    let pcr_9 = vec!["SHA-384 PCR 9".to_owned()];
    assert_eq!(outcome(&older, newest), (pcr_9.clone(), none(), 5));
    assert_eq!(outcome(&newer, oldest), (pcr_9, none(), 5));
    // each register of the policy is compared in all its bytes; 8 is one of which it only warns
    for index in [4, 8, 9, 11, 12, 13] {
        let changed = of(&|registers| {
            let register = registers.get_mut(&index).unwrap();
            register[47] ^= 1;
        });
        let name = vec![format!("SHA-384 PCR {index}")];
        let expected = if index == 8 {
            (none(), name, 5)
        } else {
            (name, none(), 5)
        };
        assert_eq!(outcome(&changed, newest), expected, "{index}");
    }
    // an older generation ends
    let end = at("2026-12-31T00:00:00Z");
    let last = end - SignedDuration::from_secs(1);
    assert_eq!(policy.generations_at(last).count(), 2);
    assert_eq!(policy.generations_at(end).count(), 1);
}

// ---- the quote beside the document

fn quote() -> (Vec<u8>, Vec<u8>) {
    let directory = "aws-nitrotpm/vaportpm/2026-02-03";
    (
        tpm2b(&sample(&format!("{directory}/quote.msg"))),
        sample(&format!("{directory}/quote.sig")),
    )
}

fn quote_verdict(appraised: &Appraised, statement: &[u8], signature: &[u8]) -> Vec<String> {
    let mut findings = Findings::new();
    let result = appraise_quote(appraised, statement, signature, &mut findings);
    assert_eq!(result.is_ok(), findings.refusal_code().is_none());
    failed(&findings)
}

#[test]
fn the_quote_of_a_real_nitrotpm_belongs_to_its_document() {
    let (statement, signature) = quote();
    assert_eq!(
        quote_verdict(&real_appraised(), &statement, &signature),
        Vec::<String>::new()
    );
}

#[test]
fn a_quote_that_was_altered_or_belongs_to_another_document_is_refused() {
    let (statement, mut signature) = quote();
    let (bytes, now) = (
        sample("aws-nitrotpm/vaportpm/2026-02-02/document.cbor"),
        at("2026-02-02T08:58:26Z"),
    );
    let other = verdict(&bytes, &Roots::built_in(), &as_it_says(&bytes), now).unwrap();
    assert_eq!(quote_verdict(&other, &statement, &signature), ["signature"]);
    let appraised = real_appraised();
    let mut changed = statement.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(
        quote_verdict(&appraised, &changed, &signature),
        ["signature"]
    );
    *signature.last_mut().unwrap() ^= 1;
    assert_eq!(
        quote_verdict(&appraised, &statement, &signature),
        ["signature"]
    );
    assert_eq!(
        quote_verdict(&appraised, &statement[..statement.len() - 1], &signature),
        ["quote format"]
    );
}

/// A key that signs whatever it is given, put into a document by software that should not.
mod free_key {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
    use testkit::tee::QuoteParts;

    use super::*;

    fn parts() -> QuoteParts {
        let pcrs: Vec<u8> = (0..24_u8).flat_map(|index| [0x40 + index; 48]).collect();
        QuoteParts {
            magic: 0xff54_4347,
            kind: 0x8018,
            extra_data: NONCE.to_vec(),
            reset_count: 0,
            selections: vec![(0x000c, vec![0xff; 3])],
            pcr_digest: attest::Digest::of(&pcrs).as_bytes().to_vec(),
        }
    }

    fn outcome(parts: &QuoteParts, nonce: Option<&[u8]>) -> Vec<String> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let ca = NitroCa::new(FROM).unwrap();
        let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
        claims.set("nonce", nonce.map_or_else(cbor::null, cbor::bytes));
        claims.set("public_key", cbor::bytes(key.public_key().as_ref()));
        let bytes = signed(&ca, &claims).encode();
        let appraised = verdict(&bytes, &roots(&ca), &as_it_says(&bytes), seconds(FROM + 61));
        let statement = parts.to_tpms_attest();
        let signature = key.sign(&SystemRandom::new(), &statement).unwrap();
        quote_verdict(&appraised.unwrap(), &tpm2b(&statement), signature.as_ref())
    }

    #[test]
    fn a_quote_is_about_document_and_nonce_or_refused() {
        assert_eq!(outcome(&parts(), Some(NONCE)), Vec::<String>::new());
        let with = |change: &dyn Fn(&mut QuoteParts)| {
            let mut parts = parts();
            change(&mut parts);
            parts
        };
        for (parts, name) in [
            (with(&|parts| parts.magic = 0), "made by a TPM"),
            (with(&|parts| parts.kind = 0x8017), "statement type"),
            (
                with(&|parts| parts.extra_data = b"another".to_vec()),
                "bound to this session",
            ),
            (
                with(&|parts| parts.selections = vec![(0x000b, vec![0xff; 3])]),
                "PCR bank",
            ),
            (
                with(&|parts| parts.selections = vec![(0x000c, vec![0xff, 0xff, 0xfe])]),
                "PCR selection",
            ),
            (
                with(&|parts| {
                    parts.selections = vec![(0x000c, vec![0xff; 3]), (0x000b, vec![1, 0, 0])];
                }),
                "PCR bank",
            ),
            (with(&|parts| parts.pcr_digest = vec![0; 32]), "PCR digest"),
        ] {
            assert_eq!(outcome(&parts, Some(NONCE)), [name]);
        }
    }

    #[test]
    fn a_document_that_no_quote_can_agree_with_is_told() {
        const NAME: &str = "AWS document beside a quote";
        // neither has a nonce: they agree, and prove nothing
        let mut bare = parts();
        bare.extra_data = Vec::new();
        assert_eq!(outcome(&bare, None), [NAME]);
        assert_eq!(outcome(&parts(), Some(&[])), [NAME]);
        assert_eq!(outcome(&parts(), Some(&[7; 65])), [NAME]);
        for key in [
            None,
            Some(&[4; 64][..]),
            Some(&[2; 65][..]),
            Some(&[4; 97][..]),
        ] {
            let ca = NitroCa::new(FROM).unwrap();
            let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
            claims.set("public_key", key.map_or_else(cbor::null, cbor::bytes));
            let bytes = signed(&ca, &claims).encode();
            let appraised = verdict(&bytes, &roots(&ca), &as_it_says(&bytes), seconds(FROM + 61));
            let (statement, signature) = quote();
            let found = quote_verdict(&appraised.unwrap(), &statement, &signature);
            assert_eq!(found, [NAME]);
        }
    }
}

// ---- documents of a root of this test's own

fn roots(ca: &NitroCa) -> Roots {
    Roots::new(vec![Certificate::parse(&ca.root).unwrap()])
}

fn signed(ca: &NitroCa, claims: &Claims) -> CoseParts {
    ca.sign(&es384(), &claims.encode()).unwrap()
}

/// The checks that refuse a document that was signed well.
fn refused(ca: &NitroCa, claims: &Claims, kind: Kind, now: u64) -> Vec<String> {
    let bytes = signed(ca, claims).encode();
    let requirements = Requirements::new(kind, Claim::Exactly(NONCE.to_vec()));
    match verdict(&bytes, &roots(ca), &requirements, seconds(now)) {
        Ok(_) => Vec::new(),
        Err((_, names)) => names,
    }
}

#[test]
fn synthetic_documents_are_accepted_by_their_root_and_refused_by_the_real_one() {
    let ca = NitroCa::new(FROM).unwrap();
    for (claims, kind) in [
        (Claims::nitro_tpm(&ca, FROM + 60, NONCE), Kind::NitroTpm),
        (Claims::enclave(&ca, FROM + 60, NONCE), Kind::Enclave),
    ] {
        assert_eq!(refused(&ca, &claims, kind, FROM + 61), Vec::<String>::new());
        let bytes = signed(&ca, &claims).encode();
        let requirements = Requirements::new(kind, Claim::Exactly(NONCE.to_vec()));
        let found = verdict(
            &bytes,
            &Roots::built_in(),
            &requirements,
            seconds(FROM + 61),
        );
        assert_eq!(found.unwrap_err().1, ["AWS certificate chain"]);
    }
}

/// What an instance put in is its own, in a field each.
#[test]
fn the_fields_that_software_fills_are_told_apart() {
    let ca = NitroCa::new(FROM).unwrap();
    let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
    claims.set("public_key", cbor::bytes(b"a key"));
    claims.set("user_data", cbor::bytes(b"some data"));
    let bytes = signed(&ca, &claims).encode();
    let requirements = |key: &[u8], data: &[u8]| {
        Requirements::new(Kind::NitroTpm, Claim::Exactly(NONCE.to_vec()))
            .with_public_key(Claim::Exactly(key.to_vec()))
            .with_user_data(Claim::Exactly(data.to_vec()))
    };
    let verdict = |requirements: &Requirements| {
        verdict(&bytes, &roots(&ca), requirements, seconds(FROM + 61))
    };
    let appraised = verdict(&requirements(b"a key", b"some data")).unwrap();
    assert_eq!(appraised.public_key(), Some(&b"a key"[..]));
    assert_eq!(appraised.user_data(), Some(&b"some data"[..]));
    assert_eq!(appraised.nonce(), Some(NONCE));
    assert!(verdict(&requirements(b"some data", b"a key")).is_err());
}

#[test]
fn a_root_in_the_bundle_is_not_trusted() {
    let (ca, other) = (NitroCa::new(FROM).unwrap(), NitroCa::new(FROM).unwrap());
    let bytes = signed(&ca, &Claims::nitro_tpm(&ca, FROM + 60, NONCE)).encode();
    let requirements = Requirements::new(Kind::NitroTpm, Claim::Exactly(NONCE.to_vec()));
    let found = verdict(&bytes, &roots(&other), &requirements, seconds(FROM + 61));
    assert_eq!(found.unwrap_err().1, ["AWS certificate chain"]);
}

#[test]
fn a_document_is_made_while_its_certificate_is_valid_and_not_in_the_future() {
    let ca = NitroCa::new(FROM).unwrap();
    let made = |when: u64, now: u64| {
        refused(
            &ca,
            &Claims::nitro_tpm(&ca, when, NONCE),
            Kind::NitroTpm,
            now,
        )
    };
    let accepted = Vec::<String>::new();
    let wrong = ["time of the AWS document"];
    assert_eq!(made(FROM, FROM + 1), accepted);
    assert_eq!(made(FROM - 1, FROM + 1), wrong);
    // five minutes of clock skew
    assert_eq!(made(FROM + 298, FROM + 1), accepted);
    assert_eq!(made(FROM + 301, FROM + 1), wrong);
    let end = FROM + 3 * 3600;
    assert_eq!(made(end - 1, end - 1), accepted);
    assert_eq!(made(end, end), wrong);
}

#[test]
fn an_enclave_with_an_empty_register_of_its_image_is_in_debug_mode() {
    let ca = NitroCa::new(FROM).unwrap();
    for empty in 0..3 {
        let mut claims = Claims::enclave(&ca, FROM + 60, NONCE);
        let pcrs = (0..16).map(|index| (index, vec![u8::from(index != empty); 48]));
        claims.set_pcrs("pcrs", &pcrs.collect());
        assert_eq!(
            refused(&ca, &claims, Kind::Enclave, FROM + 61),
            ["debug mode"]
        );
    }
}

#[test]
fn a_register_of_the_kind_that_is_missing_is_refused() {
    let ca = NitroCa::new(FROM).unwrap();
    let without = |count: u64, missing: u64| -> BTreeMap<u64, Vec<u8>> {
        (0..count)
            .filter(|index| *index != missing)
            .map(|index| (index, vec![1; 48]))
            .collect()
    };
    for (field, kind, count, missing) in [
        ("nitrotpm_pcrs", Kind::NitroTpm, 24, 23),
        ("nitrotpm_pcrs", Kind::NitroTpm, 24, 0),
        ("pcrs", Kind::Enclave, 16, 2),
    ] {
        let mut claims = match kind {
            Kind::Enclave => Claims::enclave(&ca, FROM + 60, NONCE),
            Kind::NitroTpm => Claims::nitro_tpm(&ca, FROM + 60, NONCE),
        };
        claims.set_pcrs(field, &without(count, missing));
        assert_eq!(refused(&ca, &claims, kind, FROM + 61), ["PCRs of the kind"]);
    }
    // an enclave states the registers that are locked, and more than TPM has none the less
    let mut claims = Claims::enclave(&ca, FROM + 60, NONCE);
    claims.set_pcrs("pcrs", &without(32, 9));
    assert_eq!(
        refused(&ca, &claims, Kind::Enclave, FROM + 61),
        Vec::<String>::new()
    );
}

#[test]
fn registers_of_another_hash_are_refused() {
    let ca = NitroCa::new(FROM).unwrap();
    let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
    claims.set("digest", cbor::text("SHA512"));
    assert_eq!(
        refused(&ca, &claims, Kind::NitroTpm, FROM + 61),
        ["digest of the PCRs"]
    );
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let ca = NitroCa::new(FROM).unwrap();
    let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
    claims.set("certificate", cbor::bytes(&[&ca.leaf[..], &[0]].concat()));
    assert_eq!(
        refused(&ca, &claims, Kind::NitroTpm, FROM + 61),
        ["certificates in the AWS document"]
    );
    let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
    claims.set("cabundle", cbor::array(&[cbor::bytes(b"no certificate")]));
    assert_eq!(
        refused(&ca, &claims, Kind::NitroTpm, FROM + 61),
        ["certificates in the AWS document"]
    );
}

#[test]
fn fields_that_aws_adds_later_are_stepped_over() {
    let ca = NitroCa::new(FROM).unwrap();
    let mut claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
    claims.set(
        "new_field",
        cbor::map(&[(cbor::text("a"), cbor::array(&[cbor::null()]))]),
    );
    let mut parts = ca
        .sign(
            &cbor::map(&[
                (cbor::unsigned(1), vec![0x38, 0x22]),
                (cbor::unsigned(4), cbor::bytes(b"key id")),
            ]),
            &claims.encode(),
        )
        .unwrap();
    parts.unprotected = cbor::map(&[(cbor::unsigned(1), cbor::unsigned(7))]);
    let requirements = Requirements::new(Kind::NitroTpm, Claim::Exactly(NONCE.to_vec()));
    verdict(
        &parts.encode(),
        &roots(&ca),
        &requirements,
        seconds(FROM + 61),
    )
    .unwrap();
}

/// What [`Document::parse`] says of a document with one thing wrong.
#[test]
fn what_is_no_document_is_refused_by_its_reason() {
    let ca = NitroCa::new(FROM).unwrap();
    let claims = Claims::nitro_tpm(&ca, FROM + 60, NONCE);
    let with = |field: &str, value: Vec<u8>| {
        let mut claims = claims.clone();
        claims.set(field, value);
        signed(&ca, &claims).encode()
    };
    let without = |field: &str| {
        let mut claims = claims.clone();
        claims.0.remove(field);
        signed(&ca, &claims).encode()
    };
    let header = |pairs: &[(Vec<u8>, Vec<u8>)]| {
        ca.sign(&cbor::map(pairs), &claims.encode())
            .unwrap()
            .encode()
    };
    let one = cbor::unsigned(1);
    let pcrs = |pairs: &[(u64, usize)]| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(index, length)| (cbor::unsigned(*index), cbor::bytes(&vec![1; *length])))
            .collect();
        with("nitrotpm_pcrs", cbor::map(&pairs))
    };
    let mut short = signed(&ca, &claims);
    short.signature.pop();
    let twice = {
        let payload = claims.encode();
        // a map with one entry more
        assert_eq!(payload[0], 0xa9);
        let payload = [
            &[0xaa],
            &payload[1..],
            &cbor::text("nonce"),
            &cbor::bytes(NONCE),
        ]
        .concat();
        ca.sign(&es384(), &payload).unwrap().encode()
    };
    let many = vec![cbor::bytes(&ca.leaf); 9];
    for (bytes, reason) in [
        (vec![0; 32 * 1024 + 1], "more than 32768"),
        (
            cbor::array(&[cbor::bytes(&es384()), cbor::map(&[])]),
            "has four parts",
        ),
        (header(&[]), "the algorithm None"),
        (
            header(&[(one.clone(), vec![0x26])]),
            "the algorithm Some(-7)",
        ),
        (
            header(&[
                (one.clone(), vec![0x38, 0x22]),
                (cbor::unsigned(2), cbor::array(std::slice::from_ref(&one))),
            ]),
            "critical headers",
        ),
        (
            header(&[
                (one.clone(), vec![0x38, 0x22]),
                (one.clone(), vec![0x38, 0x22]),
            ]),
            "alg is given twice",
        ),
        (short.encode(), "has not the 96 bytes"),
        (twice, "nonce is given twice"),
        (without("module_id"), "module_id is missing"),
        (with("module_id", cbor::text("")), "module_id is empty"),
        (without("digest"), "digest is missing"),
        (without("timestamp"), "timestamp is missing"),
        (with("timestamp", cbor::unsigned(0)), "is no moment"),
        (with("timestamp", cbor::unsigned(u64::MAX)), "is no moment"),
        (without("certificate"), "certificate is missing"),
        (without("cabundle"), "cabundle is missing"),
        (with("cabundle", cbor::array(&[])), "cabundle is empty"),
        (with("cabundle", cbor::array(&many)), "more than 8 entries"),
        (without("nitrotpm_pcrs"), "pcrs or nitrotpm_pcrs is missing"),
        (
            with("pcrs", cbor::map(&[(one.clone(), cbor::bytes(&[0; 48]))])),
            "stands beside nitrotpm_pcrs",
        ),
        (pcrs(&[]), "PCRs are none"),
        (pcrs(&[(0, 48), (0, 48)]), "a PCR is given twice"),
        (pcrs(&[(32, 48)]), "a number above 31"),
        (pcrs(&[(256, 48)]), "a number above 31"),
        (pcrs(&[(0, 32)]), "not SHA-384"),
        (
            with("nonce", cbor::bytes(&vec![0; 1025])),
            "nonce has more than 1024 bytes",
        ),
        (
            with("user_data", cbor::text("text")),
            "user_data is a text, and must be a byte string",
        ),
        (
            [signed(&ca, &claims).encode(), vec![0]].concat(),
            "1 bytes follow the end of document",
        ),
    ] {
        let error = Document::parse(&bytes).unwrap_err();
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        assert!(text.contains(reason), "{text}, not {reason}");
    }
}
