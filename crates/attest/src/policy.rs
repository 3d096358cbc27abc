//! What a machine must have booted, and on which platform, to be accepted: a strict, versioned document.
//!
//! [`PolicyDocument`] is the whole document for every kind of machine; [`Policy`] is one for a kind this release appraises.
//! Known attacks are data ([`preset`]), and what a policy makes of them is told by [`explain`]. The cluster mark (PCR 15) is
//! not in it: it depends on who asks, and is an argument of [`crate::appraise`]. Form: `docs/attestation.md`.

pub mod demands;
mod document;
pub mod explain;
pub mod flags;
mod generation;
mod machine;
mod pcrs;
pub mod platform;
pub mod preset;
pub mod snp;
pub mod tdx;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::component::Component;
use crate::event_log::EventLog;
use crate::yaml::Problems;
use crate::{
    ComponentDigest, Digest, ImageMeasurements, PcrIndex, PcrValues, Variant, VariantError,
};

pub use document::{NotInDocument, PolicyDocument, Warning};
pub use generation::{Accepted384, Generation, components};
pub use machine::{Hardware, Machine};
pub use pcrs::{PcrMeasurements, pcrs};
pub use preset::Preset;

/// The largest policy document that is read.
const MAX_DOCUMENT: usize = 64 * 1024;
/// The longest image name.
const MAX_IMAGE_NAME: usize = 256;
/// The most components a policy lists.
const MAX_COMPONENTS: usize = 128;

/// One accepted PCR value. `D` is what a PCR of its bank holds: SHA-256 where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, rename_all = "camelCase")]
pub struct Measurement<D = Digest> {
    /// The value.
    pub expected: D,
    /// Whether another value is a warning and not a refusal.
    pub warn_only: bool,
}

impl<D> Measurement<D> {
    /// A value that is demanded.
    #[must_use]
    pub const fn enforced(expected: D) -> Self {
        Self {
            expected,
            warn_only: false,
        }
    }
}

/// Accepted values by PCR.
pub type Measurements<D = Digest> = BTreeMap<PcrIndex, Measurement<D>>;

/// A validated policy for machines that this release appraises. One that accepts anything cannot be constructed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    variant: Variant,
    document: PolicyDocument,
}

