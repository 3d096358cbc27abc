//! The manifest of a bundle. JSON, strict: no unknown field, no field twice, one spelling of each name.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BundleError;
use crate::item::Item;
use crate::shape::printable;

/// The version of the manifest, and of everything about a bundle.
pub(super) const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) version: u64,
    pub(super) made_at: Timestamp,
    pub(super) items: Vec<ItemRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ItemRecord {
    pub(super) item: String,
    pub(super) fetched_at: Timestamp,
    pub(super) files: Vec<FileRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FileRecord {
    pub(super) name: String,
    pub(super) size: usize,
    /// Lower case hexadecimal.
    pub(super) sha256: String,
}

/// Only the version, for a manifest of a later one.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Manifest {
    pub(super) fn parse(json: &[u8]) -> Result<Self, BundleError> {
        // the message may quote what is there
        let failed =
            |error: serde_json::Error| BundleError::Manifest(printable(&error.to_string()));
        let Version { version } = serde_json::from_slice(json).map_err(failed)?;
        if version != VERSION {
            return Err(BundleError::Version(version));
        }
        serde_json::from_slice(json).map_err(failed)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| BundleError::Manifest(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}

impl ItemRecord {
    pub(super) fn item(&self) -> Result<Item, BundleError> {
        let item: Item = self
            .item
            .parse()
            .map_err(|error| BundleError::Manifest(format!("item {:?}: {error}", self.item)))?;
        if item.to_string() == self.item {
            Ok(item)
        } else {
            Err(BundleError::Manifest(format!(
                "item {:?} is spelt {item}",
                self.item
            )))
        }
    }
}
