//! What a policy demands of a trust domain: each check with a quote that is authentic and differs in this one thing.

use attest::tdx::{Accepted, Register, SeptVe, TdAttributes, TeeTcbSvn};
use testkit::intel::{Body, QuoteParts};

use super::{Case, Lie, open_launch};

#[test]
fn another_binding_is_refused() {
    for at in [0, 31, 32, 63] {
        let mut case = Case::new();
        case.report_data[at] ^= 0x80;
        case.appraise().refused_by(&["report data"]);
    }
}

#[test]
fn a_trust_domain_for_debugging_is_refused() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.quote.td.attributes |= TdAttributes::DEBUG.bits();
    case.appraise().refused_by(&["debug off"]);
    // not by naming the bit
    case.requirements.attributes = TdAttributes::DEBUG;
    case.appraise().refused_by(&["debug off"]);
}

#[test]
fn exceptions_by_the_host_are_refused() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.quote.td.attributes = 0;
    case.appraise().refused_by(&["SEPT_VE_DISABLE"]);
    case.requirements.sept_ve = SeptVe::GuestGuardsItself;
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(outcomes.warned(), ["SEPT_VE_DISABLE"]);
}

#[test]
fn attributes_are_accepted_one_by_one() {
    for bit in [
        TdAttributes::LASS,
        TdAttributes::MIGRATABLE,
        TdAttributes::PKS,
        TdAttributes::KEY_LOCKER,
        TdAttributes::TPA,
        TdAttributes::PERFMON,
    ] {
        let mut case = Case::new();
        case.quote.td.attributes |= bit.bits();
        case.appraise().refused_by(&["TD attributes"]);
        case.requirements.attributes = bit;
        case.appraise().accepted();
    }
}

#[test]
fn attributes_without_a_meaning_cannot_be_accepted() {
    for bit in [1, 4, 7, 8, 26, 32, 61] {
        let mut case = Case::new();
        case.quote.td.attributes |= 1 << bit;
        case.requirements.attributes = TdAttributes::from_bits(u64::MAX);
        case.appraise().refused_by(&["TD attributes"]);
    }
}

#[test]
fn processor_state_is_compared() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.requirements.xfam = Accepted::AnyOf(vec![0x61ae7, 3]);
    case.appraise().accepted();
    case.quote.td.xfam = 0x61ae6;
    case.appraise().refused_by(&["XFAM"]);
    case.requirements.xfam = Accepted::Open;
    case.appraise().refused_by(&["XFAM"]);
    case.quote.td.xfam = 1 << 40 | 3;
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(outcomes.warned(), ["XFAM"]);
}

#[test]
fn service_domains_are_refused() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.quote.td.mr_service_td[47] = 1;
    case.appraise().refused_by(&["service domains"]);
    let known = Register::from_bytes(case.quote.td.mr_service_td);
    case.requirements.mr_service_td = Accepted::AnyOf(vec![known]);
    case.appraise().accepted();
    case.requirements.mr_service_td = Accepted::Open;
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(outcomes.warned(), ["service domains"]);
}

/// The host asks for the form of quote that hides what is bound.
#[test]
fn service_domains_that_a_quote_hides_are_told() {
    for body in [Body::V4, Body::V5Td10] {
        let mut case = Case::new();
        case.quote.body = body;
        let outcomes = case.appraise();
        outcomes.accepted();
        assert_eq!(outcomes.warned(), ["service domains"]);
        assert_eq!(
            outcomes.actual("service domains"),
            "a TD 1.0 body of a TDX module of version 1"
        );
        case.requirements.mr_service_td = Accepted::Open;
        assert_eq!(case.appraise().warned(), ["service domains"]);
        // a service domain that is demanded is not there
        case.requirements.mr_service_td = Accepted::AnyOf(vec![Register::from_bytes([1; 48])]);
        case.appraise().refused_by(&["service domains"]);
        // a module of TDX 1.0 has none to hide
        case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 0, 8]);
        case.appraise().refused_by(&["service domains"]);
        case.requirements.mr_service_td = Accepted::AnyOf(vec![Register::ZERO]);
        let outcomes = case.appraise();
        outcomes.accepted();
        assert!(outcomes.warned().is_empty(), "{}", outcomes.findings);
    }
}

#[test]
fn a_body_that_hides_service_domains_is_refused_where_none_may() {
    let mut case = Case::new();
    case.requirements = case.requirements.demand_td_1_5();
    for body in [Body::V4, Body::V5Td10] {
        case.quote.body = body;
        case.appraise().refused_by(&["service domains"]);
    }
    case.quote.body = Body::V5Td15;
    let outcomes = case.appraise();
    outcomes.accepted();
    assert!(outcomes.warned().is_empty(), "{}", outcomes.findings);
    // a module of TDX 1.0 knows no other body
    case.quote.body = Body::V4;
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 0, 8]);
    case.appraise().accepted();
}

