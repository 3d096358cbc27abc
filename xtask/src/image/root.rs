//! The root file system: the package tree without what no program of ours needs, and our own files.

use std::collections::BTreeSet;

use anyhow::Result;

use super::tree::{Tree, matches, merged};
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
    let unwanted = inputs.config("packages.remove")?;
    let unwanted: BTreeSet<String> = lines(&unwanted)
        .filter_map(|name| {
            packages
                .0
                .get_key_value(&format!("var/lib/dpkg/info/{name}.list"))
        })
        .flat_map(|(path, _)| packages.content(path).map(|list| list.to_vec()).into_iter())
        .flat_map(|list| {
            String::from_utf8_lossy(&list)
                .lines()
                .map(|line| merged(line.trim_start_matches('/')))
                .collect::<Vec<_>>()
        })
        .collect();
    let removed = |path: &str| lines(&patterns).any(|pattern| matches(pattern, path));
    // The one generator that reads nothing but the image's own command line and fstab.
    let is_wants = |path: &str| path.contains(".wants/") || path.contains(".requires/");
    let mut tree = packages.clone();
    tree.retain(|path| {
        let directory = matches!(
            packages.0.get(path).map(|node| &node.kind),
            Some(super::tree::Kind::Directory)
        );
        !removed(path) && !is_wants(path) && (directory || !unwanted.contains(path))
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
    tree.file("etc/machine-id", 0o444, *b"");
    tree.link("etc/mtab", "../proc/self/mounts");
    tree.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    tree.file("usr/lib/os-release", 0o644, inputs.os_release());
    units(&mut tree, &inputs.config("root.units")?)?;
    Ok(tree)
}
