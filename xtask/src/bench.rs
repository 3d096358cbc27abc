//! `cargo xtask bench`: builds what a benchmark needs, then runs its program, which prints a table.

use std::process::Command;

use anyhow::Result;

use crate::packages::Purpose;
use crate::step::step;
use crate::{components, dist, mini, packages, workspace};

#[derive(clap::Subcommand)]
pub(crate) enum Benchmark {
    /// The start of a control plane beside the bare start of etcd and kube-apiserver in a guest of the same size.
    ControlPlane,
    /// The join service under many nodes that join at once, alone and beside a flood of connections.
    Join,
    /// The appraisal of a SEV-SNP report beside one bare P-384 verification and the crate `sev`.
    SevSnp,
}

pub(crate) fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::ControlPlane => {
            let setup = mini::set_up()?;
            step("control plane, ours and bare", || {
                workspace::run(setup.name_to(&mut program("control-plane", &[])))
            })
        }
        Benchmark::Join => {
            step("host packages", || packages::run(Purpose::Programs))?;
            let programs = step("release programs", dist::run)?;
            let components = step("Kubernetes", components::run)?;
            step("join under load", || {
                // it shares the processors with what it measures
                workspace::run(
                    program("join-load", &["--release"])
                        .env("CONSTELLATION_COMPONENTS", &components)
                        .env("CONSTELLATION_PROGRAMS", &programs),
                )
            })
        }
        Benchmark::SevSnp => step("appraisal of SEV-SNP", || {
            workspace::run(workspace::cargo().args([
                "run",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
                "bench/sev-snp/Cargo.toml",
            ]))
        }),
    }
}

/// A program of `e2e`.
fn program(name: &str, profile: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command
        .args(["run", "--package", "e2e", "--bin", name])
        .args(profile);
    command
}
