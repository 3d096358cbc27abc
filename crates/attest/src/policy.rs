//! What a machine must have booted to be accepted: a strict, versioned document.
//!
//! The cluster mark (PCR 15) is not in it: it depends on who asks, and is an argument of [`crate::appraise`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::component::Component;
use crate::event_log::EventLog;
use crate::{ComponentDigest, Digest, ImageMeasurements, PcrIndex, PcrValues, Variant};

/// The largest policy document that is read.
const MAX_DOCUMENT: usize = 64 * 1024;
/// The longest image name.
const MAX_IMAGE_NAME: usize = 256;
/// The most components a policy lists.
const MAX_COMPONENTS: usize = 128;
/// The document version this release reads and writes.
const DOCUMENT_VERSION: u32 = 1;

/// One accepted PCR value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub struct Measurement {
    /// The value.
    pub expected: Digest,
    /// Whether another value is a warning and not a refusal.
    pub warn_only: bool,
}

impl Measurement {
    /// A value that is demanded.
    #[must_use]
    pub const fn enforced(expected: Digest) -> Self {
        Self {
            expected,
            warn_only: false,
        }
    }
}

/// Accepted values by PCR.
pub type Measurements = BTreeMap<PcrIndex, Measurement>;

/// A validated policy. One that accepts anything cannot be constructed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    variant: Variant,
    image: Option<String>,
    measurements: Measurements,
    components: Vec<ComponentDigest>,
}

/// Why a document is not a policy.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// Longer than any policy.
    #[error("the policy document has {0} bytes, more than {MAX_DOCUMENT}")]
    TooLong(usize),
    /// Not the YAML this release reads.
    #[error("cannot read the policy as YAML: {0}")]
    Yaml(String),
    /// Not the JSON this release reads.
    #[error("cannot read the policy as JSON")]
    Json(#[source] serde_json::Error),
    /// Written for another release.
    #[error("policy version {0} is not known to this release (known: {DOCUMENT_VERSION})")]
    Version(u32),
    /// Nothing is demanded, so anything would be accepted.
    #[error("the policy has no measurements, so it would accept every machine")]
    Empty,
    /// A PCR that decides what runs has no accepted value.
    #[error("the policy says nothing about PCR {0}; PCRs 4, 8, 9, 11, 12 and 13 need a value each")]
    Missing(PcrIndex),
    /// A PCR that holds code is not enforced.
    #[error(
        "the policy only warns about PCR {0}, so other code would be accepted: PCRs 4, 9 and 11 are always enforced"
    )]
    CodeNotEnforced(PcrIndex),
    /// A PCR that holds code is to be as it is where nothing was measured.
    #[error(
        "the expected value of PCR {0} is zero, which is what it holds where nothing was measured"
    )]
    NothingMeasured(PcrIndex),
    /// PCR 15 is decided by the channel.
    #[error("PCR 15 is the cluster mark and is not part of a policy")]
    ClusterMark,
    /// PCRs 16 to 23 can be reset by software.
    #[error("PCR {0} can be reset without a reboot and is not part of a policy")]
    Resettable(PcrIndex),
    /// The pattern 12 34 12 34 ... that stands in development configurations.
    #[error("the expected value of PCR {0} is a placeholder")]
    Placeholder(PcrIndex),
    /// A component of a PCR without an expected value.
    #[error("component {0} is in PCR {1}, for which the policy has no value")]
    StrayComponent(Component, PcrIndex),
    /// More components than any image has.
    #[error("the policy lists {0} components, more than {MAX_COMPONENTS}")]
    TooManyComponents(usize),
    /// Not a name.
    #[error("the image name is empty, longer than {MAX_IMAGE_NAME} bytes or not printable")]
    ImageName,
    /// The image was not built for this.
    #[error(
        "the image's measurements have no single entry for provider {csp} and variant {variant}"
    )]
    NoSuchEntry {
        /// The provider asked for.
        csp: String,
        /// The variant asked for.
        variant: Variant,
    },
}

/// The document as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    version: u32,
    variant: Variant,
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    image: Option<String>,
    #[serde(deserialize_with = "crate::strict::unique_map")]
    measurements: Measurements,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    components: Vec<ComponentDigest>,
}

crate::strict::objects!(Measurement, Document);

impl Policy {
    /// The PCRs every policy has a value for: the boot loader and kernel (4), command line and initrd (9), the UKI's
    /// sections (11), and the ones a host could use to add to the image, which are zero (8, 12, 13).
    pub const REQUIRED_PCRS: [u32; 6] = [4, 8, 9, 11, 12, 13];
    /// The ones of them that hold code, each another part of it: with one left open, what it holds may be anything.
    const CODE_PCRS: [u32; 3] = [4, 9, 11];

