//! `cargo xtask tidy`: what a compiler does not check. Each check reports every violation it finds.

mod direction;
mod documents;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::step;
use crate::{codegen, workspace};

/// One broken rule at one place.
pub(crate) struct Violation {
    place: String,
    rule: String,
}

impl Violation {
    fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            rule: rule.into(),
        }
    }
}

pub(crate) fn run() -> Result<()> {
    step("dependency direction", || report(direction::check()?))?;
    step("sources", || report(sources::check()?))?;
    step("documents", || report(documents::check()?))?;
    step("generated code", || codegen::run(true))?;
    step("formatting", || {
        workspace::run(workspace::cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("lints", || {
        clippy(&["--lib", "--bins"], &[])?;
        // tests: what the compiler warns of
        clippy(
            &["--all-targets"],
            &[
                "-A",
                "clippy::all",
                "-A",
                "clippy::pedantic",
                "-A",
                "clippy::restriction",
            ],
        )
    })
}

fn clippy(targets: &[&str], lints: &[&str]) -> Result<()> {
    workspace::run(
        workspace::cargo()
            .args(["clippy", "--quiet", "--locked", "--workspace"])
            .args(targets)
            .args(["--", "-D", "warnings"])
            .args(lints),
    )
}

fn report(violations: Vec<Violation>) -> Result<()> {
    for violation in &violations {
        eprintln!("{}: {}", violation.place, violation.rule);
    }
    match violations.len() {
        0 => Ok(()),
        n => bail!("{n} violation(s)"),
    }
}

/// Files that git tracks (or would: not ignored) with this extension, relative to the root.
fn tracked(extension: &str) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
            &format!("*.{extension}"),
        ])
        .current_dir(workspace::root())
        .output()?;
    if !output.status.success() {
        bail!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?
        .split('\0')
        .filter(|name| !name.is_empty() && workspace::root().join(name).is_file())
        .map(PathBuf::from)
        .collect())
}

fn read(path: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(workspace::root().join(path))?)
}
