//! `attestation`: exactly one variant, with the measurements it accepts.

use attest::policy::{components, pcrs};
use attest::{Policy, Variant};

use crate::yaml::Value;

/// What the machines of a cluster are. Evidence of others is appraised; no provider makes clusters of them.
pub const CLUSTER_VARIANT: Variant = Variant::QemuVtpm;

const ALLOWED: &str = "qemuVTPM";
/// The original's names for machines that a cluster of this release has none of.
const NOT_YET: [&str; 10] = [
    "awsSEVSNP",
    "awsNitroTPM",
    "azureSEVSNP",
    "azureTDX",
    "azureTrustedLaunch",
    "gcpSEVES",
    "gcpSEVSNP",
    "gcpTDX",
    "qemuTDX",
    "sevSNP",
];

/// What the machines must have booted, as a policy that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The policy. Its image is the one the config names.
    pub policy: Policy,
}

pub(super) fn read(value: &Value<'_>, image: Option<&str>) -> Option<Attestation> {
    let mut section = value.section()?;
    for variant in NOT_YET {
        section.refuse(
            variant,
            || format!("this release makes no clusters of variant {variant}"),
            ALLOWED,
        );
    }
    let policy = section
        .required("qemuVTPM", "a section with measurements")
        .and_then(|value| qemu_vtpm(&value, image));
    section.finish();
    policy.map(|policy| Attestation { policy })
}

const MEASUREMENTS: &str = "PCRs 4, 8, 9, 11, 12 and 13, each with expected (64 hex digits) and warnOnly; `constellation config fetch-measurements` fills them in";

fn qemu_vtpm(value: &Value<'_>, image: Option<&str>) -> Option<Policy> {
    let mut section = value.section()?;
    let measurements = section
        .required("measurements", MEASUREMENTS)
        .and_then(|value| pcrs(&value));
    let components = section
        .optional("components")
        .map_or_else(|| Some(Vec::new()), |value| components(&value));
    section.finish();
    let (measurements, components) = (measurements?, components?);
    Policy::new(
        CLUSTER_VARIANT,
        image.map(str::to_owned),
        measurements,
        components,
    )
    .map_err(|error| value.problem(error.to_string(), MEASUREMENTS))
    .ok()
}
