//! The state disk as the bootstrapper sees it: opened by the initrd with the first boot's random key, to be given the node's own
//! when the node has become a member. Until then a reboot makes a new disk of it.

use std::sync::Arc;

use cluster::plan::Marked;
use cluster::{DiskUuid, disk_uuid::DiskUuidError};
use disk::{RunFiles, StateDisk, StateDiskError};
use keys::DiskKey;
use tokio::sync::Mutex;
use tokio::task::JoinError;

use crate::host::Paths;

/// The state disk.
#[derive(Clone)]
pub struct NodeDisk {
    disk: Arc<Mutex<StateDisk>>,
    uuid: DiskUuid,
}

/// The state disk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeDiskError {
    /// What the initrd left.
    #[error("the state disk that the initrd opened")]
    Load(#[source] StateDiskError),
    /// Its UUID.
    #[error("the state disk's UUID")]
    Uuid(#[source] DiskUuidError),
    /// Its header.
    #[error("taking the header off the state disk")]
    Reset(#[source] StateDiskError),
    /// Its key.
    #[error("changing the state disk's key")]
    SetKey(#[source] StateDiskError),
    /// The thread.
    #[error("waiting for the state disk")]
    Thread(#[source] JoinError),
}

impl NodeDisk {
    /// The disk that the initrd opened.
    pub fn load(paths: &Paths) -> Result<Self, NodeDiskError> {
        let disk = StateDisk::load(RunFiles::new(&paths.run)).map_err(NodeDiskError::Load)?;
        let uuid = DiskUuid::new(disk.uuid()).map_err(NodeDiskError::Uuid)?;
        Ok(Self {
            disk: Arc::new(Mutex::new(disk)),
            uuid,
        })
    }

    /// Its UUID, which names its key.
    pub fn uuid(&self) -> DiskUuid {
        self.uuid
    }

    /// Gives the disk the node's key, which the cluster derives for this UUID and no other. Demands that PCR 15 holds the mark.
    pub async fn set_key(&self, _marked: &Marked, key: Arc<DiskKey>) -> Result<(), NodeDiskError> {
        let mut disk = Arc::clone(&self.disk).lock_owned().await;
        tokio::task::spawn_blocking(move || disk.set_key(&key))
            .await
            .map_err(NodeDiskError::Thread)?
            .map_err(NodeDiskError::SetKey)
    }

    /// Takes the header off the disk, so that the next boot makes a new one.
    pub async fn reset(&self) -> Result<(), NodeDiskError> {
        let disk = Arc::clone(&self.disk).lock_owned().await;
        tokio::task::spawn_blocking(move || disk.reset())
            .await
            .map_err(NodeDiskError::Thread)?
            .map_err(NodeDiskError::Reset)
    }
}
