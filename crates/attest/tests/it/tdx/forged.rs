//! Evidence whose signatures hold under a root of our own, with one lie in it: certificates, statements, and who signed what.

use attest::tdx::{Collateral, Endorsements, EndorsementsError, Roots};
use attest::x509::Certificate;
use testkit::intel::{Body, PckParts, QuoteParts, SigningKey, pem_chain};

use super::{Case, Lie, time};

#[test]
fn an_up_to_date_trust_domain_is_accepted_in_every_form() {
    for body in [Body::V4, Body::V5Td10, Body::V5Td15] {
        let mut case = Case::new();
        case.quote.body = body;
        let outcomes = case.appraise();
        let appraised = outcomes.accepted();
        assert_eq!(appraised.tcb_status().as_str(), "UpToDate");
        assert_eq!(appraised.report().td_1_5.is_some(), body == Body::V5Td15);
        // the module knows TD 1.5, and a TD 1.0 body hides part of it
        let hidden: &[&str] = match body {
            Body::V5Td15 => &[],
            Body::V4 | Body::V5Td10 => &["service domains"],
        };
        assert_eq!(outcomes.warned(), hidden, "{}", outcomes.findings);
    }
}

#[test]
fn intels_root_refuses_what_another_vendor_made() {
    for body in [Body::V4, Body::V5Td10, Body::V5Td15] {
        let mut case = Case::new();
        case.quote.body = body;
        let quote = case.platform.quote(&case.quote);
        let outcomes = case.appraise_under(&Roots::intel(), &quote, &case.collateral());
        outcomes.refused_by(&["PCK certificate"]);
    }
}

/// The statements alone: a real machine's chain could be beside them.
#[test]
fn a_statement_of_another_vendor_is_refused() {
    let case = Case::new();
    let other = Case::new();
    let quote = case.platform.quote(&case.quote);
    let foreign = other.collateral();

    let mut collateral = case.collateral();
    collateral.tcb_info = foreign.tcb_info.clone();
    case.appraise_with(&quote, &collateral)
        .refused_by(&["TCB info: signature"]);
    collateral.tcb_info_chain = foreign.tcb_info_chain.clone();
    case.appraise_with(&quote, &collateral)
        .refused_by(&["TCB info: signature"]);

    let mut collateral = case.collateral();
    collateral.qe_identity = foreign.qe_identity;
    case.appraise_with(&quote, &collateral)
        .refused_by(&["QE identity: signature"]);
    collateral.qe_identity_chain = foreign.qe_identity_chain;
    case.appraise_with(&quote, &collateral)
        .refused_by(&["QE identity: signature"]);
}

#[test]
fn roots_are_intels_production_root_alone() {
    let roots = Roots::intel();
    let [root] = roots.certificates() else {
        panic!("{roots:?}");
    };
    assert_eq!(
        root.digest().to_string(),
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    );
}

#[test]
fn a_platforms_key_signs_no_statement() {
    let mut case = Case::new();
    // a PCK certificate under the platform CA, with the name that statements need
    let liar = case.vendor.platform_ca.signer("Intel SGX TCB Signing");
    let genuine = std::mem::replace(&mut case.vendor.tcb_signing, liar);
    let mut collateral = case.collateral();
    let chain = pem_chain(&[
        &case.vendor.tcb_signing.der,
        &case.vendor.platform_ca.der,
        &case.vendor.root.der,
    ]);
    collateral.tcb_info_chain = chain.clone();
    collateral.qe_identity_chain = chain;
    let quote = case.platform.quote(&case.quote);
    case.appraise_with(&quote, &collateral)
        .refused_by(&["TCB info: signature"]);

    // only the QE identity
    case.vendor.tcb_signing = genuine;
    let true_ones = case.collateral();
    collateral.tcb_info = true_ones.tcb_info;
    collateral.tcb_info_chain = true_ones.tcb_info_chain;
    case.appraise_with(&quote, &collateral)
        .refused_by(&["QE identity: signature"]);
}

#[test]
fn a_signer_of_another_purpose_signs_no_statement() {
    let mut case = Case::new();
    case.vendor.tcb_signing = case.vendor.root.signer("Intel SGX PCK Certificate");
    case.appraise().refused_by(&["TCB info: signature"]);
}

#[test]
fn a_signer_of_statements_vouches_for_no_quoting_enclave() {
    let mut case = Case::new();
    case.platform = case.vendor.platform(&PckParts {
        common_name: "Intel SGX TCB Signing",
        ..PckParts::default()
    });
    case.appraise().refused_by(&["PCK certificate"]);
}

