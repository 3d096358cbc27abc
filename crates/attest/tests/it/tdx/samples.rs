//! Quotes of real machines against the statements that Intel made about them, with the verdicts that several tools agreed on.
//! Provenance: `testdata/evidence/manifest.json`.

use std::path::{Path, PathBuf};

use attest::Outcome;
use attest::tdx::{
    Accepted, Advisories, Collateral, Endorsements, Quote, QuoteVersion, Requirements, Roots,
    SeptVe, TdAttributes,
};
use attest::x509::Certificate;
use serde_json::Value;
use testkit::intel;

use super::{Outcomes, appraise_raw, open_launch, time};
use crate::named;

const V5: &str = "tdx/go-tdx-guest/v5-90c06f";
const V5_COLLATERAL: &str = "90c06f-2026-02-dcap-qvl";

fn evidence(path: impl AsRef<Path>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest() -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&evidence("manifest.json")).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

fn sample(id: &str) -> Value {
    let found = manifest().into_iter().find(|sample| sample["id"] == id);
    found.unwrap_or_else(|| panic!("no sample {id}"))
}

/// In the middle of the window of a set of collateral.
fn at(collateral: &str) -> jiff::Timestamp {
    let sample = sample(&format!("tdx-collateral/{collateral}"));
    time(sample["at"].as_str().unwrap())
}

pub(super) fn collateral(name: &str) -> intel::Collateral {
    let file = |file: &str| evidence(format!("tdx-collateral/{name}/{file}"));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence/tdx-collateral")
        .join(name);
    let tcb_info_chain = file("tcb_signing_chain.pem");
    let qe_identity_chain = if folder.join("qe_identity_signing_chain.pem").exists() {
        file("qe_identity_signing_chain.pem")
    } else {
        tcb_info_chain.clone()
    };
    intel::Collateral {
        tcb_info: file("tcb_info.json"),
        tcb_info_chain,
        qe_identity: file("qe_identity.json"),
        qe_identity_chain,
        pck_crl: file("pck_crl.der"),
        root_ca_crl: file("root_ca_crl.der"),
    }
}

fn quote(id: &str) -> Vec<u8> {
    evidence(format!("{id}/quote.bin"))
}

fn report_data(quote: &[u8]) -> [u8; 64] {
    *Quote::parse(quote).unwrap().body().report_data.as_bytes()
}

/// The platform must be up to date; the trust domain may be any that is not for debugging.
fn any_trust_domain() -> Requirements {
    Requirements {
        sept_ve: SeptVe::GuestGuardsItself,
        attributes: TdAttributes::PKS | TdAttributes::PERFMON,
        advisories: Advisories::Any,
        mr_service_td: Accepted::Open,
        ..Requirements::new(open_launch())
    }
}

fn appraise_real(quote: &[u8], collateral: &intel::Collateral, now: jiff::Timestamp) -> Outcomes {
    appraise_raw(
        quote,
        &super::endorsements(collateral),
        &any_trust_domain(),
        report_data(quote),
        &Roots::intel(),
        now,
    )
}

/// Each quote, also those of Azure's paravisor, with each set of collateral for its platform.
#[test]
fn every_sample_gets_the_verdict_of_the_manifest() {
    let mut pairs = 0;
    for sample in manifest() {
        let Some(expected) = sample["tcb_expected"].as_object() else {
            continue;
        };
        let id = sample["id"].as_str().unwrap();
        let quote = quote(id);
        let body = Quote::parse(&quote).unwrap().body().clone();
        let is_debug = body.attributes.contains(TdAttributes::DEBUG);
        assert_eq!(sample["expect"] == "policy", is_debug, "{id}");
        for (name, verdict) in expected {
            pairs += 1;
            let outcomes = appraise_real(&quote, &collateral(name), at(name));
            let context = format!("{id} with {name}: {}", outcomes.findings);
            let mut refusals = Vec::new();
            // where no level matches, the manifest does not say that the collateral is too old as well
            let is_newer = time(sample["window"][0].as_str().unwrap()) > at(name);
            match verdict.as_str().unwrap() {
                "not usable: PCK certificate is newer than this collateral"
                | "reject: no TCB level matches"
                    if is_newer =>
                {
                    refusals.push("PCK certificate");
                    let actual = outcomes.actual("PCK certificate");
                    assert!(actual.contains("is valid from"), "{context}");
                }
                "UpToDate" => {
                    assert!(outcomes.findings.checks().len() > 20, "{context}");
                }
                "OutOfDate" => {
                    refusals.push("TCB status");
                    let actual = outcomes.actual("TCB status");
                    assert!(actual.starts_with("OutOfDate: "), "{context}");
                }
                "reject: no TCB level matches" => refusals.push("TCB level"),
                other => panic!("{id}: the manifest says {other}"),
            }
            if is_debug {
                refusals.push("debug off");
            }
            assert_eq!(outcomes.failed(), refusals, "{context}");
        }
    }
    assert_eq!(pairs, 68, "pairs of quote and collateral in the manifest");
}

