//! One lie at a time, about each part of each variant's evidence, and the check that it fails.

use attest::x509::{Certificate, Crl};
use attest::{Binding, ClusterIdDigest, ClusterMark, Endorsements, PcrIndex, RefusalCode, Variant};
use testkit::amd::{ASK_SERIAL, Amd, offset};
use testkit::cloud::{AkCertificate, HclParts, Machine};
use testkit::intel;

use super::{MAKERS, Setup, VOUCHED, document, machine, refused, time};
use crate::binding;

const LINE: attest::sev_snp::ProductLine = attest::sev_snp::ProductLine::Milan;

fn other_session() -> Binding {
    Binding::for_verification(&[7; 32])
}

#[track_caller]
fn not_authentic(what: &str, variant: Variant, document: Vec<u8>, check: &str) {
    refused(
        &format!("{variant}: {what}"),
        Setup::new(variant).judge(document),
        &[check],
        RefusalCode::NotAuthentic,
    );
}

/// A machine changed before it speaks.
fn lying(variant: Variant, lie: impl FnOnce(&mut Machine)) -> Vec<u8> {
    let mut machine = machine();
    lie(&mut machine);
    document(variant, &machine, &binding())
}

#[test]
fn each_part_of_another_machine_is_told() {
    let (own, other) = (machine(), machine());
    let (now, before) = (binding(), other_session());

    let mut it = own.azure_sev_snp(&now);
    it.hcl_report = other.azure_sev_snp(&now).hcl_report;
    not_authentic(
        "HCL report of another",
        Variant::AzureSevSnp,
        it.to_json(),
        "key that is vouched for",
    );
    let mut it = own.azure_tdx(&MAKERS, &now);
    it.td_quote = other.azure_tdx(&MAKERS, &now).td_quote;
    refused(
        "azure-tdx: quote of another",
        Setup::new(Variant::AzureTdx).judge(it.to_json()),
        &["report data"],
        RefusalCode::WrongBinding,
    );
    let mut it = own.azure_tdx(&MAKERS, &now);
    let theirs = other.azure_tdx(&MAKERS, &now);
    (it.td_quote, it.hcl_report) = (theirs.td_quote, theirs.hcl_report);
    not_authentic(
        "HCL report and quote of another",
        Variant::AzureTdx,
        it.to_json(),
        "key that is vouched for",
    );
    let mut it = own.azure_trusted_launch(&MAKERS, &now);
    it.ak_certificate = other.azure_trusted_launch(&MAKERS, &now).ak_certificate;
    not_authentic(
        "AK certificate of another",
        Variant::AzureTrustedLaunch,
        it.to_json(),
        "key that is vouched for",
    );
    let mut it = own.gcp_sev_es(&MAKERS, &now);
    it.ak_certificate = other.gcp_sev_es(&MAKERS, &now).ak_certificate;
    not_authentic(
        "AK certificate of another",
        Variant::GcpSevEs,
        it.to_json(),
        "key that is vouched for",
    );
    // the report names the key, so it is told first
    let mut it = own.gcp_sev_snp(&MAKERS, &now);
    it.ak_certificate = other.gcp_sev_snp(&MAKERS, &now).ak_certificate;
    refused(
        "gcp-sev-snp: AK certificate of another",
        Setup::new(Variant::GcpSevSnp).judge(it.to_json()),
        &["SNP report data"],
        RefusalCode::WrongBinding,
    );
    let mut it = own.gcp_sev_snp(&MAKERS, &now);
    it.snp_report = other.gcp_sev_snp(&MAKERS, &now).snp_report;
    refused(
        "gcp-sev-snp: report of another",
        Setup::new(Variant::GcpSevSnp).judge(it.to_json()),
        &["SNP report data"],
        RefusalCode::WrongBinding,
    );
    let mut it = own.gcp_sev_snp(&MAKERS, &now);
    it.snp_report = own.gcp_sev_snp(&MAKERS, &before).snp_report;
    refused(
        "gcp-sev-snp: its own report of another session",
        Setup::new(Variant::GcpSevSnp).judge(it.to_json()),
        &["SNP report data"],
        RefusalCode::WrongBinding,
    );
    let mut it = own.gcp_tdx(&MAKERS, &now);
    it.td_quote = other.gcp_tdx(&MAKERS, &now).td_quote;
    refused(
        "gcp-tdx: quote of another",
        Setup::new(Variant::GcpTdx).judge(it.to_json()),
        &["report data"],
        RefusalCode::WrongBinding,
    );
    let mut it = own.gcp_tdx(&MAKERS, &now);
    it.td_quote = own.gcp_tdx(&MAKERS, &before).td_quote;
    refused(
        "gcp-tdx: its own quote of another session",
        Setup::new(Variant::GcpTdx).judge(it.to_json()),
        &["report data"],
        RefusalCode::WrongBinding,
    );
    // a TPM with a key that Google certified, beside a report that names the key: both of the other, who is not this TPM
    let mut it = own.gcp_sev_snp(&MAKERS, &now);
    let theirs = other.gcp_sev_snp(&MAKERS, &now);
    (it.ak_certificate, it.snp_report) = (theirs.ak_certificate, theirs.snp_report);
    not_authentic(
        "AK certificate and report of another",
        Variant::GcpSevSnp,
        it.to_json(),
        "key that is vouched for",
    );
}

