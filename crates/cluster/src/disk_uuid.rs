//! The LUKS2 UUID of a state disk.
//!
//! Lower case always: the text is the identifier of the disk's key (`key-` + UUID), so two spellings would be two keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UUID of a node's state disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskUuid(Uuid);

/// Why a text is not a disk UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskUuidError {
    /// Not eight-four-four-four-twelve lower-case hexadecimal digits.
    #[error("{0:?} is not a lower-case hyphenated UUID")]
    Format(String),
    /// The nil UUID names no disk.
    #[error("the disk UUID is nil")]
    Nil,
}

impl DiskUuid {
    /// Takes a UUID that is not nil.
    pub fn new(uuid: Uuid) -> Result<Self, DiskUuidError> {
        if uuid.is_nil() {
            Err(DiskUuidError::Nil)
        } else {
            Ok(Self(uuid))
        }
    }

    /// The UUID itself.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for DiskUuid {
    type Err = DiskUuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text)
            .map_err(|_| DiskUuidError::Format(text.chars().take(64).collect()))?;
        // `Uuid` also reads braces, URNs, upper case and missing hyphens
        if uuid.to_string() != text {
            return Err(DiskUuidError::Format(text.chars().take(64).collect()));
        }
        Self::new(uuid)
    }
}

impl TryFrom<String> for DiskUuid {
    type Error = DiskUuidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DiskUuid> for String {
    fn from(uuid: DiskUuid) -> Self {
        uuid.to_string()
    }
}

impl fmt::Display for DiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_read() {
        let good = "0a1b2c3d-0000-4000-8000-00000000000f";
        assert_eq!(good.parse::<DiskUuid>().unwrap().to_string(), good);
        for bad in [
            "0A1B2C3D-0000-4000-8000-00000000000F",
            "{0a1b2c3d-0000-4000-8000-00000000000f}",
            "urn:uuid:0a1b2c3d-0000-4000-8000-00000000000f",
            "0a1b2c3d00004000800000000000000f",
            " 0a1b2c3d-0000-4000-8000-00000000000f",
            "",
        ] {
            assert!(
                matches!(bad.parse::<DiskUuid>(), Err(DiskUuidError::Format(_))),
                "{bad:?}"
            );
        }
        assert_eq!(
            "00000000-0000-0000-0000-000000000000".parse::<DiskUuid>(),
            Err(DiskUuidError::Nil)
        );
    }
}
