//! What is read of endorsements, up to which size, and what they may not add.

use attest::tdx::{
    ChainError, Collateral, Endorsements, EndorsementsError, MAX_QUOTE, PckExtensions, Quote,
    Register,
};
use attest::x509::{Certificate, Crl};
use serde_json::{Value, json};
use testkit::intel::{self, PckParts, Vendor, pck_extension, pem_chain};

use super::{Case, appraise_raw, endorsements};

/// As the modules say.
const MAX_CHAIN: usize = 8;
const MAX_CHAIN_BYTES: usize = 64 * 1024;
const MAX_CRLS: usize = 8;
const MAX_STATEMENT: usize = 256 * 1024;
const MAX_LEVELS: usize = 128;
const MAX_MODULES: usize = 64;
const MAX_ADVISORIES: usize = 512;

fn parse(
    collateral: &intel::Collateral,
    crls: &[&[u8]],
) -> Result<Endorsements, EndorsementsError> {
    Endorsements::parse(&Collateral {
        tcb_info: &collateral.tcb_info,
        tcb_info_chain: &collateral.tcb_info_chain,
        qe_identity: &collateral.qe_identity,
        qe_identity_chain: &collateral.qe_identity_chain,
        crls,
    })
}

#[test]
fn revocation_lists_have_a_bound() {
    let collateral = Case::new().collateral();
    let list: &[u8] = &collateral.pck_crl;
    for count in 0..=MAX_CRLS {
        assert!(parse(&collateral, &vec![list; count]).is_ok(), "{count}");
    }
    for count in [MAX_CRLS + 1, MAX_CRLS + 2] {
        assert!(
            matches!(
                parse(&collateral, &vec![list; count]),
                Err(EndorsementsError::TooManyCrls { count: told }) if told == count
            ),
            "{count}"
        );
    }
}

#[test]
fn a_chain_has_a_bound_in_bytes() {
    let mut collateral = Case::new().collateral();
    let chain = collateral.tcb_info_chain.clone();
    for (size, is_read) in [
        (MAX_CHAIN_BYTES - 1, true),
        (MAX_CHAIN_BYTES, true),
        (MAX_CHAIN_BYTES + 1, false),
        (MAX_CHAIN_BYTES + 2, false),
    ] {
        collateral.tcb_info_chain = chain.clone();
        // zeros behind the text are passed over, and count all the same
        collateral.tcb_info_chain.resize(size, 0);
        match parse(&collateral, &[]) {
            Ok(_) => assert!(is_read, "{size}"),
            Err(EndorsementsError::Chain {
                source: ChainError::TooLong { size: told },
                ..
            }) => assert_eq!((told, is_read), (size, false)),
            Err(other) => panic!("{size}: {other:?}"),
        }
    }
}

#[test]
fn a_chain_has_a_bound_in_certificates() {
    let case = Case::new();
    let mut collateral = case.collateral();
    let signer = &case.vendor.tcb_signing.der;
    let root = &case.vendor.root.der;
    for (roots, is_read) in [(MAX_CHAIN - 1, true), (MAX_CHAIN, false)] {
        let mut chain: Vec<&[u8]> = vec![signer];
        chain.extend(vec![root.as_slice(); roots]);
        for bytes in [chain.concat(), pem_chain(&chain)] {
            collateral.tcb_info_chain = bytes;
            assert_eq!(parse(&collateral, &[]).is_ok(), is_read, "{roots}");
        }
    }
}

/// Intel may renew the signer of one statement before that of the other.
#[test]
fn each_statement_is_signed_by_its_own_signer() {
    let mut case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let older = case.collateral();
    case.vendor.tcb_signing = case.vendor.root.signer("Intel SGX TCB Signing");
    let newer = case.collateral();
    let mixed = intel::Collateral {
        tcb_info: older.tcb_info.clone(),
        tcb_info_chain: older.tcb_info_chain.clone(),
        ..newer.clone()
    };
    case.appraise_with(&quote, &mixed).accepted();
    // and by no other
    let crossed = intel::Collateral {
        tcb_info_chain: newer.tcb_info_chain.clone(),
        ..mixed.clone()
    };
    case.appraise_with(&quote, &crossed)
        .refused_by(&["TCB info: signature"]);
    let crossed = intel::Collateral {
        qe_identity_chain: older.qe_identity_chain,
        ..mixed
    };
    case.appraise_with(&quote, &crossed)
        .refused_by(&["QE identity: signature"]);
}

