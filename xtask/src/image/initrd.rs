//! The initrd: few programs of the package tree with their libraries, kernel modules with those they depend on, and ours.

use anyhow::{Context, Result};

use super::tools::{Tool, copy};
use super::tree::{Tree, matches};
use super::{Inputs, lines, units};

/// What `depmod` reads besides the modules.
const INDEX_SOURCES: [&str; 3] = [
    "/modules.builtin",
    "/modules.builtin.modinfo",
    "/modules.order",
];
/// Files of the root file system's overlay that the initrd has as well: which interface is the way out, and what it is told.
const SHARED: [&str; 2] = [
    "usr/lib/systemd/network/10-uplink.network",
    "usr/lib/udev/rules.d/70-constellation-network.rules",
];
const RELEASE: &str =
    "NAME=Constellation\nID=constellation\nPRETTY_NAME=\"Constellation initrd\"\n";

pub(super) fn build(packages: &Tree, inputs: &Inputs) -> Result<Tree> {
    let mut tree = Tree::default();
    for directory in ["dev", "proc", "sys", "run", "tmp", "sysroot", "var", "root"] {
        tree.directory(directory);
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        tree.directory(&format!("usr/{name}"));
        tree.link(name, &format!("usr/{name}"));
    }
    let mut wanted: Vec<String> = Vec::new();
    for pattern in lines(&inputs.config("initrd.files")?) {
        let found: Vec<_> = packages
            .0
            .keys()
            .filter(|path| matches(pattern, path))
            .cloned()
            .collect();
        anyhow::ensure!(
            !found.is_empty(),
            "{pattern} of initrd.files is not in the package tree"
        );
        wanted.extend(found.into_iter().filter(|path| !path.contains(".wants")));
    }
    wanted.extend(modules(packages, &inputs.config("initrd.modules")?)?);
    copy(packages, &mut tree, wanted)?;
    module_index(packages, &mut tree)?;
    tree.overlay(&inputs.directory.join("initrd"))?;
    for path in SHARED {
        let source = inputs.directory.join("root").join(path);
        let content =
            std::fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        tree.file(path, 0o644, content);
    }
    tree.file(
        "usr/bin/constellation-node",
        0o755,
        inputs.program("constellation-node")?,
    );
    tree.file("usr/lib/os-release", 0o644, RELEASE.as_bytes());
    tree.link("etc/initrd-release", "../usr/lib/os-release");
    tree.link("etc/os-release", "../usr/lib/os-release");
    tree.file("etc/machine-id", 0o444, *b"");
    tree.link("init", "usr/lib/systemd/systemd");
    tree.link("etc/mtab", "../proc/self/mounts");
    units(&mut tree, &inputs.config("initrd.units")?)?;
    Ok(tree)
}

/// The index of the modules that are in the initrd: with the whole kernel's index, every device there is asks for a module
/// that is not there.
fn module_index(packages: &Tree, tree: &mut Tree) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut modules = tree.clone();
    modules.retain(|path| {
        path == "usr" || matches("usr/lib/modules", path) || path == "usr/lib" || path == "lib"
    });
    for path in packages
        .0
        .keys()
        .filter(|path| INDEX_SOURCES.iter().any(|name| path.ends_with(name)))
    {
        modules.file(path, 0o644, packages.content(path)?.clone());
    }
    let root = directory.path().join("root");
    modules.write(&root)?;
    let version = modules.0.keys().find_map(|path| {
        path.strip_prefix("usr/lib/modules/")
            .filter(|rest| !rest.contains('/'))
    });
    let version = version.context("no kernel modules in the initrd")?;
    Tool::new(packages, "usr/sbin/depmod")?
        .run(|command| command.arg("-b").arg(&root).arg(version))?;
    let index = root.join("usr/lib/modules").join(version);
    for entry in std::fs::read_dir(&index)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let path = format!(
                "usr/lib/modules/{version}/{}",
                entry.file_name().to_string_lossy()
            );
            tree.file(&path, 0o644, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// Paths of the modules `names` and of all they depend on.
fn modules(packages: &Tree, names: &str) -> Result<Vec<String>> {
    let dep = packages
        .0
        .keys()
        .find(|path| matches("usr/lib/modules/*/modules.dep", path));
    let dep = dep.context("no kernel in the package tree")?;
    let base = dep.trim_end_matches("modules.dep");
    let table = String::from_utf8_lossy(packages.content(dep)?).into_owned();
    let builtin =
        String::from_utf8_lossy(packages.content(&format!("{base}modules.builtin"))?).into_owned();
    let same = |path: &str, name: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split(".ko")
            .next()
            .unwrap_or_default()
            .replace('_', "-")
            == name.replace('_', "-")
    };
    let mut out = Vec::new();
    for name in lines(names) {
        if builtin.lines().any(|path| same(path, name)) {
            continue;
        }
        let line = table
            .lines()
            .find(|line| line.split(':').next().is_some_and(|path| same(path, name)));
        let line = line.with_context(|| format!("the kernel has no module {name}"))?;
        out.extend(
            line.split([':', ' '])
                .filter(|path| !path.is_empty())
                .map(|path| format!("{base}{path}")),
        );
    }
    Ok(out)
}
