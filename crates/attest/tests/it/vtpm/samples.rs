//! Evidence of real machines, with the verdicts that several tools agreed on. Provenance: `testdata/evidence/manifest.json`.

use attest::azure::{
    ConfidentialVm, TdxEvidence, TdxRequirements, VmRequirements, trusted_launch_ak,
};
use attest::gcp::{self, InstanceRequirements};
use attest::tdx::{
    self, AcceptableStatus, Accepted, Advisories, Collateral, Launch, SeptVe, TcbStatus,
};
use attest::tpm::{EndorsedAk, PublicArea, QualifyingData, Selection, TrustedAk};
use attest::x509::{Certificate, PathCache, Revocation};
use attest::{Findings, RefusalCode, Stop, azure};
use testkit::tee::tpm2b;

use super::{
    Quote, accepted, appraise_snp, at, evidence, failed, has, hcl, manifest, nonce, paravisor_of,
    public_key, sample, time, values,
};

/// The checks that must fail, by sample.
const EXPECTED: [(&str, &[&str]); 17] = [
    ("azure-snp-vtpm/trustee/milan-v3", &[]),
    ("azure-snp-vtpm/trustee/milan-v3-userdata", &[]),
    ("azure-snp-vtpm/trustee/genoa-v3", &[]),
    ("azure-snp-vtpm/trustee/milan-v2", &[]),
    // the quote is not signed by the HCLAkPub of this report
    (
        "azure-snp-vtpm/trustee/milan-v2-quote-of-other-vm",
        &["signature"],
    ),
    ("azure-snp-vtpm/attestation-service/milan-v2-old", &[]),
    // VCEK does not match the report
    (
        "azure-snp-vtpm/kinvolk/milan-v2-vcek-of-other-chip",
        &["chip id", "SNP report signature"],
    ),
    ("azure-tdx-vtpm/trustee/tdx", &[]),
    ("azure-tdx-vtpm/flashbots/tdx-2026-06", &[]),
    ("azure-tdx-vtpm/intel-ita/tdx", &[]),
    ("gcp-vtpm/vaportpm/amd", &[]),
    ("gcp-vtpm/go-tpm-tools/gce-cos-85-sha256", &[]),
    ("gcp-vtpm/go-tpm-tools/gce-cos-85-sha384", &[]),
    // no nonce: refuse where freshness is required
    (
        "azure-vtpm/aicert/trusted-launch-2024",
        &["bound to this session"],
    ),
    // the certificate is of another key than the one that signed
    (
        "azure-vtpm/cmcp/trusted-launch-2026-07",
        &["key that is vouched for"],
    ),
    ("swtpm/trustee", &[]),
    ("swtpm/keylime", &[]),
];

#[test]
fn every_sample_gets_the_verdict_of_the_manifest() {
    let mut seen = 0;
    for sample in manifest() {
        let id = sample["id"].as_str().unwrap();
        let folder = id.split('/').next().unwrap();
        let folders = [
            "azure-snp-vtpm",
            "azure-tdx-vtpm",
            "azure-vtpm",
            "gcp-vtpm",
            "swtpm",
        ];
        if !folders.contains(&folder) {
            continue;
        }
        seen += 1;
        let expected = EXPECTED.iter().find(|(known, _)| *known == id);
        let (_, expected) = expected.unwrap_or_else(|| panic!("{id} has no row"));
        assert_eq!(sample["expect"] == "accept", expected.is_empty(), "{id}");
        let mut findings = Findings::new();
        let result = appraise(folder, id, &mut findings);
        assert_eq!(failed(&findings), *expected, "{id}: {findings}");
        assert_eq!(result.is_ok(), expected.is_empty(), "{id}: {findings}");
    }
    assert_eq!(seen, EXPECTED.len());
}

/// As far as the files go: some samples have no quote, some no PCR values.
fn appraise(folder: &str, id: &str, findings: &mut Findings) -> Result<(), Stop> {
    let ak = match folder {
        "azure-snp-vtpm" => {
            let vek = evidence(format!("{id}/vek.der"));
            appraise_snp(&hcl(id), &vek, at(id), findings)?
                .into_ak()
                .trusted()
        }
        "azure-tdx-vtpm" => trust_domain(id, findings)?,
        "azure-vtpm" => trusted_launch(id, findings)?,
        "gcp-vtpm" => instance(id, findings)?,
        _ => TrustedAk::enrolled_by_operator(public_key(&evidence(if has(id, "ak.der") {
            format!("{id}/ak.der")
        } else {
            format!("{id}/ak.pem")
        }))),
    };
    if !has(id, "quote.msg") {
        return Ok(());
    }
    let mut quote = Quote::of(id);
    if quote.nonce.is_empty() {
        assert!(QualifyingData::of_nonce(&quote.nonce).is_err());
        quote.nonce = vec![7; 32];
    }
    let signed = quote.verify(&ak, findings)?;
    if !has(id, "pcrs.json") {
        return Ok(());
    }
    let values = values(id);
    let selection = if values.len() == 24 {
        Selection::All
    } else {
        Selection::Including(values.iter().map(|(index, _)| index).collect())
    };
    let verified = signed.with_values(findings, &values, values.bank(), &selection)?;
    assert_eq!(verified.values(), &values);
    Ok(())
}

/// The newest collateral for the sample's platform that the manifest says can be used.
fn trust_domain(id: &str, findings: &mut Findings) -> Result<TrustedAk, Stop> {
    let sample = sample(id);
    let collateral = sample["tcb_expected"].as_object().unwrap();
    let (name, _) = collateral.iter().next_back().unwrap();
    appraise_tdx(id, name, findings).map(EndorsedAk::trusted)
}