/// What the quotes say of themselves, as measured by other tools.
#[test]
fn every_sample_reads_as_measured() {
    let mut quotes = 0;
    for sample in manifest() {
        let id = sample["id"].as_str().unwrap();
        let measured = match sample["variant"].as_str().unwrap() {
            "tdx" => &sample["measured"],
            "azure-tdx-vtpm" => &sample["measured"]["tdx"],
            _ => continue,
        };
        quotes += 1;
        let bytes = quote(id);
        let quote = Quote::parse(&bytes).unwrap_or_else(|error| panic!("{id}: {error}"));
        let body = quote.body();
        let version = match quote.header().version {
            QuoteVersion::V4 => 4,
            QuoteVersion::V5 => 5,
        };
        assert_eq!(measured["version"], version, "{id}");
        let attributes = hex::encode(body.attributes.bits().to_le_bytes());
        let mut values = vec![
            ("tee_tcb_svn", body.tee_tcb_svn.to_string()),
            ("mrseam", body.mr_seam.to_string()),
            ("td_attributes", attributes),
            ("xfam", hex::encode(body.xfam.to_le_bytes())),
            ("mrtd", body.mrtd.to_string()),
            ("mrconfigid", body.mr_config_id.to_string()),
            ("report_data", body.report_data.to_string()),
        ];
        let names = ["rtmr0", "rtmr1", "rtmr2", "rtmr3"];
        values.extend(names.into_iter().zip(body.rtmrs.map(|it| it.to_string())));
        for (name, value) in values {
            assert_eq!(measured[name], value, "{id}: {name}");
        }
    }
    assert_eq!(quotes, 23);
}

#[test]
fn a_chain_to_a_root_before_production_is_refused() {
    for id in [
        "tdx/cc-trusted-api/v4-pre-production-root",
        "tdx/go-tdx-guest/v5-pre-production-root",
    ] {
        let name = "00806f-2025-06-automata";
        let outcomes = appraise_real(&quote(id), &collateral(name), at(name));
        outcomes.refused_by(&["PCK certificate"]);
        let actual = outcomes.actual("PCK certificate");
        assert!(actual.contains("leads to another root"), "{actual}");
    }
}

/// Intel's reference data: made by hand under a root for tests, so enclave and levels fit nothing, but every signature does.
#[test]
fn the_reference_set_is_authentic_under_its_own_root_only() {
    let file = |name: &str| evidence(format!("tdx/intel-qvl/reference-set-test-root/{name}"));
    let (tcb_info, qe_identity) = (file("tcbInfo.json"), file("qeIdentity.json"));
    let chain = file("tcbSignChain.pem");
    let (pck_crl, root_ca_crl) = (file("intermediateCaCrl.der"), file("rootCaCrl.der"));
    let endorsements = Endorsements::parse(&Collateral {
        tcb_info: &tcb_info,
        tcb_info_chain: &chain,
        qe_identity: &qe_identity,
        qe_identity_chain: &chain,
        crls: &[&pck_crl, &root_ca_crl],
    })
    .unwrap();
    let quote = file("quote.dat");
    let now = time(
        sample("tdx/intel-qvl/reference-set-test-root")["at"]
            .as_str()
            .unwrap(),
    );
    let under = |roots: &Roots| {
        appraise_raw(
            &quote,
            &endorsements,
            &any_trust_domain(),
            report_data(&quote),
            roots,
            now,
        )
    };
    under(&Roots::intel()).refused_by(&["PCK certificate"]);

    let root = Certificate::chain_from_pem(&file("trustedRootCaCert.pem"), 1).unwrap();
    let outcomes = under(&Roots::of_another_vendor(root));
    outcomes.refused_by(&["quoting enclave"]);
    assert_eq!(
        named(outcomes.findings.checks(), Outcome::Passed),
        [
            "TD quote format",
            "PCK certificate",
            "platform in the PCK certificate",
            "TCB info: signature",
            "TCB info: time",
            "TCB info: platform",
            "QE identity: signature",
            "QE identity: time",
            "QE report signature",
            "attestation key of the quoting enclave",
        ]
    );
}

