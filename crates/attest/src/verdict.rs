//! What an appraisal says: every check with what was expected, what was found, and what to do next.
//!
//! A verdict is for a person, so it prints as a tree; the peer learns only a [`RefusalCode`].

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::{Digest, PcrIndex, PcrValues, Variant};

mod check;
mod findings;
mod text;
mod tree;

pub use check::{Check, CheckName, Difference, Outcome, Step};
pub(crate) use findings::with_sources;
pub use findings::{Findings, Stop};
pub(crate) use text::Hex;
pub use text::Text;

/// What a refused peer is told. Coarse on purpose: a machine that is probing learns nothing about the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The evidence cannot be read.
    Malformed,
    /// Evidence of this kind is not accepted here.
    UnsupportedVariant,
    /// The evidence is authentic for nobody: key, signature or quoted values do not hold together.
    NotAuthentic,
    /// The evidence was made for another session, role or nonce.
    WrongBinding,
    /// The machine did not boot what is accepted here.
    Measurements,
    /// The machine belongs to a cluster and must not, or to the wrong one, or to none.
    ClusterMark,
    /// The hardware, its firmware or how it guards the guest is not accepted here.
    Platform,
}

impl RefusalCode {
    /// The number in a verdict on the wire. Zero is never a refusal.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Malformed => 1,
            Self::UnsupportedVariant => 2,
            Self::NotAuthentic => 3,
            Self::WrongBinding => 4,
            Self::Measurements => 5,
            Self::ClusterMark => 6,
            Self::Platform => 7,
        }
    }

    /// The code of a number from the wire, if this release knows it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Malformed,
            2 => Self::UnsupportedVariant,
            3 => Self::NotAuthentic,
            4 => Self::WrongBinding,
            5 => Self::Measurements,
            6 => Self::ClusterMark,
            7 => Self::Platform,
            _ => return None,
        })
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Malformed => "malformed evidence",
            Self::UnsupportedVariant => "attestation variant not accepted",
            Self::NotAuthentic => "evidence not authentic",
            Self::WrongBinding => "evidence made for another session",
            Self::Measurements => "boot measurements not accepted",
            Self::ClusterMark => "cluster mark not accepted",
            Self::Platform => "platform not accepted",
        })
    }
}

/// A machine that passed every check. Only [`crate::appraise`] makes one, and it cannot be copied: what releases a
/// secret asks for it by reference.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    pub(crate) variant: Variant,
    pub(crate) ak_id: Digest,
    #[serde(rename = "image", skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    #[serde(rename = "pcrs")]
    pub(crate) measurements: PcrValues,
    /// Nothing that a report shows.
    #[serde(skip)]
    pub(crate) reset_count: u32,
    pub(crate) checks: Vec<Check>,
}

impl Verified {
    /// The kind of machine.
    #[must_use]
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// Whether the host of the machine is kept out by hardware.
    #[must_use]
    pub const fn is_confidential(&self) -> bool {
        self.variant.has_hardware_root()
    }

    /// SHA-256 of the attestation key's public area, in hex: tells machines apart in logs.
    #[must_use]
    pub fn ak_id(&self) -> String {
        self.ak_id.to_string()
    }

    /// The quoted PCRs.
    #[must_use]
    pub const fn measurements(&self) -> &PcrValues {
        &self.measurements
    }

    /// How often the TPM was reset, by the quote: a number that says of two boots of one TPM which was later, and nothing else. For a key
    /// outside the endorsement and platform hierarchies the TPM adds a constant of the key's, modulo 2^32 (TPM 2.0, part 1,
    /// "Attestation"), so it is compared as a serial number.
    #[must_use]
    pub const fn reset_count(&self) -> u32 {
        self.reset_count
    }

    /// The image the policy named.
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// Whether PCR 15 holds a cluster's mark.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.measurements.get(PcrIndex::CLUSTER_MARK) != Digest::ZERO
    }

    /// Checks that ended in a warning.
    pub fn warnings(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.outcome == Outcome::Warning)
    }

    /// Every check, in order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
}

/// A machine that is not accepted, and why.
#[derive(Debug, Error, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub(crate) code: RefusalCode,
    pub(crate) variant: Variant,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    pub(crate) checks: Vec<Check>,
}

impl Refusal {
    /// What the peer may learn.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        self.code
    }

    /// The kind of machine it said it is.
    #[must_use]
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// Every check, in order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.outcome == Outcome::Failed)
    }

    /// One line for a log: the failed checks and the components that own them.
    #[must_use]
    pub fn summary(&self) -> String {
        let failed: Vec<String> = self.failed().map(tree::title).collect();
        format!("{}: {}", self.code, failed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are on the wire: one that changed would be read as another by the last release.
    #[test]
    fn the_codes_of_refusals_keep_their_numbers() {
        let codes = [
            (RefusalCode::Malformed, 1),
            (RefusalCode::UnsupportedVariant, 2),
            (RefusalCode::NotAuthentic, 3),
            (RefusalCode::WrongBinding, 4),
            (RefusalCode::Measurements, 5),
            (RefusalCode::ClusterMark, 6),
            (RefusalCode::Platform, 7),
        ];
        for (code, number) in codes {
            assert_eq!(code.number(), number);
            assert_eq!(RefusalCode::from_number(number), Some(code));
        }
        for number in [0, 8, u32::MAX] {
            assert_eq!(RefusalCode::from_number(number), None);
        }
    }
}
