//! What a new cluster needs besides etcd's data: the authorities, the key that encrypts secrets, and what must stay as it was.

use std::path::Path;

use cluster::{kubernetes::Version, network::AddressPlan};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::content::MAX_ESSENTIALS;
use crate::{
    control_plane::{EncryptionError, EncryptionKey, Node, Paths},
    files::{self, FileError, SecretText},
    pki::{Authorities, PkiError},
};

/// The essentials of a cluster.
pub struct Essentials {
    /// Its Kubernetes: an older one may not be able to read what a newer one wrote.
    pub version: Version,
    /// Its networks: services keep their addresses.
    pub networks: AddressPlan,
    authorities: Authorities,
    encryption: EncryptionKey,
}

/// Why there are no essentials.
#[derive(Debug, thiserror::Error)]
pub enum EssentialsError {
    /// Not what this project writes.
    #[error("the certificate authorities and keys in the backup can not be read")]
    Malformed,
    /// The authorities.
    #[error("the certificate authorities")]
    Pki(#[from] PkiError),
    /// The key for secrets.
    #[error("the key for secrets in etcd")]
    Encryption(#[from] EncryptionError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    version: Version,
    networks: AddressPlan,
    files: Vec<WireFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    name: String,
    text: String,
}

impl Drop for WireFile {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

impl Essentials {
    /// Of these parts.
    pub fn new(
        version: Version,
        networks: AddressPlan,
        authorities: Authorities,
        encryption: EncryptionKey,
    ) -> Self {
        Self {
            version,
            networks,
            authorities,
            encryption,
        }
    }

    /// Of a control plane, from its disk.
    pub fn of_node(node: &Node) -> Result<Self, EssentialsError> {
        let paths = node.paths();
        let path = paths.encryption_config();
        let text = std::fs::read_to_string(&path).map_err(|source| FileError {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        Ok(Self::new(
            node.config().version,
            node.config().plan,
            Authorities::load(&paths.pki())?,
            EncryptionKey::from_file(EncryptionKey::FILE_NAME, SecretText::new(text))?,
        ))
    }

    /// Writes them where a control plane has them, before it has any of its own.
    pub fn write(&self, paths: &Paths) -> Result<(), EssentialsError> {
        // the authorities' last file says that all is there
        self.encryption.file(paths.encryption_config()).write()?;
        files::write_all(&self.authorities.files(&paths.pki()))?;
        Ok(())
    }

    /// The beginning of a backup's content: length and JSON.
    pub fn to_content(&self) -> Result<Zeroizing<Vec<u8>>, EssentialsError> {
        let mut files = self.authorities.files(Path::new(""));
        files.push(self.encryption.file(EncryptionKey::FILE_NAME));
        let wire = Wire {
            version: self.version,
            networks: self.networks,
            files: files
                .iter()
                .map(|file| WireFile {
                    name: file.path.display().to_string(),
                    text: String::from_utf8_lossy(file.bytes()).into_owned(),
                })
                .collect(),
        };
        // room from the start: a vector that grows leaves its beginning behind in freed memory
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_ESSENTIALS));
        content.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *content, &wire).map_err(|_| EssentialsError::Malformed)?;
        let length = content.len() - 4;
        if length > MAX_ESSENTIALS {
            return Err(EssentialsError::Malformed);
        }
        let length = u32::try_from(length).map_err(|_| EssentialsError::Malformed)?;
        if let Some(head) = content.first_chunk_mut() {
            *head = length.to_be_bytes();
        }
        Ok(content)
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, EssentialsError> {
        // serde's own words may quote a key
        let wire: Wire = serde_json::from_slice(json).map_err(|_| EssentialsError::Malformed)?;
        let read = |name: &str| -> Option<SecretText> {
            let mut found = wire.files.iter().filter(|file| file.name == name);
            let file = found.next()?;
            // two of one name are two meanings
            found
                .next()
                .is_none()
                .then(|| SecretText::new(file.text.clone()))
        };
        let authorities = Authorities::from_files(|name| {
            read(name).ok_or_else(|| PkiError::Unusable {
                what: name.to_owned(),
                kind: "file of a backup",
            })
        })?;
        let encryption = read(EncryptionKey::FILE_NAME).ok_or(EssentialsError::Malformed)?;
        Ok(Self::new(
            wire.version,
            wire.networks,
            authorities,
            EncryptionKey::from_file(EncryptionKey::FILE_NAME, encryption)?,
        ))
    }
}

impl std::fmt::Debug for Essentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Essentials({}, redacted)", self.version)
    }
}