/// A real quote with a change, appraised over the binding it was made for.
pub(super) fn v5_with(change: impl FnOnce(&mut Vec<u8>)) -> Outcomes {
    let mut quote = quote(V5);
    let said = report_data(&quote);
    change(&mut quote);
    appraise_raw(
        &quote,
        &super::endorsements(&collateral(V5_COLLATERAL)),
        &any_trust_domain(),
        said,
        &Roots::intel(),
        at(V5_COLLATERAL),
    )
}

/// Where the signature data of a version 5 quote with a TD 1.5 body begin.
const V5_DATA: usize = 48 + 6 + 648 + 4;

#[test]
fn a_changed_real_quote_fails_the_check_of_what_was_changed() {
    v5_with(|_| ()).accepted();
    // user data, MRTD, RTMR0, MRSERVICETD: all signed
    for at in [30, 54 + 136, 54 + 328, 54 + 640] {
        v5_with(|quote| quote[at] ^= 1).refused_by(&["TD quote signature"]);
    }
    v5_with(|quote| quote[V5_DATA] ^= 1).refused_by(&["TD quote signature"]);
    let key = V5_DATA + 64;
    v5_with(|quote| quote[key] ^= 1).refused_by(&["attestation key of the quoting enclave"]);
    let qe_report = key + 64 + 6;
    v5_with(|quote| quote[qe_report + 256] ^= 1).refused_by(&["QE report signature"]);
    let qe_signature = qe_report + 384;
    v5_with(|quote| quote[qe_signature] ^= 1).refused_by(&["QE report signature"]);
    let qe_authentication = qe_signature + 64 + 2;
    v5_with(|quote| quote[qe_authentication] ^= 1)
        .refused_by(&["attestation key of the quoting enclave"]);
    // in Base64 of the leaf's signature, far behind its structure
    let pem = qe_authentication + 32 + 6;
    v5_with(|quote| {
        let end = quote[pem..]
            .windows(8)
            .position(|window| window == b"-----END")
            .unwrap();
        let digit = &mut quote[pem + end - 30];
        *digit = if *digit == b'A' { b'B' } else { b'A' };
    })
    .refused_by(&["PCK certificate"]);
}

#[test]
fn a_real_quote_of_another_binding_is_refused() {
    let quote = quote(V5);
    let mut other = report_data(&quote);
    other[63] ^= 1;
    let outcomes = appraise_raw(
        &quote,
        &super::endorsements(&collateral(V5_COLLATERAL)),
        &any_trust_domain(),
        other,
        &Roots::intel(),
        at(V5_COLLATERAL),
    );
    outcomes.refused_by(&["report data"]);
    assert_eq!(
        outcomes.findings.refusal_code(),
        Some(attest::RefusalCode::WrongBinding)
    );
}

