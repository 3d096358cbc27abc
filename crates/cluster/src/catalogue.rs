//! The component catalogue: every file of Kubernetes a node fetches, with the hash it must have.
//!
//! Plain data with its invariants; fetching is `k8s::components`. A list can only be had checked: absolute install paths
//! without `..` below the places components belong to, a full SHA-256 for each, no two files in one place.
//! Spec: design/cluster.md; the original's fields and JSON names (constellation-facts.md 12.1).

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::{kubernetes::Version, role::Role};

/// Where the programs of Kubernetes lie on a node.
pub const BIN_DIR: &str = "/run/state/bin";
/// Where archives wait to be imported into the container runtime.
pub const IMAGE_DIR: &str = "/run/state/images";
/// The one place component files may go to.
const ROOTS: [&str; 2] = [BIN_DIR, IMAGE_DIR];
/// Where upstream publishes its releases; a mirror and a local directory have the same layout.
pub const UPSTREAM: &str = "https://dl.k8s.io";
/// More components than any release has.
pub const MAX_COMPONENTS: usize = 64;

/// The programs a node needs, by role. `kubectl` is a user's tool and stays away from nodes.
const PROGRAMS: [(&str, bool); 5] = [
    ("kube-apiserver", true),
    ("kube-controller-manager", true),
    ("kube-scheduler", true),
    ("kubelet", false),
    ("kube-proxy", false),
];

/// A SHA-256 digest, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// One file (or tar.gz archive) that a node fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Short name, such as `kubelet`; unique in a list.
    pub name: String,
    /// Where it can be had. The path is also its path below a mirror; scheme `mirror` means: from the mirror only.
    pub url: String,
    /// The SHA-256 of what the URL yields.
    pub hash: Sha256,
    /// Absolute path of the file, or of the directory an archive is unpacked into.
    pub install_path: String,
    /// Mode of the installed file.
    #[serde(default = "executable")]
    pub mode: u32,
    /// Whether it is a tar.gz to unpack.
    #[serde(default)]
    pub extract: bool,
    /// Whether it is an OCI archive to import into the container runtime.
    #[serde(default)]
    pub import: bool,
}

/// A checked list of components.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Component>", into = "Vec<Component>")]
pub struct Components(Vec<Component>);

/// Why a component list is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A hash that is not a full SHA-256.
    #[error("{0:?} is not a SHA-256 digest of the form sha256:<64 hex digits>")]
    Hash(String),
    /// More components than any node needs.
    #[error("{0} components, at most {MAX_COMPONENTS} are allowed")]
    TooMany(usize),
    /// A name that cannot be a component's.
    #[error("component name {0:?} is not made of a-z, 0-9, '-' and '.'")]
    Name(String),
    /// Two components with one name, or for one path.
    #[error("component {name}: {what} occurs twice")]
    Duplicate {
        /// The second component.
        name: String,
        /// What it shares.
        what: &'static str,
    },
    /// An install path outside the directories of components.
    #[error(
        "component {name}: install path {path:?} must be an absolute path below one of {ROOTS:?}, without '..'"
    )]
    InstallPath {
        /// The component.
        name: String,
        /// Its path.
        path: String,
    },
    /// A URL that a node cannot fetch.
    #[error("component {name}: {url:?} is not a http, https or mirror URL")]
    Url {
        /// The component.
        name: String,
        /// Its URL.
        url: String,
    },
    /// A mode with bits that files of Kubernetes never need.
    #[error("component {name}: mode {mode:o} has bits beyond 0755")]
    Mode {
        /// The component.
        name: String,
        /// Its mode.
        mode: u32,
    },
    /// Both to be unpacked and to be imported.
    #[error("component {0}: cannot be both unpacked and imported")]
    ExtractAndImport(String),
    /// A program without which no node of Kubernetes runs.
    #[error("component {0} is missing from the list")]
    Missing(&'static str),
}

