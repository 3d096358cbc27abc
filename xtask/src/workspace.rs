//! Where things are: the checkout and cargo's target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Root of the checkout (the directory of the virtual manifest).
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace root")
}

/// Cargo's target directory: `$CARGO_TARGET_DIR` (relative to the root, as cargo takes it) or `target`.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Runs a program in the workspace root with its output on ours; fails when it does, and says how it ended.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.current_dir(root()).status().with_context(|| {
        format!("cannot start {name}; is it installed? `cargo xtask packages` lists what is needed")
    })?;
    if !status.success() {
        bail!(
            "{name} {:?} ended with {status}",
            command.get_args().collect::<Vec<_>>()
        );
    }
    Ok(())
}

/// `cargo` with the toolchain that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
