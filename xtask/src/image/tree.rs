//! A file tree in memory: read from the archive mkosi makes, cut and added to, written as a directory or a cpio archive.
//!
//! Owners and times are dropped: everything in an image belongs to root and has the build's fixed time.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use image::cpio;

/// One entry: permissions and what it is.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) permissions: u32,
    pub(super) kind: Kind,
}

#[derive(Clone)]
pub(super) enum Kind {
    Directory,
    File(Rc<[u8]>),
    Link(String),
}

/// Entries by path, without a slash in front.
#[derive(Clone, Default)]
pub(super) struct Tree(pub(super) BTreeMap<String, Node>);

impl Tree {
    /// Reads a tar archive; paths for which `keep` says no are not held in memory.
    pub(super) fn from_tar(archive: &Path, keep: impl Fn(&str) -> bool) -> Result<Self> {
        let file = std::fs::File::open(archive)
            .with_context(|| format!("cannot open {}", archive.display()))?;
        let mut tree = Self::default();
        let mut hard_links = Vec::new();
        for entry in
            tar::Archive::new(std::io::BufReader::with_capacity(1 << 20, file)).entries()?
        {
            let mut entry = entry?;
            let path = clean(&entry.path()?)?;
            if path.is_empty() || !keep(&path) {
                continue;
            }
            let permissions = entry.header().mode()? & 0o7777;
            let target = entry
                .link_name()?
                .map(|target| target.to_string_lossy().into_owned());
            let kind = match (entry.header().entry_type(), target) {
                (tar::EntryType::Directory, _) => Kind::Directory,
                (tar::EntryType::Symlink, Some(target)) => Kind::Link(target),
                (tar::EntryType::Link, Some(target)) => {
                    hard_links.push((path, clean(Path::new(&target))?));
                    continue;
                }
                (tar::EntryType::Regular, _) => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    Kind::File(bytes.into())
                }
                (other, _) => bail!("{path} in {} is a {other:?}", archive.display()),
            };
            tree.0.insert(path, Node { permissions, kind });
        }
        for (path, target) in hard_links {
            if let Some(node) = tree.0.get(&target).cloned() {
                tree.0.insert(path, node);
            }
        }
        Ok(tree)
    }

    /// Adds everything below a directory of the checkout, over what is there.
    pub(super) fn overlay(&mut self, directory: &Path) -> Result<()> {
        let entries = std::fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        self.overlay_below(entries, "")
    }

    fn overlay_below(&mut self, entries: std::fs::ReadDir, prefix: &str) -> Result<()> {
        for entry in entries {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.directory(&path);
                self.overlay_below(std::fs::read_dir(entry.path())?, &format!("{path}/"))?;
            } else {
                self.file(&path, 0o644, std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, bytes: impl Into<Rc<[u8]>>) {
        self.parents(path);
        self.0.insert(
            path.to_owned(),
            Node {
                permissions,
                kind: Kind::File(bytes.into()),
            },
        );
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.0.insert(
            path.to_owned(),
            Node {
                permissions: 0o777,
                kind: Kind::Link(target.to_owned()),
            },
        );
    }

    pub(super) fn directory(&mut self, path: &str) {
        self.parents(path);
        self.0.entry(path.to_owned()).or_insert(Node {
            permissions: 0o755,
            kind: Kind::Directory,
        });
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|path, _| keep(path));
    }

    pub(super) fn content(&self, path: &str) -> Result<&Rc<[u8]>> {
        match self.0.get(path).map(|node| &node.kind) {
            Some(Kind::File(bytes)) => Ok(bytes),
            _ => bail!("{path} is no file of the package tree"),
        }
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> usize {
        self.0
            .values()
            .map(|node| {
                if let Kind::File(bytes) = &node.kind {
                    bytes.len()
                } else {
                    0
                }
            })
            .sum()
    }

    /// Writes the tree below a directory that does not exist yet.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        std::fs::create_dir_all(directory)?;
        for (path, node) in &self.0 {
            let place = directory.join(path);
            let written = match &node.kind {
                Kind::Directory => std::fs::create_dir(&place),
                Kind::Link(target) => symlink(target, &place),
                Kind::File(bytes) => std::fs::write(&place, bytes),
            };
            written.with_context(|| format!("cannot write {}", place.display()))?;
            if !matches!(node.kind, Kind::Link(_)) {
                std::fs::set_permissions(&place, PermissionsExt::from_mode(node.permissions))?;
            }
        }
        Ok(())
    }

    pub(super) fn to_cpio(&self) -> Result<Vec<u8>> {
        let mut archive = cpio::Archive::default();
        for (path, node) in &self.0 {
            let kind = match &node.kind {
                Kind::Directory => cpio::Kind::Directory,
                Kind::Link(target) => cpio::Kind::Link(target),
                Kind::File(bytes) => cpio::Kind::File(bytes),
            };
            archive.push(path, node.permissions, kind)?;
        }
        Ok(archive.finish()?)
    }

    /// Follows links from `path` to the file it stands for; gives every link on the way and the file.
    pub(super) fn resolve(&self, path: &str) -> Result<Vec<String>> {
        let mut chain = vec![path.to_owned()];
        let mut current = path.to_owned();
        for _ in 0..16 {
            let Some(Node {
                kind: Kind::Link(target),
                ..
            }) = self.0.get(&current)
            else {
                return Ok(chain);
            };
            current = join(&current, target);
            chain.push(current.clone());
        }
        bail!("{path} is a link without an end")
    }
}

