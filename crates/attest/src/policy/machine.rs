//! The kinds of machine a policy can be written for, and what each of them proves itself by.

use std::fmt;
use std::str::FromStr;

use crate::Variant;

/// A kind of machine. A policy can be written, checked and explained for each of them, also where this release cannot
/// appraise the evidence yet ([`Variant`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Machine {
    /// A TPM 2.0 without a hardware root.
    QemuVtpm,
    /// Azure: the paravisor's SEV-SNP report over its vTPM.
    AzureSevSnp,
    /// Azure: the paravisor's TDX quote over its vTPM.
    AzureTdx,
    /// Azure Trusted Launch: a vTPM of the hypervisor whose key Microsoft certifies.
    AzureTrustedLaunch,
    /// Google: a vTPM of the hypervisor; memory encrypted by SEV-ES.
    GcpSevEs,
    /// Google: an SEV-SNP report and a vTPM of the hypervisor.
    GcpSevSnp,
    /// Google: a TDX quote and a vTPM of the hypervisor.
    GcpTdx,
    /// AWS: an SEV-SNP report and a vTPM of the hypervisor.
    AwsSevSnp,
    /// AWS: a vTPM of the hypervisor.
    AwsNitroTpm,
    /// An own host: the SEV-SNP report of the machine itself.
    SevSnp,
    /// An own host: the TDX quote of the machine itself.
    Tdx,
}

/// What keeps the host out of a machine, as far as a policy has to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Nothing that a policy could demand more of.
    None,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

/// The bank that PCRs are proved in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PcrBank {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

/// Whether measurements of a kind belong to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Without them anything could run.
    Required,
    /// They can be pinned besides.
    Optional,
    /// The machine has none.
    Absent,
}

impl Machine {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::QemuVtpm,
        Self::AzureSevSnp,
        Self::AzureTdx,
        Self::AzureTrustedLaunch,
        Self::GcpSevEs,
        Self::GcpSevSnp,
        Self::GcpTdx,
        Self::AwsSevSnp,
        Self::AwsNitroTpm,
        Self::SevSnp,
        Self::Tdx,
    ];

    /// The name in files; the original's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QemuVtpm => "qemu-vtpm",
            Self::AzureSevSnp => "azure-sev-snp",
            Self::AzureTdx => "azure-tdx",
            Self::AzureTrustedLaunch => "azure-trustedlaunch",
            Self::GcpSevEs => "gcp-sev-es",
            Self::GcpSevSnp => "gcp-sev-snp",
            Self::GcpTdx => "gcp-tdx",
            Self::AwsSevSnp => "aws-sev-snp",
            Self::AwsNitroTpm => "aws-nitro-tpm",
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }

    /// What keeps the host out.
    #[must_use]
    pub const fn hardware(self) -> Hardware {
        match self {
            Self::QemuVtpm | Self::AzureTrustedLaunch | Self::GcpSevEs | Self::AwsNitroTpm => {
                Hardware::None
            }
            Self::AzureSevSnp | Self::GcpSevSnp | Self::AwsSevSnp | Self::SevSnp => Hardware::Snp,
            Self::AzureTdx | Self::GcpTdx | Self::Tdx => Hardware::Tdx,
        }
    }

    /// Whether it has a launch measurement (SEV-SNP).
    pub(crate) const fn launch(self) -> Needed {
        match self {
            Self::SevSnp => Needed::Required,
            Self::AzureSevSnp | Self::GcpSevSnp | Self::AwsSevSnp => Needed::Optional,
            Self::QemuVtpm
            | Self::AzureTdx
            | Self::AzureTrustedLaunch
            | Self::GcpSevEs
            | Self::GcpTdx
            | Self::AwsNitroTpm
            | Self::Tdx => Needed::Absent,
        }
    }

    /// Whether it has MRTD and RTMRs (TDX).
    pub(crate) const fn rtmrs(self) -> Needed {
        match self {
            Self::Tdx => Needed::Required,
            Self::AzureTdx | Self::GcpTdx => Needed::Optional,
            Self::QemuVtpm
            | Self::AzureSevSnp
            | Self::AzureTrustedLaunch
            | Self::GcpSevEs
            | Self::GcpSevSnp
            | Self::AwsSevSnp
            | Self::AwsNitroTpm
            | Self::SevSnp => Needed::Absent,
        }
    }

    /// The bank of its PCRs, if it has any: a quote is over SHA-256, and AWS states SHA-384.
    pub(crate) const fn bank(self) -> Option<PcrBank> {
        match self {
            Self::SevSnp | Self::Tdx => None,
            Self::AwsSevSnp | Self::AwsNitroTpm => Some(PcrBank::Sha384),
            Self::QemuVtpm
            | Self::AzureSevSnp
            | Self::AzureTdx
            | Self::AzureTrustedLaunch
            | Self::GcpSevEs
            | Self::GcpSevSnp
            | Self::GcpTdx => Some(PcrBank::Sha256),
        }
    }

    /// Whether MRTD is the paravisor: without it whoever rents such a machine brings one of their own, which makes up the
    /// vTPM.
    pub(crate) const fn mrtd_is_paravisor(self) -> bool {
        matches!(self, Self::AzureTdx)
    }

    /// Every name, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Machine {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|machine| machine.as_str() == name)
            .ok_or_else(|| {
                let name: String = name.chars().take(64).collect();
                format!("{name:?} is no kind of machine")
            })
    }
}

impl From<Variant> for Machine {
    fn from(variant: Variant) -> Self {
        variant.machine()
    }
}
