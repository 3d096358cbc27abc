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
    // the profile of the product's own tests, so that both share what is built
    workspace::run(&mut fuzz("build", &["--bins"]))?;
    for target in targets {
        let seconds = args.seconds.to_string();
        workspace::run(&mut fuzz(
            "run",
            &["--bin", &target, "--", "--seconds", &seconds],
        ))?;
    }
    Ok(())
}

/// A cargo command on the fuzz targets' own workspace.
fn fuzz(verb: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = workspace::cargo();
    command
        .args([
            verb,
            "--quiet",
            "--locked",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target-dir",
        ])
        .arg(workspace::target())
        .args(arguments);
    command
}
