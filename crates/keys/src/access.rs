//! Who may ask the key service for which key: one closed table, decided without IO.
//!
//! | caller | service account (namespace `kube-system`) | may have |
//! |---|---|---|
//! | [`Caller::JoinService`] | `join-service` | the measurement secret, disk keys, the SSH CA seed |
//! | [`Caller::CsiNode`] | `csi-node` | keys of disks that are no node's state disk |
//! | [`Caller::S3Proxy`] | `s3proxy` | the S3 proxy's key |
//!
//! Everybody else gets nothing, and the key of backups nobody: the admin derives it. Proving that a caller is that service account (TokenReview, audience) comes before and is the
//! key service's; so is the audit event for every answer and refusal.
//!
//! The join service may have any disk's key, because it asks for a node's disk in the same breath in which it records the
//! node. A CSI node is refused every UUID that the node records name; that is why a node's record is written before its
//! ticket is issued.

use core::fmt;

use uuid::Uuid;

use crate::{DataKey, KeyId, MasterSecret, Salt, derive};

/// A program that has a row in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The join service.
    JoinService,
    /// The node part of a CSI driver.
    CsiNode,
    /// The S3 proxy.
    S3Proxy,
}

impl Caller {
    /// Every row.
    pub const ALL: [Self; 3] = [Self::JoinService, Self::CsiNode, Self::S3Proxy];

    /// The caller that a Kubernetes user name stands for, as TokenReview gives it (`system:serviceaccount:<namespace>:<name>`).
    pub fn from_user_name(user: &str) -> Option<Self> {
        let name = user.strip_prefix("system:serviceaccount:kube-system:")?;
        Self::ALL
            .into_iter()
            .find(|caller| caller.service_account() == name)
    }

    /// The name of its service account in `kube-system`.
    pub fn service_account(self) -> &'static str {
        match self {
            Self::JoinService => "join-service",
            Self::CsiNode => "csi-node",
            Self::S3Proxy => "s3proxy",
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.service_account())
    }
}

/// The permission for one key, once: deriving takes it.
#[derive(Debug)]
pub struct Permit {
    id: KeyId,
}

impl Permit {
    /// The key that may be given out.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Derives the permitted key.
    pub fn derive(self, master_secret: &MasterSecret, salt: &Salt) -> DataKey {
        derive(master_secret, salt, &self.id)
    }
}

/// A key is not for this caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller's row does not have this key.
    #[error("{caller} may not have the key {id}")]
    NotInRow {
        /// Who asked.
        caller: Caller,
        /// For what.
        id: KeyId,
    },
    /// A volume key was asked for, but the UUID is that of a node's state disk.
    #[error("{caller} may not have the key of a state disk ({disk})")]
    StateDisk {
        /// Who asked.
        caller: Caller,
        /// For which disk.
        disk: Uuid,
    },
}

/// Decides one request. `is_state_disk` says whether the cluster's node records name this UUID.
pub fn authorize(
    caller: Caller,
    id: &KeyId,
    is_state_disk: impl FnOnce(Uuid) -> bool,
) -> Result<Permit, Denied> {
    let permit = Ok(Permit { id: *id });
    let not_in_row = Err(Denied::NotInRow { caller, id: *id });
    match (caller, id) {
        (Caller::JoinService, KeyId::MeasurementSecret | KeyId::Disk(_) | KeyId::SshCa) => permit,
        (Caller::JoinService, KeyId::S3Proxy | KeyId::EtcdBackup) => not_in_row,

        (Caller::CsiNode, KeyId::Disk(disk)) if is_state_disk(*disk) => Err(Denied::StateDisk {
            caller,
            disk: *disk,
        }),
        (Caller::CsiNode, KeyId::Disk(_)) => permit,
        (
            Caller::CsiNode,
            KeyId::MeasurementSecret | KeyId::SshCa | KeyId::S3Proxy | KeyId::EtcdBackup,
        ) => not_in_row,

        (Caller::S3Proxy, KeyId::S3Proxy) => permit,
        (
            Caller::S3Proxy,
            KeyId::MeasurementSecret | KeyId::Disk(_) | KeyId::SshCa | KeyId::EtcdBackup,
        ) => not_in_row,
    }
}

#[cfg(test)]
mod tests;
