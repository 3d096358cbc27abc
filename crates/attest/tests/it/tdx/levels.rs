//! TCB levels and statuses by Intel's rules.

use attest::tdx::{AcceptableStatus, Advisories, TcbStatus};
use serde_json::json;
use testkit::intel::{Body, PckParts};

use super::{Case, Outcomes};

/// The status in the verdict, whatever it is.
fn status(outcomes: &Outcomes) -> String {
    if let Some(appraised) = &outcomes.appraised {
        return appraised.tcb_status().to_string();
    }
    let actual = outcomes.actual("TCB status");
    actual.split(':').next().unwrap().to_owned()
}

fn lenient() -> Case {
    let mut case = Case::new();
    case.requirements.advisories = Advisories::Any;
    case
}

#[test]
fn each_component_of_the_platform_counts() {
    for index in 0..16 {
        let mut case = lenient();
        case.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][index]["svn"] = 4.into();
        let outcomes = case.appraise();
        outcomes.refused_by(&["TCB status"]);
        assert_eq!(status(&outcomes), "OutOfDate", "component {index}");
    }
}

#[test]
fn the_pce_counts() {
    let mut case = lenient();
    case.tcb_info["tcbLevels"][0]["tcb"]["pcesvn"] = 14.into();
    let outcomes = case.appraise();
    outcomes.refused_by(&["TCB status"]);
    assert_eq!(status(&outcomes), "OutOfDate");
}

#[test]
fn each_component_of_tdx_counts_but_those_of_the_module() {
    for index in 0..16 {
        let mut case = lenient();
        case.tcb_info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][index]["svn"] = 9.into();
        let outcomes = case.appraise();
        // the first two are the module's, whose version is 1
        let expected = if index < 2 { "UpToDate" } else { "OutOfDate" };
        assert_eq!(status(&outcomes), expected, "component {index}");
    }
}

#[test]
fn a_module_of_tdx_1_0_is_a_component() {
    let mut case = lenient();
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 0, 8]);
    case.appraise().accepted();
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[5, 0, 8]);
    let outcomes = case.appraise();
    outcomes.refused_by(&["TCB status"]);
    assert_eq!(status(&outcomes), "OutOfDate");
    // the first of the second pair too
    case.tcb_info["tcbLevels"][1]["tcb"]["tdxtcbcomponents"][1]["svn"] = 1.into();
    case.appraise().refused_by(&["TCB level"]);
    // and its signer is the one of the statement
    let mut case = lenient();
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 0, 8]);
    case.tcb_info["tdxModule"]["mrsigner"] = "11".repeat(48).into();
    case.appraise().refused_by(&["TDX module"]);
}

#[test]
fn a_module_has_the_level_of_its_own_version() {
    for (svn, expected) in [(6, "UpToDate"), (5, "OutOfDate"), (2, "OutOfDate")] {
        let mut case = lenient();
        case.quote.td.tee_tcb_svn[0] = svn;
        assert_eq!(status(&case.appraise()), expected, "version 1, SVN {svn}");
    }
    for (svn, expected) in [(3, "UpToDate"), (2, "OutOfDate")] {
        let mut case = lenient();
        case.quote.td.tee_tcb_svn[..2].copy_from_slice(&[svn, 3]);
        assert_eq!(status(&case.appraise()), expected, "version 3, SVN {svn}");
    }
    let mut case = lenient();
    case.quote.td.tee_tcb_svn[0] = 1;
    case.appraise().refused_by(&["TCB level"]);
}

#[test]
fn a_module_that_is_not_intels_is_refused() {
    let mut case = Case::new();
    case.quote.td.mr_signer_seam[0] = 1;
    case.appraise().refused_by(&["TDX module"]);
    let mut case = Case::new();
    case.quote.td.seam_attributes = 1;
    case.appraise().refused_by(&["TDX module"]);
    // no version of that number
    let mut case = Case::new();
    case.quote.td.tee_tcb_svn[1] = 2;
    case.appraise().refused_by(&["TDX module"]);
    // an identity of another signer
    let mut case = Case::new();
    case.tcb_info["tdxModuleIdentities"][1]["mrsigner"] = "11".repeat(48).into();
    case.appraise().refused_by(&["TDX module"]);
    // a mask permits nothing
    let mut case = Case::new();
    case.tcb_info["tdxModuleIdentities"][1]["attributesMask"] = "0".repeat(16).into();
    case.quote.td.seam_attributes = 1;
    case.appraise().refused_by(&["TDX module"]);
}

