//! Appraisal from outside: evidence of a test TPM, one named lie at a time; logs and quotes of real machines.

#[cfg(test)]
mod aws;
#[cfg(test)]
mod aws_forms;
#[cfg(test)]
mod components;
#[cfg(test)]
mod ek;
#[cfg(test)]
mod ek_activation;
#[cfg(test)]
mod ek_certificates;
#[cfg(test)]
mod event_log;
#[cfg(test)]
mod event_log_damage;
#[cfg(test)]
mod event_log_facts;
#[cfg(test)]
mod event_log_forms;
#[cfg(test)]
mod event_log_samples;
#[cfg(test)]
mod event_log_secure_boot;
#[cfg(test)]
mod foreign_text;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod log_files;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod nvidia;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod policy_bounds;
#[cfg(test)]
mod policy_document;
#[cfg(test)]
mod policy_presets;
#[cfg(test)]
mod policy_schema;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod sev_snp;
#[cfg(test)]
mod tdx;
#[cfg(test)]
mod tpm_forms;
#[cfg(test)]
mod variants;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vtpm;
#[cfg(test)]
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
