//! `cargo xtask mini`: from a fresh clone to a verified cluster on this host.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::packages::Purpose;
use crate::step::step;
use crate::{components, dist, image, packages, workspace};

/// Directory of the cluster's workspace below the checkout: config, state, kubeconfig, machines.
pub(crate) const WORKSPACE: &str = "mini";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of workers [default: what the config file says, 1 in a new one].
    #[arg(long)]
    workers: Option<u8>,
}

/// Everything `mini` and layer 3 need, in the order it is needed; each step is skipped where its result is there.
pub(crate) fn set_up() -> Result<Setup> {
    step("host packages", || packages::run(Purpose::Machines))?;
    let programs = step("release programs", dist::run)?;
    let image = step("OS image", || image::run(&image::Args::default()))?;
    let components = step("Kubernetes", components::run)?;
    Ok(Setup {
        programs,
        image,
        components,
    })
}

/// What [`set_up`] made.
pub(crate) struct Setup {
    /// Directory of the static release programs.
    pub(crate) programs: std::path::PathBuf,
    /// Directory of the image: `image.raw`, `measurements.json`, `info.json`.
    pub(crate) image: std::path::PathBuf,
    /// Components directory in the layout of dl.k8s.io.
    pub(crate) components: std::path::PathBuf,
}

impl Setup {
    /// Names what was made to a program of `e2e`.
    pub(crate) fn name_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("CONSTELLATION_COMPONENTS", &self.components)
            .env("CONSTELLATION_PROGRAMS", &self.programs)
            .env("CONSTELLATION_IMAGE", &self.image)
    }
}

/// Gives the exit code of `constellation mini up`, which tells by itself what it does and what went wrong.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    eprintln!(
        "This builds the OS image and starts real machines. With KVM count on 10 minutes from nothing;\n\
         without it (software emulation, two cores) on 20, most of it once: a second run reuses what is built."
    );
    let setup = set_up()?;
    let directory = workspace::root().join(WORKSPACE);
    std::fs::create_dir_all(&directory)?;
    let mut command = Command::new(setup.programs.join("constellation"));
    command
        .arg("--workspace")
        .arg(&directory)
        .args(["mini", "up", "--image-dir"])
        .arg(&setup.image)
        .env("CONSTELLATION_COMPONENTS", &setup.components);
    if let Some(workers) = args.workers {
        command.args(["--workers", &workers.to_string()]);
    }
    let status = command.status().context("cannot start constellation")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