/// Version 16 is `TDX_10`: the number is hexadecimal.
#[test]
fn module_versions_are_hexadecimal() {
    let mut case = Case::new();
    case.quote.td.tee_tcb_svn[1] = 16;
    case.appraise().refused_by(&["TDX module"]);
    case.tcb_info["tdxModuleIdentities"][1]["id"] = "TDX_10".into();
    case.appraise().accepted();
}

#[test]
fn a_platform_below_all_levels_is_refused() {
    let mut case = lenient();
    case.platform = case.vendor.platform(&PckParts {
        component_svns: [1; 16],
        ..PckParts::default()
    });
    case.appraise().refused_by(&["TCB level"]);
    let mut case = lenient();
    case.platform = case.vendor.platform(&PckParts {
        pce_svn: 4,
        ..PckParts::default()
    });
    case.appraise().refused_by(&["TCB level"]);
}

#[test]
fn the_quoting_enclave_has_a_level() {
    for (svn, expected) in [
        (4, "UpToDate"),
        (3, "OutOfDate"),
        (2, "OutOfDate"),
        (1, "Revoked"),
    ] {
        let mut case = lenient();
        case.quote.qe.isv_svn = svn;
        assert_eq!(status(&case.appraise()), expected, "SVN {svn}");
    }
    let mut case = lenient();
    case.quote.qe.isv_svn = 0;
    case.appraise().refused_by(&["TCB level"]);
}

/// The words of the platform, of a module and of the enclave, and what they are together.
#[test]
fn the_parts_make_one_status() {
    let table = [
        ("UpToDate", "UpToDate", "UpToDate", "UpToDate"),
        (
            "SWHardeningNeeded",
            "UpToDate",
            "UpToDate",
            "SWHardeningNeeded",
        ),
        (
            "ConfigurationNeeded",
            "UpToDate",
            "UpToDate",
            "ConfigurationNeeded",
        ),
        (
            "ConfigurationAndSWHardeningNeeded",
            "UpToDate",
            "UpToDate",
            "ConfigurationAndSWHardeningNeeded",
        ),
        ("OutOfDate", "UpToDate", "UpToDate", "OutOfDate"),
        (
            "OutOfDateConfigurationNeeded",
            "UpToDate",
            "UpToDate",
            "OutOfDateConfigurationNeeded",
        ),
        ("Revoked", "UpToDate", "UpToDate", "Revoked"),
        ("UpToDate", "OutOfDate", "UpToDate", "OutOfDate"),
        ("SWHardeningNeeded", "OutOfDate", "UpToDate", "OutOfDate"),
        (
            "ConfigurationNeeded",
            "OutOfDate",
            "UpToDate",
            "OutOfDateConfigurationNeeded",
        ),
        (
            "ConfigurationAndSWHardeningNeeded",
            "UpToDate",
            "OutOfDate",
            "OutOfDateConfigurationNeeded",
        ),
        ("UpToDate", "UpToDate", "OutOfDate", "OutOfDate"),
        ("UpToDate", "Revoked", "UpToDate", "Revoked"),
        ("OutOfDate", "UpToDate", "Revoked", "Revoked"),
        ("Revoked", "OutOfDate", "OutOfDate", "Revoked"),
    ];
    for (platform, module, enclave, together) in table {
        let mut case = lenient();
        case.tcb_info["tcbLevels"][0]["tcbStatus"] = platform.into();
        case.tcb_info["tdxModuleIdentities"][1]["tcbLevels"][0]["tcbStatus"] = module.into();
        case.qe_identity["tcbLevels"][0]["tcbStatus"] = enclave.into();
        let outcomes = case.appraise();
        assert_eq!(status(&outcomes), together, "{}", outcomes.findings);
    }
}

#[test]
fn a_word_that_is_not_known_is_never_accepted() {
    for part in 0..3 {
        let mut case = lenient();
        let level = match part {
            0 => &mut case.tcb_info["tcbLevels"][0],
            1 => &mut case.tcb_info["tdxModuleIdentities"][1]["tcbLevels"][0],
            _ => &mut case.qe_identity["tcbLevels"][0],
        };
        level["tcbStatus"] = "MostlyHarmless".into();
        case.appraise().refused_by(&["TCB status"]);
    }
    // in a level that does not matter it does not matter
    let mut case = lenient();
    case.tcb_info["tcbLevels"][1]["tcbStatus"] = "MostlyHarmless".into();
    case.appraise().accepted();
}

