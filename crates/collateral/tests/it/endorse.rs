//! What a verifier gets for a machine's evidence, by the document that the machine sends.

use attest::vtpm::TpmEvidence;
use attest::{Evidence, Variant, azure, gcp};
use collateral::needs::needs_of;
use collateral::{Demand, Missing, OnFailure, Update};
use testkit::boot::Image;
use testkit::cloud::{AkCertificate, Authority, CloudTpm, InstanceParts};
use testkit::vendors::BadDay;

use crate::lab::{DEMAND, Lab, MILAN_CRL_TARGET, QE_IDENTITY_TARGET, TCB_INFO_TARGET, evidence};

/// Of which nothing is read here.
fn tpm() -> TpmEvidence {
    let image = Image::default();
    TpmEvidence {
        ak_public: Vec::new(),
        quote: Vec::new(),
        signature: Vec::new(),
        pcrs: image.pcrs(),
        event_log: image.event_log(),
        command_line: None,
    }
}

const QUOTE: &str = "tdx/go-tdx-guest/v5-90c06f/quote.bin";

fn azure_tdx(quote: Vec<u8>) -> Evidence {
    let document = azure::TdxDocument {
        tpm: tpm(),
        hcl_report: Vec::new(),
        td_quote: quote,
    };
    Evidence::new(Variant::AzureTdx, document.to_json()).unwrap()
}

fn azure_sev_snp(certificates: Vec<Vec<u8>>) -> Evidence {
    let document = azure::SevSnpDocument {
        tpm: tpm(),
        hcl_report: evidence("azure-snp-vtpm/trustee/genoa-v3/hcl-report.bin"),
        certificates,
    };
    Evidence::new(Variant::AzureSevSnp, document.to_json()).unwrap()
}

/// What Google's hierarchy of 2018 names, above a key and above its authority.
const LISTS_OF_2018: [&str; 2] = [
    "crl/http://pki.goog/cloud_integrity/tpm_ek_root_1.crl",
    "crl/https://pki.goog/cloud_integrity/tpm_ek_intermediate_2.crl",
];

#[tokio::test]
async fn a_quote_brings_intels_statements_about_its_platform() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    let endorsed = collateral
        .endorse(&azure_tdx(evidence(QUOTE)), Update::Standard, DEMAND)
        .await;
    assert!(endorsed.missing.is_empty(), "{:?}", endorsed.missing);
    let [set] = endorsed.endorsements.intel() else {
        panic!("{:?}", endorsed.endorsements);
    };
    assert_eq!(set.claimed_tcb_info().fmspc, [0x90, 0xc0, 0x6f, 0, 0, 0]);
    for target in [TCB_INFO_TARGET, QE_IDENTITY_TARGET] {
        assert_eq!(lab.vendors.count(target), 1, "{target}");
    }
    // a second machine of that platform costs nobody anything
    collateral
        .endorse(&azure_tdx(evidence(QUOTE)), Update::Standard, DEMAND)
        .await;
    assert_eq!(lab.vendors.count(TCB_INFO_TARGET), 1);
}

#[tokio::test]
async fn a_machine_that_brings_its_certificate_asks_for_what_is_above_it_only() {
    let lab = Lab::new().await;
    let vek = evidence("azure-snp-vtpm/trustee/genoa-v3/vek.der");
    let endorsed = lab
        .collateral()
        .endorse(&azure_sev_snp(vec![vek]), Update::Standard, DEMAND)
        .await;
    assert_eq!(lab.vendors.count("/vcek/v1/Genoa/cert_chain"), 1);
    assert_eq!(endorsed.endorsements.certificates().len(), 2);
    // this lab has no list of that line
    let [missing] = endorsed.missing.as_slice() else {
        panic!("{:?}", endorsed.missing);
    };
    assert!(
        missing.to_string().starts_with("amd-crl/genoa/vcek"),
        "{missing}"
    );
    assert_eq!(lab.vendors.count(MILAN_CRL_TARGET), 0);
}