#[test]
fn another_authority_of_the_root_makes_no_platform() {
    let mut case = Case::new();
    case.vendor.platform_ca = case.vendor.root.intermediate("Intel SGX Something CA");
    case.platform = case.vendor.platform(&PckParts::default());
    case.appraise().refused_by(&["PCK certificate"]);
}

#[test]
fn the_processor_ca_makes_platforms_too() {
    let mut case = Case::new();
    case.vendor.platform_ca = case.vendor.root.intermediate("Intel SGX PCK Processor CA");
    case.platform = case.vendor.platform(&PckParts::default());
    case.appraise().accepted();
}

#[test]
fn a_platform_without_a_name_is_refused() {
    let mut case = Case::new();
    case.platform = case.vendor.platform(&PckParts {
        has_extension: false,
        ..PckParts::default()
    });
    case.appraise()
        .refused_by(&["platform in the PCK certificate"]);
}

#[test]
fn a_platform_outside_its_time_is_refused() {
    for (from_year, until_year) in [(2027, 2030), (2020, 2026)] {
        let mut case = Case::new();
        case.platform = case.vendor.platform(&PckParts {
            from_year,
            until_year,
            ..PckParts::default()
        });
        case.appraise().refused_by(&["PCK certificate"]);
    }
}

fn serial(der: &[u8]) -> Vec<u8> {
    Certificate::parse(der).unwrap().serial().to_vec()
}

#[test]
fn a_revoked_platform_is_refused() {
    let case = Case::new();
    let mut collateral = case.collateral();
    let serial = serial(&case.platform.chain[0]);
    collateral.pck_crl = case.vendor.platform_ca.crl(&[&serial]);
    let outcomes = case.appraise_with(&case.platform.quote(&case.quote), &collateral);
    outcomes.refused_by(&["PCK certificate"]);
    assert!(outcomes.actual("PCK certificate").contains("revoked"));
}

#[test]
fn a_revoked_authority_or_signer_is_refused() {
    let case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let mut collateral = case.collateral();
    let serial_of_ca = serial(&case.vendor.platform_ca.der);
    collateral.root_ca_crl = case.vendor.root.crl(&[&serial_of_ca]);
    case.appraise_with(&quote, &collateral)
        .refused_by(&["PCK certificate"]);
    let serial_of_signer = serial(&case.vendor.tcb_signing.der);
    collateral.root_ca_crl = case.vendor.root.crl(&[&serial_of_signer]);
    case.appraise_with(&quote, &collateral)
        .refused_by(&["TCB info: signature"]);
}

#[test]
fn a_crl_that_ran_out_or_is_of_another_key_is_refused() {
    let case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let mut collateral = case.collateral();
    let stale = ((2025, 1, 1), (2025, 2, 1));
    collateral.pck_crl = case.vendor.platform_ca.crl_between(stale.0, stale.1, &[]);
    case.appraise_with(&quote, &collateral)
        .refused_by(&["PCK certificate"]);
    collateral.pck_crl = Case::new().collateral().pck_crl;
    case.appraise_with(&quote, &collateral)
        .refused_by(&["PCK certificate"]);
}

/// The list of before a revocation has not run out, and the one who knows of a newer one can say so.
#[test]
fn a_crl_older_than_demanded_is_refused() {
    let mut case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let newer = ((2026, 1, 10), (2026, 2, 1));
    let newer =
        |authority: &testkit::intel::Authority| authority.crl_between(newer.0, newer.1, &[]);
    case.requirements.crls_from = time("2026-01-10T00:00:00Z");
    let mut collateral = case.collateral();
    collateral.pck_crl = newer(&case.vendor.platform_ca);
    collateral.root_ca_crl = newer(&case.vendor.root);
    case.appraise_with(&quote, &collateral).accepted();

    let mut old = collateral.clone();
    old.pck_crl = case.vendor.platform_ca.crl(&[]);
    let outcomes = case.appraise_with(&quote, &old);
    outcomes.refused_by(&["PCK certificate"]);
    let actual = outcomes.actual("PCK certificate");
    assert!(actual.contains("is demanded"), "{actual}");
    let mut old = collateral.clone();
    old.root_ca_crl = case.vendor.root.crl(&[]);
    case.appraise_with(&quote, &old)
        .refused_by(&["PCK certificate"]);
    case.requirements.crls_from = time("2026-01-10T00:00:01Z");
    case.appraise_with(&quote, &collateral)
        .refused_by(&["PCK certificate"]);
}