#[test]
fn revoked_and_unknown_cannot_be_required() {
    assert!(AcceptableStatus::new(TcbStatus::Revoked).is_none());
    assert!(AcceptableStatus::new(TcbStatus::Unrecognized).is_none());
    assert_eq!(
        AcceptableStatus::new(TcbStatus::OutOfDate)
            .unwrap()
            .status(),
        TcbStatus::OutOfDate
    );
}

/// The platform's own level is revoked, though the trust domain's older TDX components only reach another one.
#[test]
fn a_revoked_platform_stays_revoked_under_an_old_module() {
    let mut case = lenient();
    case.tcb_info["tcbLevels"][0]["tcbStatus"] = "Revoked".into();
    case.quote.td.tee_tcb_svn[2] = 5;
    assert_eq!(status(&case.appraise()), "Revoked");
}

#[test]
fn an_accepted_status_needs_its_advisories_tolerated() {
    let mut case = Case::new();
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[2, 1, 5]);
    case.quote.qe.isv_svn = 2;
    case.appraise()
        .refused_by(&["TCB status", "security advisories"]);
    case.requirements
        .statuses
        .push(AcceptableStatus::new(TcbStatus::OutOfDate).unwrap());
    let outcomes = case.appraise();
    outcomes.refused_by(&["security advisories"]);
    assert_eq!(
        outcomes.actual("security advisories"),
        "INTEL-SA-00001 INTEL-SA-00002 INTEL-SA-00003"
    );
    let known = |ids: &[&str]| {
        Advisories::Tolerated(ids.iter().map(|id| format!("INTEL-SA-0000{id}")).collect())
    };
    case.requirements.advisories = known(&["1", "3"]);
    let outcomes = case.appraise();
    outcomes.refused_by(&["security advisories"]);
    assert_eq!(outcomes.actual("security advisories"), "INTEL-SA-00002");
    case.requirements.advisories = known(&["1", "2", "3"]);
    let outcomes = case.appraise();
    assert_eq!(outcomes.accepted().advisories().len(), 3);
    assert_eq!(outcomes.accepted().tcb_status(), TcbStatus::OutOfDate);
}

#[test]
fn advisories_of_an_up_to_date_level_are_told() {
    let mut case = Case::new();
    case.quote.body = Body::V5Td15;
    case.tcb_info["tcbLevels"][0]["advisoryIDs"] = json!(["INTEL-SA-00009"]);
    let outcomes = case.appraise();
    outcomes.accepted();
    assert_eq!(outcomes.warned(), ["security advisories"]);
    assert_eq!(outcomes.actual("security advisories"), "INTEL-SA-00009");
}

#[test]
fn an_advisory_that_is_refused_is_refused_whatever_the_status() {
    let mut case = Case::new();
    case.tcb_info["tcbLevels"][0]["advisoryIDs"] = json!(["INTEL-SA-00008", "INTEL-SA-00009"]);
    for tolerated in [
        Advisories::Tolerated(Vec::new()),
        Advisories::Tolerated(vec!["INTEL-SA-00009".to_owned()]),
        Advisories::Any,
    ] {
        case.requirements.advisories = tolerated;
        case.requirements.refused_advisories = vec!["INTEL-SA-00009".to_owned()];
        let outcomes = case.appraise();
        outcomes.refused_by(&["security advisories"]);
        assert_eq!(outcomes.actual("security advisories"), "INTEL-SA-00009");
        case.requirements.refused_advisories = vec!["INTEL-SA-00007".to_owned()];
        case.appraise().accepted();
    }
}

/// Started under an old module on a machine that has been updated since.
fn started_before_the_update() -> Case {
    let mut case = lenient();
    case.quote.body = Body::V5Td15;
    case.quote.td.tee_tcb_svn[0] = 2;
    case.quote.td.tee_tcb_svn_2[..3].copy_from_slice(&[6, 1, 8]);
    case
}

