//! One check of an appraisal, and the words for it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Text;
use crate::component::Component;
use crate::tpm::{self, ek};
use crate::{PcrIndex, aws, azure, gcp, nvidia, sev_snp, tdx};

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
    /// Do the vendor's certificates, revocation lists and statements lead to a root that is built in, now?
    Endorsements,
    /// Did the endorsed hardware make the report, over this binding?
    Report,
    /// Is the hardware, its firmware and how it guards the guest what the policy demands?
    Platform,
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
            Self::Endorsements => "endorsements",
            Self::Report => "hardware report",
            Self::Platform => "platform",
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
    /// Which of the policy's two generations the machine is of.
    Generation,
    /// The PCR has an accepted value.
    Pcr(PcrIndex),
    /// PCR 15 is what the caller demands.
    ClusterMark,
    /// The evidence answers a question that the verifier asked.
    Freshness,
    /// There is something to hold what was measured against.
    ReferenceValues,
    /// The vendor's statements that the evidence needs are there.
    EndorsementsGiven,
    /// The event log shows the state of Secure Boot.
    SecureBoot,
    /// What vouches for an attestation key.
    Tpm(tpm::CheckName),
    /// Azure's HCL report.
    Azure(azure::CheckName),
    /// Google's instances.
    Gcp(gcp::CheckName),
    /// A check of a GPU's evidence.
    Nvidia(nvidia::CheckName),
    /// A check of SEV-SNP.
    Snp(sev_snp::CheckName),
    /// A check of a TD quote.
    Tdx(tdx::CheckName),
    /// Of a document of AWS.
    Aws(aws::CheckName),
    /// Of the certificate of an endorsement or attestation key.
    Ek(ek::CheckName),
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
            Self::Generation => "generation",
            Self::Pcr(index) => return f.pad(&format!("PCR {index}")),
            Self::ClusterMark => "PCR 15",
            Self::Freshness => "answers a question of yours",
            Self::ReferenceValues => "reference values",
            Self::EndorsementsGiven => "vendor's statements",
            Self::SecureBoot => "Secure Boot by the log",
            Self::Tpm(name) => return name.fmt(f),
            Self::Azure(name) => return name.fmt(f),
            Self::Gcp(name) => return name.fmt(f),
            Self::Nvidia(name) => return name.fmt(f),
            Self::Snp(name) => return name.fmt(f),
            Self::Tdx(name) => return name.fmt(f),
            Self::Aws(name) => return name.fmt(f),
            Self::Ek(name) => return name.fmt(f),
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