/// One element: tag, contents, and what follows it.
fn element(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (start, length) = match bytes[1] {
        0x81 => (3, usize::from(bytes[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        length => (2, usize::from(length)),
    };
    let (contents, rest) = bytes[start..].split_at(length);
    (bytes[0], contents, rest)
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let mut bytes = match length {
        [0, low @ ..=0x7f] => vec![tag, low],
        [0, low] => vec![tag, 0x81, low],
        [high, low] => vec![tag, 0x82, high, low],
    };
    bytes.extend(contents);
    bytes
}

fn elements(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (tag, contents, rest) = element(bytes);
        all.push(der(tag, contents));
        bytes = rest;
    }
    all
}

/// A field of a number that Intel has not given away.
fn unknown_field() -> Vec<u8> {
    let oid = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, 0x63];
    der(0x30, &[der(0x06, &oid), der(0x05, &[])].concat())
}

/// The fields of the extension, those of its TCB, or those of its configuration, changed.
fn changed(whole: &[u8], inner: Option<usize>, change: impl Fn(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut fields = elements(element(whole).1);
    match inner {
        None => change(&mut fields),
        Some(at) => {
            let mut entry = elements(element(&fields[at]).1);
            let mut inner = elements(element(&entry[1]).1);
            change(&mut inner);
            entry[1] = der(0x30, &inner.concat());
            fields[at] = der(0x30, &entry.concat());
        }
    }
    der(0x30, &fields.concat())
}

const TCB: Option<usize> = Some(1);
const CONFIGURATION: Option<usize> = Some(6);

#[test]
fn unknown_fields_of_a_pck_certificate_are_passed_over() {
    let whole = pck_extension(&PckParts::default());
    let known = PckExtensions::parse(&whole).unwrap();
    for inner in [None, TCB, CONFIGURATION] {
        assert_eq!(changed(&whole, inner, |_| {}), whole, "{inner:?}");
        let more = changed(&whole, inner, |fields| fields.insert(1, unknown_field()));
        assert_eq!(PckExtensions::parse(&more).unwrap(), known, "{inner:?}");
    }
}

#[test]
fn nothing_stands_behind_a_field_of_a_pck_certificate() {
    let whole = pck_extension(&PckParts::default());
    assert!(PckExtensions::parse(&[&whole[..], &[5, 0]].concat()).is_err());
    for inner in [None, TCB, CONFIGURATION] {
        for at in 0..3 {
            let longer = changed(&whole, inner, |fields| {
                let inside = [element(&fields[at]).1, &[5, 0]].concat();
                fields[at] = der(0x30, &inside);
            });
            assert!(PckExtensions::parse(&longer).is_err(), "{inner:?} {at}");
        }
        // nor behind the value of an unknown one
        let longer = changed(&whole, inner, |fields| {
            let inside = [element(&unknown_field()).1, &[5, 0]].concat();
            fields.push(der(0x30, &inside));
        });
        assert!(PckExtensions::parse(&longer).is_err(), "{inner:?}");
    }
}

#[test]
fn a_register_has_96_hexadecimal_digits() {
    let text = "0a".repeat(48);
    assert_eq!(
        Register::from_hex(&text),
        Some(Register::from_bytes([10; 48]))
    );
    for wrong in [
        "",
        &text[1..],
        &text[2..],
        &format!("{text}00"),
        &text.replace('a', "g"),
    ] {
        assert_eq!(Register::from_hex(wrong), None, "{wrong}");
    }
}

#[test]
fn a_statement_has_a_bound_in_bytes() {
    let whole = Case::new().collateral();
    for (size, is_read) in [
        (MAX_STATEMENT - 1, true),
        (MAX_STATEMENT, true),
        (MAX_STATEMENT + 1, false),
        (MAX_STATEMENT + 2, false),
    ] {
        let mut collateral = whole.clone();
        collateral.tcb_info.resize(size, b' ');
        assert_eq!(parse(&collateral, &[]).is_ok(), is_read, "{size}");
        let mut collateral = whole.clone();
        collateral.qe_identity.resize(size, b' ');
        assert_eq!(parse(&collateral, &[]).is_ok(), is_read, "{size}");
    }
}

/// The first entry of a list that many times.
fn repeated(list: &mut Value, count: usize) {
    let first = list[0].clone();
    *list = vec![first; count].into();
}

#[test]
fn lists_of_a_statement_have_a_bound() {
    let ids = |count| json!(vec!["INTEL-SA-00001"; count]);
    let lists: [(&str, usize, Box<dyn Fn(&mut Case, usize)>); 7] = [
        (
            "levels of the platform",
            MAX_LEVELS,
            Box::new(|it, count| {
                repeated(&mut it.tcb_info["tcbLevels"], count);
            }),
        ),
        (
            "modules",
            MAX_MODULES,
            Box::new(|it, count| {
                repeated(&mut it.tcb_info["tdxModuleIdentities"], count);
            }),
        ),
        (
            "levels of a module",
            MAX_LEVELS,
            Box::new(|it, count| {
                repeated(
                    &mut it.tcb_info["tdxModuleIdentities"][1]["tcbLevels"],
                    count,
                );
            }),
        ),
        (
            "levels of the enclave",
            MAX_LEVELS,
            Box::new(|it, count| {
                repeated(&mut it.qe_identity["tcbLevels"], count);
            }),
        ),
        (
            "advisories of the platform",
            MAX_ADVISORIES,
            Box::new(|it, count| {
                it.tcb_info["tcbLevels"][1]["advisoryIDs"] = ids(count);
            }),
        ),
        (
            "advisories of a module",
            MAX_ADVISORIES,
            Box::new(|it, count| {
                it.tcb_info["tdxModuleIdentities"][0]["tcbLevels"][1]["advisoryIDs"] = ids(count);
            }),
        ),
        (
            "advisories of the enclave",
            MAX_ADVISORIES,
            Box::new(|it, count| {
                it.qe_identity["tcbLevels"][1]["advisoryIDs"] = ids(count);
            }),
        ),
    ];
    for (what, most, fill) in lists {
        for (count, is_read) in [
            (most - 1, true),
            (most, true),
            (most + 1, false),
            (most + 2, false),
        ] {
            let mut case = Case::new();
            fill(&mut case, count);
            let parsed = parse(&case.collateral(), &[]);
            assert_eq!(parsed.is_ok(), is_read, "{what}: {count}");
        }
    }
}

#[test]
fn a_quote_has_a_bound_in_bytes() {
    let case = Case::new();
    let quote = case.platform.quote(&case.quote);
    for (size, is_read) in [
        (MAX_QUOTE - 1, true),
        (MAX_QUOTE, true),
        (MAX_QUOTE + 1, false),
    ] {
        let mut padded = quote.clone();
        padded.resize(size, 0);
        assert_eq!(Quote::parse(&padded).is_ok(), is_read, "{size}");
    }
}

/// Within the length that the signature data state of themselves.
#[test]
fn nothing_stands_behind_a_quotes_certification() {
    let case = Case::new();
    let mut quote = case.platform.quote(&case.quote);
    let length = 48 + 584;
    let stated = u32::from_le_bytes(quote[length..length + 4].try_into().unwrap());
    assert_eq!(quote.len(), length + 4 + stated as usize);
    quote[length..length + 4].copy_from_slice(&(stated + 1).to_le_bytes());
    quote.push(0);
    assert!(Quote::parse(&quote).is_err());
}

/// Statements of one day, which say that they are of this update.
fn issued(case: &Case, update: u32, day: &str) -> Value {
    let mut tcb_info = case.tcb_info.clone();
    tcb_info["issueDate"] = json!(day);
    tcb_info["tcbEvaluationDataNumber"] = json!(update);
    tcb_info
}

/// The verifier's own word about a platform goes before what its host sends along, however new that claims to be.
#[test]
fn what_comes_beside_evidence_takes_the_place_of_nothing_that_was_given() {
    let case = Case::new();
    let fmspc = Some(PckParts::default().fmspc);
    let set =
        |tcb_info: &Value| endorsements(&case.vendor.collateral_of(tcb_info, &case.qe_identity));
    let update_of = |about: Option<Endorsements>| {
        about.map(|set| set.claimed_tcb_info().tcb_evaluation_data_number)
    };
    let (given, newer) = (
        set(&issued(&case, 17, "2026-01-02T00:00:00Z")),
        set(&issued(&case, 18, "2026-01-03T00:00:00Z")),
    );
    let about = |given: &[Endorsements], beside: &[Endorsements]| {
        update_of(Endorsements::about(fmspc, case.now, given, beside, &[]))
    };
    let (given, newer) = ([given], [newer]);
    assert_eq!(about(&given, &newer), Some(17));
    assert_eq!(about(&newer, &given), Some(18));
    assert_eq!(about(&[], &newer), Some(18), "nothing else is there");
    assert_eq!(about(&[], &[]), None);
    // of those that were given, the newest
    assert_eq!(about(&[given[0].clone(), newer[0].clone()], &[]), Some(18));
    assert_eq!(about(&[newer[0].clone(), given[0].clone()], &[]), Some(18));

    // one about another platform, or of another time, is no word about this one
    let mut other = issued(&case, 19, "2026-01-04T00:00:00Z");
    other["fmspc"] = json!("ffffffffffff");
    let ended = |update| {
        let mut ended = issued(&case, update, "2025-01-04T00:00:00Z");
        ended["nextUpdate"] = json!("2025-02-04T00:00:00Z");
        ended
    };
    for (useless, update) in [([set(&other)], 19), ([set(&ended(17))], 17)] {
        assert_eq!(about(&useless, &given), Some(17));
        assert_eq!(about(&given, &useless), Some(17));
        // alone it is handed out, so that the appraisal says what is wrong with it
        assert_eq!(about(&useless, &[]), Some(update));
    }
}

/// Intel goes on issuing by older criteria: a host must not bring them back when the verifier's statements have run out.
#[test]
fn nothing_beside_evidence_brings_older_criteria_back() {
    let case = Case::new();
    let fmspc = Some(PckParts::default().fmspc);
    let dated = |numbers: [u32; 2], days: [&str; 2], until: &str| {
        let mut tcb_info = issued(&case, numbers[0], days[0]);
        let mut qe_identity = case.qe_identity.clone();
        tcb_info["nextUpdate"] = json!(until);
        qe_identity["issueDate"] = json!(days[1]);
        qe_identity["nextUpdate"] = json!(until);
        qe_identity["tcbEvaluationDataNumber"] = json!(numbers[1]);
        endorsements(&case.vendor.collateral_of(&tcb_info, &qe_identity))
    };
    let numbered = |numbers, day, until| dated(numbers, [day; 2], until);
    let ended = |numbers| numbered(numbers, "2025-01-04T00:00:00Z", "2025-02-04T00:00:00Z");
    let now = |numbers| numbered(numbers, "2026-01-02T00:00:00Z", "2030-01-01T00:00:00Z");
    let numbers = |given: &[Endorsements], beside: &[Endorsements]| {
        let set = Endorsements::about(fmspc, case.now, given, beside, &[]).unwrap();
        [
            set.claimed_tcb_info().tcb_evaluation_data_number,
            set.claimed_qe_identity().tcb_evaluation_data_number,
        ]
    };
    let given = [ended([19, 19])];
    for (beside, expected) in [
        ([18, 18], [19, 19]),
        ([18, 19], [19, 19]),
        ([19, 18], [19, 19]),
        ([19, 19], [19, 19]),
        ([20, 19], [20, 19]),
        ([20, 20], [20, 20]),
    ] {
        let set = Endorsements::about(fmspc, case.now, &given, &[now(beside)], &[]).unwrap();
        assert_eq!(numbers(&given, &[now(beside)]), expected, "{beside:?}");
        // what has run out is refused in the appraisal
        let is_useful = beside.iter().all(|number| *number >= 19);
        let until = set.claimed_tcb_info().next_update;
        assert_eq!(until > case.now, is_useful, "{beside:?}");
    }
    // the verifier's own may be of any number, and the greatest counts, whatever the day
    let later = numbered([19, 18], "2026-01-03T00:00:00Z", "2030-01-01T00:00:00Z");
    for given in [[now([19, 19]), later.clone()], [later, now([19, 19])]] {
        assert_eq!(numbers(&given, &[]), [19, 19]);
    }
    assert_eq!(numbers(&[ended([19, 19]), now([18, 18])], &[]), [18, 18]);
    // of one number, the later day
    let (first, second) = ("2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z");
    for older in [[first, second], [second, first]] {
        let older = dated([19, 19], older, "2030-01-01T00:00:00Z");
        let newer = dated([19, 19], [second; 2], "2030-01-01T00:00:00Z");
        for given in [[older.clone(), newer.clone()], [newer, older]] {
            let set = Endorsements::about(fmspc, case.now, &given, &[], &[]).unwrap();
            let days = [
                set.claimed_tcb_info().issue_date,
                set.claimed_qe_identity().issue_date,
            ];
            assert_eq!(days, [second.parse().unwrap(); 2]);
        }
    }
}

/// What is revoked is revoked, whoever brings the list.
#[test]
fn every_list_counts_wherever_it_comes_from() {
    let case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let fmspc = Some(PckParts::default().fmspc);
    let good = case.collateral();
    let serial = Certificate::parse(&case.platform.chain[0])
        .unwrap()
        .serial()
        .to_vec();
    let revoking = case.vendor.platform_ca.crl(&[&serial]);
    let revoked = intel::Collateral {
        pck_crl: revoking.clone(),
        ..good.clone()
    };
    let judge = |given: &[Endorsements], beside: &[Endorsements], lists: &[Crl]| {
        let set = Endorsements::about(fmspc, case.now, given, beside, lists).unwrap();
        appraise_raw(
            &quote,
            &set,
            &case.requirements,
            case.report_data,
            &case.roots(),
            case.now,
        )
    };
    let (good, revoked) = ([endorsements(&good)], [endorsements(&revoked)]);
    let list = |der: &[u8]| Crl::parse(der).unwrap();
    judge(&good, &[], &[]).accepted();
    judge(&good, &good, &[]).accepted();
    for outcomes in [
        judge(&good, &revoked, &[]),
        judge(&revoked, &good, &[]),
        judge(&[good[0].clone(), revoked[0].clone()], &[], &[]),
        judge(&good, &[], &[list(&revoking)]),
        judge(&[], &good, &[list(&revoking)]),
    ] {
        outcomes.refused_by(&["PCK certificate"]);
        assert!(outcomes.actual("PCK certificate").contains("revoked"));
    }
    // and where the statements have none of its authority
    let without = intel::Collateral {
        pck_crl: case.vendor.root.crl(&[]),
        ..case.collateral()
    };
    let without = [endorsements(&without)];
    let missing = judge(&without, &[], &[]);
    missing.refused_by(&["PCK certificate"]);
    judge(&without, &[], &[list(&case.vendor.platform_ca.crl(&[]))]).accepted();
    judge(&without, &[], &[list(&revoking)]).refused_by(&["PCK certificate"]);
    // a list of nobody who is concerned is not added
    let stranger = Vendor::new().root.intermediate("Somebody else").crl(&[]);
    judge(&good, &[], &[list(&stranger)]).accepted();
    let about = |list: Crl| Endorsements::about(fmspc, case.now, &good, &[], &[list]).unwrap();
    assert_eq!(about(list(&stranger)).lists().len(), 2);
    assert_eq!(about(list(&revoking)).lists().len(), 3);
}
