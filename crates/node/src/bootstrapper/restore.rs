//! The backup that a new cluster is made of: taken from whoever has the init secret, and checked whole before anything changes.
//!
//! It comes sealed and lies on the state disk; the key comes with the Init that names it. Until this machine is marked as that Init's
//! cluster it may still become another one's, to which its disk is then open: before the mark the content is checked in memory and never
//! written. Then etcd's data is written beside the sealed file, and both are deleted when etcd's directory is made.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use cluster::plan::Marked;
use k8s::backup::{Essentials, OpenError};
use k8s::files::FileError;
use keys::BackupKey;
use keys::backup::Header;
use proto::backup::{UploadRequest, UploadResponse};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tonic::{Status, Streaming};

use super::order::Order;

/// How long the next message may take.
const IDLE: std::time::Duration = std::time::Duration::from_secs(60);
/// Largest backup. etcd itself advises against more than 8 GiB.
const MAX_BACKUP: u64 = 9 << 30;

/// Where a backup is put until an Init names it.
pub struct Restores {
    directory: PathBuf,
    /// What is there. Held over an upload: there is room for one.
    uploaded: Mutex<Option<[u8; 32]>>,
}

/// A backup that was checked, still sealed. Dropping it deletes its files.
pub struct Restore {
    /// What it says about itself.
    pub header: Header,
    /// What belongs to etcd's data.
    pub essentials: Essentials,
    snapshot: PathBuf,
    sealed: PathBuf,
}

/// The files of a restore in a directory: as it comes, as an order has it, and opened.
const FILES: [&str; 3] = ["restore.backup", "restore.ordered", "restore.snapshot"];

/// Why a cluster is not made of a backup. Nothing on the node has changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// None came, or another one.
    #[error("the backup that the order names was not uploaded to this machine")]
    NotUploaded,
    /// It can not be used.
    #[error("the backup can not be used")]
    Open(#[source] OpenError),
    /// Services have addresses.
    #[error(
        "the backup's cluster has the pod network {pods} and the service network {services}; a cluster made of it must have the same"
    )]
    Networks {
        /// Of the old cluster.
        pods: ipnet::Ipv4Net,
        /// Of the old cluster.
        services: ipnet::Ipv4Net,
    },
    /// Objects of newer versions.
    #[error(
        "the backup's cluster ran Kubernetes {0}; an older one may not be able to read its objects"
    )]
    Older(cluster::kubernetes::Version),
}

impl Restores {
    /// Puts backups into a directory of the state disk. What a process that stopped left there goes.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        discard(&directory);
        Self {
            directory,
            uploaded: Mutex::new(None),
        }
    }

    fn files(&self) -> [PathBuf; 3] {
        FILES.map(|name| self.directory.join(name))
    }

    /// Takes the messages after the first. Whoever sends them has shown the init secret.
    pub async fn store(
        &self,
        mut messages: Streaming<UploadRequest>,
    ) -> Result<UploadResponse, Status> {
        let mut uploaded = self
            .uploaded
            .try_lock()
            .map_err(|_| Status::resource_exhausted("another upload is under way"))?;
        *uploaded = None;
        let [path, ..] = self.files();
        let stored = receive(&path, &mut messages).await;
        if stored.is_err() {
            // the reason is in the error
            let _not_whole = tokio::fs::remove_file(&path).await;
        }
        let sha256 = stored?;
        *uploaded = Some(sha256);
        Ok(UploadResponse {
            sha256: sha256.to_vec(),
        })
    }

    /// Checks all of the backup that an order names, and gives it to the order. Takes a while.
    pub async fn take(&self, sha256: &[u8], order: &Order) -> Result<Restore, RestoreError> {
        let mut uploaded = self.uploaded.lock().await;
        let named = uploaded.as_ref().is_some_and(|there| there == sha256);
        if !named {
            return Err(RestoreError::NotUploaded);
        }
        let [there, ordered, snapshot] = self.files();
        let key = BackupKey::derive(&order.master_secret, &order.salt);
        let (header, essentials) =
            tokio::task::block_in_place(|| k8s::backup::open(&there, key, None))
                .map_err(RestoreError::Open)?;
        let networks = essentials.networks;
        if networks != order.networks {
            return Err(RestoreError::Networks {
                pods: networks.pods(),
                services: networks.services(),
            });
        }
        if order.version < essentials.version {
            return Err(RestoreError::Older(essentials.version));
        }
        // no upload that is late replaces what was checked
        std::fs::rename(&there, &ordered).map_err(|source| {
            RestoreError::Open(OpenError::File(FileError {
                operation: "rename",
                path: there,
                source,
            }))
        })?;
        *uploaded = None;
        Ok(Restore {
            header,
            essentials,
            snapshot,
            sealed: ordered,
        })
    }
}

impl Restore {
    /// Writes etcd's data, as etcd sent it, to the state disk, and says where. Blocks.
    ///
    /// Once the machine is marked, no other cluster gets this disk.
    pub fn unseal(&self, order: &Order, _marked: &Marked) -> Result<&Path, OpenError> {
        let key = BackupKey::derive(&order.master_secret, &order.salt);
        k8s::backup::open(&self.sealed, key, Some(&self.snapshot))?;
        Ok(&self.snapshot)
    }

    /// Deletes what is not needed any more.
    pub fn clear(&self) {
        remove(&self.snapshot);
        remove(&self.sealed);
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Deletes backups that no cluster is made of.
pub fn discard(directory: &Path) {
    for name in FILES {
        remove(&directory.join(name));
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(error = %runtime::chain(&error), path = %path.display(), "not deleted");
    }
}

async fn receive(path: &Path, messages: &mut Streaming<UploadRequest>) -> Result<[u8; 32], Status> {
    let failed = |error: std::io::Error| {
        tracing::error!(error = %runtime::chain(&error), "storing a backup");
        Status::internal(format!(
            "the backup can not be stored on the state disk: {error}"
        ))
    };
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await.map_err(failed)?;
    }
    // a new file: what an upload that was given up still writes goes to the old one
    remove(path);
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .await
        .map_err(failed)?;
    let mut hash = Context::new(&SHA256);
    let mut length = 0_u64;
    loop {
        let message = tokio::time::timeout(IDLE, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the upload stopped"))??;
        let Some(message) = message else { break };
        length = length.saturating_add(message.data.len() as u64);
        if length > MAX_BACKUP {
            return Err(Status::invalid_argument(format!(
                "a backup has at most {} GiB",
                MAX_BACKUP >> 30
            )));
        }
        hash.update(&message.data);
        file.write_all(&message.data).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    Ok(sha256)
}
