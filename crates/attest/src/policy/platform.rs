//! What a policy demands of a platform, in the words of the modules that appraise one.

use thiserror::Error;

use super::{Accepted384, Generation, PolicyDocument};
use crate::azure::{Paravisor, ParavisorError, VmRequirements};
use crate::{azure, gcp, sev_snp, tdx};

/// Why a policy demands nothing that a platform could be held against.
#[derive(Debug, Error)]
pub enum PlatformError {
    /// It has no section for AMD's processors.
    #[error("the policy says nothing about SEV-SNP")]
    NoSnp,
    /// It has no section for Intel's.
    #[error("the policy says nothing about TDX")]
    NoTdx,
    /// What it says of AMD's contradicts itself.
    #[error("what the policy says about SEV-SNP")]
    Snp(#[source] sev_snp::RequirementsError),
    /// It accepts no paravisor, or every one.
    #[error("the policy's paravisors")]
    Paravisor(#[source] ParavisorError),
}

impl PolicyDocument {
    /// What an SEV-SNP report must say, for a machine of `generation`.
    ///
    /// # Errors
    /// When the policy demands nothing of such a platform.
    pub fn snp_requirements(
        &self,
        generation: &Generation,
    ) -> Result<sev_snp::Requirements, PlatformError> {
        self.snp()
            .ok_or(PlatformError::NoSnp)?
            .requirements(generation)
            .map_err(PlatformError::Snp)
    }

    /// What a TD quote must say, for a machine of `generation`.
    ///
    /// # Errors
    /// When the policy demands nothing of such a platform.
    pub fn tdx_requirements(
        &self,
        generation: &Generation,
    ) -> Result<tdx::Requirements, PlatformError> {
        let tdx = self.tdx().ok_or(PlatformError::NoTdx)?;
        Ok(tdx.requirements(generation))
    }

    /// What a confidential VM of Azure on SEV-SNP must be, for a machine of `generation`. Its paravisor is known by an enforced launch
    /// measurement, or by an enforced identity key.
    ///
    /// # Errors
    /// When the policy demands nothing of such a platform.
    pub fn azure_snp_requirements(
        &self,
        generation: &Generation,
    ) -> Result<azure::SnpRequirements, PlatformError> {
        let snp = self.snp().ok_or(PlatformError::NoSnp)?;
        Ok(azure::SnpRequirements {
            hardware: self.snp_requirements(generation)?,
            paravisor: paravisor(generation.launch(), snp.id_keys())?,
            vm: VmRequirements::default(),
        })
    }

    /// What a confidential VM of Azure on TDX must be, for a machine of `generation`. Its paravisor is known by an enforced MRTD.
    ///
    /// # Errors
    /// When the policy demands nothing of such a platform.
    pub fn azure_tdx_requirements(
        &self,
        generation: &Generation,
    ) -> Result<azure::TdxRequirements, PlatformError> {
        Ok(azure::TdxRequirements {
            hardware: self.tdx_requirements(generation)?,
            paravisor: paravisor(generation.mrtd(), None)?,
            vm: VmRequirements::default(),
        })
    }

    /// What an instance of Google must be: a policy says what boots, and not whose instance it is. The verdict warns.
    #[must_use]
    pub const fn gcp_requirements(&self) -> gcp::InstanceRequirements {
        gcp::InstanceRequirements::of_any_tenant()
    }
}

/// Values of which a policy only warns accept nothing.
fn paravisor(
    measurements: Option<&Accepted384>,
    id_keys: Option<&Accepted384>,
) -> Result<Paravisor, PlatformError> {
    let enforced = |values: Option<&Accepted384>| {
        let values = values.filter(|values| !values.warn_only);
        let values = values.into_iter().flat_map(|values| &values.accepted);
        values.map(|digest| *digest.as_bytes()).collect::<Vec<_>>()
    };
    Paravisor::new(enforced(measurements), enforced(id_keys)).map_err(PlatformError::Paravisor)
}
