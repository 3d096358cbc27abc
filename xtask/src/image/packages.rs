//! The package tree: one run of mkosi, repeated only when its configuration changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::build::hex_digest;
use crate::step::step;
use crate::workspace;

/// Gives the archive of the package tree below `directory`; `directory/cache` keeps what was downloaded.
pub(super) fn tree(config: &Path, directory: &Path) -> Result<PathBuf> {
    let stamp = hex_digest(&std::fs::read(config.join("mkosi.conf"))?);
    let (tree, stamp_file) = (
        directory.join("packages/tree.tar"),
        directory.join("packages/stamp"),
    );
    if tree.is_file() && std::fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(tree);
    }
    step("packages of the image (mkosi)", || {
        mkosi(
            config,
            &directory.join("cache"),
            &directory.join("packages"),
            true,
        )
    })?;
    std::fs::write(&stamp_file, stamp)?;
    Ok(tree)
}

/// Installs the same packages once more from the cache of an earlier run.
pub(super) fn tree_again(config: &Path, first: &Path, directory: &Path) -> Result<PathBuf> {
    step("packages of the image, once more", || {
        mkosi(
            config,
            &first.join("cache"),
            &directory.join("packages"),
            false,
        )
    })?;
    Ok(directory.join("packages/tree.tar"))
}

fn mkosi(config: &Path, cache: &Path, output: &Path, online: bool) -> Result<()> {
    for directory in [cache, output] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut command = Command::new("mkosi");
    command
        .arg("--directory")
        .arg(config)
        .arg("--output-dir")
        .arg(output)
        .arg("--workspace-dir")
        .arg(output);
    command.arg("--package-cache-dir").arg(cache).arg("--force");
    if !online {
        command.args(["--cache-only", "always"]);
    }
    // apt and dpkg tell more than anybody wants to read; it is there when something fails.
    let log = output.with_extension("log");
    let file =
        std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    // The system's python comes first: another one does not know Debian's modules.
    workspace::run(
        command
            .arg("build")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )
    .with_context(|| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(15).collect();
        format!(
            "the end of {}:\n{}",
            log.display(),
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    })
}
