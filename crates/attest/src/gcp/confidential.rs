//! Confidential VMs: a report of the processor beside the certified TPM.

use super::{CertifiedInstance, InstanceInfo, report_data};
use crate::tpm::EndorsedAk;
use crate::verdict::{Findings, Stop};
use crate::{Binding, sev_snp, tdx};

/// A certified instance that runs on accepted hardware, whose report names the session and the TPM's key. Only the `appraise` functions
/// make one.
#[derive(Debug)]
pub struct ConfidentialInstance<H> {
    hardware: H,
    instance: CertifiedInstance,
}

impl<H> ConfidentialInstance<H> {
    /// What the processor vouches for.
    #[must_use]
    pub const fn hardware(&self) -> &H {
        &self.hardware
    }

    /// The instance.
    #[must_use]
    pub const fn info(&self) -> &InstanceInfo {
        self.instance.info()
    }

    /// The attestation key, for its quotes.
    #[must_use]
    pub fn into_ak(self) -> EndorsedAk {
        self.instance.into_ak()
    }
}

impl ConfidentialInstance<sev_snp::Appraised> {
    /// Holds a report of SEV-SNP against the session and the key of `instance`.
    ///
    /// # Errors
    /// If a check failed; `findings` say which.
    pub fn appraise_snp(
        instance: CertifiedInstance,
        report: &[u8],
        endorsements: &sev_snp::Endorsements<'_>,
        requirements: &sev_snp::Requirements,
        binding: &Binding,
        trust: &sev_snp::Trust<'_>,
        findings: &mut Findings,
    ) -> Result<Self, Stop> {
        let hardware = sev_snp::appraise(
            report,
            endorsements,
            requirements,
            &sev_snp::ReportData::new(report_data(binding, instance.key())),
            trust,
            findings,
        )?;
        Ok(Self { hardware, instance })
    }
}

impl ConfidentialInstance<tdx::Appraised> {
    /// Holds a quote of TDX against the session and the key of `instance`.
    ///
    /// # Errors
    /// If a check failed; `findings` say which.
    pub fn appraise_tdx(
        instance: CertifiedInstance,
        quote: &[u8],
        endorsements: &tdx::Endorsements,
        requirements: &tdx::Requirements,
        binding: &Binding,
        trust: &tdx::Trust<'_>,
        findings: &mut Findings,
    ) -> Result<Self, Stop> {
        let hardware = tdx::appraise(
            quote,
            endorsements,
            requirements,
            &tdx::ReportData::new(report_data(binding, instance.key())),
            trust,
            findings,
        )?;
        Ok(Self { hardware, instance })
    }
}
