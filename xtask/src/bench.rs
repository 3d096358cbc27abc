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
    /// The appraisal of a TDX quote beside one bare P-256 verification and the crate `dcap-qvl`.
    Tdx,
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
        Benchmark::SevSnp => beside_another("appraisal of SEV-SNP", "bench/sev-snp/Cargo.toml"),
        Benchmark::Tdx => beside_another("appraisal of TDX", "bench/tdx/Cargo.toml"),
    }
}

/// A program in a workspace of its own.
fn beside_another(what: &str, manifest: &str) -> Result<()> {
    step(what, || {
        workspace::run(workspace::cargo().args([
            "run",
            "--quiet",
            "--release",
            "--locked",
            "--manifest-path",
            manifest,
        ]))
    })
}

/// A program of `e2e`.
fn program(name: &str, profile: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command
        .args(["run", "--package", "e2e", "--bin", name])
        .args(profile);
    command
}
