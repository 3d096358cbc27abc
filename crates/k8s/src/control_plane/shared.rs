//! What all control planes of a cluster have in common: its authorities and the key of the secrets in etcd.
//!
//! A join ticket for a control plane carries it as files with the names that they have below `/etc/kubernetes`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{EncryptionError, EncryptionKey, Paths};
use crate::{
    files::{self, FileError, SecretText},
    pki::{Authorities, PkiError, SERVICE_ACCOUNT_PUBLIC},
};

/// The directory of the authorities' files, in a ticket and below `/etc/kubernetes`.
const PKI: &str = "pki";

/// The secrets of a cluster's control planes.
#[derive(Debug)]
pub struct Shared {
    authorities: Authorities,
    encryption: EncryptionKey,
}

/// Why files are not what control planes share.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// A file that has to be there is not.
    #[error("the file {0} of a control plane is missing")]
    Missing(String),
    /// A file that no control plane has, or that came twice.
    #[error("{0:?} is no file of a control plane, or came twice")]
    Unknown(String),
    /// The public half is not that of the key that signs service account tokens.
    #[error("{SERVICE_ACCOUNT_PUBLIC} does not belong to its key")]
    ServiceAccount,
    /// Certificates and keys.
    #[error("the authorities of the cluster")]
    Pki(#[source] PkiError),
    /// The key of the secrets in etcd.
    #[error("the key for secrets in etcd")]
    Encryption(#[source] EncryptionError),
    /// Reading.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Shared {
    /// Reads them from `/etc/kubernetes`, or where it is mounted.
    pub fn load(kubernetes: &Path) -> Result<Self, SharedError> {
        let authorities = Authorities::load(&kubernetes.join(PKI)).map_err(SharedError::Pki)?;
        let path = kubernetes.join(EncryptionKey::FILE_NAME);
        let text = std::fs::read_to_string(&path).map_err(|source| FileError {
            operation: "read",
            path,
            source,
        })?;
        let encryption = EncryptionKey::from_file(EncryptionKey::FILE_NAME, SecretText::new(text))
            .map_err(SharedError::Encryption)?;
        Ok(Self {
            authorities,
            encryption,
        })
    }

    /// Takes the files of a ticket: each of them once, and no other.
    pub fn from_files(
        files: impl IntoIterator<Item = (String, SecretText)>,
    ) -> Result<Self, SharedError> {
        let mut by_name = BTreeMap::new();
        for (name, text) in files {
            if by_name.insert(name.clone(), text).is_some() {
                return Err(SharedError::Unknown(shown(&name)));
            }
        }
        let mut missing = None;
        let mut take = |name: String| {
            let found = by_name.remove(&name);
            if found.is_none() {
                missing.get_or_insert(name);
            }
            found.unwrap_or_else(|| SecretText::new(String::new()))
        };
        let public = take(format!("{PKI}/{SERVICE_ACCOUNT_PUBLIC}"));
        let authorities = Authorities::from_files(|name| Ok(take(format!("{PKI}/{name}"))));
        let encryption = take(EncryptionKey::FILE_NAME.to_owned());
        if let Some(name) = missing {
            return Err(SharedError::Missing(name));
        }
        if let Some(name) = by_name.keys().next() {
            return Err(SharedError::Unknown(shown(name)));
        }
        let shared = Self {
            authorities: authorities.map_err(SharedError::Pki)?,
            encryption: EncryptionKey::from_file(EncryptionKey::FILE_NAME, encryption)
                .map_err(SharedError::Encryption)?,
        };
        let own = shared.files(Path::new(""));
        let same = |file: &files::File| {
            !file.path.ends_with(SERVICE_ACCOUNT_PUBLIC)
                || file.bytes() == public.expose().as_bytes()
        };
        if own.iter().all(same) {
            Ok(shared)
        } else {
            Err(SharedError::ServiceAccount)
        }
    }

    /// The files as a ticket carries them.
    pub fn to_files(&self) -> Vec<(String, SecretText)> {
        self.files(Path::new(""))
            .into_iter()
            .map(|file| {
                let name = file.path.display().to_string();
                (name, file.contents.into_secret())
            })
            .collect()
    }

    /// Writes the files of this node.
    pub fn write(&self, paths: &Paths) -> Result<(), FileError> {
        files::write_all(&self.files(&paths.kubernetes)).map(drop)
    }

    /// The cluster's authorities.
    pub const fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    fn files(&self, kubernetes: &Path) -> Vec<files::File> {
        let pki: PathBuf = kubernetes.join(PKI);
        let mut files = self.authorities.files(&pki);
        files.push(
            self.encryption
                .file(kubernetes.join(EncryptionKey::FILE_NAME)),
        );
        files
    }
}

fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn shared() -> Shared {
        Shared {
            authorities: Authorities::generate("mini", Timestamp::now()).unwrap(),
            encryption: EncryptionKey::generate().unwrap(),
        }
    }

    fn texts(shared: &Shared) -> BTreeMap<String, String> {
        let files = shared.to_files().into_iter();
        files
            .map(|(name, text)| (name, text.expose().to_owned()))
            .collect()
    }

    fn parse(files: &BTreeMap<String, String>) -> Result<Shared, SharedError> {
        let files = files.iter();
        Shared::from_files(files.map(|(name, text)| (name.clone(), SecretText::new(text.clone()))))
    }

    #[test]
    fn a_second_control_plane_gets_what_the_first_has() {
        let first = shared();
        let files = texts(&first);
        let mut names: Vec<_> = files.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "encryption-config.yaml",
                "pki/ca.crt",
                "pki/ca.key",
                "pki/etcd/ca.crt",
                "pki/etcd/ca.key",
                "pki/front-proxy-ca.crt",
                "pki/front-proxy-ca.key",
                "pki/sa.key",
                "pki/sa.pub",
            ]
        );
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path(), directory.path());
        let second = parse(&files).unwrap();
        second.write(&paths).unwrap();
        assert_eq!(texts(&Shared::load(&paths.kubernetes).unwrap()), files);
        assert!(!format!("{second:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_file_too_few_or_too_many_is_named() {
        let files = texts(&shared());
        for name in files.keys() {
            let mut fewer = files.clone();
            fewer.remove(name);
            let error = parse(&fewer).unwrap_err();
            assert!(
                matches!(&error, SharedError::Missing(missing) if missing == name),
                "{error}"
            );
        }
        let mut more = files.clone();
        more.insert("pki/../../etc/passwd".to_owned(), String::new());
        assert!(matches!(parse(&more), Err(SharedError::Unknown(_))));
        let twice = files
            .iter()
            .chain(files.iter().take(1))
            .map(|(name, text)| (name.clone(), SecretText::new(text.clone())));
        assert!(matches!(
            Shared::from_files(twice),
            Err(SharedError::Unknown(_))
        ));
    }

    #[test]
    fn halves_that_do_not_belong_together_are_refused() {
        let (files, others) = (texts(&shared()), texts(&shared()));
        for name in files
            .keys()
            .filter(|name| *name != EncryptionKey::FILE_NAME)
        {
            let mut mixed = files.clone();
            mixed.insert(name.clone(), others[name].clone());
            let refused = parse(&mixed);
            assert!(refused.is_err(), "{name} of another cluster");
        }
        let mut clear = files;
        clear.insert(EncryptionKey::FILE_NAME.to_owned(), "{}".to_owned());
        assert!(matches!(parse(&clear), Err(SharedError::Encryption(_))));
    }
}