impl Sha256 {
    /// Takes a digest's bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
        Self(bytes)
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Sha256 {
    type Err = CatalogueError;

    fn from_str(text: &str) -> Result<Self, CatalogueError> {
        let mut bytes = [0; 32];
        text.strip_prefix("sha256:")
            .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
            .map(|()| Self(bytes))
            .ok_or_else(|| CatalogueError::Hash(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Sha256 {
    type Error = CatalogueError;

    fn try_from(text: String) -> Result<Self, CatalogueError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> Self {
        hash.to_string()
    }
}

const fn executable() -> u32 {
    0o755
}

impl Component {
    /// Describes `program` of the release `version`, as upstream publishes it.
    pub fn program(program: &str, version: Version, hash: Sha256) -> Self {
        Self {
            name: program.to_owned(),
            url: format!("{UPSTREAM}/{}", program_path(program, version)),
            hash,
            install_path: format!("{BIN_DIR}/{program}"),
            mode: executable(),
            extract: false,
            import: false,
        }
    }

    /// Describes an OCI archive `<dir>/images/<file>` of a mirror or local directory.
    pub fn image_archive(file: &str, hash: Sha256) -> Self {
        Self {
            name: format!("image-{}", file.trim_end_matches(".tar")),
            url: format!("mirror:///images/{file}"),
            hash,
            install_path: format!("{IMAGE_DIR}/{file}"),
            mode: 0o644,
            extract: false,
            import: true,
        }
    }

    /// The path of this component below a mirror, without the leading slash.
    pub fn mirror_path(&self) -> &str {
        let (_, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        rest.split_once('/').map_or("", |(_, path)| path)
    }

    /// Whether a node of `role` needs it.
    pub fn is_for(&self, role: Role) -> bool {
        role == Role::ControlPlane
            || !PROGRAMS
                .iter()
                .any(|(name, control_plane)| *control_plane && *name == self.name)
    }

    fn check(&self) -> Result<(), CatalogueError> {
        let name = self.name.clone();
        if name.is_empty()
            || name.len() > 63
            || !name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        {
            return Err(CatalogueError::Name(name));
        }
        let under_root = ROOTS.iter().any(|root| {
            self.install_path == *root
                || self
                    .install_path
                    .strip_prefix(root)
                    .is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
        });
        // a plain file needs a name of its own: the directory itself is right for archives only
        let is_root = ROOTS.contains(&self.install_path.as_str());
        let clean = self
            .install_path
            .split('/')
            .skip(1)
            .all(|part| !matches!(part, "" | "." | ".."))
            && !self.install_path.contains('\0');
        if !under_root || !clean || (is_root && !self.extract) {
            return Err(CatalogueError::InstallPath {
                name,
                path: self.install_path.clone(),
            });
        }
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        let path = self.mirror_path();
        if !matches!(scheme, Some("http" | "https" | "mirror"))
            || path.split('/').any(|part| matches!(part, "" | "." | ".."))
            || self.url.bytes().any(|byte| !byte.is_ascii_graphic())
        {
            return Err(CatalogueError::Url {
                name,
                url: self.url.clone(),
            });
        }
        if self.mode & !0o755 != 0 {
            return Err(CatalogueError::Mode {
                name,
                mode: self.mode,
            });
        }
        if self.extract && self.import {
            return Err(CatalogueError::ExtractAndImport(name));
        }
        Ok(())
    }
}

/// The names of the programs a node of `role` needs.
pub fn programs(role: Role) -> impl Iterator<Item = &'static str> {
    PROGRAMS
        .iter()
        .filter(move |(_, control_plane)| role == Role::ControlPlane || !control_plane)
        .map(|(name, _)| *name)
}

/// The path of `program` below dl.k8s.io, a mirror, or a local directory of components.
pub fn program_path(program: &str, version: Version) -> String {
    format!("{version}/bin/linux/amd64/{program}")
}

impl Components {
    /// Checks a list.
    pub fn new(components: Vec<Component>) -> Result<Self, CatalogueError> {
        if components.len() > MAX_COMPONENTS {
            return Err(CatalogueError::TooMany(components.len()));
        }
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for component in &components {
            component.check()?;
            let duplicate = |what| CatalogueError::Duplicate {
                name: component.name.clone(),
                what,
            };
            if !names.insert(&component.name) {
                return Err(duplicate("its name"));
            }
            if !component.extract && !paths.insert(&component.install_path) {
                return Err(duplicate("its install path"));
            }
        }
        Ok(Self(components))
    }

    /// The list a node of `role` has to install, if nothing is missing from it.
    pub fn for_role(&self, role: Role) -> Result<Vec<Component>, CatalogueError> {
        for program in programs(role) {
            if !self.0.iter().any(|component| component.name == program) {
                return Err(CatalogueError::Missing(program));
            }
        }
        Ok(self
            .0
            .iter()
            .filter(|component| component.is_for(role))
            .cloned()
            .collect())
    }

    /// All components, in the order given.
    pub fn as_slice(&self) -> &[Component] {
        &self.0
    }

    /// The digest that names this list, `sha256:<hex>`.
    ///
    /// Covers every field of every component, each with its length before it. (The original hashed the hashes only, so that two
    /// lists with different URLs, paths or order of fields had one name.)
    pub fn digest(&self) -> Sha256 {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut field = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        field(b"constellation component list v1");
        field(&(self.0.len() as u64).to_be_bytes());
        for component in &self.0 {
            field(component.name.as_bytes());
            field(component.url.as_bytes());
            field(component.hash.as_bytes());
            field(component.install_path.as_bytes());
            field(&component.mode.to_be_bytes());
            field(&[u8::from(component.extract), u8::from(component.import)]);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Sha256(bytes)
    }

    /// Name of the ConfigMap that keeps this list in the cluster.
    pub fn config_map_name(&self) -> String {
        format!(
            "k8s-components-{}",
            self.digest().to_string().replace(':', "-")
        )
    }
}

impl TryFrom<Vec<Component>> for Components {
    type Error = CatalogueError;

    fn try_from(components: Vec<Component>) -> Result<Self, CatalogueError> {
        Self::new(components)
    }
}

impl From<Components> for Vec<Component> {
    fn from(components: Components) -> Self {
        components.0
    }
}

/// The version line of a component list as the cluster keeps it.
pub const VERSION_KEY: &str = "cluster-version";
/// The key of the list itself in its ConfigMap.
pub const COMPONENTS_KEY: &str = "components";

#[cfg(test)]
mod tests;