#[test]
fn a_new_start_is_advised_where_it_helps() {
    let case = started_before_the_update();
    let outcomes = case.appraise();
    outcomes.refused_by(&["TCB status"]);
    assert_eq!(status(&outcomes), "TDRelaunchAdvised");

    let mut case = started_before_the_update();
    case.tcb_info["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded".into();
    assert_eq!(
        status(&case.appraise()),
        "TDRelaunchAdvisedConfigurationNeeded"
    );

    // to the newest of another version, or of TDX 1.0
    let mut case = started_before_the_update();
    case.quote.td.tee_tcb_svn_2[..3].copy_from_slice(&[3, 3, 8]);
    assert_eq!(status(&case.appraise()), "TDRelaunchAdvised");
    case.quote.td.tee_tcb_svn_2[..3].copy_from_slice(&[6, 0, 8]);
    assert_eq!(status(&case.appraise()), "TDRelaunchAdvised");
}

#[test]
fn a_new_start_is_not_advised_where_it_does_not_help() {
    let lies: [fn(&mut Case); 6] = [
        // the module now is not the newest either
        |it| it.quote.td.tee_tcb_svn_2[0] = 5,
        |it| it.quote.td.tee_tcb_svn_2[..2].copy_from_slice(&[5, 0]),
        // nor the microcode
        |it| it.quote.td.tee_tcb_svn_2[2] = 7,
        // the quoting enclave is old
        |it| it.quote.qe.isv_svn = 2,
        // the platform itself is
        |it| it.tcb_info["tcbLevels"][0]["tcbStatus"] = "OutOfDate".into(),
        // a TD 1.0 body does not say what runs now
        |it| it.quote.body = Body::V5Td10,
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let mut case = started_before_the_update();
        lie(&mut case);
        let outcomes = case.appraise();
        outcomes.refused_by(&["TCB status"]);
        assert_eq!(status(&outcomes), "OutOfDate", "case {index}");
    }
}

/// Not only the module may have been old.
#[test]
fn a_new_start_is_advised_whatever_was_old() {
    let mut case = started_before_the_update();
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 1, 5]);
    assert_eq!(status(&case.appraise()), "TDRelaunchAdvised");
    // or what runs now is up to date though it is not the newest
    let mut case = started_before_the_update();
    let levels = &mut case.tcb_info["tdxModuleIdentities"][1]["tcbLevels"];
    let mut newer = levels[0].clone();
    newer["tcb"]["isvsvn"] = 9.into();
    levels.as_array_mut().unwrap().insert(0, newer);
    assert_eq!(status(&case.appraise()), "TDRelaunchAdvised");
    // what was open in the configuration before stays so
    let mut case = started_before_the_update();
    case.quote.td.tee_tcb_svn[..3].copy_from_slice(&[6, 1, 5]);
    case.tcb_info["tcbLevels"][1]["tcbStatus"] = "OutOfDateConfigurationNeeded".into();
    assert_eq!(
        status(&case.appraise()),
        "TDRelaunchAdvisedConfigurationNeeded"
    );
}

/// Up to date at the start, and these SVNs now.
fn moved_to(svns: [u8; 3]) -> Case {
    let mut case = lenient();
    case.quote.body = Body::V5Td15;
    case.quote.td.tee_tcb_svn_2[..3].copy_from_slice(&svns);
    case
}

#[test]
fn what_runs_now_must_reach_a_level() {
    moved_to([6, 1, 8]).appraise().accepted();
    // a version that Intel does not list, an SVN and a component below all levels
    for svns in [[6, 2, 8], [1, 1, 8], [6, 1, 4]] {
        let outcomes = moved_to(svns).appraise();
        outcomes.refused_by(&["TCB level"]);
        let actual = outcomes.actual("TCB level");
        let now = format!("now {}", hex::encode(svns));
        assert!(actual.contains(&now), "{actual}");
    }
    // a TD 1.0 body does not say it
    let mut case = moved_to([6, 2, 8]);
    case.quote.body = Body::V5Td10;
    case.appraise().accepted();
}

#[test]
fn what_runs_now_counts_if_it_is_worse() {
    for svns in [[5, 1, 8], [6, 1, 5], [2, 3, 8]] {
        let outcomes = moved_to(svns).appraise();
        outcomes.refused_by(&["TCB status"]);
        assert_eq!(status(&outcomes), "OutOfDate", "{svns:?}");
    }
    // and never makes a status better than a new start would
    let outcomes = started_before_the_update().appraise();
    outcomes.refused_by(&["TCB status"]);
}

