//! A confidential VM: the TPM is the paravisor's, and the processor vouches for its key.

use super::{CheckName, Hardware, HclReport, Paravisor, RuntimeClaims, VmRequirements};
use crate::tpm::EndorsedAk;
use crate::verdict::{self, Check, Findings, Outcome, RefusalCode, Step, Stop};

mod snp;
mod tdx;

pub use snp::SnpRequirements;
pub use tdx::{TdxEvidence, TdxRequirements};

/// A confidential VM whose processor, paravisor and configuration are accepted, with the attestation key of its TPM. Only the `appraise`
/// functions make one.
#[derive(Debug)]
pub struct ConfidentialVm<H> {
    hardware: H,
    ak: EndorsedAk,
    claims: RuntimeClaims,
}

impl<H> ConfidentialVm<H> {
    /// What the processor vouches for.
    #[must_use]
    pub const fn hardware(&self) -> &H {
        &self.hardware
    }

    /// What the paravisor says of the machine.
    #[must_use]
    pub const fn claims(&self) -> &RuntimeClaims {
        &self.claims
    }

    /// The attestation key, for its quotes.
    #[must_use]
    pub fn into_ak(self) -> EndorsedAk {
        self.ak
    }
}

fn parse<'a>(bytes: &'a [u8], findings: &mut Findings) -> Result<HclReport<'a>, Stop> {
    findings.parse(
        Step::Document,
        verdict::CheckName::Azure(CheckName::HclFormat),
        HclReport::parse(bytes),
    )
}

/// The report is of the processor that the variant is for; what the paravisor got, or nothing.
fn demand_hardware<'a, T>(
    report: &HclReport<'a>,
    of: impl FnOnce(Hardware<'a>) -> Option<T>,
    expected: &str,
    findings: &mut Findings,
) -> Result<T, Stop> {
    const NAME: verdict::CheckName = verdict::CheckName::Azure(CheckName::Hardware);
    let Some(found) = of(report.hardware()) else {
        let actual = match report.hardware() {
            Hardware::Snp(_) => "SEV-SNP",
            Hardware::TdReport(_) => "TDX",
        };
        return Err(findings.fail(
            RefusalCode::UnsupportedVariant,
            Check {
                expected: Some(expected.into()),
                actual: Some(actual.into()),
                next_step: Some("use the variant that is for this processor".into()),
                ..Check::new(Step::Document, NAME, Outcome::Failed)
            },
        ));
    };
    findings.pass(Step::Document, NAME);
    Ok(found)
}

/// The processor's report covers the runtime data beside it. Says so before the report itself is appraised, which then is held against the
/// same data: a report of another machine is named as one.
fn demand_binding(
    report: &HclReport<'_>,
    report_data: &[u8; 64],
    findings: &mut Findings,
) -> Result<EndorsedAk, Stop> {
    const NAME: verdict::CheckName = verdict::CheckName::Azure(CheckName::RuntimeData);
    match report.bind(report_data) {
        Ok(bound) => {
            findings.pass(Step::Report, NAME);
            Ok(bound.endorsed())
        }
        Err(error) => Err(findings.fail(
            RefusalCode::NotAuthentic,
            Check {
                expected: Some(error.expected.into()),
                actual: Some(error.found.into()),
                next_step: Some(
                    "the runtime data are not those of the processor's report: the key in them is nobody's, refuse this machine"
                        .into(),
                ),
                ..Check::new(Step::Report, NAME, Outcome::Failed)
            },
        )),
    }
}

/// Who vouches for the TPM, and how the machine was set up: both checks are made before it is known whether the appraisal goes on.
fn demand_platform(
    paravisor: &Paravisor,
    vm: VmRequirements,
    [measurement, id_key]: [&[u8; 48]; 2],
    claims: &RuntimeClaims,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let paravisor = paravisor.demand(measurement, id_key, findings);
    let vm = vm.demand(claims, findings);
    paravisor?;
    vm
}
