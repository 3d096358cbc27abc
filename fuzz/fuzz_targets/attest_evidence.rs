//! Whole evidence documents, appraised as each variant over the binding of the captured seed, under the roots that are built in. The seeds
//! of vendors' machines are made of real parts as far as there are some, so that their checks are reached. Before that: what a verifier
//! would fetch for them.
#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use attest::x509::PathCache;
use attest::{
    Binding, ClusterMark, Endorsements, Evidence, Policy, Role, Roots, Trust, Variant, appraise,
    tdx,
};
use collateral::Update;
use collateral::needs::needs_of;

macro_rules! intel {
    ($file:literal) => {
        include_bytes!(concat!(
            "../../crates/attest/testdata/evidence/tdx-collateral/90c06f-2026-06-flashbots/",
            $file
        ))
    };
}

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    let qemu = include_bytes!("../seeds/attest_policy/image.json");
    let vendors = [
        include_str!("../seeds/attest_policy/machine-azure-sev-snp.yaml"),
        include_str!("../seeds/attest_policy/machine-azure-tdx.yaml"),
        include_str!("../seeds/attest_policy/machine-azure-trustedlaunch.yaml"),
        include_str!("../seeds/attest_policy/machine-gcp-sev-es.yaml"),
        include_str!("../seeds/attest_policy/machine-gcp-sev-snp.yaml"),
        include_str!("../seeds/attest_policy/machine-gcp-tdx.yaml"),
    ];
    let vendors = vendors.map(|yaml| Policy::from_yaml(yaml).expect("the seed is a policy"));
    let qemu = Policy::from_json(qemu).expect("the seed is a policy");
    let policies: Vec<Policy> = std::iter::once(qemu).chain(vendors).collect();
    assert!(
        policies.iter().map(Policy::variant).eq(Variant::ALL),
        "a policy for each variant"
    );
    policies
});

static ENDORSEMENTS: LazyLock<Endorsements> = LazyLock::new(|| {
    let statements = tdx::Endorsements::parse(&tdx::Collateral {
        tcb_info: intel!("tcb_info.json"),
        tcb_info_chain: intel!("tcb_signing_chain.pem"),
        qe_identity: intel!("qe_identity.json"),
        qe_identity_chain: intel!("tcb_signing_chain.pem"),
        crls: &[intel!("pck_crl.der"), intel!("root_ca_crl.der")],
    });
    let mut endorsements = Endorsements::new();
    endorsements
        .add_intel(statements.expect("the statements can be read"))
        .expect("one set");
    endorsements
});

static CACHE: LazyLock<PathCache> = LazyLock::new(PathCache::default);

fuzz::fuzz_target!(|bytes: &[u8]| {
    let binding = Binding::for_channel(
        Role::Node,
        &[1; 64],
        &[2; 32],
        b"server spki",
        Some(b"client spki"),
    );
    let trust = Trust {
        roots: Roots::vendors(),
        endorsements: &ENDORSEMENTS,
        cache: &CACHE,
        now: "2026-06-15T00:00:00Z".parse().expect("a time"),
    };
    for policy in POLICIES.iter() {
        let Ok(evidence) = Evidence::new(policy.variant(), bytes.to_vec()) else {
            return;
        };
        // anything but a panic
        needs_of(&evidence, Update::Early).ok();
        match appraise(&evidence, &binding, policy, &ClusterMark::NotJoined, &trust) {
            Ok(verified) => {
                assert!(
                    policy.variant() == Variant::QemuVtpm,
                    "no vendor's machine of the seeds was asked for this binding: {verified}"
                );
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
    }
});
