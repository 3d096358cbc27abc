//! What a verdict tells: every check that was made to a person, and the kind of the refusal to the peer.

use attest::{Outcome, RefusalCode};

use super::Case;

/// A check that is missing here was not made, or is not told.
#[test]
fn a_verdict_names_every_check_that_was_made() {
    let mut case = Case::new();
    case.quote.body = testkit::intel::Body::V5Td15;
    let outcomes = case.appraise();
    let checks: Vec<String> = outcomes
        .findings
        .checks()
        .iter()
        .map(|check| format!("{}: {}", check.step, check.name))
        .collect();
    assert_eq!(
        checks,
        [
            "evidence document: TD quote format",
            "endorsements: PCK certificate",
            "endorsements: platform in the PCK certificate",
            "endorsements: TCB info: signature",
            "endorsements: TCB info: time",
            "endorsements: TCB info: platform",
            "endorsements: QE identity: signature",
            "endorsements: QE identity: time",
            "hardware report: QE report signature",
            "hardware report: attestation key of the quoting enclave",
            "hardware report: quoting enclave",
            "hardware report: TD quote signature",
            "hardware report: report data",
            "hardware report: TDX module",
            "platform: TCB evaluation number",
            "platform: minimum QE SVN",
            "platform: minimum PCE SVN",
            "platform: minimum TEE TCB SVN",
            "platform: TCB level",
            "platform: TCB status",
            "platform: security advisories",
            "platform: debug off",
            "platform: SEPT_VE_DISABLE",
            "platform: TD attributes",
            "platform: XFAM",
            "platform: service domains",
            "platform: MRSEAM",
            "platform: MRSIGNERSEAM",
            "boot measurements: MRCONFIGID",
            "boot measurements: MROWNER",
            "boot measurements: MROWNERCONFIG",
            "boot measurements: MRTD",
            "boot measurements: RTMR0",
            "boot measurements: RTMR1",
            "boot measurements: RTMR2",
            "boot measurements: RTMR3"
        ]
    );
    let passed = outcomes.findings.checks().iter();
    assert!(passed.clone().all(|it| it.outcome == Outcome::Passed));
}

#[test]
fn the_peer_learns_the_kind_of_the_refusal() {
    let lies: [(&str, RefusalCode, fn(&mut Case)); 7] = [
        ("report data", RefusalCode::WrongBinding, |it| {
            it.report_data[63] ^= 1;
        }),
        ("TCB info: platform", RefusalCode::NotAuthentic, |it| {
            it.tcb_info["pceId"] = "0001".into();
        }),
        ("quoting enclave", RefusalCode::NotAuthentic, |it| {
            it.quote.qe.isv_prod_id = 1;
        }),
        (
            "attestation key of the quoting enclave",
            RefusalCode::NotAuthentic,
            |it| it.quote.qe_report_data = Some([0; 64]),
        ),
        ("debug off", RefusalCode::Platform, |it| {
            it.quote.td.attributes |= 1;
        }),
        ("MRTD", RefusalCode::Measurements, |it| {
            it.quote.td.mrtd[0] ^= 1;
        }),
        ("RTMR2", RefusalCode::Measurements, |it| {
            it.quote.td.rtmrs[2][0] ^= 1;
        }),
    ];
    for (check, code, lie) in lies {
        let mut case = Case::new();
        lie(&mut case);
        let outcomes = case.appraise();
        outcomes.refused_by(&[check]);
        assert_eq!(outcomes.findings.refusal_code(), Some(code), "{check}");
    }
    let case = Case::new();
    let outcomes = case.appraise_with(b"no quote", &case.collateral());
    outcomes.refused_by(&["TD quote format"]);
    assert_eq!(
        outcomes.findings.refusal_code(),
        Some(RefusalCode::Malformed)
    );
}
