//! Of Intel: the HCL report holds a `TDREPORT`, and a quote over the same report data comes beside it.

use super::{
    ConfidentialVm, Hardware, Paravisor, VmRequirements, demand_binding, demand_hardware,
    demand_platform, parse,
};
use crate::tdx;
use crate::verdict::{Findings, Stop};

/// Where `REPORTDATA` is in a `TDREPORT` (Intel TDX module ABI, `REPORTMACSTRUCT`).
const REPORT_DATA: usize = 128;

/// What the machine sent.
#[derive(Clone, Copy, Debug)]
pub struct TdxEvidence<'a> {
    /// The HCL report.
    pub hcl_report: &'a [u8],
    /// The quote that Azure's host made of the `TDREPORT` in it.
    pub quote: &'a [u8],
}

/// What it must be.
#[derive(Clone, Debug)]
pub struct TdxRequirements {
    /// Of the trust domain and its platform.
    pub hardware: tdx::Requirements,
    /// Of what runs first in it.
    pub paravisor: Paravisor,
    /// Of its configuration.
    pub vm: VmRequirements,
}

impl ConfidentialVm<tdx::Appraised> {
    /// Appraises a machine up to the key of its TPM, as the head of [`crate::azure`] says.
    ///
    /// # Errors
    /// If a check failed; `findings` say which.
    pub fn appraise_tdx(
        evidence: &TdxEvidence<'_>,
        endorsements: &tdx::Endorsements,
        requirements: &TdxRequirements,
        trust: &tdx::Trust<'_>,
        findings: &mut Findings,
    ) -> Result<Self, Stop> {
        let report = parse(evidence.hcl_report, findings)?;
        let td_report = demand_hardware(
            &report,
            |hardware| match hardware {
                Hardware::TdReport(bytes) => Some(bytes),
                Hardware::Snp(_) => None,
            },
            "TDX",
            findings,
        )?;
        let claimed = td_report.get(REPORT_DATA..).and_then(|it| it.first_chunk());
        let ak = demand_binding(&report, claimed.unwrap_or(&[0; 64]), findings)?;
        // the TDREPORT itself proves nothing here: the quote must be over the same 64 bytes
        let hardware = tdx::appraise(
            evidence.quote,
            endorsements,
            &requirements.hardware,
            &tdx::ReportData::new(report.expected_report_data()),
            trust,
            findings,
        )?;
        demand_platform(
            &requirements.paravisor,
            requirements.vm,
            [hardware.mrtd().as_bytes(), &[0; 48]],
            report.claims(),
            findings,
        )?;
        Ok(Self {
            hardware,
            ak,
            claims: report.claims().clone(),
        })
    }
}