#[test]
fn statements_hold_in_their_time_only() {
    let mut case = Case::new();
    case.now = time("2026-01-01T00:00:00Z");
    case.appraise().accepted();
    case.now = time("2026-01-15T00:00:00Z");
    case.tcb_info["nextUpdate"] = "2026-01-14T00:00:00Z".into();
    case.appraise().refused_by(&["TCB info: time"]);
    case.tcb_info["nextUpdate"] = "2026-01-15T00:00:00Z".into();
    case.appraise().accepted();
    case.tcb_info["issueDate"] = "2026-01-15T00:00:01Z".into();
    case.appraise().refused_by(&["TCB info: time"]);

    let mut case = Case::new();
    case.qe_identity["nextUpdate"] = "2026-01-14T00:00:00Z".into();
    case.appraise().refused_by(&["QE identity: time"]);
    case.qe_identity["nextUpdate"] = "2026-02-01T00:00:00Z".into();
    case.qe_identity["issueDate"] = "2026-01-15T00:00:01Z".into();
    case.appraise().refused_by(&["QE identity: time"]);
}

#[test]
fn a_statement_about_another_platform_is_refused() {
    for (field, value) in [("fmspc", "00806F050001"), ("pceId", "0001")] {
        let mut case = Case::new();
        case.tcb_info[field] = value.into();
        case.appraise().refused_by(&["TCB info: platform"]);
    }
}

#[test]
fn another_key_signs_no_qe_report_and_no_quote() {
    let case = Case::new();
    let other = SigningKey::generate();
    let collateral = case.collateral();
    let genuine = &case.platform;
    let quote = genuine.quote_signed_by(&case.quote, &other, &genuine.attestation_key);
    case.appraise_with(&quote, &collateral)
        .refused_by(&["QE report signature"]);
    let quote = genuine.quote_signed_by(&case.quote, &genuine.pck, &other);
    case.appraise_with(&quote, &collateral)
        .refused_by(&["TD quote signature"]);
}

#[test]
fn a_key_that_the_enclave_does_not_name_is_refused() {
    let mut case = Case::new();
    case.quote.qe_report_data = Some([0; 64]);
    case.appraise()
        .refused_by(&["attestation key of the quoting enclave"]);
}

/// The digest alone is not all: what stands behind it must be zeros.
#[test]
fn more_than_the_keys_digest_in_the_qe_report_is_refused() {
    let mut case = Case::new();
    let quote = case.platform.quote(&case.quote);
    let qe_report = 48 + 584 + 4 + 64 + 64 + 6;
    let mut data: [u8; 64] = quote[qe_report + 320..qe_report + 384].try_into().unwrap();
    assert_eq!(data[32..], [0; 32]);
    data[63] = 1;
    case.quote.qe_report_data = Some(data);
    case.appraise()
        .refused_by(&["attestation key of the quoting enclave"]);
}

#[test]
fn a_quoting_enclave_that_is_not_intels_is_refused() {
    let lies: [Lie<QuoteParts>; 5] = [
        ("MRSIGNER", |it| it.qe.mr_signer[0] ^= 1),
        ("ISVPRODID", |it| it.qe.isv_prod_id = 1),
        ("MISCSELECT", |it| it.qe.misc_select = 1),
        // DEBUG of the enclave
        ("ATTRIBUTES", |it| it.qe.attributes[0] |= 2),
        ("ATTRIBUTES", |it| it.qe.attributes[0] &= !0x10),
    ];
    for (field, lie) in lies {
        let mut case = Case::new();
        lie(&mut case.quote);
        let outcomes = case.appraise();
        outcomes.refused_by(&["quoting enclave"]);
        assert_eq!(
            outcomes.actual("quoting enclave"),
            format!("another {field}")
        );
    }
    // beyond the mask
    let mut case = Case::new();
    case.quote.qe.attributes[15] = 0xff;
    case.appraise().accepted();
}

#[test]
fn a_chain_in_der_and_in_any_order_is_read() {
    let mut case = Case::new();
    let mut chain = case.platform.chain.clone();
    chain.reverse();
    case.quote.chain = Some(chain.concat());
    case.appraise().accepted();
}

