//! Foreign bytes never panic, and what is not exactly one quote is refused by name.

use std::num::NonZeroUsize;

use attest::Findings;
use attest::tdx::{
    Collateral, Endorsements, MAX_QUOTE, PckExtensions, Quote, QuoteError, ReportData, Trust,
    appraise,
};
use attest::x509::PathCache;
use proptest::prelude::*;
use testkit::intel::{Body, PckParts, QuoteParts, Vendor, pck_extension};

use super::samples::{collateral, v5_with};
use super::{Case, endorsements};

fn refused(bytes: &[u8]) -> QuoteError {
    Quote::parse(bytes).unwrap_err()
}

fn quotes() -> Vec<Vec<u8>> {
    let platform = Vendor::new().platform(&PckParts::default());
    [Body::V4, Body::V5Td10, Body::V5Td15]
        .map(|body| {
            platform.quote(&QuoteParts {
                body,
                ..QuoteParts::default()
            })
        })
        .to_vec()
}

#[test]
fn a_quote_of_something_else_is_refused_by_name() {
    let quote = quotes().remove(0);
    let with = |at: usize, bytes: &[u8]| {
        let mut quote = quote.clone();
        quote[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&quote)
    };
    assert_eq!(with(0, &[3, 0]), QuoteError::Sgx);
    assert_eq!(with(0, &[6, 0]), QuoteError::Version { version: 6 });
    assert_eq!(with(2, &[3, 0]), QuoteError::KeyType { key_type: 3 });
    assert_eq!(with(4, &[0; 4]), QuoteError::Sgx);
    assert_eq!(
        with(4, &[0x82, 0, 0, 0]),
        QuoteError::TeeType { tee_type: 0x82 }
    );
    assert!(matches!(with(12, &[0]), QuoteError::Vendor { .. }));
    let certification = 48 + 584 + 4 + 128;
    assert_eq!(
        with(certification, &[5, 0]),
        QuoteError::CertificationData {
            place: "the quote's certification",
            kind: 5,
            expected: 6
        }
    );
    let inner = certification + 6 + 384 + 64 + 2 + 32;
    assert_eq!(
        with(inner, &[3, 0]),
        QuoteError::CertificationData {
            place: "the QE report's certification",
            kind: 3,
            expected: 5
        }
    );
}

#[test]
fn a_body_of_another_type_or_size_is_refused_by_name() {
    let quote = quotes().remove(2);
    let with = |at: usize, bytes: &[u8]| {
        let mut quote = quote.clone();
        quote[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&quote)
    };
    assert_eq!(with(48, &[1, 0]), QuoteError::Sgx);
    assert_eq!(with(48, &[4, 0]), QuoteError::BodyType { body_type: 4 });
    assert_eq!(
        with(48, &[2, 0]),
        QuoteError::BodySize {
            body_type: 2,
            expected: 584,
            size: 648
        }
    );
    assert_eq!(
        with(50, &[0x89, 2, 0, 0]),
        QuoteError::BodySize {
            body_type: 3,
            expected: 648,
            size: 649
        }
    );
}

#[test]
fn padding_is_zero_and_bounded() {
    for quote in quotes() {
        let padded = |byte, count| {
            let mut quote = quote.clone();
            quote.extend(vec![byte; count]);
            quote
        };
        Quote::parse(&padded(0, 5000)).unwrap();
        assert_eq!(refused(&padded(1, 7)), QuoteError::Trailing { left: 7 });
        let too_long = padded(0, MAX_QUOTE + 1 - quote.len());
        assert_eq!(
            refused(&too_long),
            QuoteError::TooLong {
                size: MAX_QUOTE + 1
            }
        );
    }
}

/// Every length field, set to more and to less than there is.
#[test]
fn a_wrong_length_is_refused() {
    let quote = quotes().remove(0);
    let data = 48 + 584;
    let certification = data + 4 + 128 + 2;
    let authentication = certification + 4 + 384 + 64;
    let chain = authentication + 2 + 32 + 2;
    for at in [data, certification, authentication, chain] {
        for change in [1_u8, 0xff] {
            let mut quote = quote.clone();
            quote[at] = quote[at].wrapping_add(change);
            Quote::parse(&quote).unwrap_err();
        }
    }
    for at in [data, certification, chain] {
        let mut quote = quote.clone();
        quote[at..at + 4].copy_from_slice(&[0xff; 4]);
        Quote::parse(&quote).unwrap_err();
    }
}

#[test]
fn no_part_of_a_quote_is_a_quote() {
    for quote in quotes() {
        for length in 0..quote.len() {
            Quote::parse(&quote[..length]).unwrap_err();
        }
    }
}

