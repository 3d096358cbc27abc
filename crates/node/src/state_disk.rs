//! The state disk as the bootstrapper sees it: opened by the initrd with the first boot's random key, to be given the node's own
//! when the node has become a member. Until then a reboot makes a new disk of it.

use std::sync::Arc;

use cluster::boot_lock::NextBoot;
use cluster::plan::{Failed, Marked};
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

    /// What the next boot makes of it.
    pub async fn next_boot(&self) -> NextBoot {
        if self.disk.lock().await.is_first_boot() {
            NextBoot::NewDisk
        } else {
            NextBoot::SameDisk
        }
    }

    /// Gives the disk the node's key, which the cluster derives for this UUID and no other. Demands that PCR 15 holds the mark.
    pub async fn set_key(&self, _marked: &Marked, key: Arc<DiskKey>) -> Result<(), NodeDiskError> {
        let mut disk = Arc::clone(&self.disk).lock_owned().await;
        tokio::task::spawn_blocking(move || disk.set_key(&key))
            .await
            .map_err(NodeDiskError::Thread)?
            .map_err(NodeDiskError::SetKey)
    }

    /// Takes the header off the disk, so that the next boot makes a new one. Demands that the machine can not become a member any
    /// more, and waits for a key that is being set: nothing stops the thread that does it, so the header may still appear.
    pub async fn reset(&self, _failed: Failed) -> Result<(), NodeDiskError> {
        let mut disk = Arc::clone(&self.disk).lock_owned().await;
        tokio::task::spawn_blocking(move || disk.reset())
            .await
            .map_err(NodeDiskError::Thread)?
            .map_err(NodeDiskError::Reset)
    }
}

#[cfg(test)]
mod tests {
    use cluster::boot_lock::{AtStart, Mark, at_start};

    use super::*;

    /// The thread that sets the key holds the disk, and nothing stops it: a reset that did not wait would be undone.
    #[tokio::test]
    async fn a_reset_waits_for_a_key_that_is_being_set() {
        let root = tempfile::tempdir().unwrap();
        let (paths, device) = (Paths::below(root.path()), root.path().join("vdb"));
        std::fs::create_dir_all(&paths.run).unwrap();
        std::fs::write(&device, vec![0xff; 32 * 1024]).unwrap();
        let description = serde_json::json!({
            "uuid": "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54", "device": device, "firstBoot": true,
        });
        std::fs::write(paths.run.join("state-disk.json"), description.to_string()).unwrap();

        let disk = NodeDisk::load(&paths).unwrap();
        let AtStart::Reset(failed) = at_start(Mark::Set, None, disk.next_boot().await) else {
            panic!("this machine was on its way into a cluster");
        };
        let same = disk.clone();
        let setting = Arc::clone(&same.disk).lock_owned().await;
        let mut reset = Box::pin(disk.reset(failed));
        let waits = std::time::Duration::from_millis(100);
        tokio::time::timeout(waits, &mut reset).await.unwrap_err();
        assert_eq!(std::fs::read(&device).unwrap()[0], 0xff);
        drop(setting);
        reset.await.unwrap();
        assert_eq!(std::fs::read(&device).unwrap()[0], 0);
    }
}