#[test]
fn measurements_are_enforced() {
    let lies: [Lie<QuoteParts>; 5] = [
        ("MRTD", |it| it.td.mrtd[47] ^= 1),
        ("RTMR0", |it| it.td.rtmrs[0][0] ^= 1),
        ("RTMR1", |it| it.td.rtmrs[1][0] ^= 1),
        ("RTMR2", |it| it.td.rtmrs[2][47] ^= 1),
        ("RTMR3", |it| it.td.rtmrs[3][0] ^= 1),
    ];
    for (name, lie) in lies {
        let mut case = Case::new();
        lie(&mut case.quote);
        let outcomes = case.appraise();
        outcomes.refused_by(&[name]);
        assert_eq!(
            outcomes.findings.refusal_code(),
            Some(attest::RefusalCode::Measurements)
        );
    }
}

#[test]
fn open_measurements_are_told() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.requirements.launch = open_launch();
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(
        outcomes.warned(),
        ["MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3"]
    );
}

#[test]
fn a_measurement_that_is_only_warned_of_is_told_with_what_was_expected() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    let mrtd = Register::from_bytes(case.quote.td.mrtd);
    let rtmr = Register::from_bytes(case.quote.td.rtmrs[2]);
    let other = Register::from_bytes([0x5a; 48]);
    case.requirements.launch.mrtd = Accepted::Warn(vec![other, mrtd]);
    case.requirements.launch.rtmrs[2] = Accepted::Warn(vec![rtmr]);
    let outcomes = case.appraise();
    outcomes.accepted();
    assert!(outcomes.warned().is_empty());
    case.quote.td.mrtd[47] ^= 1;
    case.quote.td.rtmrs[2][0] ^= 1;
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(outcomes.warned(), ["MRTD", "RTMR2"]);
    for (name, expected, is) in [
        ("MRTD", format!("{other} or {mrtd}"), case.quote.td.mrtd),
        ("RTMR2", rtmr.to_string(), case.quote.td.rtmrs[2]),
    ] {
        assert_eq!(outcomes.actual(name), Register::from_bytes(is).to_string());
        assert_eq!(outcomes.expected(name), expected);
    }
}

#[test]
fn other_values_that_are_only_warned_of_are_told() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.requirements.xfam = Accepted::Warn(vec![0x61ae7]);
    case.requirements.mr_owner = Accepted::Warn(vec![Register::ZERO]);
    case.appraise().accepted();
    case.quote.td.xfam = 0x61ae3;
    case.quote.td.mr_owner[0] = 1;
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(outcomes.warned(), ["XFAM", "MROWNER"]);
    // what no TDX module reports is refused nevertheless
    case.quote.td.xfam = 0x61ae6;
    case.appraise().refused_by(&["XFAM"]);
}

#[test]
fn one_of_several_values_is_enough() {
    let mut case = Case::new();
    let mrtd = Register::from_bytes(case.quote.td.mrtd);
    case.requirements.launch.mrtd = Accepted::AnyOf(vec![Register::ZERO, mrtd]);
    case.appraise().accepted();
}

#[test]
fn identities_are_enforced_where_the_policy_names_them() {
    type Identity = (
        &'static str,
        fn(&mut Case, Accepted<Register>),
        fn(&mut QuoteParts),
    );
    let identities: [Identity; 5] = [
        (
            "MRSEAM",
            |it, v| it.requirements.mr_seam = v,
            |it| {
                it.td.mr_seam = [1; 48];
            },
        ),
        (
            "MRCONFIGID",
            |it, v| it.requirements.mr_config_id = v,
            |it| {
                it.td.mr_config_id = [1; 48];
            },
        ),
        (
            "MROWNER",
            |it, v| it.requirements.mr_owner = v,
            |it| {
                it.td.mr_owner = [1; 48];
            },
        ),
        (
            "MROWNERCONFIG",
            |it, v| it.requirements.mr_owner_config = v,
            |it| it.td.mr_owner_config = [1; 48],
        ),
        (
            "MRSIGNERSEAM",
            |it, v| it.requirements.mr_signer_seam = v,
            |_| (),
        ),
    ];
    for (name, demand, change) in identities {
        let mut case = Case::new();
        case.quote.body = Body::V5Td15;
        change(&mut case.quote);
        let outcomes = case.appraise();
        outcomes.accepted();
        // what nobody vouches for is told
        let is_given_by_host = !name.contains("SEAM");
        assert_eq!(!outcomes.warned().is_empty(), is_given_by_host, "{name}");

        demand(
            &mut case,
            Accepted::AnyOf(vec![Register::from_bytes([2; 48])]),
        );
        case.appraise().refused_by(&[name]);
        demand(&mut case, Accepted::AnyOf(Vec::new()));
        case.appraise().refused_by(&[name]);
        let value = if name == "MRSIGNERSEAM" {
            Register::ZERO
        } else {
            Register::from_bytes([1; 48])
        };
        demand(&mut case, Accepted::AnyOf(vec![value]));
        let outcomes = case.appraise();
        outcomes.accepted();
        assert!(outcomes.warned().is_empty(), "{}", outcomes.findings);
    }
}

