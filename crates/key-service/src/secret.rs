//! The master secret and its salt, from the files of the mounted Secret.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use keys::{LengthError, MasterSecret, Salt, access::Permit};

/// Longer than either may be: what is read is bounded before it is checked.
const READ_MAX: u64 = 4096;

/// What every key is derived from.
pub(crate) struct Root {
    master_secret: MasterSecret,
    salt: Salt,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("wrong length of {0}")]
    Length(PathBuf, #[source] LengthError),
}

impl Root {
    /// Reads `mastersecret` and `salt` from a directory; both are raw bytes.
    pub(crate) fn read(directory: &Path) -> Result<Self, SecretError> {
        let path = directory.join("mastersecret");
        let master_secret = MasterSecret::from_vec(read(&path)?)
            .map_err(|error| SecretError::Length(path, error))?;
        let path = directory.join("salt");
        let salt =
            Salt::from_vec(read(&path)?).map_err(|error| SecretError::Length(path, error))?;
        Ok(Self {
            master_secret,
            salt,
        })
    }

    /// Derives the key that the permit is for.
    pub(crate) fn derive(&self, permit: Permit) -> keys::DataKey {
        permit.derive(&self.master_secret, &self.salt)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |error| SecretError::Read(path.to_owned(), error);
    // One allocation that never grows, so that no copy of the secret stays behind.
    let mut bytes = Vec::with_capacity(usize::try_from(READ_MAX).unwrap_or(usize::MAX));
    std::fs::File::open(path)
        .map_err(failed)?
        .take(READ_MAX - 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use keys::{
        KeyId,
        access::{Caller, authorize},
    };

    use super::*;

    fn directory(secret: &[u8], salt: &[u8]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mastersecret"), secret).unwrap();
        std::fs::write(directory.path().join("salt"), salt).unwrap();
        directory
    }

    #[test]
    fn derives_from_the_files() {
        let directory = directory(&[1; 32], &[2; 32]);
        let root = Root::read(directory.path()).unwrap();
        let permit = authorize(Caller::S3Proxy, &KeyId::S3Proxy, |_| false).unwrap();
        let expected = keys::derive(
            &MasterSecret::from_vec(vec![1; 32]).unwrap(),
            &Salt::from_vec(vec![2; 32]).unwrap(),
            &KeyId::S3Proxy,
        );
        assert_eq!(root.derive(permit).expose_bytes(), expected.expose_bytes());
    }

    #[test]
    fn refuses_wrong_sizes_and_names_the_file() {
        for (secret, salt, file) in [
            (&[1_u8; 15][..], &[2_u8; 32][..], "mastersecret"),
            (&[], &[2; 32], "mastersecret"),
            (&[1; 5000], &[2; 32], "mastersecret"),
            (&[1; 32], &[2; 31], "salt"),
            (&[1; 32], &[2; 300], "salt"),
        ] {
            let directory = directory(secret, salt);
            let Err(error) = Root::read(directory.path()) else {
                panic!("{} / {} bytes pass", secret.len(), salt.len())
            };
            assert!(
                matches!(&error, SecretError::Length(path, _) if path.ends_with(file)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let Err(error) = Root::read(directory.path()) else {
            panic!("nothing there")
        };
        assert!(error.to_string().ends_with("mastersecret"), "{error}");
    }
}
