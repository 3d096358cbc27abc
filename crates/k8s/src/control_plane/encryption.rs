//! Encryption of secrets in etcd: one random key, shared by the control planes, kept on their encrypted disks.
//!
//! `secretbox` (XSalsa20-Poly1305) is the one authenticated provider whose random nonces are safe for any number of writes.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::{File, FileError, SecretText};

/// Below `/etc/kubernetes`, and its name in a join ticket.
pub(super) const FILE_NAME: &str = "encryption-config.yaml";

/// The key, as the configuration file that holds it.
pub struct EncryptionKey(SecretText);

/// Why there is no encryption key.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// The system's random numbers failed.
    #[error("make a random key")]
    Random,
    /// A file that is not such a configuration.
    #[error("{0} is not a configuration with one secretbox key of 32 bytes")]
    Unusable(String),
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    api_version: String,
    kind: String,
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Provider {
    Secretbox {
        keys: Vec<Key>,
    },
    /// Lets the API read what was stored before there was a key; writes use the first provider.
    Identity {},
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

impl EncryptionKey {
    /// The name under which a join ticket carries it.
    pub const FILE_NAME: &str = FILE_NAME;

    /// Makes a new key for a new cluster.
    pub fn generate() -> Result<Self, EncryptionError> {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(key.as_mut_slice()).map_err(|_| EncryptionError::Random)?;
        let config = Config {
            api_version: "apiserver.config.k8s.io/v1".to_owned(),
            kind: "EncryptionConfiguration".to_owned(),
            resources: vec![Resource {
                resources: vec!["secrets".to_owned()],
                providers: vec![
                    Provider::Secretbox {
                        keys: vec![Key {
                            name: "key1".to_owned(),
                            secret: BASE64.encode(key.as_slice()),
                        }],
                    },
                    Provider::Identity {},
                ],
            }],
        };
        let text = serde_json::to_string_pretty(&config).map_err(|_| EncryptionError::Random)?;
        Ok(Self(SecretText::new(text)))
    }

    /// Takes a key from the file of another control plane.
    pub fn from_file(name: &str, text: SecretText) -> Result<Self, EncryptionError> {
        let unusable = || EncryptionError::Unusable(name.to_owned());
        let config: Config = serde_json::from_str(text.expose()).map_err(|_| unusable())?;
        let [resource] = config.resources.as_slice() else {
            return Err(unusable());
        };
        let [Provider::Secretbox { keys }, Provider::Identity {}] = resource.providers.as_slice()
        else {
            return Err(unusable());
        };
        let right = config.kind == "EncryptionConfiguration"
            && resource.resources == ["secrets"]
            && matches!(keys.as_slice(), [key] if BASE64.decode(&key.secret).is_ok_and(|secret| secret.len() == 32));
        if right {
            Ok(Self(text))
        } else {
            Err(unusable())
        }
    }

    /// Reads this node's key, or makes one when there is none yet.
    pub fn open_or_generate(path: &Path) -> Result<Self, EncryptionError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_file(&path.display().to_string(), SecretText::new(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::generate(),
            Err(source) => Err(EncryptionError::File(FileError {
                operation: "read",
                path: path.to_owned(),
                source,
            })),
        }
    }

    /// The file for the API server, or for a join ticket.
    pub fn file(&self, path: impl Into<PathBuf>) -> File {
        File::secret(path, self.0.duplicate())
    }
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EncryptionKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let first = EncryptionKey::open_or_generate(&path).unwrap();
        first.file(&path).write().unwrap();
        let second = EncryptionKey::open_or_generate(&path).unwrap();
        assert_eq!(first.0.expose(), second.0.expose());
        assert_ne!(
            EncryptionKey::generate().unwrap().0.expose(),
            first.0.expose()
        );
    }

    #[test]
    fn a_file_that_would_store_in_the_clear_is_refused() {
        let good = EncryptionKey::generate().unwrap().0.expose().to_owned();
        let value: serde_json::Value = serde_json::from_str(&good).unwrap();
        assert_eq!(
            value["resources"][0]["providers"][1],
            serde_json::json!({ "identity": {} })
        );
        let mut swapped = value.clone();
        swapped["resources"][0]["providers"]
            .as_array_mut()
            .unwrap()
            .reverse();
        let mut short = value.clone();
        short["resources"][0]["providers"][0]["secretbox"]["keys"][0]["secret"] = "AAAA".into();
        let mut other = value;
        other["resources"][0]["resources"] = serde_json::json!(["configmaps"]);
        for bad in [
            swapped.to_string(),
            short.to_string(),
            other.to_string(),
            "{}".into(),
            String::new(),
        ] {
            assert!(
                EncryptionKey::from_file("x", SecretText::new(bad.clone())).is_err(),
                "{bad}"
            );
        }
    }
}