/// Why a document is not a policy.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// Longer than any policy.
    #[error("the policy document has {0} bytes, more than {MAX_DOCUMENT}")]
    TooLong(usize),
    /// Not JSON.
    #[error("cannot read the policy as JSON")]
    Json(#[source] serde_json::Error),
    /// Not a policy that this release reads.
    #[error("the policy document is wrong")]
    Document(#[source] Problems),
    /// It demands something that is not in the document, which others would never demand.
    #[error("the policy is not all in its document")]
    NotInDocument(#[source] NotInDocument),
    /// For a kind of machine whose evidence this release cannot appraise.
    #[error("the policy is for machines that this release cannot appraise")]
    Variant(#[source] VariantError),
    /// Measurements of a machine whose platform is left open.
    #[error(
        "a policy for {0} says what its platform must be, and measurements alone say nothing of it"
    )]
    OpenPlatform(Variant),
    /// Two policies for different machines.
    #[error("the older policy is for {0}, and the newer one is not")]
    OtherVariant(Variant),
    /// The older policy has an older one itself.
    #[error("the older policy has two generations already")]
    TooManyGenerations,
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

crate::strict::objects!(Measurement);

impl Policy {
    /// The PCRs every policy has a value for: the boot loader and kernel (4), command line and initrd (9), the UKI's
    /// sections (11), and the ones a host could use to add to the image, which are zero (8, 12, 13).
    pub const REQUIRED_PCRS: [u32; 6] = [4, 8, 9, 11, 12, 13];
    /// The ones of them that hold code, each another part of it: with one left open, what it holds may be anything.
    const CODE_PCRS: [u32; 3] = [4, 9, 11];

    /// Validates a policy of PCRs, for machines of which a policy has nothing else to say.
    ///
    /// # Errors
    /// When it is empty, ambiguous, leaves a required PCR open, or names one that is not its business; and for machines whose processor
    /// vouches for them, of which a whole document says what the processor must be.
    pub fn new(
        variant: Variant,
        image: Option<String>,
        measurements: Measurements,
        components: Vec<ComponentDigest>,
    ) -> Result<Self, PolicyError> {
        match variant.machine().hardware() {
            Hardware::None => {}
            Hardware::Snp | Hardware::Tdx => return Err(PolicyError::OpenPlatform(variant)),
        }
        pcrs::check(&measurements)?;
        pcrs::check_components(&measurements, &components)?;
        if let Some(name) = &image {
            check_image(name)?;
        }
        Ok(Self {
            variant,
            document: PolicyDocument::of_pcrs(variant.into(), image, measurements, components),
        })
    }

    /// The same policy, which accepts the measurements of `older` as well until `expires`: for an upgrade. What is demanded of the platform is
    /// what this one demands.
    ///
    /// # Errors
    /// When `older` is for another kind of machine, has two generations already, or rests on what it demands of the platform and this one
    /// does not.
    pub fn with_older(self, older: &Self, expires: Timestamp) -> Result<Self, PolicyError> {
        if older.variant != self.variant {
            return Err(PolicyError::OtherVariant(older.variant));
        }
        if older.document.older().is_some() {
            return Err(PolicyError::TooManyGenerations);
        }
        let document = self.document.with_older(older.document.newest(), expires);
        // what the generations need of the platform is looked at where policies are read
        PolicyDocument::parse("policy", &document.json()).map_err(PolicyError::Document)?;
        Ok(Self { document, ..self })
    }

    /// Reads a YAML document.
    ///
    /// # Errors
    /// When the document is not a valid policy for a kind of machine that this release appraises.
    pub fn from_yaml(yaml: &str) -> Result<Self, PolicyError> {
        if yaml.len() > MAX_DOCUMENT {
            return Err(PolicyError::TooLong(yaml.len()));
        }
        PolicyDocument::parse("policy", yaml)
            .map_err(PolicyError::Document)?
            .try_into()
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// When the document is not a valid policy for a kind of machine that this release appraises.
    pub fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        if json.len() > MAX_DOCUMENT {
            return Err(PolicyError::TooLong(json.len()));
        }
        // JSON is read as the YAML it is, for the sake of the places in messages; but YAML that is not JSON is no JSON
        let _: serde::de::IgnoredAny = serde_json::from_slice(json).map_err(PolicyError::Json)?;
        Self::from_yaml(&String::from_utf8_lossy(json))
    }

    /// Writes the document that [`Policy::from_json`] and [`Policy::from_yaml`] read.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.document.json()
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
        let measurements: Measurements = pcrs::indices(Self::REQUIRED_PCRS)
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

    /// The image's name, if the policy came from one. Of two generations the newer one's.
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        self.document.newest().image_name()
    }

    /// Accepted values. Of two generations the newer one's.
    #[must_use]
    pub const fn measurements(&self) -> &Measurements {
        self.document.newest().pcrs()
    }

    /// What the values are made of. Of two generations the newer one's.
    #[must_use]
    pub fn components(&self) -> &[ComponentDigest] {
        self.document.newest().components()
    }

    /// The whole document: both generations, and what is demanded of the platform.
    #[must_use]
    pub const fn document(&self) -> &PolicyDocument {
        &self.document
    }
}

impl TryFrom<PolicyDocument> for Policy {
    type Error = PolicyError;

    fn try_from(document: PolicyDocument) -> Result<Self, PolicyError> {
        document.is_whole().map_err(PolicyError::NotInDocument)?;
        let variant = document
            .machine()
            .as_str()
            .parse()
            .map_err(PolicyError::Variant)?;
        Ok(Self { variant, document })
    }
}

fn check_image(name: &str) -> Result<(), PolicyError> {
    let is_name = !name.is_empty()
        && name.len() <= MAX_IMAGE_NAME
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then_some(()).ok_or(PolicyError::ImageName)
}
