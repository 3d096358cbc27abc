//! The kinds of machine whose evidence this release can appraise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A way to prove what runs on a machine. Closed, and matched without a default arm everywhere: a variant without its
/// own appraisal cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Variant {
    /// A TPM 2.0 without a hardware root behind it: swtpm, or the TPM of an OpenStack-like host. Never confidential.
    QemuVtpm,
}

/// Names the original uses for machines this release cannot appraise yet.
const KNOWN_NOT_IMPLEMENTED: [&str; 13] = [
    "aws-nitro-tpm",
    "aws-sev-snp",
    "azure-sev-snp",
    "azure-tdx",
    "azure-trustedlaunch",
    "dummy",
    "gcp-sev-es",
    "gcp-sev-snp",
    "gcp-tdx",
    "qemu-sev-snp",
    "qemu-tdx",
    "sev-snp",
    "tdx",
];

/// Why a name is not a [`Variant`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VariantError {
    /// The name is a real variant, but its appraisal is not part of this release.
    #[error(
        "attestation variant {0} is known but not implemented in this release (implemented: qemu-vtpm)"
    )]
    NotImplemented(&'static str),
    /// Nobody uses this name.
    #[error("unknown attestation variant {0:?} (implemented: qemu-vtpm)")]
    Unknown(String),
}

impl Variant {
    /// Every variant of this release.
    pub const ALL: [Self; 1] = [Self::QemuVtpm];

    /// The name in files, flags and on the wire; the original's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QemuVtpm => "qemu-vtpm",
        }
    }

    /// Whether the evidence leads back to a key inside hardware that keeps the host out.
    #[must_use]
    pub const fn has_hardware_root(self) -> bool {
        match self {
            Self::QemuVtpm => false,
        }
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
            .find(|known| *known == name)
        {
            Some(known) => Err(VariantError::NotImplemented(known)),
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
    fn a_known_variant_without_appraisal_is_told_apart_from_an_unknown_name() {
        assert_eq!(
            "azure-tdx".parse::<Variant>(),
            Err(VariantError::NotImplemented("azure-tdx"))
        );
        assert_eq!(
            "qemu-vtpm ".parse::<Variant>(),
            Err(VariantError::Unknown("qemu-vtpm ".into()))
        );
        assert!(
            serde_json::from_str::<Variant>("\"sev-snp\"")
                .unwrap_err()
                .to_string()
                .contains("not implemented")
        );
    }
}
