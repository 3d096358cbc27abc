//! The one entry: dispatches to the variant, which has its own appraisal and no default.

use jiff::Timestamp;

use crate::verdict::{Check, CheckName, Outcome, Refusal, RefusalCode, Step};
use crate::x509::PathCache;
use crate::{
    Binding, ClusterMark, Endorsements, Evidence, Policy, Roots, Variant, Verified, azure, gcp,
    qemu_vtpm,
};

/// What an appraisal holds evidence against beside the policy. All of it is the verifier's.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Where everything that vouches for a machine must lead to.
    pub roots: &'a Roots,
    /// What vendors state about machines, from whoever has fetched it: believed as far as it leads to a root, and no further.
    pub endorsements: &'a Endorsements,
    /// Signatures of certificates that were verified before.
    pub cache: &'a PathCache,
    /// The time at which everything must hold: certificates, lists, statements, and the end of a policy's older generation.
    pub now: Timestamp,
}

/// One appraisal: what is decided, and against what.
pub(crate) struct Question<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) binding: &'a Binding,
    pub(crate) policy: &'a Policy,
    pub(crate) mark: &'a ClusterMark,
    pub(crate) trust: &'a Trust<'a>,
}

/// Decides whether `evidence` shows a machine that `policy` accepts at the time of `trust`, made over `binding`, with the cluster mark
/// that `mark` demands.
///
/// # Errors
/// With every check and what it found, when one of them failed. The result is large because it is for a person.
pub fn appraise(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
    trust: &Trust<'_>,
) -> Result<Verified, Refusal> {
    if evidence.variant() != policy.variant() {
        return Err(wrong_variant(evidence.variant(), policy));
    }
    let question = Question {
        evidence,
        binding,
        policy,
        mark,
        trust,
    };
    match evidence.variant() {
        Variant::QemuVtpm => qemu_vtpm::appraise(&question),
        Variant::AzureSevSnp => azure::appraise_sev_snp(&question),
        Variant::AzureTdx => azure::appraise_tdx(&question),
        Variant::AzureTrustedLaunch => azure::appraise_trusted_launch(&question),
        Variant::GcpSevEs => gcp::appraise_sev_es(&question),
        Variant::GcpSevSnp => gcp::appraise_sev_snp(&question),
        Variant::GcpTdx => gcp::appraise_tdx(&question),
    }
}

fn wrong_variant(actual: Variant, policy: &Policy) -> Refusal {
    Refusal {
        code: RefusalCode::UnsupportedVariant,
        variant: actual,
        image: policy.image_name().map(str::to_owned),
        checks: vec![Check {
            expected: Some(policy.variant().as_str().into()),
            actual: Some(actual.as_str().into()),
            next_step: Some("use the policy that was made for this kind of machine".into()),
            ..Check::new(Step::Document, CheckName::Variant, Outcome::Failed)
        }],
    }
}
