//! Appraisal from outside: evidence of a test TPM, one named lie at a time; logs and quotes of real machines.

#[cfg(test)]
mod aws;
mod aws_forms;
mod components;
mod ek;
mod ek_activation;
mod ek_certificates;
mod event_log;
mod event_log_damage;
mod event_log_facts;
mod event_log_forms;
mod event_log_samples;
mod event_log_secure_boot;
mod foreign_text;
mod keys;
mod log_files;
mod mutations;
mod nvidia;
mod policy;
mod policy_bounds;
mod policy_document;
mod policy_presets;
mod policy_schema;
mod robustness;
mod sev_snp;
mod tdx;
mod tpm_forms;
mod variants;
mod vectors;
mod vtpm;
mod x509;

use attest::qemu_vtpm::Document;
use attest::{
    Binding, Check, ClusterMark, Evidence, Outcome, Policy, Refusal, Role, Variant, Verified,
};
use testkit::appraise;

const CLUSTER_ID: [u8; 32] = [0x42; 32];

fn binding() -> Binding {
    Binding::for_channel(
        Role::Node,
        &[1; 64],
        &[2; 32],
        b"server spki",
        Some(b"client spki"),
    )
}

fn evidence(document: &Document) -> Evidence {
    Evidence::new(Variant::QemuVtpm, document.to_json())
        .expect("a test document has the size of evidence")
}

fn verdict(document: &Document, policy: &Policy) -> Result<Verified, Refusal> {
    appraise(
        &evidence(document),
        &binding(),
        policy,
        &ClusterMark::NotJoined,
    )
}

/// The names of the checks with this outcome.
fn named(checks: &[Check], outcome: Outcome) -> Vec<String> {
    checks
        .iter()
        .filter(|check| check.outcome == outcome)
        .map(|check| check.name.to_string())
        .collect()
}
