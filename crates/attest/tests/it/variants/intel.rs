//! Which of Intel's statements that a verifier has are about a machine.

use attest::x509::{Certificate, Crl};
use attest::{Endorsements, RefusalCode, Variant};
use serde_json::json;
use testkit::intel;

use super::{MAKERS, Setup, document, machine, refused};
use crate::binding;

const VARIANTS: [Variant; 2] = [Variant::AzureTdx, Variant::GcpTdx];

/// A list does not have to come with the statements: one that was fetched by itself revokes as well.
#[test]
fn a_list_of_intels_counts_by_itself() {
    let ca = Certificate::parse(&MAKERS.intel.platform_ca.der).unwrap();
    let list = MAKERS.intel.root.crl(&[ca.serial()]);
    for variant in VARIANTS {
        let mut setup = Setup::new(variant);
        let list = Crl::parse(&list).unwrap();
        setup.endorsements.add_crl(list).unwrap();
        refused(
            variant.as_str(),
            setup.judge(document(variant, &machine(), &binding())),
            &["PCK certificate"],
            RefusalCode::NotAuthentic,
        );
    }
}

/// Statements that are to hold later are no reason to refuse a machine about which others hold now.
#[test]
fn of_intels_statements_those_that_hold_now_count() {
    let mut tcb_info = intel::tcb_info();
    tcb_info["issueDate"] = json!("2026-02-01T00:00:00Z");
    tcb_info["nextUpdate"] = json!("2026-03-01T00:00:00Z");
    tcb_info["tcbEvaluationDataNumber"] = json!(19);
    let later = MAKERS.intel.collateral_of(&tcb_info, &intel::qe_identity());
    let holding = MAKERS.intel.collateral();
    for variant in VARIANTS {
        for order in [[&later, &holding], [&holding, &later]] {
            let mut endorsements = Endorsements::new();
            for collateral in order {
                endorsements
                    .add_intel(MAKERS.statements(collateral))
                    .unwrap();
            }
            let setup = Setup {
                endorsements,
                ..Setup::new(variant)
            };
            let verdict = setup.judge(document(variant, &machine(), &binding()));
            assert!(verdict.is_ok(), "{variant}: {}", verdict.unwrap_err());
        }
    }
}

/// A quote that cannot be read names no platform; that is told, and not that nothing is known about one.
#[test]
fn a_quote_that_cannot_be_read_is_told_where_nothing_is_known() {
    let (machine, binding) = (machine(), binding());
    let mut azure = machine.azure_tdx(&MAKERS, &binding);
    azure.td_quote.truncate(100);
    let mut google = machine.gcp_tdx(&MAKERS, &binding);
    google.td_quote.truncate(100);
    for (variant, document) in [
        (Variant::AzureTdx, azure.to_json()),
        (Variant::GcpTdx, google.to_json()),
    ] {
        let setup = Setup {
            endorsements: Endorsements::new(),
            ..Setup::new(variant)
        };
        refused(
            variant.as_str(),
            setup.judge(document),
            &["TD quote format"],
            RefusalCode::Malformed,
        );
    }
}
