//! Appraisals as most tests want them: the vendors' own roots, nothing that vendors state, one time.

use attest::x509::PathCache;
use attest::{
    Binding, ClusterMark, Endorsements, Evidence, Policy, Refusal, Roots, Trust, Verified,
    appraise as decide,
};
use jiff::Timestamp;

/// Decides at a time before the end of anything a test makes.
///
/// # Errors
/// When the machine is refused.
pub fn appraise(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
) -> Result<Verified, Refusal> {
    appraise_at(evidence, binding, policy, mark, Timestamp::UNIX_EPOCH)
}

/// Decides at a time.
///
/// # Errors
/// When the machine is refused.
pub fn appraise_at(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let trust = Trust {
        roots: Roots::vendors(),
        endorsements: &Endorsements::new(),
        cache: &PathCache::default(),
        now,
    };
    decide(evidence, binding, policy, mark, &trust)
}
