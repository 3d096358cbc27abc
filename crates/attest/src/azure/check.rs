//! The names of Azure's checks.

use std::fmt;

/// One check of Azure's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The HCL report can be read.
    HclFormat,
    /// It is of the processor that the variant is for.
    Hardware,
    /// The processor's report is over the digest of the runtime data, and nothing else.
    RuntimeData,
    /// The paravisor made it, and not the guest under it.
    Privilege,
    /// The paravisor is an accepted one.
    Paravisor,
    /// The machine has a TPM.
    Tpm,
    /// Secure Boot is as demanded.
    SecureBoot,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HclFormat => "HCL report format",
            Self::Hardware => "processor of the HCL report",
            Self::RuntimeData => "HCL runtime data",
            Self::Privilege => "made by the paravisor",
            Self::Paravisor => "paravisor",
            Self::Tpm => "virtual TPM",
            Self::SecureBoot => "Secure Boot",
        })
    }
}
