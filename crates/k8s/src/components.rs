//! Fetches the components of Kubernetes and installs them, each only with the hash it must have.
//!
//! Mirror first, then the component's own URL; several at once; interrupted downloads go on where they stopped. Bytes collect in a
//! hidden file next to the target that only its owner may read; mode and name come after the hash was found right, so that a wrong
//! file never is executable and never has the name of a program. Where the bytes come from does not matter: the mirror is the
//! untrusted host's, plain HTTP is fine.
//!
//! Files are not synced here: a machine that stops before it is a member makes a new state disk, and what is on that is made durable
//! before it gets its key.
//! Does not import images and starts nothing. Spec: design/cluster.md; constellation-facts.md 12.3.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cluster::catalogue::{Component, Sha256};
use futures::{StreamExt as _, TryStreamExt as _};

mod fetch;
mod store;
mod unpack;

pub use unpack::UnpackError;

/// How many components are fetched at once: enough to hide latency, few enough not to starve the API server that starts meanwhile.
const PARALLEL: usize = 4;
/// No component comes near it; a server that sends without end is cut off.
const MAX_BYTES: u64 = 2 << 30;

/// Where and how hard to try.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Failures in a row without one new byte, after which a source is given up.
    pub attempts: u32,
    /// The first pause; doubles with each failure.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a server may stay silent.
    pub silence: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
            silence: Duration::from_secs(30),
        }
    }
}

/// What happens to a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The right file is there already.
    Present,
    /// Bytes that arrived, of how many where that is known.
    Received {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// A failure that will be tried again.
    Retrying {
        /// What happened.
        reason: String,
        /// After how long.
        pause: Duration,
    },
    /// Checked and in its place.
    Installed,
}

/// Told of every event, with the component's name. Called often: must be quick.
pub type Progress = Arc<dyn Fn(&str, Event) + Send + Sync>;

/// Installs components.
#[derive(Clone)]
pub struct Installer {
    fetch: fetch::Fetch,
    mirror: Option<String>,
    root: PathBuf,
}

/// Why a component could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Neither the mirror nor the URL yields it.
    #[error("component {name} cannot be fetched: {attempts}")]
    Unreachable {
        /// The component.
        name: String,
        /// Each source with its last failure.
        attempts: String,
    },
    /// A component that only a mirror has, without a mirror.
    #[error("component {0} comes from a mirror only, and no mirror is configured")]
    NoMirror(String),
    /// The bytes are not the ones that the list names.
    #[error(
        "component {name} from {from} has the wrong content: expected {expected}, got {actual}; it was not installed"
    )]
    WrongHash {
        /// The component.
        name: String,
        /// Where it came from.
        from: String,
        /// Its hash in the list.
        expected: Sha256,
        /// The hash of what came.
        actual: Sha256,
    },
    /// A server that sends more than any component has.
    #[error("component {name} from {from} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// The component.
        name: String,
        /// Where it came from.
        from: String,
    },
    /// No space left.
    #[error("component {name} does not fit on the disk: {directory} is full after {written} bytes")]
    DiskFull {
        /// The component.
        name: String,
        /// Where it should go.
        directory: String,
        /// How far it came.
        written: u64,
    },
    /// Writing or reading locally failed.
    #[error("component {name}: {operation} {path}", path = path.display())]
    Io {
        /// The component.
        name: String,
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// An archive that cannot be unpacked.
    #[error("component {name} cannot be unpacked")]
    Unpack {
        /// The component.
        name: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// The HTTP client could not be made.
    #[error("prepare the HTTP client")]
    Client(#[source] reqwest::Error),
}

impl Installer {
    /// Prepares downloads, from `mirror` first where there is one (a base URL with the layout of dl.k8s.io).
    pub fn new(mirror: Option<&str>) -> Result<Self, InstallError> {
        Ok(Self {
            fetch: fetch::Fetch::new(Retry::default())?,
            mirror: mirror
                .filter(|mirror| !mirror.is_empty())
                .map(|mirror| mirror.trim_end_matches('/').to_owned()),
            root: PathBuf::from("/"),
        })
    }

    /// Tries as hard as `retry` says.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.fetch.retry = retry;
        self
    }

    /// Installs below `root` instead of `/`: for tests and for preparing images.
    #[must_use]
    pub fn below(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Installs `components`, several at once. The first error stops the others.
    pub async fn install(
        &self,
        components: &[Component],
        progress: &Progress,
    ) -> Result<(), InstallError> {
        futures::stream::iter(components.iter().cloned())
            .map(|component| {
                let (this, progress) = (self.clone(), Arc::clone(progress));
                async move { this.install_one(&component, &progress).await }
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }

    /// Installs one component. Does nothing when the right file is there.
    pub async fn install_one(
        &self,
        component: &Component,
        progress: &Progress,
    ) -> Result<(), InstallError> {
        let name = component.name.as_str();
        let target = store::Target::new(&self.root, component);
        if target.is_installed().await? {
            progress(name, Event::Present);
            return Ok(());
        }
        self.fetch
            .download(&target, &self.sources(component)?, progress)
            .await?;
        target.finish().await?;
        progress(name, Event::Installed);
        Ok(())
    }

    fn sources(&self, component: &Component) -> Result<Vec<String>, InstallError> {
        let mut sources: Vec<String> = self
            .mirror
            .iter()
            .map(|mirror| format!("{mirror}/{}", component.mirror_path()))
            .collect();
        if !component.url.starts_with("mirror:") {
            sources.push(component.url.clone());
        }
        if sources.is_empty() {
            Err(InstallError::NoMirror(component.name.clone()))
        } else {
            Ok(sources)
        }
    }
}

/// The path of `path` below `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