/// What the TPM states, of another machine with the same software: the key in the document stays the one that is vouched for.
#[test]
fn the_quote_of_another_tpm_is_not_this_ones() {
    let other = machine().statement(&binding());
    for variant in VOUCHED {
        let bytes = document(variant, &machine(), &binding());
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let theirs: serde_json::Value = serde_json::from_slice(&other.to_json()).unwrap();
        json["quote"] = theirs["quote"].clone();
        json["signature"] = theirs["signature"].clone();
        not_authentic(
            "quote of another",
            variant,
            json.to_string().into_bytes(),
            "signature",
        );
        json["akPublic"] = theirs["akPublic"].clone();
        not_authentic(
            "TPM of another",
            variant,
            json.to_string().into_bytes(),
            "key that is vouched for",
        );
    }
}

#[test]
fn an_hcl_report_over_another_key_is_nobodys() {
    let (own, other) = (machine(), machine());
    let mut it = own.azure_sev_snp(&binding());
    // the processor's report of one machine, over the runtime data of another
    let report = it.hcl_report[32..32 + 1184].to_vec();
    it.hcl_report = HclParts::snp(report, other.runtime.to_json()).to_bytes();
    not_authentic(
        "runtime data of another",
        Variant::AzureSevSnp,
        it.to_json(),
        "HCL runtime data",
    );
    let mut it = own.azure_tdx(&MAKERS, &binding());
    let mut parts = HclParts::tdx(own.runtime.to_json());
    parts.runtime = other.runtime.to_json();
    it.hcl_report = parts.to_bytes();
    not_authentic(
        "runtime data of another",
        Variant::AzureTdx,
        it.to_json(),
        "HCL runtime data",
    );
}

#[test]
fn a_session_is_not_played_again() {
    for (variant, check) in [
        (Variant::AzureSevSnp, "bound to this session"),
        (Variant::AzureTdx, "bound to this session"),
        (Variant::AzureTrustedLaunch, "bound to this session"),
        (Variant::GcpSevEs, "bound to this session"),
        (Variant::GcpSevSnp, "SNP report data"),
        (Variant::GcpTdx, "report data"),
    ] {
        refused(
            variant.as_str(),
            Setup::new(variant).judge(document(variant, &machine(), &other_session())),
            &[check],
            RefusalCode::WrongBinding,
        );
    }
}

#[test]
fn without_the_vendors_word_nothing_is_believed() {
    let own = machine();
    let mut azure = own.azure_sev_snp(&binding());
    azure.certificates.clear();
    let mut google = own.gcp_sev_snp(&MAKERS, &binding());
    google.snp_certificates.clear();
    for (variant, document) in [
        (Variant::AzureSevSnp, azure.to_json()),
        (Variant::GcpSevSnp, google.to_json()),
    ] {
        not_authentic("no VEK", variant, document.clone(), "vendor's statements");
        // the verifier may have it
        let mut setup = Setup::new(variant);
        for der in Machine::amds() {
            let certificate = Certificate::parse(&der).unwrap();
            setup.endorsements.add_certificate(certificate).unwrap();
        }
        assert!(setup.judge(document).is_ok());
        // and without AMD's list it is not known who is revoked
        let setup = Setup {
            endorsements: Endorsements::new(),
            ..Setup::new(variant)
        };
        refused(
            "no list",
            setup.judge(super::document(variant, &own, &binding())),
            &["AMD revocation list"],
            RefusalCode::NotAuthentic,
        );
    }
    for variant in [Variant::AzureTdx, Variant::GcpTdx] {
        let setup = Setup {
            endorsements: Endorsements::new(),
            ..Setup::new(variant)
        };
        let refusal = setup
            .judge(document(variant, &own, &binding()))
            .unwrap_err();
        let missing = refusal.failed().next().unwrap();
        assert_eq!(
            missing.name,
            attest::CheckName::EndorsementsGiven,
            "{refusal}"
        );
        assert!(missing.next_step.is_some());
        assert!(
            missing
                .expected
                .as_ref()
                .unwrap()
                .to_string()
                .contains("00806f050000"),
            "the platform is named: {refusal}"
        );
    }
}