/// Quoting libraries count the zero byte of a C string in, with or without a line break before it.
#[test]
fn zeros_behind_a_chain_are_not_part_of_it() {
    let mut case = Case::new();
    let chain: Vec<&[u8]> = case.platform.chain.iter().map(Vec::as_slice).collect();
    let text = pem_chain(&chain);
    for end in ["", "\n", "\0", "\n\0", "\0\0\0"] {
        let mut bytes = text.trim_ascii_end().to_vec();
        bytes.extend(end.bytes());
        case.quote.chain = Some(bytes);
        case.appraise().accepted();
    }
    // statements' chains too
    let mut collateral = case.collateral();
    for chain in [
        &mut collateral.tcb_info_chain,
        &mut collateral.qe_identity_chain,
    ] {
        *chain = [chain.trim_ascii_end(), b"\0"].concat();
    }
    case.appraise_with(&case.platform.quote(&case.quote), &collateral)
        .accepted();
    for nothing in [&b""[..], b"\0\0"] {
        case.quote.chain = Some(nothing.to_vec());
        case.appraise().refused_by(&["PCK certificate"]);
    }
}

#[test]
fn a_chain_without_one_leaf_is_refused() {
    let case = Case::new();
    let chain = &case.platform.chain;
    let other = case.vendor.platform(&PckParts::default());
    for chain in [
        Vec::new(),
        pem_chain(&[&chain[1], &chain[2]]),
        pem_chain(&[&chain[0], &other.chain[0], &chain[1], &chain[2]]),
    ] {
        let parts = QuoteParts {
            chain: Some(chain),
            ..QuoteParts::default()
        };
        let outcomes = case.appraise_with(&case.platform.quote(&parts), &case.collateral());
        outcomes.refused_by(&["PCK certificate"]);
    }
}

#[test]
fn statements_have_the_documented_form() {
    let lies: [fn(&mut Case); 10] = [
        |it| it.tcb_info["id"] = "SGX".into(),
        |it| it.tcb_info["version"] = 2.into(),
        |it| it.tcb_info["version"] = 4.into(),
        |it| it.tcb_info["tcbType"] = 1.into(),
        |it| it.tcb_info["tdxModule"] = serde_json::Value::Null,
        |it| it.tcb_info["fmspc"] = "00806F05000".into(),
        |it| it.tcb_info["tcbLevels"][0]["tcb"]["pcesvn"] = 65_536.into(),
        |it| it.tcb_info["issueDate"] = "yesterday".into(),
        |it| it.qe_identity["id"] = "QE".into(),
        |it| it.qe_identity["version"] = 3.into(),
    ];
    for lie in lies {
        let mut case = Case::new();
        lie(&mut case);
        let collateral = case.collateral();
        let parsed = Endorsements::parse(&Collateral {
            tcb_info: &collateral.tcb_info,
            tcb_info_chain: &collateral.tcb_info_chain,
            qe_identity: &collateral.qe_identity,
            qe_identity_chain: &collateral.qe_identity_chain,
            crls: &[],
        });
        assert!(
            matches!(
                parsed,
                Err(EndorsementsError::TcbInfo(_) | EndorsementsError::QeIdentity(_))
            ),
            "{parsed:?}"
        );
    }
}

#[test]
fn a_statement_says_nothing_twice() {
    let case = Case::new();
    let mut collateral = case.collateral();
    let text = String::from_utf8(collateral.tcb_info.clone()).unwrap();
    let signature = &text[text.rfind(r#","signature""#).unwrap()..text.len() - 1];
    let twice = [
        format!("{}{signature}}}", &text[..text.len() - 1]),
        text.replacen('{', r#"{"tcbInfo":{},"#, 1),
        text.replacen('{', r#"{"other":1,"#, 1),
        text.replacen(r#""version":3"#, r#""version":3,"version":3"#, 1),
        format!("{text} x"),
    ];
    for text in twice {
        collateral.tcb_info = text.into_bytes();
        let parsed = Endorsements::parse(&Collateral {
            tcb_info: &collateral.tcb_info,
            tcb_info_chain: &collateral.tcb_info_chain,
            qe_identity: &collateral.qe_identity,
            qe_identity_chain: &collateral.qe_identity_chain,
            crls: &[],
        });
        assert!(
            matches!(parsed, Err(EndorsementsError::TcbInfo(_))),
            "{parsed:?}"
        );
    }
}

#[test]
fn fields_that_this_release_does_not_know_are_passed_over() {
    let mut case = Case::new();
    case.tcb_info["newField"] = "of a later API".into();
    case.tcb_info["tcbLevels"][0]["newField"] = 1.into();
    case.qe_identity["newField"] = serde_json::json!([1, 2]);
    case.appraise().accepted();
}
