//! `cargo xtask test`: every test of layers 1 to 3, or one layer.
//!
//! 1. unit, property and vector tests: no outside program;
//! 2. programs: targets named `programs`, with swtpm, cryptsetup, etcd and kube-apiserver for real;
//! 3. machines: `e2e/tests/machines.rs`, with the real image under QEMU;
//! 4. three control planes on machines: `e2e/tests/control-planes.rs`, only when it is asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::packages::Purpose;
use crate::step::step;
use crate::{components, fuzz, image, mini, packages, tidy, workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run one layer only; 4 (three control planes on machines, half an hour) runs when it is named here.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
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
    let mut count = Count::default();
    step("host packages", || packages::run(purpose))?;
    if wants(1) {
        step("tidy", tidy::run)?;
        step("layer 1: units", || {
            count.run(cargo_test().args(["--workspace", "--lib", "--bins"]))?;
            let mut targets = cargo_test();
            targets.arg("--workspace");
            for name in targets_but(&["programs", "machines", "control-planes"])? {
                targets.args(["--test", &name]);
            }
            count.run(&mut targets)
        })?;
        step("fuzz smoke", || {
            fuzz::run(&fuzz::Args {
                seconds: args.fuzz_seconds,
            })
        })?;
    }
    // processes wait for each other in layer 2, and a build has use for the processors meanwhile
    let machines = args.layer.is_none().then(Build::start).transpose()?;
    if wants(2) {
        let components = step("Kubernetes", components::run)?;
        step("layer 2: programs", || {
            // real processes share the machine: one test program at a time
            count.run(
                cargo_test()
                    .args(["--workspace", "--test", "programs"])
                    .env("CONSTELLATION_COMPONENTS", &components),
            )
        })?;
    }
    if wants(3) {
        match machines {
            Some(build) => step("the image, twice, begun with layer 2", || build.finish())?,
            None => step("the image, twice", || {
                image::run(&image::Args::twice()).map(drop)
            })?,
        }
        let setup = mini::set_up()?;
        step("layer 3: machines", || {
            count.run(setup.name_to(cargo_test().args(["--package", "e2e", "--test", "machines"])))
        })?;
    }
    // asked for by its number only: on two processors it takes longer than all the others together
    if args.layer == Some(4) {
        let setup = mini::set_up()?;
        step("layer 4: three control planes on machines", || {
            let mut tests = cargo_test();
            tests.args(["--package", "e2e", "--test", "control-planes"]);
            count.run(setup.name_to(&mut tests))
        })?;
    }
    if args.layer.is_none() {
        println!("not run: layer 4, three control planes on machines (cargo xtask test --layer 4)");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(())
}

/// The programs and the image of the machines, built beside something else with what that leaves of the processors.
struct Build {
    child: Child,
    log: PathBuf,
}

impl Build {
    fn start() -> Result<Self> {
        let log = workspace::target().join("image.log");
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["image", "--check-reproducible"])
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start nice")?;
        Ok(Self { child, log })
    }

    /// Waits for it, and prints what it said.
    fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        eprint!("{}", std::fs::read_to_string(&self.log)?);
        ensure!(status.success(), "the image was not built: {status}");
        Ok(())
    }
}

impl Drop for Build {
    /// No build outlives the run, where the next would meet it.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            eprintln!("waiting for the build of the image to end");
            drop(self.child.wait());
        }
    }
}

/// Tests that ran, by what their runners say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Runs tests with their output on ours, and counts them.
    fn run(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command
            .current_dir(workspace::root())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start cargo")?;
        let output = child.stdout.take().context("no pipe from cargo")?;
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read what the tests say")?;
            println!("{line}");
            self.add(&line);
        }
        let status = child.wait().context("cannot wait for cargo")?;
        ensure!(
            status.success(),
            "cargo {:?} ended with {status}",
            command.get_args().collect::<Vec<_>>()
        );
        Ok(())
    }

    /// `test result: ok. 3 passed; 0 failed; ...` of libtest, `3 passed, 0 failed` of the tests on machines.
    fn add(&mut self, line: &str) {
        let rest = match line.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". ").map_or("", |(_, counts)| counts),
            None => line,
        };
        let mut words = rest.split([' ', ';', ',']).filter(|word| !word.is_empty());
        let mut number = |what: &str| -> Option<u64> {
            let number = words.next()?.parse().ok()?;
            (words.next()? == what).then_some(number)
        };
        if let (Some(passed), Some(failed)) = (number("passed"), number("failed")) {
            self.passed += passed;
            self.failed += failed;
        }
    }
}

fn cargo_test() -> Command {
    let mut command = workspace::cargo();
    // one run tells of everything that fails
    command.args(["test", "--no-fail-fast"]);
    command
}

/// Names of the workspace's integration test targets without these.
fn targets_but(left_out: &[&str]) -> Result<BTreeSet<String>> {
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
    Ok(metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets)
        .filter(|target| target.kind.iter().any(|kind| kind == "test"))
        .map(|target| target.name)
        .filter(|name| !left_out.contains(&name.as_str()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runner_is_counted_and_nothing_else() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "9 passed, 2 failed",
            "9 passed",
            "passed, failed",
        ] {
            count.add(line);
        }
        let expected = Count {
            passed: 13,
            failed: 4,
        };
        assert_eq!(count, expected);
    }
}
