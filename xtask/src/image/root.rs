//! The root file system: the package tree without what no program of ours needs, and our own files.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::tree::{Kind, Node, Tree, matches, merged};
use super::{Inputs, lines, units};

/// Directories that something is mounted on.
const MOUNT_POINTS: [&str; 13] = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "var",
    "opt",
    "mnt",
    "root",
    "home",
    "srv",
    "etc/kubernetes",
    "etc/cni",
];

pub(super) fn build(packages: &Tree, inputs: &Inputs) -> Result<Tree> {
    let patterns = inputs.config("root.remove")?;
    let unwanted = files_of(packages, &inputs.config("packages.remove")?)?;
    let removed = |path: &str| lines(&patterns).any(|pattern| matches(pattern, path));
    // What packages would have started: `root.units` says what is started.
    let starts = |path: &str| path.contains(".wants/") || path.contains(".requires/");
    let is_directory = |path: &str| {
        matches!(
            packages.0.get(path),
            Some(Node {
                kind: Kind::Directory,
                ..
            })
        )
    };
    let mut tree = packages.clone();
    tree.retain(|path| {
        !removed(path) && !starts(path) && (is_directory(path) || !unwanted.contains(path))
    });
    for directory in MOUNT_POINTS {
        tree.directory(directory);
    }
    tree.overlay(&inputs.directory.join("root"))?;
    tree.file(
        "usr/bin/constellation-node",
        0o755,
        inputs.program("constellation-node")?,
    );
    tree.file(
        "usr/lib/constellation/images/services.tar",
        0o644,
        std::fs::read(&inputs.services)?,
    );
    tree.file("usr/lib/os-release", 0o644, inputs.os_release());
    tree.file("etc/machine-id", 0o444, *b"");
    tree.link("etc/mtab", "../proc/self/mounts");
    tree.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    units(&mut tree, &inputs.config("root.units")?)?;
    Ok(tree)
}

/// The files of packages, as dpkg lists them.
fn files_of(packages: &Tree, names: &str) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for name in lines(names) {
        let list = [format!("{name}.list"), format!("{name}:amd64.list")];
        let list = list
            .iter()
            .find_map(|list| packages.content(&format!("var/lib/dpkg/info/{list}")).ok());
        let list =
            list.with_context(|| format!("{name} of packages.remove is not in the package tree"))?;
        files.extend(
            String::from_utf8_lossy(list)
                .lines()
                .map(|line| merged(line.trim_start_matches('/'))),
        );
    }
    Ok(files)
}