#[test]
fn a_module_revoked_at_the_start_or_now_is_revoked() {
    let revoke = |case: &mut Case| {
        case.tcb_info["tdxModuleIdentities"][1]["tcbLevels"][1]["tcbStatus"] = "Revoked".into();
    };
    let mut case = moved_to([2, 1, 8]);
    revoke(&mut case);
    assert_eq!(status(&case.appraise()), "Revoked");
    let mut case = started_before_the_update();
    revoke(&mut case);
    assert_eq!(status(&case.appraise()), "Revoked");
}

#[test]
fn advisories_of_what_runs_now_count() {
    let mut case = moved_to([2, 1, 5]);
    case.requirements.advisories = Advisories::Tolerated(Vec::new());
    case.requirements
        .statuses
        .push(AcceptableStatus::new(TcbStatus::OutOfDate).unwrap());
    let outcomes = case.appraise();
    outcomes.refused_by(&["security advisories"]);
    assert_eq!(
        outcomes.actual("security advisories"),
        "INTEL-SA-00001 INTEL-SA-00002"
    );
}

/// The configuration of the enclave's platform; the words of software in a trust domain are not said of an enclave.
#[test]
fn the_quoting_enclave_may_need_configuration() {
    let table = [
        ("UpToDate", "ConfigurationNeeded", "ConfigurationNeeded"),
        (
            "UpToDate",
            "OutOfDateConfigurationNeeded",
            "OutOfDateConfigurationNeeded",
        ),
        (
            "SWHardeningNeeded",
            "ConfigurationNeeded",
            "ConfigurationAndSWHardeningNeeded",
        ),
        (
            "OutOfDate",
            "ConfigurationNeeded",
            "OutOfDateConfigurationNeeded",
        ),
        ("Revoked", "ConfigurationNeeded", "Revoked"),
        (
            "UpToDate",
            "SWHardeningNeeded",
            "a status this release does not know",
        ),
        (
            "UpToDate",
            "TDRelaunchAdvised",
            "a status this release does not know",
        ),
    ];
    for (platform, enclave, together) in table {
        let mut case = lenient();
        case.tcb_info["tcbLevels"][0]["tcbStatus"] = platform.into();
        case.qe_identity["tcbLevels"][0]["tcbStatus"] = enclave.into();
        let outcomes = case.appraise();
        assert_eq!(status(&outcomes), together, "{}", outcomes.findings);
    }
}

/// That a new start is advised is a conclusion of ours, which no statement can draw.
#[test]
fn no_statement_advises_a_new_start() {
    for word in ["TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"] {
        let mut case = lenient();
        case.tcb_info["tcbLevels"][0]["tcbStatus"] = word.into();
        case.requirements
            .statuses
            .push(AcceptableStatus::new(TcbStatus::TdRelaunchAdvised).unwrap());
        let outcomes = case.appraise();
        outcomes.refused_by(&["TCB status"]);
        assert_eq!(status(&outcomes), "a status this release does not know");
    }
}

/// Who reads why a status is what it is sees both levels, where they differ.
#[test]
fn what_runs_now_is_told_where_it_differs_from_the_start() {
    let words = |case: &Case| case.appraise().actual("TCB status");
    let moved = words(&started_before_the_update());
    assert!(moved.contains("by now"), "{moved}");
    let mut same = lenient();
    same.quote.body = Body::V5Td15;
    same.tcb_info["tcbLevels"][0]["tcb"]["pcesvn"] = 14.into();
    let same = words(&same);
    assert!(same.starts_with("OutOfDate"), "{same}");
    assert!(!same.contains("by now"), "{same}");
}

/// Of the attributes that Intel states only those under the mask count.
#[test]
fn attributes_of_a_module_count_under_their_mask() {
    let mut case = Case::new();
    case.tcb_info["tdxModuleIdentities"][1]["attributes"] = "0100000000000000".into();
    case.appraise().refused_by(&["TDX module"]);
    case.tcb_info["tdxModuleIdentities"][1]["attributesMask"] = "FEFFFFFFFFFFFFFF".into();
    case.appraise().accepted();
}
