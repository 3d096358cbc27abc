//! `cargo xtask faults`: faults into real programs and into every state of the flows, and the table of `docs/reliability.md`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::packages::Purpose;
use crate::step::step;
use crate::{components, packages, workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each program is killed.
    #[arg(long, default_value_t = 50)]
    runs: u64,
    /// How often each test of a flow is repeated, with another seed each time.
    #[arg(long, default_value_t = 20)]
    repetitions: u64,
    /// The first seed; a run with the same one kills at the same moments.
    #[arg(long, default_value_t = u64::from(std::process::id()))]
    seed: u64,
}

/// A test that cuts a flow.
struct Cut {
    fault: &'static str,
    window: &'static str,
    package: &'static str,
    /// The target, as cargo is told of it.
    target: &'static [&'static str],
    test: &'static str,
    /// Cuts in one repetition.
    cuts: u64,
    /// Real programs run in it, which takes long: it is not repeated.
    once: bool,
}

const CUTS: [Cut; 16] = [
    Cut {
        fault: "the machine stops",
        window: "every step of first-boot format before the device is open",
        package: "disk",
        target: &["--test", "programs"],
        test: "a_first_boot_that_stops_leaves_a_new_disk",
        cuts: 3,
        once: true,
    },
    Cut {
        fault: "power cut that loses any sectors of a write",
        window: "every step of the re-key",
        package: "disk",
        target: &["--lib"],
        test: "luks2::commit::tests::creating_cut_anywhere",
        cuts: 64,
        once: false,
    },
    Cut {
        fault: "kill -9, with the real cryptsetup",
        window: "the re-key",
        package: "disk",
        target: &["--test", "programs"],
        test: "setting_the_key_can_be_killed_at_any_moment",
        cuts: 12,
        once: true,
    },
    Cut {
        fault: "up to 200 crashes, restarts, replays and reboots in any order",
        window: "init and join",
        package: "cluster",
        target: &["--lib"],
        test: "init::tests::crashes_and_replays_leave_a_clean_machine",
        cuts: 64,
        once: false,
    },
    Cut {
        fault: "up to 60 crashes, restarts, lies and offered keys in any order",
        window: "rejoin and recovery",
        package: "cluster",
        target: &["--lib"],
        test: "rejoin::tests::a_rebooted_machine_comes_back_marked_once_or_not_at_all",
        cuts: 256,
        once: false,
    },
    Cut {
        fault: "kill -9 of the joining control plane and its etcd",
        window: "before the lock of etcd's members",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::a_crash_before_the_lock_leaves_nothing",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "kill -9 of the joining control plane and its etcd",
        window: "with the lock, before the learner is added",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::a_crash_before_the_learner_is_added_leaves_a_lock_that_ends",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "kill -9 of the joining control plane and its etcd",
        window: "learner added, its number not noted",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::a_learner_whose_number_was_not_noted_is_replaced",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "kill -9 of the joining control plane and its etcd",
        window: "learner added, etcd not started",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::a_crash_before_etcd_starts_goes_on_with_what_was_added",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "kill -9 of the joining control plane and its etcd",
        window: "learner runs, not promoted",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::a_crash_before_the_vote_goes_on_with_the_data",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "kill -9 of the joining control plane and its etcd",
        window: "promoted",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::a_crash_after_the_vote_leaves_a_member",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "every etcd of three is killed at once",
        window: "while a client writes",
        package: "k8s",
        target: &["--test", "programs"],
        test: "etcd::all_control_planes_come_back_from_a_power_cut",
        cuts: 1,
        once: true,
    },
    Cut {
        fault: "each of three control planes is killed in turn",
        window: "while a client writes through the proxy",
        package: "node",
        target: &["--test", "programs"],
        test: "programs::control_planes::the_api_outlives_each_of_three_control_planes_and_loses_no_write",
        cuts: 3,
        once: true,
    },
    Cut {
        fault: "the machine stops between two file operations",
        window: "every operation of a rotation of certificates",
        package: "k8s",
        target: &["--lib"],
        test: "pki::tests::a_renewal_cut_anywhere_is_made_whole_by_the_next",
        cuts: 50,
        once: true,
    },
    Cut {
        fault: "the clock jumps by a year and back",
        window: "leaf certificates",
        package: "k8s",
        target: &["--lib"],
        test: "pki::tests::a_clock_a_year_ahead_or_back_leaves_no_certificate_when_it_is_right_again",
        cuts: 2,
        once: true,
    },
    Cut {
        fault: "the disk is full",
        window: "download of a component",
        package: "k8s",
        target: &["--test", "programs"],
        test: "disk_full::a_full_disk_is_said_so_and_freed",
        cuts: 1,
        once: true,
    },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.runs > 0 && args.repetitions > 0,
        "without a fault nothing is shown"
    );
    step("host packages", || packages::run(Purpose::Programs))?;
    let components = step("Kubernetes", components::run)?;
    let killed = step("kill -9 of real programs", || {
        let mut program = workspace::cargo();
        program
            .args(["run", "--quiet", "--package", "e2e", "--bin", "faults"])
            .arg("--")
            .args([args.runs.to_string(), args.seed.to_string()])
            .env("CONSTELLATION_COMPONENTS", &components);
        workspace::run(&mut program)
    });
    let failed = step("cuts of the flows", || {
        let mut failed = Vec::new();
        for cut in &CUTS {
            let repetitions = if cut.once { 1 } else { args.repetitions };
            let losses = cut.repeat(repetitions, args.seed)?;
            println!(
                "| {} | {} | {} | | | | {losses} |",
                cut.fault,
                cut.window,
                cut.cuts * repetitions
            );
            if losses > 0 {
                failed.push(cut.test);
            }
        }
        Ok(failed)
    })?;
    // both parts were run, whatever came of the first
    killed?;
    ensure!(failed.is_empty(), "these tests failed: {failed:?}");
    Ok(())
}

impl Cut {
    /// Runs the test so often, and says how often it failed.
    fn repeat(&self, repetitions: u64, seed: u64) -> Result<u64> {
        let mut losses = 0;
        for repetition in 0..repetitions {
            let seed = seed.wrapping_add(repetition);
            let output = self
                .command()
                .env("PROPTEST_RNG_SEED", seed.to_string())
                .stdin(Stdio::null())
                .output()
                .context("cannot start cargo")?;
            let said = String::from_utf8_lossy(&output.stdout);
            // a name that is no test's would pass as well
            let ran = said.contains("running 1 test");
            if !output.status.success() || !ran {
                let errors = String::from_utf8_lossy(&output.stderr);
                eprintln!("{} with seed {seed}:\n{said}{errors}", self.test);
                losses += 1;
            }
        }
        Ok(losses)
    }

    fn command(&self) -> Command {
        let mut command = workspace::cargo();
        command
            .args(["test", "--quiet", "--package", self.package])
            .args(self.target)
            .args(["--", "--exact", self.test])
            .current_dir(workspace::root());
        command
    }
}