    /// Validates a policy.
    ///
    /// # Errors
    /// When it is empty, ambiguous, leaves a required PCR open, or names one that is not its business.
    pub fn new(
        variant: Variant,
        image: Option<String>,
        measurements: Measurements,
        components: Vec<ComponentDigest>,
    ) -> Result<Self, PolicyError> {
        if measurements.is_empty() {
            return Err(PolicyError::Empty);
        }
        for (index, measurement) in &measurements {
            if *index == PcrIndex::CLUSTER_MARK {
                return Err(PolicyError::ClusterMark);
            }
            if index.is_resettable() {
                return Err(PolicyError::Resettable(*index));
            }
            if is_placeholder(&measurement.expected) {
                return Err(PolicyError::Placeholder(*index));
            }
        }
        for index in required(Self::REQUIRED_PCRS) {
            if !measurements.contains_key(&index) {
                return Err(PolicyError::Missing(index));
            }
        }
        for index in required(Self::CODE_PCRS) {
            match measurements.get(&index) {
                None => return Err(PolicyError::Missing(index)),
                Some(code) if code.warn_only => return Err(PolicyError::CodeNotEnforced(index)),
                Some(code) if code.expected == Digest::ZERO => {
                    return Err(PolicyError::NothingMeasured(index));
                }
                Some(_) => {}
            }
        }
        if components.len() > MAX_COMPONENTS {
            return Err(PolicyError::TooManyComponents(components.len()));
        }
        if let Some(stray) = components
            .iter()
            .find(|component| !measurements.contains_key(&component.pcr))
        {
            return Err(PolicyError::StrayComponent(stray.name, stray.pcr));
        }
        if let Some(name) = &image
            && (name.is_empty()
                || name.len() > MAX_IMAGE_NAME
                || !name.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(PolicyError::ImageName);
        }
        Ok(Self {
            variant,
            image,
            measurements,
            components,
        })
    }

    /// Reads a YAML document.
    ///
    /// # Errors
    /// When the document is not a valid policy.
    pub fn from_yaml(yaml: &str) -> Result<Self, PolicyError> {
        if yaml.len() > MAX_DOCUMENT {
            return Err(PolicyError::TooLong(yaml.len()));
        }
        let document =
            serde_saphyr::from_str(yaml).map_err(|error| PolicyError::Yaml(error.to_string()))?;
        Self::from_document(document)
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// When the document is not a valid policy.
    pub fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        if json.len() > MAX_DOCUMENT {
            return Err(PolicyError::TooLong(json.len()));
        }
        Self::from_document(serde_json::from_slice(json).map_err(PolicyError::Json)?)
    }

    /// Writes the document that [`Policy::from_json`] and [`Policy::from_yaml`] read.
    #[must_use]
    pub fn to_json(&self) -> String {
        // the document has text keys and no type that JSON cannot hold
        serde_json::to_string_pretty(&self.document()).unwrap_or_default()
    }

    /// The policy that accepts one image, by the measurements that were computed when it was built.
    ///
    /// # Errors
    /// When the image was not built for this provider and variant, or its measurements are not a valid policy.
    pub fn from_image_measurements(
        image: &ImageMeasurements,
        csp: &str,
        variant: Variant,
    ) -> Result<Self, PolicyError> {
        let entry = image
            .entry(csp, variant)
            .ok_or_else(|| PolicyError::NoSuchEntry {
                csp: csp.to_owned(),
                variant,
            })?;
        // the file may list PCR 15 as the original's do; what it must hold is the caller's to say
        let measurements = entry
            .measurements
            .iter()
            .filter(|(index, _)| **index != PcrIndex::CLUSTER_MARK)
            .map(|(i, m)| (*i, *m));
        Self::new(
            variant,
            Some(image.name()),
            measurements.collect(),
            entry.components.clone(),
        )
    }

    /// The policy of a machine that demands of another what it booted itself: its own values of the required PCRs, all
    /// enforced. The event log, if there is one, only lends names to a refusal.
    ///
    /// # Errors
    /// When the values are a placeholder pattern, or nothing was measured into a PCR that holds code.
    pub fn from_own_measurements(
        variant: Variant,
        own: &PcrValues,
        event_log: &[u8],
    ) -> Result<Self, PolicyError> {
        let measurements: Measurements = required(Self::REQUIRED_PCRS)
            .map(|index| (index, Measurement::enforced(own.get(index))))
            .collect();
        let mut components = match EventLog::parse(event_log) {
            Ok(log) => crate::component::of_log(&log),
            Err(_) => Vec::new(),
        };
        components.retain(|component| measurements.contains_key(&component.pcr));
        components.truncate(MAX_COMPONENTS);
        Self::new(variant, None, measurements, components)
    }

    /// The kind of machine.
    #[must_use]
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// The image's name, if the policy came from one.
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// Accepted values.
    #[must_use]
    pub const fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    /// What the values are made of.
    #[must_use]
    pub fn components(&self) -> &[ComponentDigest] {
        &self.components
    }

    fn from_document(document: Document) -> Result<Self, PolicyError> {
        if document.version != DOCUMENT_VERSION {
            return Err(PolicyError::Version(document.version));
        }
        Self::new(
            document.variant,
            document.image,
            document.measurements,
            document.components,
        )
    }

    fn document(&self) -> Document {
        Document {
            version: DOCUMENT_VERSION,
            variant: self.variant,
            image: self.image.clone(),
            measurements: self.measurements.clone(),
            components: self.components.clone(),
        }
    }
}

fn required<const N: usize>(indices: [u32; N]) -> impl Iterator<Item = PcrIndex> {
    indices
        .into_iter()
        .filter_map(|index| PcrIndex::new(index).ok())
}

fn is_placeholder(digest: &Digest) -> bool {
    digest.as_bytes().chunks(2).all(|pair| pair == [0x12, 0x34])
}