#[test]
fn an_extension_says_each_thing_once() {
    let whole = pck_extension(&PckParts::default());
    let parsed = PckExtensions::parse(&whole).unwrap();
    assert_eq!(parsed.fmspc, PckParts::default().fmspc);
    assert_eq!(parsed.component_svns, [3; 16]);
    assert_eq!(parsed.pce_svn, 13);
    assert_eq!(parsed.platform_instance_id, Some([9; 16]));
    assert!(parsed.flags.unwrap().smt_enabled);

    // SEQUENCE with a length of two octets; the fields by their own lengths
    let mut fields = Vec::new();
    let mut left = &whole[4..];
    while !left.is_empty() {
        let (header, length) = match left[1] {
            0x81 => (3, usize::from(left[2])),
            0x82 => (4, usize::from(u16::from_be_bytes([left[2], left[3]]))),
            short => (2, usize::from(short)),
        };
        let (field, rest) = left.split_at(header + length);
        fields.push(field);
        left = rest;
    }
    let wrap = |fields: &[&[u8]]| {
        let contents = fields.concat();
        let mut bytes = vec![0x30, 0x82];
        bytes.extend(u16::try_from(contents.len()).unwrap().to_be_bytes());
        bytes.extend(contents);
        bytes
    };
    assert_eq!(wrap(&fields), whole);
    for index in 0..fields.len() {
        let mut twice = fields.clone();
        twice.push(fields[index]);
        PckExtensions::parse(&wrap(&twice)).unwrap_err();
        let mut without = fields.clone();
        without.remove(index);
        // instance id and configuration are of the platform CA's certificates only
        let is_optional = index >= 5;
        assert_eq!(
            PckExtensions::parse(&wrap(&without)).is_ok(),
            is_optional,
            "without field {index}"
        );
    }
}

/// What was verified once is looked up; what must hold now is looked at again.
#[test]
fn a_cache_remembers_signatures_and_nothing_else() {
    let case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let endorsements = endorsements(&case.collateral());
    let cache = PathCache::new(NonZeroUsize::new(64).unwrap());
    let roots = case.roots();
    let run = |now: &str, roots| {
        let mut findings = Findings::new();
        let appraised = appraise(
            &quote,
            &endorsements,
            &case.requirements,
            &ReportData::new(case.report_data),
            &Trust {
                roots,
                cache: &cache,
                now: now.parse().unwrap(),
            },
            &mut findings,
        );
        (appraised.is_ok(), cache.len())
    };
    // leaf, CA, signer of statements, and two CRLs
    assert_eq!(run("2026-01-15T00:00:00Z", &roots), (true, 5));
    assert_eq!(run("2026-01-16T00:00:00Z", &roots), (true, 5));
    assert_eq!(run("2026-02-02T00:00:00Z", &roots), (false, 5));
    assert_eq!(run("2050-01-15T00:00:00Z", &roots), (false, 5));
    let others = Case::new().roots();
    assert_eq!(run("2026-01-15T00:00:00Z", &others), (false, 5));
}

fn flips() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)
}

fn changed(bytes: &[u8], cut: usize, flips: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, value) in flips {
        let at = at % bytes.len();
        bytes[at] ^= value;
    }
    bytes.truncate(bytes.len() - cut % bytes.len());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        drop(Quote::parse(&bytes));
        drop(PckExtensions::parse(&bytes));
        drop(Endorsements::parse(&Collateral {
            tcb_info: &bytes,
            tcb_info_chain: &bytes,
            qe_identity: &bytes,
            qe_identity_chain: &bytes,
            crls: &[&bytes],
        }));
    }

    /// Nobody signs the text between certificates, nor the copy of the root; all else is covered.
    #[test]
    fn a_real_quote_is_accepted_only_as_it_was_signed(
        cut in prop_oneof![Just(0), any::<usize>()],
        flips in flips(),
    ) {
        let mut before = Vec::new();
        let mut after = Vec::new();
        let outcomes = v5_with(|quote| {
            before.clone_from(quote);
            *quote = changed(quote, cut, &flips);
            after.clone_from(quote);
        });
        let signed = 54 + 648;
        if outcomes.appraised.is_some() {
            prop_assert_eq!(&before[..signed], &after[..signed]);
        } else {
            prop_assert_ne!(before, after);
        }
    }

    #[test]
    fn changed_real_statements_are_read_or_refused(cut in any::<usize>(), flips in flips()) {
        let original = collateral("90c06f-2026-02-dcap-qvl");
        let tcb_info = changed(&original.tcb_info, cut % 4, &flips);
        let qe_identity = changed(&original.qe_identity, cut % 4, &flips);
        for (tcb_info, qe_identity) in [
            (&tcb_info, &original.qe_identity),
            (&original.tcb_info, &qe_identity),
        ] {
            drop(Endorsements::parse(&Collateral {
                tcb_info,
                tcb_info_chain: &original.tcb_info_chain,
                qe_identity,
                qe_identity_chain: &original.qe_identity_chain,
                crls: &[&original.pck_crl, &original.root_ca_crl],
            }));
        }
    }
}
