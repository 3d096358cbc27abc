//! `cargo xtask test`: every test of every layer, or one layer.
//!
//! 1. unit, property and vector tests: no outside program;
//! 2. programs: targets named `programs`, with swtpm, cryptsetup, etcd and kube-apiserver for real;
//! 3. machines: `e2e/tests/machines.rs`, with the real image under QEMU.

use std::process::Command;

use anyhow::Result;

use crate::packages::Purpose;
use crate::step::step;
use crate::{components, fuzz, mini, packages, tidy, workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run one layer only.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
    layer: Option<u8>,
    /// Seconds for each fuzz target in layer 1.
    #[arg(long, default_value_t = 5)]
    fuzz_seconds: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wants = |layer| args.layer.is_none_or(|one| one == layer);
    let purpose = match args.layer {
        Some(1) => Purpose::Units,
        Some(2) => Purpose::Programs,
        Some(_) => Purpose::Machines,
        None => Purpose::All,
    };
    step("host packages", || packages::run(purpose))?;
    if wants(1) {
        step("tidy", tidy::run)?;
        step("layer 1: units", || {
            workspace::run(cargo_test().args(["--workspace", "--lib", "--bins"]))?;
            run_targets(|name| name != "programs" && name != "machines")
        })?;
        step("fuzz smoke", || {
            fuzz::run(&fuzz::Args {
                seconds: args.fuzz_seconds,
            })
        })?;
    }
    if wants(2) {
        let components = step("Kubernetes", components::run)?;
        step("layer 2: programs", || {
            // real processes share the machine: one test program at a time
            workspace::run(
                cargo_test()
                    .args(["--workspace", "--test", "programs"])
                    .env("CONSTELLATION_COMPONENTS", &components),
            )
        })?;
    }
    if wants(3) {
        let setup = mini::set_up()?;
        step("layer 3: machines", || {
            workspace::run(setup.name_to(cargo_test().args([
                "--package",
                "e2e",
                "--test",
                "machines",
                "--",
                "--test-threads=1",
                "--nocapture",
            ])))
        })?;
    }
    Ok(())
}

fn cargo_test() -> Command {
    let mut command = workspace::cargo();
    // one run tells of everything that fails
    command.args(["test", "--no-fail-fast"]);
    command
}

/// Integration test targets of the workspace whose name `wanted` accepts.
fn run_targets(wanted: impl Fn(&str) -> bool) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        targets: Vec<Target>,
    }
    #[derive(serde::Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let output = workspace::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(workspace::root())
        .output()?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut names: Vec<String> = metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets)
        .filter(|target| target.kind.iter().any(|kind| kind == "test") && wanted(&target.name))
        .map(|target| target.name)
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let mut command = cargo_test();
    command.arg("--workspace");
    for name in &names {
        command.args(["--test", name]);
    }
    workspace::run(&mut command)
}
