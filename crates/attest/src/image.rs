//! `measurements.json` of an image: what its boot leaves in the PCRs, computed when the image is built.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ComponentDigest, Measurements, Variant};

/// The largest file that is read.
const MAX_FILE: usize = 256 * 1024;

/// The measurements of one image, for each provider and variant it was built for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ImageMeasurements {
    /// The image's version, such as `v0.1.0`.
    pub version: String,
    /// The branch it was built from; `-` for a release.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The stream, such as `stable` or `debug`.
    pub stream: String,
    /// One entry for each provider and variant.
    pub list: Vec<ImageEntry>,
}

/// What one image measures on one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub struct ImageEntry {
    /// The provider, such as `qemu`.
    pub csp: String,
    /// The attestation variant's name. Text, because a file may list variants that this release cannot appraise.
    pub attestation_variant: String,
    /// Expected PCRs.
    #[serde(deserialize_with = "crate::strict::unique_map")]
    pub measurements: Measurements,
    /// What the PCRs are made of.
    #[serde(default)]
    pub components: Vec<ComponentDigest>,
}

crate::strict::objects!(ImageMeasurements, ImageEntry);

/// Why a `measurements.json` cannot be used.
#[derive(Debug, Error)]
pub enum ImageMeasurementsError {
    /// Not a measurements file at all.
    #[error("the measurements file has {0} bytes, more than {MAX_FILE}")]
    TooLong(usize),
    /// Not the JSON this release reads.
    #[error("cannot read the measurements file")]
    Json(#[source] serde_json::Error),
}

impl ImageMeasurements {
    /// Reads a `measurements.json`.
    ///
    /// # Errors
    /// When the file is too long, is not JSON, or has fields this release does not know.
    pub fn from_json(json: &[u8]) -> Result<Self, ImageMeasurementsError> {
        if json.len() > MAX_FILE {
            return Err(ImageMeasurementsError::TooLong(json.len()));
        }
        serde_json::from_slice(json).map_err(ImageMeasurementsError::Json)
    }

    /// The image's short path: `v0.1.0`, `stream/debug/v0.1.0` or `ref/main/stream/debug/v0.1.0`.
    #[must_use]
    pub fn name(&self) -> String {
        let Self {
            version,
            reference,
            stream,
            ..
        } = self;
        match (reference.as_str(), stream.as_str()) {
            ("-", "stable") => version.clone(),
            ("-", _) => format!("stream/{stream}/{version}"),
            _ => format!("ref/{reference}/stream/{stream}/{version}"),
        }
    }

    /// The entry for a provider and a variant, if there is exactly one.
    #[must_use]
    pub fn entry(&self, csp: &str, variant: Variant) -> Option<&ImageEntry> {
        let mut entries = self
            .list
            .iter()
            .filter(|entry| entry.csp == csp && entry.attestation_variant == variant.as_str());
        let first = entries.next();
        match entries.next() {
            None => first,
            Some(_) => None,
        }
    }
}
