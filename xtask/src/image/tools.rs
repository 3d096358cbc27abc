//! Programs of the package tree: which libraries they need, and running one of them on this host.
//!
//! The build uses the image's own tools (file system, module index, compression) and not the host's: the result is the same on
//! every host, and the host needs no more than mkosi.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};

use super::elf;
use super::tree::{Kind, Tree, merged};
use crate::workspace;

const LIBRARIES: [&str; 2] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/systemd",
];
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// A program of the package tree with its libraries, unpacked.
pub(super) struct Tool {
    directory: tempfile::TempDir,
    path: String,
}

impl Tool {
    pub(super) fn new(packages: &Tree, path: &str) -> Result<Self> {
        let mut tree = Tree::default();
        copy(
            packages,
            &mut tree,
            vec![path.to_owned(), LOADER.to_owned()],
        )?;
        let directory = tempfile::tempdir()?;
        tree.write(&directory.path().join("tree"))?;
        Ok(Self {
            directory,
            path: path.to_owned(),
        })
    }

    /// The program as a command without arguments.
    pub(super) fn command(&self) -> Command {
        let tree = self.directory.path().join("tree");
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let mut command = Command::new(tree.join(LOADER));
        command
            .arg("--library-path")
            .arg(tree.join(LIBRARIES[0]))
            .args(["--argv0", name])
            .arg(tree.join(&self.path));
        command
    }

    /// Runs the program to its end.
    pub(super) fn run(&self, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let mut command = self.command();
        workspace::run(arguments(&mut command))
            .with_context(|| format!("{} of the package tree failed", self.path))
    }
}

/// Copies files, what their links point to, and every library they need.
pub(super) fn copy(from: &Tree, to: &mut Tree, wanted: Vec<String>) -> Result<()> {
    let mut queue = wanted;
    let mut seen = BTreeSet::new();
    while let Some(path) = queue.pop() {
        for path in from.resolve(&merged(&path))? {
            if !seen.insert(path.clone()) {
                continue;
            }
            let node = from
                .0
                .get(&path)
                .with_context(|| format!("{path} is not in the package tree"))?;
            match &node.kind {
                Kind::Directory => to.directory(&path),
                Kind::Link(target) => to.link(&path, target),
                Kind::File(bytes) => {
                    to.file(&path, node.permissions, bytes.clone());
                    for library in elf::needed(bytes) {
                        let found = LIBRARIES
                            .iter()
                            .map(|dir| format!("{dir}/{library}"))
                            .find(|p| from.0.contains_key(p));
                        queue.push(found.with_context(|| {
                            format!("{path} needs {library}, which no package brings")
                        })?);
                    }
                }
            }
        }
    }
    to.link(
        "usr/lib64/ld-linux-x86-64.so.2",
        "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    );
    Ok(())
}
