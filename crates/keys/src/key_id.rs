//! The closed table of key ids: every key that is derived from the master secret has a row here.
//!
//! | id | derived key |
//! |---|---|
//! | `measurementSecret` | [`MeasurementSecret`](crate::MeasurementSecret) |
//! | a LUKS2 UUID, lower case, with hyphens | [`DiskKey`](crate::DiskKey) of a state disk or a volume |
//! | `ca_emergency_ssh` | [`SshCaSeed`](crate::SshCaSeed) |
//! | `s3proxy-kek` | the S3 proxy's key-encryption key |
//! | `etcd-backup` | [`BackupKey`](crate::BackupKey) of the cluster's backups |
//!
//! The prefix `key-` is not part of an id: [`derive`](crate::derive) puts it in front, once, and an id that already has
//! it is refused. (`clusterID` is derived from the measurement secret, see [`ClusterId`](crate::ClusterId), and is no key.)

use core::fmt;
use core::str::FromStr;

use uuid::Uuid;

const MEASUREMENT_SECRET: &str = "measurementSecret";
const SSH_CA: &str = "ca_emergency_ssh";
const S3_PROXY: &str = "s3proxy-kek";
const ETCD_BACKUP: &str = "etcd-backup";

/// The name of a derived key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyId {
    /// The measurement secret of the cluster.
    MeasurementSecret,
    /// The key of the LUKS2 disk with this UUID.
    Disk(Uuid),
    /// The seed of the SSH certificate authority.
    SshCa,
    /// The key-encryption key of the S3 proxy.
    S3Proxy,
    /// The key of backups.
    EtcdBackup,
}

/// A text is no key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyIdError {
    /// The prefix that derivation adds was already there.
    #[error("a key id is given without the prefix \"key-\", which derivation adds")]
    Prefixed,
    /// A UUID, but not in the form that is hashed into the key.
    #[error("the disk UUID in a key id must be lower case with hyphens")]
    UuidForm,
    /// Not in the table.
    #[error("not a known key id and not a disk UUID")]
    Unknown,
}

impl KeyId {
    /// Parses an id. Exactly one text stands for each key.
    pub fn parse(text: &str) -> Result<Self, KeyIdError> {
        match text {
            MEASUREMENT_SECRET => return Ok(Self::MeasurementSecret),
            SSH_CA => return Ok(Self::SshCa),
            S3_PROXY => return Ok(Self::S3Proxy),
            ETCD_BACKUP => return Ok(Self::EtcdBackup),
            _ => {}
        }
        if text.starts_with(crate::derivation::PREFIX) {
            return Err(KeyIdError::Prefixed);
        }
        let id = Self::Disk(Uuid::try_parse(text).map_err(|_| KeyIdError::Unknown)?);
        // `try_parse` also takes upper case, braces and URNs; a key is derived from the text, so only one form may pass.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(KeyIdError::UuidForm)
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MeasurementSecret => f.write_str(MEASUREMENT_SECRET),
            Self::Disk(uuid) => write!(f, "{}", uuid.as_hyphenated()),
            Self::SshCa => f.write_str(SSH_CA),
            Self::S3Proxy => f.write_str(S3_PROXY),
            Self::EtcdBackup => f.write_str(ETCD_BACKUP),
        }
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_in_the_table() {
        for (text, error) in [
            ("", KeyIdError::Unknown),
            ("clusterID", KeyIdError::Unknown),
            ("MeasurementSecret", KeyIdError::Unknown),
            ("measurementSecret ", KeyIdError::Unknown),
            ("key-measurementSecret", KeyIdError::Prefixed),
            (
                "key-4ae66293-57aa-4821-b99c-ebc598a6e5a8",
                KeyIdError::Prefixed,
            ),
            ("4AE66293-57AA-4821-B99C-EBC598A6E5A8", KeyIdError::UuidForm),
            ("4ae6629357aa4821b99cebc598a6e5a8", KeyIdError::UuidForm),
            (
                "{4ae66293-57aa-4821-b99c-ebc598a6e5a8}",
                KeyIdError::UuidForm,
            ),
            (
                "urn:uuid:4ae66293-57aa-4821-b99c-ebc598a6e5a8",
                KeyIdError::UuidForm,
            ),
            ("4ae66293-57aa-4821-b99c-ebc598a6e5a", KeyIdError::Unknown),
        ] {
            assert_eq!(KeyId::parse(text), Err(error), "{text}");
        }
    }

    fn any_key_id() -> impl Strategy<Value = KeyId> {
        prop_oneof![
            Just(KeyId::MeasurementSecret),
            Just(KeyId::SshCa),
            Just(KeyId::S3Proxy),
            Just(KeyId::EtcdBackup),
            any::<u128>().prop_map(|bits| KeyId::Disk(Uuid::from_u128(bits))),
        ]
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(id in any_key_id()) {
            prop_assert_eq!(KeyId::parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn one_text_per_key(text in "\\PC{0,60}") {
            if let Ok(id) = KeyId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