#[tokio::test]
async fn what_can_not_be_had_is_said_and_nothing_is_made_up() {
    let mut lab = Lab::new().await;
    lab.settings.network = false;
    let endorsed = lab
        .collateral()
        .endorse(&azure_tdx(evidence(QUOTE)), Update::Standard, DEMAND)
        .await;
    assert!(endorsed.endorsements.is_empty());
    assert_eq!(endorsed.missing.len(), 4);
    let broken = lab
        .collateral()
        .endorse(&azure_tdx(b"no quote".to_vec()), Update::Standard, DEMAND)
        .await;
    assert!(broken.endorsements.is_empty());
    assert!(matches!(broken.missing.as_slice(), [Missing::Needs(_)]));
    let other = Evidence::new(
        Variant::GcpTdx,
        azure_tdx(evidence(QUOTE)).document().to_vec(),
    );
    let other = lab
        .collateral()
        .endorse(&other.unwrap(), Update::Standard, DEMAND)
        .await;
    assert!(matches!(other.missing.as_slice(), [Missing::Needs(_)]));
}

#[tokio::test]
async fn a_certified_key_names_its_lists_and_they_come_from_places_of_the_settings_only() {
    let mut lab = Lab::new().await;
    let document = gcp::SevEsDocument {
        tpm: tpm(),
        ak_certificate: evidence("gcp-vtpm/go-tpm-tools/gce-cos-85-sha256/akcert.der"),
        certificates: Vec::new(),
    };
    let sent = Evidence::new(Variant::GcpSevEs, document.to_json()).unwrap();
    lab.settings.crl_origins.clear();
    let endorsed = lab
        .collateral()
        .endorse(&sent, Update::Standard, DEMAND)
        .await;
    let missing: Vec<String> = endorsed.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing.len(), 2, "{missing:?}");
    for missing in missing {
        assert!(missing.contains("://pki.goog/"), "{missing}");
    }
}

/// The authorities above a key are the verifier's, and a list of each is needed: one alone would make the others missing.
#[test]
fn a_certified_key_needs_the_lists_of_every_authority_above_it() {
    let google = |ak: &str, certificates: Vec<Vec<u8>>| {
        let document = gcp::SevEsDocument {
            tpm: tpm(),
            ak_certificate: evidence(ak),
            certificates,
        };
        Evidence::new(Variant::GcpSevEs, document.to_json()).unwrap()
    };
    let document = azure::TrustedLaunchDocument {
        tpm: tpm(),
        ak_certificate: evidence("azure-vtpm/aicert/trusted-launch-2024/akcert.der"),
        certificates: Vec::new(),
    };
    let microsoft = Evidence::new(Variant::AzureTrustedLaunch, document.to_json()).unwrap();
    let of_2018 = "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256/akcert.der";
    // another vendor's authority has no part in this
    let stranger = evidence("snp-vcek/tav/turin-v5/vek.der");
    for (sent, expected) in [
        (google(of_2018, Vec::new()), LISTS_OF_2018.as_slice()),
        (google(of_2018, vec![stranger]), LISTS_OF_2018.as_slice()),
        (
            microsoft,
            &[
                "crl/http://www.microsoft.com/pkiops/crl/Azure%20Virtual%20TPM%20Root%20Certificate%20Authority%202023.crl",
            ],
        ),
    ] {
        let needs = needs_of(&sent, Update::Standard).unwrap();
        let names: Vec<String> = needs.items.iter().map(ToString::to_string).collect();
        assert_eq!(names, expected, "{}", sent.variant());
        assert!(needs.unmet.is_empty(), "{:?}", needs.unmet);
    }
}

