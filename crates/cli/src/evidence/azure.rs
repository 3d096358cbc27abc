//! Confidential VMs of Azure: a report of the processor over the key of the paravisor's TPM, and that TPM's quote.

use attest::azure::{
    ConfidentialVm, HclReport, Paravisor, SnpRequirements, TdxEvidence, TdxRequirements,
    VmRequirements,
};
use attest::policy::Generation;
use attest::sev_snp::{self, Report};
use attest::x509::PathCache;
use attest::{CheckName, Findings, Step, azure, tdx};

use super::{End, Question, impossible, quote, snp};
use crate::failure::Failure;

const HCL_REPORT: &[&str] = &["hcl-report.bin", "hcl_report.bin"];

pub(super) fn verify_snp(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let bytes = question.files.need(HCL_REPORT)?;
    let report = HclReport::claimed_snp_report(bytes);
    let fields = report.as_ref().map(Report::fields);
    let requirements = match (&question.policy, generation) {
        (Some(policy), Some(generation)) => policy
            .azure_snp_requirements(generation)
            .map_err(|error| Failure::config("the policy").because(error))?,
        _ => SnpRequirements {
            hardware: snp::baseline(fields).map_err(impossible)?,
            paravisor: own_paravisor(fields.map(|it| it.measurement))?,
            vm: VmRequirements::default(),
        },
    };
    let vm = snp::candidates(question, fields).try_each(findings, |endorsements, findings| {
        let trust = sev_snp::Trust {
            roots: &sev_snp::Roots::amd(),
            cache: &PathCache::default(),
            now: question.now,
        };
        ConfidentialVm::appraise_snp(bytes, endorsements, &requirements, &trust, findings)
    });
    let vm = vm.ok_or_else(|| snp::no_key(findings))??;
    if generation.is_none() {
        snp::warn_of_open(findings, fields);
        warn_of_paravisor(findings);
    }
    quote::verify(question, &vm.into_ak().trusted(), generation, findings)
}

pub(super) fn verify_tdx(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let hcl_report = question.files.need(HCL_REPORT)?;
    let bytes = question.files.need(&["quote.bin"])?;
    let endorsements = super::tdx::endorsements(question, bytes, findings)?;
    let requirements = match (&question.policy, generation) {
        (Some(policy), Some(generation)) => policy
            .azure_tdx_requirements(generation)
            .map_err(|error| Failure::config("the policy").because(error))?,
        _ => {
            let quote = tdx::Quote::parse(bytes).ok();
            TdxRequirements {
                hardware: super::tdx::requirements(question, generation)?,
                paravisor: own_paravisor(quote.map(|it| *it.body().mrtd.as_bytes()))?,
                vm: VmRequirements::default(),
            }
        }
    };
    let vm = ConfidentialVm::appraise_tdx(
        &TdxEvidence {
            hcl_report,
            quote: bytes,
        },
        &endorsements,
        &requirements,
        &tdx::Trust {
            roots: &tdx::Roots::intel(),
            cache: &PathCache::default(),
            now: question.now,
        },
        findings,
    )?;
    if generation.is_none() {
        warn_of_paravisor(findings);
    }
    quote::verify(question, &vm.into_ak().trusted(), generation, findings)
}

/// Where no policy says which paravisors are accepted: the one that is there, of which [`warn_of_paravisor`] tells.
fn own_paravisor(own: Option<[u8; 48]>) -> Result<Paravisor, End> {
    // where nothing could be read the report is refused before it is compared with this
    let unreadable = [0xff; 48];
    let own = own.filter(|it| *it != [0; 48]).unwrap_or(unreadable);
    Paravisor::new([own], []).map_err(impossible)
}

fn warn_of_paravisor(findings: &mut Findings) {
    findings.qualify(
        Step::Platform,
        CheckName::Azure(azure::CheckName::Paravisor),
        "a paravisor that you accept, by its measurement or identity key",
        "not compared with any policy",
        "it vouches for the TPM: whoever can start another one in its place makes up what the TPM says",
    );
}