#[test]
fn minimum_versions_are_enforced() {
    let mut case = Case::new();
    case.requirements.minimum_qe_svn = 6;
    case.requirements.minimum_pce_svn = 13;
    case.requirements.minimum_evaluation_number = 18;
    case.requirements.minimum_tee_tcb_svn = TeeTcbSvn(case.quote.td.tee_tcb_svn);
    case.appraise().accepted();

    let raises: [Lie<Case>; 3] = [
        ("minimum QE SVN", |it| it.requirements.minimum_qe_svn += 1),
        ("minimum PCE SVN", |it| it.requirements.minimum_pce_svn += 1),
        ("TCB evaluation number", |it| {
            it.requirements.minimum_evaluation_number += 1;
        }),
    ];
    for (name, raise) in raises {
        let mut case = Case::new();
        case.requirements.minimum_qe_svn = 6;
        case.requirements.minimum_pce_svn = 13;
        case.requirements.minimum_evaluation_number = 18;
        raise(&mut case);
        case.appraise().refused_by(&[name]);
    }
    for byte in 0..16 {
        let mut case = Case::new();
        case.requirements.minimum_tee_tcb_svn = TeeTcbSvn(case.quote.td.tee_tcb_svn);
        case.requirements.minimum_tee_tcb_svn.0[byte] += 1;
        case.appraise().refused_by(&["minimum TEE TCB SVN"]);
    }
}

/// Module 1.5 with SVN 6 is no better than a module of a later version with SVN 3.
#[test]
fn module_versions_count_their_svns_anew() {
    let mut case = Case::new();
    case.requirements.minimum_tee_tcb_svn.0[..3].copy_from_slice(&[6, 1, 8]);
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[3, 3, 8]);
    case.appraise().accepted();
    // what is around the module counts as before
    case.requirements.minimum_tee_tcb_svn.0[2] = 9;
    case.appraise().refused_by(&["minimum TEE TCB SVN"]);
    // nor does a high SVN make an earlier version a later one
    case.requirements.minimum_tee_tcb_svn.0[..3].copy_from_slice(&[3, 3, 8]);
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 1, 8]);
    case.appraise().refused_by(&["minimum TEE TCB SVN"]);
}

#[test]
fn minimum_versions_hold_for_what_runs_now_too() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.quote.td.tee_tcb_svn[0] = 7;
    case.quote.td.tee_tcb_svn_2[0] = 6;
    case.requirements.minimum_tee_tcb_svn.0[..2].copy_from_slice(&[6, 1]);
    case.appraise().accepted();
    case.requirements.minimum_tee_tcb_svn.0[0] = 7;
    case.appraise().refused_by(&["minimum TEE TCB SVN"]);
}

/// One old statement beside a new one is enough to hide what became known.
#[test]
fn both_statements_must_be_of_the_newer_set() {
    let mut case = Case::new();
    case.requirements.minimum_evaluation_number = 18;
    case.tcb_info["tcbEvaluationDataNumber"] = 17.into();
    case.appraise().refused_by(&["TCB evaluation number"]);
    let mut case = Case::new();
    case.requirements.minimum_evaluation_number = 18;
    case.qe_identity["tcbEvaluationDataNumber"] = 17.into();
    case.appraise().refused_by(&["TCB evaluation number"]);
}

#[test]
fn everything_that_differs_is_told_at_once() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.quote.td.attributes = TdAttributes::DEBUG.bits() | TdAttributes::PKS.bits();
    case.quote.td.mr_service_td = [1; 48];
    case.quote.td.mrtd = [0; 48];
    case.quote.qe.isv_svn = 2;
    case.requirements.minimum_qe_svn = 6;
    case.appraise().refused_by(&[
        "minimum QE SVN",
        "TCB status",
        "security advisories",
        "debug off",
        "SEPT_VE_DISABLE",
        "TD attributes",
        "service domains",
        "MRTD",
    ]);
}
