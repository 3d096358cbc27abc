//! HKDF-SHA256 (RFC 5869) from the master secret to every key: salt = master salt, info = `key-` + key id, 32 bytes.

use core::fmt;

use aws_lc_rs::hkdf;

use crate::secret::{SECRET_LENGTH, SecretBytes};
use crate::{BackupKey, DiskKey, KeyId, MasterSecret, MeasurementSecret, Salt, SshCaSeed};

/// What stands before every id in HKDF's info. Only [`hkdf_sha256`] uses it.
pub(crate) const PREFIX: &str = "key-";

/// Derives the key named by `id`.
pub fn derive(master_secret: &MasterSecret, salt: &Salt, id: &KeyId) -> DataKey {
    let bytes = hkdf_sha256(
        master_secret.expose_bytes(),
        salt.expose_bytes(),
        &id.to_string(),
    );
    DataKey { id: *id, bytes }
}

/// A derived key together with its name, so that it can only become the type of its role.
pub struct DataKey {
    id: KeyId,
    bytes: SecretBytes,
}

/// A key was asked to become the type of another role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {id} is not a {wanted}")]
pub struct WrongRole {
    id: KeyId,
    wanted: &'static str,
}

impl DataKey {
    /// The name of this key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The bytes, for an answer over an authenticated, encrypted channel.
    pub fn expose_bytes(&self) -> &[u8; SECRET_LENGTH] {
        self.bytes.expose()
    }

    /// The key as a disk key.
    pub fn into_disk_key(self) -> Result<DiskKey, WrongRole> {
        match self.id {
            KeyId::Disk(_) => Ok(DiskKey(self.bytes)),
            KeyId::MeasurementSecret | KeyId::SshCa | KeyId::S3Proxy | KeyId::EtcdBackup => {
                Err(WrongRole {
                    id: self.id,
                    wanted: "disk key",
                })
            }
        }
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({}, redacted)", self.id)
    }
}

impl MeasurementSecret {
    /// The measurement secret of the cluster with this master secret.
    pub fn derive(master_secret: &MasterSecret, salt: &Salt) -> Self {
        Self(derive(master_secret, salt, &KeyId::MeasurementSecret).bytes)
    }
}

impl DiskKey {
    /// The key of the disk with this LUKS2 UUID.
    pub fn derive(master_secret: &MasterSecret, salt: &Salt, disk: uuid::Uuid) -> Self {
        Self(derive(master_secret, salt, &KeyId::Disk(disk)).bytes)
    }
}

impl SshCaSeed {
    /// The seed of the SSH CA of the cluster with this master secret.
    pub fn derive(master_secret: &MasterSecret, salt: &Salt) -> Self {
        Self(derive(master_secret, salt, &KeyId::SshCa).bytes)
    }
}

impl BackupKey {
    /// The key of the backups of every cluster with this master secret.
    pub fn derive(master_secret: &MasterSecret, salt: &Salt) -> Self {
        Self(derive(master_secret, salt, &KeyId::EtcdBackup).bytes)
    }
}

/// The one derivation of this crate.
pub(crate) fn hkdf_sha256(key_material: &[u8], salt: &[u8], id: &str) -> SecretBytes {
    let info = [PREFIX.as_bytes(), id.as_bytes()];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key_material);
    SecretBytes::build(|bytes| {
        extracted.expand(&info, hkdf::HKDF_SHA256).and_then(|output| output.fill(bytes))
    })
    .expect("HKDF-SHA256 fails only for more than 255 blocks or a wrong length, and 32 bytes are one block")
}

#[cfg(test)]
mod tests;