/// Who certifies itself, under the names of the vendor's authorities, has nothing fetched.
#[test]
fn certificates_of_nobodys_name_no_lists() {
    let stranger = Authority::new("tpm_ek_v1_cloud_host_root");
    let parts = AkCertificate {
        crl_url: Some("http://pki.goog/cloud_integrity/tpm_ek_root_1.crl".to_owned()),
        ..AkCertificate::google(&InstanceParts::default())
    };
    let own = stranger.certify(&CloudTpm::new(), &parts);
    let report = "snp-vcek/virtee-sev/milan-v2/report.bin";
    let sent = |ak_certificate, snp_certificates| {
        let document = gcp::SevSnpDocument {
            tpm: tpm(),
            ak_certificate,
            certificates: vec![
                own.clone(),
                stranger.intermediate().der().to_vec(),
                stranger.root().der().to_vec(),
            ],
            snp_report: evidence(report),
            snp_certificates,
        };
        let sent = Evidence::new(Variant::GcpSevSnp, document.to_json()).unwrap();
        let needs = needs_of(&sent, Update::Standard).unwrap();
        let names: Vec<String> = needs.items.iter().map(ToString::to_string).collect();
        (names, needs.unmet.len())
    };
    // the report is of a version that does not name its product line, and so nothing of AMD's can be asked for
    assert_eq!(sent(own.clone(), vec![own.clone()]), (Vec::new(), 1));
    // a true key has its lists all the same
    let google = evidence("gcp-vtpm/go-tpm-tools/gce-cos-85-sha256/akcert.der");
    let lists = LISTS_OF_2018.map(str::to_owned).to_vec();
    assert_eq!(sent(google.clone(), vec![own.clone()]), (lists.clone(), 1));
    let vek = evidence("snp-vcek/virtee-sev/milan-v2/vek.der");
    let (names, unmet) = sent(google, vec![own.clone(), vek]);
    assert_eq!(unmet, 0);
    assert_eq!(names[..2], ["amd-chain/milan/vcek", "amd-crl/milan/vcek"]);
    assert_eq!(names[2..], lists);
}

/// What is used although it could not be had anew is told: whoever stands between keeps back what is newer.
#[tokio::test]
async fn what_is_not_refreshed_is_told() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    let demand = Demand {
        on_failure: OnFailure::Stale,
        ..DEMAND
    };
    let sent = azure_tdx(evidence(QUOTE));
    let first = collateral.endorse(&sent, Update::Standard, demand).await;
    assert!(first.missing.is_empty(), "{:?}", first.missing);
    // a cache that is damaged is no vendor's fault
    for file in std::fs::read_dir(lab.cache_path()).unwrap() {
        std::fs::write(file.unwrap().path(), b"damaged").unwrap();
    }
    let again = collateral.endorse(&sent, Update::Standard, demand).await;
    assert!(again.missing.is_empty(), "{:?}", again.missing);
    assert_eq!(lab.vendors.count(TCB_INFO_TARGET), 2);
    lab.set_clock("2026-06-16T12:00:00Z");
    lab.vendors
        .spoil(TCB_INFO_TARGET, [BadDay::Status(404, None)]);
    let second = collateral.endorse(&sent, Update::Standard, demand).await;
    assert_eq!(second.endorsements.intel().len(), 1);
    let [missing @ Missing::NotRefreshed { .. }] = second.missing.as_slice() else {
        panic!("{:?}", second.missing);
    };
    let text = missing.to_string();
    let begin = "intel-tdx-tcb-info/90c06f000000/standard is as it was fetched at 2026-06-15T00:00:00Z: not refreshed: ";
    assert!(text.starts_with(begin), "{text}");
}

#[tokio::test]
async fn a_machine_without_a_vendor_needs_nothing() {
    let lab = Lab::new().await;
    let sent = Evidence::new(Variant::QemuVtpm, b"{}".to_vec()).unwrap();
    let endorsed = lab
        .collateral()
        .endorse(&sent, Update::Standard, DEMAND)
        .await;
    assert!(endorsed.endorsements.is_empty() && endorsed.missing.is_empty());
}
