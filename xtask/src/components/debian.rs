//! Builds Kubernetes from Debian bookworm's source package, which holds the whole tree; about ten minutes on two cores.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{PROGRAMS, VERSION, bin, publish};
use crate::workspace;

/// Debian's source package of the version in [`VERSION`].
const SOURCE: &str = "kubernetes=1.20.5+really1.20.2-1.1+deb12u1";

/// Builds [`PROGRAMS`] into `dir`.
pub(super) fn build(dir: &Path) -> Result<()> {
    let work = workspace::target().join("kubernetes-source");
    std::fs::create_dir_all(&work)?;
    let tree = match unpacked(&work)? {
        Some(tree) => tree,
        None => {
            workspace::run(&mut source(&work)).context(
                "`apt-get source` failed: the package sources need a deb-src entry for Debian bookworm",
            )?;
            unpacked(&work)?.context("apt-get source left no source tree")?
        }
    };
    // the version that `--version` and the API report
    let version_file = work.join("version");
    std::fs::write(
        &version_file,
        format!(
            "KUBE_GIT_COMMIT=debian\nKUBE_GIT_TREE_STATE=archive\nKUBE_GIT_VERSION={VERSION}\nKUBE_GIT_MAJOR=1\nKUBE_GIT_MINOR=20\n"
        ),
    )?;
    let what = PROGRAMS.map(|program| format!("cmd/{program}")).join(" ");
    let status = Command::new("make")
        .arg(format!("WHAT={what}"))
        .current_dir(&tree)
        .env("KUBE_GIT_VERSION_FILE", &version_file)
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .status()
        .context("cannot start make (packages make, golang-go)")?;
    if !status.success() {
        bail!("the build in {} ended with {status}", tree.display());
    }
    let out = bin(dir, VERSION);
    std::fs::create_dir_all(&out)?;
    for program in PROGRAMS {
        let part = out.join(format!(".{program}.part"));
        let built = tree.join("_output/bin").join(program);
        std::fs::copy(&built, &part)
            .with_context(|| format!("the build left no {}", built.display()))?;
        publish(&part, &out.join(program))?;
    }
    Ok(())
}

/// `apt-get source` unpacks and applies `debian/patches`.
fn source(work: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "cd \"$0\" && apt-get source --only-source \"$1\""])
        .arg(work)
        .arg(SOURCE);
    command
}

fn unpacked(work: &Path) -> Result<Option<std::path::PathBuf>> {
    Ok(std::fs::read_dir(work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.join("cmd/kube-apiserver").is_dir()))
}
