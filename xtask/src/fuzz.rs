//! `cargo xtask fuzz`: every fuzz target for some seconds, from its seeds.

use anyhow::{Context, Result};

use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut targets: Vec<String> = std::fs::read_dir(workspace::root().join("fuzz/fuzz_targets"))
        .context("cannot list fuzz/fuzz_targets")?
        .flatten()
        .filter_map(|entry| {
            entry
                .path()
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect();
    targets.sort();
    for target in targets {
        workspace::run(
            workspace::cargo()
                .args([
                    "run",
                    "--quiet",
                    "--release",
                    "--locked",
                    "--manifest-path",
                    "fuzz/Cargo.toml",
                    "--bin",
                    &target,
                ])
                .args(["--", "--seconds", &args.seconds.to_string()]),
        )?;
    }
    Ok(())
}
