//! Confidential VMs of Azure: a report of the processor over the key of the paravisor's TPM, and that TPM's quote.

use attest::azure::{
    ConfidentialVm, Hardware, HclReport, Paravisor, SnpRequirements, TdxEvidence, TdxRequirements,
    VmRequirements,
};
use attest::policy::Generation;
use attest::sev_snp::{self, Report};
use attest::x509::PathCache;
use attest::{CheckName, Digest384, Findings, Step, azure, tdx};

use super::{End, Question, impossible, quote, snp};
use crate::failure::Failure;

const HCL_REPORT: &[&str] = &["hcl-report.bin", "hcl_report.bin"];

pub(super) fn verify_snp(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let bytes = question.files.need(HCL_REPORT)?;
    let report = snp_report(bytes);
    let fields = report.as_ref().map(Report::fields);
    let hardware = match snp::requirements(question, generation)? {
        Some(requirements) => requirements,
        None => snp::baseline(fields).map_err(impossible)?,
    };
    let accepted = generation
        .and_then(|it| it.launch())
        .filter(|launch| !launch.warn_only)
        .map(|launch| &launch.accepted);
    let id_keys = question
        .policy
        .as_ref()
        .and_then(|policy| policy.snp())
        .and_then(|snp| snp.id_keys().filter(|keys| !keys.warn_only).cloned());
    let id_keys = id_keys.as_ref().map(|keys| &keys.accepted);
    let pinned = accepted.is_some() || id_keys.is_some();
    let own = fields.filter(|_| !pinned).map(|it| it.measurement);
    let paravisor = paravisor(
        accepted.into_iter().flatten(),
        id_keys.into_iter().flatten(),
        own,
    )?;
    let requirements = SnpRequirements {
        hardware,
        paravisor,
        vm: VmRequirements::default(),
    };
    let vm = snp::Evidence::of(question).try_each(findings, |endorsements, findings| {
        let trust = sev_snp::Trust {
            roots: &sev_snp::Roots::amd(),
            cache: &PathCache::default(),
            now: question.now,
        };
        ConfidentialVm::appraise_snp(bytes, endorsements, &requirements, &trust, findings)
            .map_err(End::from)
    })?;
    if generation.is_none() {
        snp::warn_of_open(findings, fields);
    }
    warn_of_paravisor(findings, pinned);
    quote::verify(question, &vm.into_ak().trusted(), generation, findings)
}

/// The processor's report in a report of the paravisor.
fn snp_report(hcl: &[u8]) -> Option<Report> {
    match HclReport::parse(hcl).ok()?.hardware() {
        Hardware::Snp(bytes) => Report::parse(bytes).ok(),
        Hardware::TdReport(_) => None,
    }
}

pub(super) fn verify_tdx(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let hcl_report = question.files.need(HCL_REPORT)?;
    let bytes = question.files.need(&["quote.bin"])?;
    let endorsements = super::tdx::endorsements(question, bytes, findings)?;
    let accepted = generation
        .and_then(|it| it.mrtd())
        .filter(|mrtd| !mrtd.warn_only)
        .map(|mrtd| &mrtd.accepted);
    let pinned = accepted.is_some();
    let own = tdx::Quote::parse(bytes)
        .ok()
        .filter(|_| !pinned)
        .map(|quote| *quote.body().mrtd.as_bytes());
    let paravisor = paravisor(accepted.into_iter().flatten(), std::iter::empty(), own)?;
    let vm = ConfidentialVm::appraise_tdx(
        &TdxEvidence {
            hcl_report,
            quote: bytes,
        },
        endorsements,
        &TdxRequirements {
            hardware: super::tdx::requirements(question, generation)?,
            paravisor,
            vm: VmRequirements::default(),
        },
        &tdx::Trust {
            roots: &tdx::Roots::intel(),
            cache: &PathCache::default(),
            now: question.now,
        },
        findings,
    )?;
    warn_of_paravisor(findings, pinned);
    quote::verify(question, &vm.into_ak().trusted(), generation, findings)
}

/// The paravisors of the policy; failing that the one that is there, of which [`warn_of_paravisor`] tells.
fn paravisor<'a>(
    measurements: impl Iterator<Item = &'a Digest384>,
    id_keys: impl Iterator<Item = &'a Digest384>,
    own: Option<[u8; 48]>,
) -> Result<Paravisor, End> {
    let measurements = measurements.map(|digest| *digest.as_bytes());
    // where nothing could be read the report is refused before it is compared with this
    let unreadable = [0xff; 48];
    let mut all: Vec<[u8; 48]> = measurements
        .chain(own.filter(|it| *it != [0; 48]))
        .collect();
    let id_keys: Vec<[u8; 48]> = id_keys.map(|digest| *digest.as_bytes()).collect();
    if all.is_empty() && id_keys.is_empty() {
        all.push(unreadable);
    }
    Paravisor::new(all, id_keys).map_err(|error| {
        Failure::config("the policy's paravisors")
            .because(error)
            .into()
    })
}

fn warn_of_paravisor(findings: &mut Findings, pinned: bool) {
    if !pinned {
        findings.qualify(
            Step::Platform,
            CheckName::Azure(azure::CheckName::Paravisor),
            "a paravisor that you accept, by its measurement or identity key",
            "not compared with any policy",
            "it vouches for the TPM: whoever can start another one in its place makes up what the TPM says",
        );
    }
}