#[test]
fn an_authority_between_may_be_the_verifiers() {
    let own = machine();
    let mut azure = own.azure_trusted_launch(&MAKERS, &binding());
    azure.certificates.clear();
    let mut google = own.gcp_sev_es(&MAKERS, &binding());
    google.certificates.clear();
    for (variant, document, authority) in [
        (
            Variant::AzureTrustedLaunch,
            azure.to_json(),
            MAKERS.microsoft.intermediate(),
        ),
        (
            Variant::GcpSevEs,
            google.to_json(),
            MAKERS.google.intermediate(),
        ),
    ] {
        not_authentic(
            "no authority",
            variant,
            document.clone(),
            "AK certificate chain",
        );
        let mut setup = Setup::new(variant);
        setup.endorsements.add_certificate(authority).unwrap();
        assert!(setup.judge(document).is_ok());
    }
}

#[test]
fn revoked_is_refused() {
    let own = machine();
    for variant in [Variant::AzureSevSnp, Variant::GcpSevSnp] {
        let list = Amd::new(LINE).crl(&[&ASK_SERIAL], ["260101000000Z", "270101000000Z"]);
        let mut setup = Setup {
            endorsements: Endorsements::new(),
            ..Setup::new(variant)
        };
        setup
            .endorsements
            .add_crl(Crl::parse(&list).unwrap())
            .unwrap();
        refused(
            variant.as_str(),
            setup.judge(document(variant, &own, &binding())),
            &["AMD certificate chain"],
            RefusalCode::NotAuthentic,
        );
    }
    for (variant, ca) in [
        (Variant::AzureTrustedLaunch, &MAKERS.microsoft),
        (Variant::GcpSevEs, &MAKERS.google),
        (Variant::GcpSevSnp, &MAKERS.google),
        (Variant::GcpTdx, &MAKERS.google),
    ] {
        let bytes = document(variant, &own, &binding());
        for (revoked, holds) in [(false, true), (true, false)] {
            let intermediate = ca.intermediate();
            let serials = [intermediate.serial()];
            let list = ca.crl(if revoked { &serials } else { &[] });
            let mut setup = Setup::new(variant);
            setup
                .endorsements
                .add_crl(Crl::parse(&list).unwrap())
                .unwrap();
            let verdict = setup.judge(bytes.clone());
            if holds {
                assert!(verdict.is_ok());
            } else {
                refused(
                    variant.as_str(),
                    verdict,
                    &["AK certificate chain"],
                    RefusalCode::NotAuthentic,
                );
            }
        }
    }
    for variant in [Variant::AzureTdx, Variant::GcpTdx] {
        let mut tcb_info = intel::tcb_info();
        tcb_info["tcbLevels"][0]["tcbStatus"] = "Revoked".into();
        let collateral = MAKERS.intel.collateral_of(&tcb_info, &intel::qe_identity());
        let mut setup = Setup {
            endorsements: Endorsements::new(),
            ..Setup::new(variant)
        };
        let statements = MAKERS.statements(&collateral);
        setup.endorsements.add_intel(statements).unwrap();
        refused(
            variant.as_str(),
            setup.judge(document(variant, &own, &binding())),
            &["TCB status"],
            RefusalCode::Platform,
        );
    }
}

#[test]
fn what_has_run_out_is_refused() {
    for (variant, now, check) in [
        (
            Variant::AzureSevSnp,
            "2027-06-01T00:00:00Z",
            "AMD revocation list",
        ),
        (Variant::AzureTdx, "2026-06-01T00:00:00Z", "PCK certificate"),
        (
            Variant::AzureTrustedLaunch,
            "2036-06-01T00:00:00Z",
            "AK certificate chain",
        ),
        (
            Variant::GcpSevEs,
            "2036-06-01T00:00:00Z",
            "AK certificate chain",
        ),
        (
            Variant::GcpSevSnp,
            "2027-06-01T00:00:00Z",
            "AMD revocation list",
        ),
        (Variant::GcpTdx, "2026-06-01T00:00:00Z", "PCK certificate"),
    ] {
        let setup = Setup {
            now: time(now),
            ..Setup::new(variant)
        };
        let bytes = document(variant, &machine(), &binding());
        refused(
            variant.as_str(),
            setup.judge(bytes),
            &[check],
            RefusalCode::NotAuthentic,
        );
    }
}

