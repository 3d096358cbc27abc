//! Of AMD: the HCL report holds the processor's report itself.

use super::{
    ConfidentialVm, Hardware, Paravisor, VmRequirements, demand_binding, demand_hardware,
    demand_platform, parse,
};
use crate::azure::CheckName;
use crate::sev_snp;
use crate::verdict::{self, Findings, RefusalCode, Step, Stop};

/// Where REPORT_DATA is in a report (AMD publication 56860, "ATTESTATION_REPORT").
const REPORT_DATA: usize = 0x50;

/// What it must be.
#[derive(Clone, Debug)]
pub struct SnpRequirements {
    /// Of the guest and its platform. The launch measurement is the paravisor's.
    pub hardware: sev_snp::Requirements,
    /// Of what runs first in it.
    pub paravisor: Paravisor,
    /// Of its configuration.
    pub vm: VmRequirements,
}

impl ConfidentialVm<sev_snp::Appraised> {
    /// Appraises a machine up to the key of its TPM, as the head of [`crate::azure`] says.
    ///
    /// # Errors
    /// If a check failed; `findings` say which.
    pub fn appraise_snp(
        hcl_report: &[u8],
        endorsements: &sev_snp::Endorsements<'_>,
        requirements: &SnpRequirements,
        trust: &sev_snp::Trust<'_>,
        findings: &mut Findings,
    ) -> Result<Self, Stop> {
        let report = parse(hcl_report, findings)?;
        let snp = demand_hardware(
            &report,
            |hardware| match hardware {
                Hardware::Snp(bytes) => Some(bytes),
                Hardware::TdReport(_) => None,
            },
            "SEV-SNP",
            findings,
        )?;
        let claimed = snp.get(REPORT_DATA..).and_then(|it| it.first_chunk());
        let ak = demand_binding(&report, claimed.unwrap_or(&[0; 64]), findings)?;
        let hardware = sev_snp::appraise(
            snp,
            endorsements,
            &requirements.hardware,
            &sev_snp::ReportData::new(report.expected_report_data()),
            trust,
            findings,
        )?;
        let fields = hardware.report();
        // the guest runs at a lower privilege and may ask for reports over what it likes
        let privilege = findings.demand(
            Step::Platform,
            verdict::CheckName::Azure(CheckName::Privilege),
            RefusalCode::NotAuthentic,
            fields.vmpl == 0,
            "privilege level 0",
            &format!("privilege level {}", fields.vmpl),
            "the guest made this report and not its paravisor: the key in it is the guest's, refuse this machine",
        );
        let platform = demand_platform(
            &requirements.paravisor,
            requirements.vm,
            [&fields.measurement, &fields.id_key_digest],
            report.claims(),
            findings,
        );
        privilege?;
        platform?;
        Ok(Self {
            hardware,
            ak,
            claims: report.claims().clone(),
        })
    }
}
