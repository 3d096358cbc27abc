//! The one entry: dispatches to the variant, which has its own appraisal and no default.

use jiff::Timestamp;

use crate::verdict::{Check, CheckName, Outcome, Refusal, RefusalCode, Step};
use crate::{Binding, ClusterMark, Evidence, Policy, Variant, Verified, qemu_vtpm};

/// Decides whether `evidence` shows a machine that `policy` accepts, made over `binding`, with the cluster mark that
/// `mark` demands. Without a clock nothing with an end is accepted: of a policy with two generations only the newer one
/// ([`appraise_at`] knows the time).
///
/// # Errors
/// With every check and what it found, when one of them failed. The result is large because it is for a person.
pub fn appraise(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
) -> Result<Verified, Refusal> {
    decide(evidence, binding, policy, mark, None)
}

/// Decides as [`appraise`] does, at the time `now`: an older generation of the policy is accepted until its end.
///
/// # Errors
/// With every check and what it found, when one of them failed.
pub fn appraise_at(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    decide(evidence, binding, policy, mark, Some(now))
}

fn decide(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
    now: Option<Timestamp>,
) -> Result<Verified, Refusal> {
    if evidence.variant() != policy.variant() {
        return Err(wrong_variant(evidence.variant(), policy));
    }
    match evidence.variant() {
        Variant::QemuVtpm => qemu_vtpm::appraise(evidence.document(), binding, policy, mark, now),
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
