//! The kinds of machine whose evidence this release can appraise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::Machine;

/// A way to prove what runs on a machine. Closed, and matched without a default arm everywhere: a variant without its
/// own appraisal cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Variant {
    /// A TPM 2.0 without a hardware root behind it: swtpm, or the TPM of an OpenStack-like host. Never confidential.
    QemuVtpm,
    /// Azure, AMD SEV-SNP: the processor vouches for the paravisor, and the paravisor's report for the TPM's key.
    AzureSevSnp,
    /// Azure, Intel TDX: the same, by a quote of the paravisor's trust domain.
    AzureTdx,
    /// Azure Trusted Launch: Microsoft certifies the key of a TPM in the hypervisor. Never confidential.
    AzureTrustedLaunch,
    /// Google, AMD SEV-ES: Google certifies the key of a TPM in the hypervisor. No report shows that memory is encrypted, so it does not
    /// count as confidential.
    GcpSevEs,
    /// Google, AMD SEV-SNP: the processor's report is over the session and a key that Google certifies.
    GcpSevSnp,
    /// Google, Intel TDX: the same, by a quote.
    GcpTdx,
}

/// Names of machines that cannot be a variant of a cluster yet, and what is missing.
const KNOWN_NOT_IMPLEMENTED: [(&str, Missing); 7] = [
    ("aws-nitro-tpm", Missing::Sha384Pcrs),
    ("aws-sev-snp", Missing::Sha384Pcrs),
    ("dummy", Missing::Appraisal),
    ("qemu-sev-snp", Missing::Appraisal),
    ("qemu-tdx", Missing::Appraisal),
    ("sev-snp", Missing::MarkRegister),
    ("tdx", Missing::MarkRegister),
];

/// What keeps a known kind of machine from being a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Its evidence cannot be appraised.
    Appraisal,
    /// It states SHA-384 PCRs, and the steps of a cluster (quote, event log, cluster mark) are over SHA-256.
    Sha384Pcrs,
    /// It has no register for the cluster mark, so nothing would tell a machine of a cluster from any other.
    MarkRegister,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Appraisal => "its evidence cannot be appraised",
            Self::Sha384Pcrs => {
                "it states SHA-384 PCRs, and the cluster mark is in those of SHA-256"
            }
            Self::MarkRegister => "it has no register for the cluster mark",
        })
    }
}

/// Why a name is not a [`Variant`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VariantError {
    /// The name is a real kind of machine, but no variant of this release.
    #[error(
        "attestation variant {name} is known but not implemented in this release: {missing} (implemented: {names})",
        names = Variant::names()
    )]
    NotImplemented {
        /// The name.
        name: &'static str,
        /// What it lacks.
        missing: Missing,
    },
    /// Nobody uses this name.
    #[error("unknown attestation variant {0:?} (implemented: {names})", names = Variant::names())]
    Unknown(String),
}

impl Variant {
    /// Every variant of this release.
    pub const ALL: [Self; 7] = [
        Self::QemuVtpm,
        Self::AzureSevSnp,
        Self::AzureTdx,
        Self::AzureTrustedLaunch,
        Self::GcpSevEs,
        Self::GcpSevSnp,
        Self::GcpTdx,
    ];

    /// The name in files, flags and on the wire; the original's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.machine().as_str()
    }

    /// The kind of machine a policy is written for.
    #[must_use]
    pub const fn machine(self) -> Machine {
        match self {
            Self::QemuVtpm => Machine::QemuVtpm,
            Self::AzureSevSnp => Machine::AzureSevSnp,
            Self::AzureTdx => Machine::AzureTdx,
            Self::AzureTrustedLaunch => Machine::AzureTrustedLaunch,
            Self::GcpSevEs => Machine::GcpSevEs,
            Self::GcpSevSnp => Machine::GcpSevSnp,
            Self::GcpTdx => Machine::GcpTdx,
        }
    }

    /// Whether the evidence leads back to a key inside hardware that keeps the host out.
    #[must_use]
    pub const fn has_hardware_root(self) -> bool {
        match self {
            Self::QemuVtpm | Self::AzureTrustedLaunch | Self::GcpSevEs => false,
            Self::AzureSevSnp | Self::AzureTdx | Self::GcpSevSnp | Self::GcpTdx => true,
        }
    }

    /// Every name, for messages.
    fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Variant {
    type Err = VariantError;

    fn from_str(name: &str) -> Result<Self, VariantError> {
        if let Some(variant) = Self::ALL
            .into_iter()
            .find(|variant| variant.as_str() == name)
        {
            return Ok(variant);
        }
        match KNOWN_NOT_IMPLEMENTED
            .into_iter()
            .find(|(known, _)| *known == name)
        {
            Some((name, missing)) => Err(VariantError::NotImplemented { name, missing }),
            None => Err(VariantError::Unknown(name.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for Variant {
    type Error = VariantError;

    fn try_from(name: String) -> Result<Self, VariantError> {
        name.parse()
    }
}

impl From<Variant> for &'static str {
    fn from(variant: Variant) -> Self {
        variant.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for variant in Variant::ALL {
            assert_eq!(variant.to_string().parse(), Ok(variant));
            let json = serde_json::to_string(&variant).unwrap();
            assert_eq!(serde_json::from_str::<Variant>(&json).unwrap(), variant);
        }
    }

    #[test]
    fn only_a_processors_word_makes_a_variant_confidential() {
        let confidential: Vec<&str> = Variant::ALL
            .into_iter()
            .filter(|variant| variant.has_hardware_root())
            .map(Variant::as_str)
            .collect();
        assert_eq!(
            confidential,
            ["azure-sev-snp", "azure-tdx", "gcp-sev-snp", "gcp-tdx"]
        );
    }

    /// Every kind of machine that a policy can be for is a variant, or said to be none.
    #[test]
    fn no_machine_is_forgotten() {
        for machine in Machine::ALL {
            match machine.as_str().parse::<Variant>() {
                Ok(variant) => assert_eq!(variant.machine(), machine),
                Err(VariantError::NotImplemented { .. }) => {}
                Err(error @ VariantError::Unknown(_)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_known_variant_without_appraisal_is_told_apart_from_an_unknown_name() {
        assert_eq!(
            "aws-sev-snp".parse::<Variant>(),
            Err(VariantError::NotImplemented {
                name: "aws-sev-snp",
                missing: Missing::Sha384Pcrs,
            })
        );
        assert_eq!(
            "qemu-vtpm ".parse::<Variant>(),
            Err(VariantError::Unknown("qemu-vtpm ".into()))
        );
        let error = serde_json::from_str::<Variant>("\"sev-snp\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("not implemented"), "{error}");
        assert!(
            error.contains("no register for the cluster mark"),
            "{error}"
        );
    }
}