/// What a link at `path` with this target points to.
fn join(path: &str, target: &str) -> String {
    let base = if target.starts_with('/') {
        ""
    } else {
        path.rsplit_once('/').map_or("", |(parent, _)| parent)
    };
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    merged(&parts.join("/"))
}

fn clean(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(path.trim_start_matches("./").trim_matches('/').to_owned())
}

/// `/lib`, `/bin`, ... are links into `/usr`.
pub(super) fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if ["bin", "sbin", "lib", "lib64"].contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Whether `path` is what `pattern` says or below it; `*` stands for any characters.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    fn at(pattern: &[u8], path: &[u8]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (None, Some((&c, _))) => c == b'/',
            (Some((b'*', rest)), _) => {
                (0..=path.len()).any(|skip| path.get(skip..).is_some_and(|path| at(rest, path)))
            }
            (Some((p, pattern)), Some((c, path))) => p == c && at(pattern, path),
            (Some(_), None) => false,
        }
    }
    at(pattern.as_bytes(), path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_a_path_and_all_below() {
        for (pattern, path, expected) in [
            ("usr/share", "usr/share", true),
            ("usr/share", "usr/share/doc/x", true),
            ("usr/share", "usr/shared", false),
            ("usr/bin/perl*", "usr/bin/perl5.40", true),
            (
                "usr/lib/modules/*/kernel/sound",
                "usr/lib/modules/6.12/kernel/sound/a.ko",
                true,
            ),
            (
                "usr/lib/modules/*/kernel/sound",
                "usr/lib/modules/6.12/kernel/drivers",
                false,
            ),
            ("etc/*-", "etc/shadow-", true),
            ("etc/*-", "etc/shadow", false),
            ("", "usr", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn links_lead_to_files_of_the_tree() {
        let mut tree = Tree::default();
        tree.file("usr/sbin/iptables-nft", 0o755, *b"program");
        tree.link("etc/alternatives/iptables", "/usr/sbin/iptables-nft");
        tree.link("usr/sbin/iptables", "/etc/alternatives/iptables");
        tree.link("usr/lib/loop", "../lib/loop");
        let chain = tree.resolve("usr/sbin/iptables").unwrap();
        assert_eq!(
            chain,
            [
                "usr/sbin/iptables",
                "etc/alternatives/iptables",
                "usr/sbin/iptables-nft"
            ]
        );
        assert!(tree.resolve("usr/lib/loop").is_err());
        assert_eq!(join("usr/lib/a", "../../lib/b"), "usr/lib/b");
        assert_eq!(merged("sbin/init"), "usr/sbin/init");
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.file("a/b", 0o640, *b"content");
        tree.link("a/c", "b");
        tree.write(&directory.path().join("tree")).unwrap();
        let mut archive =
            tar::Builder::new(std::fs::File::create(directory.path().join("tar")).unwrap());
        archive.follow_symlinks(false);
        archive
            .append_dir_all(".", directory.path().join("tree"))
            .unwrap();
        archive.finish().unwrap();
        let read = Tree::from_tar(&directory.path().join("tar"), |path| path != "a/d").unwrap();
        assert_eq!(read.to_cpio().unwrap(), tree.to_cpio().unwrap());
        assert_eq!(&**read.content("a/b").unwrap(), b"content");
        assert!(read.content("a/c").is_err(), "a link is no file");
    }
}
