//! Which crate may depend on which: decide ← proto, act ← run.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Violation;
use crate::workspace;

/// Crates of ours that each crate may name among its dependencies (test dependencies may name `testkit` besides).
const ALLOWED: &[(&str, &[&str])] = &[
    // decide: no IO
    ("keys", &[]),
    ("attest", &[]),
    ("cluster", &["attest", "keys"]),
    // speak
    ("proto", &["attest", "cluster", "keys"]),
    // act: each touches one outside thing
    ("tee", &["attest"]),
    ("channel", &["attest"]),
    ("collateral", &["attest"]),
    ("disk", &["keys"]),
    ("k8s", &["cluster", "keys"]),
    ("cloud", &["cluster"]),
    ("image", &["attest"]),
    ("runtime", &[]),
    // run: one per trust domain
    (
        "cli",
        &[
            "attest",
            "channel",
            "cloud",
            "cluster",
            "collateral",
            "image",
            "k8s",
            "keys",
            "proto",
        ],
    ),
    (
        "node",
        &[
            "attest", "channel", "cloud", "cluster", "disk", "k8s", "keys", "proto", "runtime",
            "tee",
        ],
    ),
    (
        "join-service",
        &[
            "attest", "channel", "cluster", "k8s", "keys", "proto", "runtime", "tee",
        ],
    ),
    (
        "key-service",
        &["cluster", "k8s", "keys", "proto", "runtime"],
    ),
    (
        "verification-service",
        &["attest", "proto", "runtime", "tee"],
    ),
    ("pause", &[]),
    // develop
    ("testkit", &["attest", "cluster", "k8s", "keys"]),
    ("xtask", &["attest", "cluster", "image"]),
    (
        "e2e",
        &[
            "attest", "channel", "cli", "cloud", "cluster", "disk", "image", "k8s", "keys", "node",
            "proto", "tee", "testkit",
        ],
    ),
];

/// Crates that decide touch no outside thing, so they may not even link what does.
const NOT_IN_DECIDE: &[&str] = &[
    "tokio",
    "reqwest",
    "hyper",
    "tonic",
    "kube",
    "rustix",
    "tpm2-protocol",
    "tracing",
    "anyhow",
];
const DECIDE: &[&str] = &["keys", "attest", "cluster"];

/// One crypto library in the tree.
const NOWHERE: &[&str] = &["ring", "openssl-sys", "openssl"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

pub(super) fn check() -> Result<Vec<Violation>> {
    let output = workspace::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(workspace::root())
        .output()?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let ours = |name: &str| allowed.contains_key(name);
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let place = format!("crates/{}/Cargo.toml", package.name);
        let Some(may) = allowed.get(package.name.as_str()) else {
            violations.push(Violation::new(
                place,
                "crate is not in the table of xtask/src/tidy/direction.rs",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let test_only = dependency.kind.as_deref() == Some("dev");
            let name = dependency.name.as_str();
            if ours(name)
                && !may.contains(&name)
                && !(test_only && (name == "testkit" || may_in_tests(name)))
            {
                violations.push(Violation::new(
                    &place,
                    format!("must not depend on {name}: see ARCHITECTURE.md, direction"),
                ));
            }
            if !test_only
                && DECIDE.contains(&package.name.as_str())
                && NOT_IN_DECIDE.contains(&name)
            {
                violations.push(Violation::new(
                    &place,
                    format!("a crate that decides must not depend on {name}"),
                ));
            }
        }
    }
    let lock = std::fs::read_to_string(workspace::root().join("Cargo.lock"))?;
    for name in NOWHERE {
        if lock.contains(&format!("name = \"{name}\"\n")) && linked(name)? {
            violations.push(Violation::new(
                "Cargo.lock",
                format!("{name}: aws-lc-rs is the one crypto library"),
            ));
        }
    }
    Ok(violations)
}

/// Programs that the tests of another program run beside it.
const PROGRAMS_IN_TESTS: &[&str] = &["key-service"];

/// Tests may build what they check out of any crate that decides, speaks or acts.
fn may_in_tests(name: &str) -> bool {
    PROGRAMS_IN_TESTS.contains(&name)
        || ALLOWED
            .iter()
            .take_while(|(n, _)| *n != "cli")
            .any(|(n, _)| *n == name)
}

/// A name in the lock file may be an optional dependency that nothing turns on.
fn linked(name: &str) -> Result<bool> {
    let output = workspace::cargo()
        .args([
            "tree",
            "--workspace",
            "--invert",
            name,
            "--locked",
            "--edges",
            "normal,build",
        ])
        .current_dir(workspace::root())
        .output()?;
    Ok(output.status.success() && !output.stdout.is_empty())
}
