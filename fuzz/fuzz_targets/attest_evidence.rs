//! Whole evidence documents, appraised over the binding of the captured seed, so that every check is reached.
#![cfg_attr(fuzzing, no_main)]

use attest::{Binding, ClusterMark, Evidence, Policy, Role, Variant, appraise};

const POLICY: &[u8] = include_bytes!("../seeds/attest_policy/image.json");

fuzz::fuzz_target!(|bytes: &[u8]| {
    let Ok(evidence) = Evidence::new(Variant::QemuVtpm, bytes.to_vec()) else {
        return;
    };
    let binding = Binding::for_channel(
        Role::Node,
        &[1; 64],
        &[2; 32],
        b"server spki",
        Some(b"client spki"),
    );
    let policy = Policy::from_json(POLICY).expect("the seed is a policy");
    match appraise(&evidence, &binding, &policy, &ClusterMark::NotJoined) {
        Ok(verified) => {
            for (index, measurement) in policy.measurements() {
                assert_eq!(
                    verified.measurements().get(*index),
                    measurement.expected,
                    "PCR {index}"
                );
            }
            assert!(!verified.has_joined());
            drop(verified.to_string());
        }
        Err(refusal) => {
            assert!(refusal.failed().count() > 0, "a refusal says why");
            drop(refusal.to_string());
        }
    }
});
