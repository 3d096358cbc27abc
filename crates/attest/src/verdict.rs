//! What an appraisal says: every check with what was expected, what was found, and what to do next.
//!
//! A verdict is for a person, so it prints as a tree; the peer learns only a [`RefusalCode`].

use std::fmt;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::component::Component;
use crate::{Digest, PcrIndex, PcrValues, Variant};

mod text;
mod tree;

pub use text::Text;

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// Not as expected, and the policy only warns; or a limit of the variant that must be known.
    Warning,
    /// The reason for a refusal.
    Failed,
    /// Not reached, because an earlier check failed and its values cannot be believed.
    Skipped,
}

/// The part of the appraisal a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Can the document be read, and is it of the demanded kind?
    Document,
    /// Is the key one that only signs what its TPM states itself, and who vouches for it?
    Key,
    /// Did that key sign this statement, over this binding, about all PCRs?
    Quote,
    /// Does the event log explain the quoted PCRs?
    EventLog,
    /// Are the PCRs those of the policy?
    Measurements,
    /// Does the machine belong to the cluster it must belong to?
    ClusterMark,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Document => "evidence document",
            Self::Key => "attestation key",
            Self::Quote => "quote",
            Self::EventLog => "event log",
            Self::Measurements => "boot measurements",
            Self::ClusterMark => "cluster mark",
        })
    }
}

/// One check of an appraisal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The evidence is of the variant the policy is for.
    Variant,
    /// The document has the fields of its variant, and nothing else.
    DocumentFormat,
    /// The public area parses and is an ECC P-256 or RSA key for SHA-256 signatures.
    KeyFormat,
    /// Restricted, fixed to its TPM, made inside it, signs, does not decrypt.
    KeyAttributes,
    /// Who vouches for the key.
    HardwareRoot,
    /// The quote parses without a byte left over.
    QuoteFormat,
    /// The statement was made inside a TPM.
    Magic,
    /// It is a quote and not another kind of statement.
    StatementType,
    /// It was made over the binding.
    Binding,
    /// It covers exactly the SHA-256 bank.
    Bank,
    /// It covers all 24 PCRs.
    Selection,
    /// The signature parses and uses the key's scheme.
    SignatureFormat,
    /// The key signed the statement.
    Signature,
    /// The PCR values in the document are the ones that were quoted.
    PcrDigest,
    /// The event log parses.
    LogFormat,
    /// The log leads to the quoted value of each PCR it accounts for.
    LogReplay,
    /// All PCRs of the policy, where none of them was reached.
    PolicyPcrs,
    /// The PCR has an accepted value.
    Pcr(PcrIndex),
    /// PCR 15 is what the caller demands.
    ClusterMark,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Variant => "variant",
            Self::DocumentFormat => "document format",
            Self::KeyFormat => "key format",
            Self::KeyAttributes => "key attributes",
            Self::HardwareRoot => "hardware root of trust",
            Self::QuoteFormat => "quote format",
            Self::Magic => "made by a TPM",
            Self::StatementType => "statement type",
            Self::Binding => "bound to this session",
            Self::Bank => "PCR bank",
            Self::Selection => "PCR selection",
            Self::SignatureFormat => "signature format",
            Self::Signature => "signature",
            Self::PcrDigest => "PCR digest",
            Self::LogFormat => "log format",
            Self::LogReplay => "log replay",
            Self::PolicyPcrs => "PCRs of the policy",
            Self::Pcr(index) => return f.pad(&format!("PCR {index}")),
            Self::ClusterMark => "PCR 15",
        })
    }
}

impl Serialize for CheckName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A part of the machine that is not the one the policy describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The part.
    pub component: Component,
    /// What the policy describes; nothing if it has no such part.
    pub expected: Option<Text>,
    /// What was measured; nothing if it is missing.
    pub actual: Option<Text>,
    /// What tells it apart, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Text>,
}

/// One check with all a person needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Where it belongs.
    pub step: Step,
    /// Which check.
    pub name: CheckName,
    /// Who owns the value: the component, or the components if several differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// What it must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Text>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<Text>,
    /// How it ended.
    pub outcome: Outcome,
    /// The parts that differ, as far as the event log shows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<Text>,
}

impl Check {
    pub(crate) const fn new(step: Step, name: CheckName, outcome: Outcome) -> Self {
        Self {
            step,
            name,
            component: None,
            expected: None,
            actual: None,
            outcome,
            differences: Vec::new(),
            next_step: None,
        }
    }
}

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