#[test]
fn a_guest_that_its_host_may_look_into_is_refused() {
    for variant in [Variant::AzureSevSnp, Variant::GcpSevSnp] {
        let bytes = lying(variant, |machine| {
            let policy: u64 = 0x0002_0137 | 1 << 19;
            machine.report.set(offset::POLICY, &policy.to_le_bytes());
        });
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["debug off"],
            RefusalCode::Platform,
        );
    }
    for variant in [Variant::AzureTdx, Variant::GcpTdx] {
        let bytes = lying(variant, |machine| machine.td.attributes |= 1);
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["debug off"],
            RefusalCode::Platform,
        );
    }
}

#[test]
fn another_launch_is_refused() {
    for variant in [Variant::AzureSevSnp, Variant::GcpSevSnp] {
        let bytes = lying(variant, |machine| {
            machine.report.set(offset::MEASUREMENT, &[1; 48]);
        });
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["launch measurement"],
            RefusalCode::Measurements,
        );
    }
    for variant in [Variant::AzureTdx, Variant::GcpTdx] {
        let bytes = lying(variant, |machine| machine.td.mrtd = [1; 48]);
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["MRTD"],
            RefusalCode::Measurements,
        );
        let bytes = lying(variant, |machine| machine.td.rtmrs[1] = [1; 48]);
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["RTMR1"],
            RefusalCode::Measurements,
        );
    }
}

#[test]
fn whoever_vouches_vouches_for_attestation_keys_only() {
    for variant in VOUCHED {
        // decrypts too, or is not restricted
        for attributes in [0x0007_0472, 0x0004_0472] {
            let bytes = lying(variant, |machine| machine.attributes = attributes);
            not_authentic("attributes", variant, bytes, "key attributes");
        }
    }
    let own = machine();
    let mut it = own.azure_trusted_launch(&MAKERS, &binding());
    let endorsement_key = AkCertificate {
        is_signing: false,
        ..AkCertificate::azure()
    };
    it.ak_certificate = MAKERS.microsoft.certify(&own.tpm, &endorsement_key);
    not_authentic(
        "endorsement key",
        Variant::AzureTrustedLaunch,
        it.to_json(),
        "AK certificate purpose",
    );
    // Azure's authority for a machine of Google, and the other way round
    let mut it = own.gcp_sev_es(&MAKERS, &binding());
    let azures = own.azure_trusted_launch(&MAKERS, &binding());
    (it.ak_certificate, it.certificates) = (azures.ak_certificate, azures.certificates);
    not_authentic(
        "Azure's",
        Variant::GcpSevEs,
        it.to_json(),
        "AK certificate chain",
    );
}

#[test]
fn a_test_environment_of_google_is_refused() {
    for variant in [Variant::GcpSevEs, Variant::GcpSevSnp, Variant::GcpTdx] {
        let bytes = lying(variant, |machine| {
            machine.instance.is_production = Some(false);
        });
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["production environment"],
            RefusalCode::Platform,
        );
    }
}

#[test]
fn pcrs_and_log_are_held_against_the_policy_on_every_variant() {
    for variant in VOUCHED {
        let bytes = lying(variant, |machine| {
            let pcr = PcrIndex::new(12).unwrap();
            machine
                .pcrs
                .extend(pcr, &attest::Digest::of(b"credentials"));
        });
        refused(
            variant.as_str(),
            Setup::new(variant).judge(bytes),
            &["log replay", "PCR 12"],
            RefusalCode::Measurements,
        );
        // other values beside the quote
        let mut json: serde_json::Value =
            serde_json::from_slice(&document(variant, &machine(), &binding())).unwrap();
        json["pcrs"]["sha256"]["12"] = "11".repeat(32).into();
        not_authentic(
            "PCR values",
            variant,
            json.to_string().into_bytes(),
            "PCR digest",
        );
    }
}

#[test]
fn the_mark_is_demanded_on_every_variant() {
    let cluster = ClusterIdDigest::of(&[1; 32]);
    for variant in VOUCHED {
        let member = lying(variant, |machine| {
            machine
                .pcrs
                .extend(PcrIndex::CLUSTER_MARK, cluster.digest());
        });
        let with = |mark| Setup {
            mark,
            ..Setup::new(variant)
        };
        let own = with(ClusterMark::Cluster(cluster)).judge(member.clone());
        assert!(own.unwrap().has_joined());
        for mark in [
            ClusterMark::NotJoined,
            ClusterMark::Cluster(ClusterIdDigest::of(&[2; 32])),
        ] {
            refused(
                variant.as_str(),
                with(mark).judge(member.clone()),
                &["PCR 15"],
                RefusalCode::ClusterMark,
            );
        }
    }
}