fn with_collateral(change: impl FnOnce(&mut intel::Collateral)) -> Outcomes {
    let mut collateral = collateral(V5_COLLATERAL);
    change(&mut collateral);
    appraise_real(&quote(V5), &collateral, at(V5_COLLATERAL))
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{from}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn changed_real_statements_fail_their_signature() {
    // better news, other bytes of the same meaning, and a signature of something else
    let svn = |it: &mut intel::Collateral| {
        replace(
            &mut it.tcb_info,
            r#""tcbEvaluationDataNumber":18"#,
            r#""tcbEvaluationDataNumber":19"#,
        );
    };
    with_collateral(svn).refused_by(&["TCB info: signature"]);
    let space = |it: &mut intel::Collateral| {
        replace(&mut it.tcb_info, r#""id":"TDX""#, r#""id": "TDX""#);
    };
    with_collateral(space).refused_by(&["TCB info: signature"]);
    let level = |it: &mut intel::Collateral| {
        replace(&mut it.qe_identity, r#""isvsvn":4"#, r#""isvsvn":1"#);
    };
    with_collateral(level).refused_by(&["QE identity: signature"]);
}

#[test]
fn space_around_a_real_statement_is_not_part_of_it() {
    let space = |it: &mut intel::Collateral| {
        replace(&mut it.tcb_info, r#"{"tcbInfo":"#, "{\n \"tcbInfo\": ");
    };
    with_collateral(space).accepted();
}

#[test]
fn real_statements_hold_in_their_time_only() {
    let quote = quote(V5);
    let collateral = collateral(V5_COLLATERAL);
    let at = |text: &str| appraise_real(&quote, &collateral, time(text));
    // nextUpdate of the TCB info is 2026-03-20T10:58:51Z, that of the first CRL 2026-03-20T10:41:15Z
    at("2026-03-20T10:41:00Z").accepted();
    at("2026-03-20T10:41:16Z").refused_by(&["PCK certificate"]);
    at("2026-02-18T10:58:51Z").accepted();
    at("2026-02-18T10:58:50Z").refused_by(&["TCB info: time"]);
}

#[test]
fn real_statements_about_another_platform_are_refused() {
    let name = "00806f-2026-06-flashbots";
    let outcomes = appraise_real(&quote(V5), &collateral(name), at(name));
    outcomes.refused_by(&["TCB info: platform"]);
}

#[test]
fn a_real_quote_needs_both_crls() {
    let quote = quote(V5);
    let collateral = collateral(V5_COLLATERAL);
    for crls in [
        &[][..],
        &[&*collateral.pck_crl][..],
        &[&*collateral.root_ca_crl][..],
    ] {
        let endorsements = Endorsements::parse(&Collateral {
            tcb_info: &collateral.tcb_info,
            tcb_info_chain: &collateral.tcb_info_chain,
            qe_identity: &collateral.qe_identity,
            qe_identity_chain: &collateral.qe_identity_chain,
            crls,
        })
        .unwrap();
        let outcomes = appraise_raw(
            &quote,
            &endorsements,
            &any_trust_domain(),
            report_data(&quote),
            &Roots::intel(),
            at(V5_COLLATERAL),
        );
        outcomes.refused_by(&["PCK certificate"]);
    }
}

/// Without a word of policy: what most samples are refused for is said, and what they measured must be named.
#[test]
fn the_strictest_requirements_accept_nothing_by_accident() {
    let quote = quote(V5);
    let body = Quote::parse(&quote).unwrap().body().clone();
    let run = |launch| {
        appraise_raw(
            &quote,
            &super::endorsements(&collateral(V5_COLLATERAL)),
            &Requirements::new(launch),
            report_data(&quote),
            &Roots::intel(),
            at(V5_COLLATERAL),
        )
    };
    let nothing = attest::tdx::Launch {
        mrtd: Accepted::AnyOf(Vec::new()),
        rtmrs: [const { Accepted::AnyOf(Vec::new()) }; 4],
    };
    run(nothing).refused_by(&["MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3"]);
    let named = attest::tdx::Launch {
        mrtd: Accepted::AnyOf(vec![body.mrtd]),
        rtmrs: body.rtmrs.map(|it| Accepted::AnyOf(vec![it])),
    };
    let outcomes = run(named);
    let appraised = outcomes.accepted();
    assert_eq!(appraised.rtmrs(), &body.rtmrs);
    assert_eq!(appraised.mrtd(), &body.mrtd);
    assert_eq!(hex::encode(appraised.platform().fmspc), "90c06f000000");
}