pub(super) fn appraise_tdx(
    id: &str,
    collateral: &str,
    findings: &mut Findings,
) -> Result<EndorsedAk, Stop> {
    let quote = evidence(format!("{id}/quote.bin"));
    appraise_tdx_with(&hcl(id), &quote, collateral, findings)
}

/// Any platform of Intel's: what these tests are about is the TPM.
pub(super) fn appraise_tdx_with(
    hcl: &[u8],
    quote: &[u8],
    collateral: &str,
    findings: &mut Findings,
) -> Result<EndorsedAk, Stop> {
    let file = |file: &str| evidence(format!("tdx-collateral/{collateral}/{file}"));
    let chain = file("tcb_signing_chain.pem");
    let qe_chain = if has(
        &format!("tdx-collateral/{collateral}"),
        "qe_identity_signing_chain.pem",
    ) {
        file("qe_identity_signing_chain.pem")
    } else {
        chain.clone()
    };
    let endorsements = tdx::Endorsements::parse(&Collateral {
        tcb_info: &file("tcb_info.json"),
        tcb_info_chain: &chain,
        qe_identity: &file("qe_identity.json"),
        qe_identity_chain: &qe_chain,
        crls: &[&file("pck_crl.der"), &file("root_ca_crl.der")],
    })
    .unwrap();
    let mrtd = tdx::Quote::parse(quote).unwrap().body().mrtd;
    let hardware = tdx::Requirements {
        sept_ve: SeptVe::GuestGuardsItself,
        attributes: tdx::TdAttributes::PKS | tdx::TdAttributes::PERFMON,
        advisories: Advisories::Any,
        mr_service_td: Accepted::Open,
        statuses: [TcbStatus::UpToDate, TcbStatus::OutOfDate]
            .into_iter()
            .filter_map(AcceptableStatus::new)
            .collect(),
        ..tdx::Requirements::new(Launch {
            mrtd: Accepted::Open,
            rtmrs: [const { Accepted::Open }; 4],
        })
    };
    let vm = ConfidentialVm::appraise_tdx(
        &TdxEvidence {
            hcl_report: hcl,
            quote,
        },
        &endorsements,
        &TdxRequirements {
            hardware,
            paravisor: paravisor_of(*mrtd.as_bytes()),
            vm: VmRequirements::default(),
        },
        &tdx::Trust {
            roots: &tdx::Roots::intel(),
            cache: &PathCache::default(),
            now: at(&format!("tdx-collateral/{collateral}")),
        },
        findings,
    )?;
    Ok(vm.into_ak())
}

fn trusted_launch(id: &str, findings: &mut Findings) -> Result<TrustedAk, Stop> {
    let (certificate, now) = if has(id, "akcert.der") {
        (evidence(format!("{id}/akcert.der")), at(id))
    } else {
        let other = evidence(format!("{id}/other-akcert.der"));
        (other, time("2026-07-28T00:00:00Z"))
    };
    let ak = trusted_launch_ak(
        &certificate,
        &[],
        &azure::authorities(),
        &Revocation::DangerousNotLookedAt,
        now,
        findings,
    )?;
    if has(id, "ak.pem") {
        let claimed = public_key(&evidence(format!("{id}/ak.pem")));
        return ak.is(&claimed, findings).map(EndorsedAk::trusted);
    }
    Ok(ak.trusted())
}

fn instance(id: &str, findings: &mut Findings) -> Result<TrustedAk, Stop> {
    let (certificate, intermediates) = if has(id, "akcert.der") {
        (evidence(format!("{id}/akcert.der")), Vec::new())
    } else {
        let chain = Certificate::chain_from_pem(&evidence(format!("{id}/ak-chain.pem")), 4);
        let mut chain = chain.unwrap();
        (chain.remove(0).der().to_vec(), chain)
    };
    let instance = gcp::ak(
        &certificate,
        &intermediates,
        &gcp::authorities(),
        &Revocation::DangerousNotLookedAt,
        &InstanceRequirements::of_any_tenant(),
        at(id),
        findings,
    )?;
    if has(id, "ak.tpmt_public") {
        let area = PublicArea::parse(&tpm2b(&evidence(format!("{id}/ak.tpmt_public")))).unwrap();
        return instance.into_ak().with_public_area(&area, findings);
    }
    Ok(instance.into_ak().trusted())
}

/// The AK certificate that Azure also issues for confidential VMs is of the key in the HCL report.
#[test]
fn azure_certifies_the_key_that_the_paravisor_names() {
    const ID: &str = "azure-tdx-vtpm/flashbots/tdx-2026-06";
    let mut findings = Findings::new();
    let pem = evidence(format!("{ID}/akcert.pem"));
    let certificate = Certificate::chain_from_pem(&pem, 1).unwrap().remove(0);
    let certified = trusted_launch_ak(
        certificate.der(),
        &[],
        &azure::authorities(),
        &Revocation::DangerousNotLookedAt,
        at(ID),
        &mut findings,
    );
    let certified = accepted(certified, &findings);
    let named = appraise_tdx(ID, "90c06f-2026-06-flashbots", &mut findings);
    assert_eq!(certified.key(), accepted(named, &findings).key());
}

#[test]
fn the_nonce_of_a_sample_is_no_other() {
    const ID: &str = "azure-vtpm/aicert/trusted-launch-2024";
    assert_eq!(nonce(ID), [0_u8; 0]);
    let mut findings = Findings::new();
    assert!(appraise("azure-vtpm", ID, &mut findings).is_err());
    assert_eq!(findings.refusal_code(), Some(RefusalCode::WrongBinding));
}
