//! What a confidential VM of Azure must be.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{CheckName, RuntimeClaims};
use crate::verdict::{self, Findings, RefusalCode, Step, Stop};

/// Which paravisor may vouch for the TPM. Anybody can make an HCL report with a key of his own in a confidential VM of his own; only the
/// processor's word on what was launched there tells the two apart. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paravisor {
    measurements: BTreeSet<[u8; 48]>,
    id_keys: BTreeSet<[u8; 48]>,
}

/// Why a list of paravisors decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParavisorError {
    /// Any program would be accepted.
    #[error("no paravisor is accepted by its measurement or the digest of its identity key")]
    Empty,
    /// What stands there when nothing was measured or signed.
    #[error("zero is what a launch without an identity key or a measurement has")]
    Zero,
}

impl Paravisor {
    /// Accepts paravisors by launch measurement (SEV-SNP: MEASUREMENT, TDX: MRTD), or by the digest of the key that signed their identity
    /// block (SEV-SNP only), SHA-384 all of them.
    ///
    /// # Errors
    /// When nothing is named, or a value is zero.
    pub fn new(
        measurements: impl IntoIterator<Item = [u8; 48]>,
        id_keys: impl IntoIterator<Item = [u8; 48]>,
    ) -> Result<Self, ParavisorError> {
        let accepted = Self {
            measurements: measurements.into_iter().collect(),
            id_keys: id_keys.into_iter().collect(),
        };
        let mut all = accepted.measurements.iter().chain(&accepted.id_keys);
        if all.clone().next().is_none() {
            return Err(ParavisorError::Empty);
        }
        if all.any(|value| *value == [0; 48]) {
            return Err(ParavisorError::Zero);
        }
        Ok(accepted)
    }

    /// `id_key`: the digest in the report; zeros where there is none.
    pub(super) fn demand(
        &self,
        measurement: &[u8; 48],
        id_key: &[u8; 48],
        findings: &mut Findings,
    ) -> Result<(), Stop> {
        let names = |values: &BTreeSet<[u8; 48]>| {
            let values: Vec<String> = values.iter().map(hex::encode).collect();
            values.join(" or ")
        };
        findings.demand(
            Step::Platform,
            verdict::CheckName::Azure(CheckName::Paravisor),
            RefusalCode::Measurements,
            self.measurements.contains(measurement) || self.id_keys.contains(id_key),
            &format!(
                "measurement {} or identity key {}",
                names(&self.measurements),
                names(&self.id_keys)
            ),
            &format!(
                "measurement {}, identity key {}",
                hex::encode(measurement),
                hex::encode(id_key)
            ),
            "what vouches for the TPM is not a known paravisor: if Azure has a new one, accept it after its release was verified",
        )
    }
}

/// Whether the firmware must check what it boots. The claim is the host's, which the paravisor passes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureBoot {
    /// It must be on.
    #[default]
    Required,
    /// What boots is decided by the measurements alone.
    NotRequired,
}

/// What the paravisor must say of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmRequirements {
    /// Secure Boot. At first required.
    pub secure_boot: SecureBoot,
}

impl VmRequirements {
    pub(super) fn demand(
        self,
        claims: &RuntimeClaims,
        findings: &mut Findings,
    ) -> Result<(), Stop> {
        let configuration = claims.configuration();
        let said = |value: Option<bool>| match value {
            Some(true) => "on",
            Some(false) => "off",
            None => "nothing about it",
        };
        let tpm = configuration.and_then(|it| it.tpm_enabled);
        let tpm_holds = findings.demand(
            Step::Platform,
            verdict::CheckName::Azure(CheckName::Tpm),
            RefusalCode::Platform,
            tpm == Some(true),
            "on",
            said(tpm),
            "the machine was made without a virtual TPM, so nothing measures what it boots",
        );
        let secure_boot = configuration.and_then(|it| it.secure_boot);
        let secure_boot_holds = match self.secure_boot {
            SecureBoot::NotRequired => Ok(()),
            SecureBoot::Required => findings.demand(
                Step::Platform,
                verdict::CheckName::Azure(CheckName::SecureBoot),
                RefusalCode::Platform,
                secure_boot == Some(true),
                "on",
                said(secure_boot),
                "make the machine with Secure Boot",
            ),
        };
        tpm_holds?;
        secure_boot_holds
    }
}
