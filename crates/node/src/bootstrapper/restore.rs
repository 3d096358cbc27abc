//! The backup that a new cluster is made of: taken from whoever has the init secret, and checked whole before anything changes.
//!
//! It comes sealed and lies on the state disk; the key comes with the Init that names it. etcd's data in it is written beside it, and both
//! are deleted when etcd's directory is made.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use k8s::backup::{Essentials, OpenError};
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

/// A backup that was checked.
pub struct Restore {
    /// What it says about itself.
    pub header: Header,
    /// What belongs to etcd's data.
    pub essentials: Essentials,
    /// etcd's data, as etcd sent it.
    pub snapshot: PathBuf,
    sealed: PathBuf,
}

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
    /// Puts backups into a directory of the state disk.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            uploaded: Mutex::new(None),
        }
    }

    fn sealed(&self) -> PathBuf {
        self.directory.join("restore.backup")
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
        let path = self.sealed();
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

    /// Opens the backup that an order names, and checks all of it. Takes a while.
    pub async fn open(&self, sha256: &[u8], order: &Order) -> Result<Restore, RestoreError> {
        let uploaded = self.uploaded.lock().await;
        let named = uploaded.as_ref().is_some_and(|there| there == sha256);
        if !named {
            return Err(RestoreError::NotUploaded);
        }
        let (sealed, snapshot) = (self.sealed(), self.directory.join("restore.snapshot"));
        let key = BackupKey::derive(&order.master_secret, &order.salt);
        let (header, essentials) =
            tokio::task::block_in_place(|| k8s::backup::open(&sealed, key, Some(&snapshot)))
                .map_err(RestoreError::Open)?;
        let restore = Restore {
            header,
            essentials,
            snapshot,
            sealed,
        };
        let networks = restore.essentials.networks;
        let fits = if networks != order.networks {
            Err(RestoreError::Networks {
                pods: networks.pods(),
                services: networks.services(),
            })
        } else if order.version < restore.essentials.version {
            Err(RestoreError::Older(restore.essentials.version))
        } else {
            Ok(())
        };
        match fits {
            Ok(()) => Ok(restore),
            Err(error) => {
                remove(&restore.snapshot);
                Err(error)
            }
        }
    }
}

impl Restore {
    /// Deletes what is not needed any more.
    pub fn clear(&self) {
        remove(&self.snapshot);
        remove(&self.sealed);
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
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
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
