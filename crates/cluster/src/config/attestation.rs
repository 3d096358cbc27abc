//! `attestation`: exactly one variant, with the measurements it accepts.

use std::str::FromStr;

use attest::{ComponentDigest, Digest, Measurement, Measurements, PcrIndex, Policy, Variant};

use crate::yaml::Value;

const ALLOWED: &str = "qemuVTPM";
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
            || format!("variant {variant} is not in this release"),
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
        .and_then(|value| measurements(&value));
    let components = section
        .optional("components")
        .map_or_else(|| Some(Vec::new()), |value| components(&value));
    section.finish();
    let (measurements, components) = (measurements?, components?);
    Policy::new(
        Variant::QemuVtpm,
        image.map(str::to_owned),
        measurements,
        components,
    )
    .map_err(|error| value.problem(error.to_string(), MEASUREMENTS))
    .ok()
}

const PCR: &str = "a PCR from 0 to 14";
const DIGEST: &str = "64 hex digits";

fn measurements(value: &Value<'_>) -> Option<Measurements> {
    let mut section = value.section()?;
    let mut measurements = Measurements::new();
    let mut complete = true;
    for (key, value) in section.all() {
        let index = key
            .parse()
            .ok()
            .and_then(|number| PcrIndex::new(number).ok());
        if index.is_none() {
            value.problem(
                format!(
                    "{:?} is not a PCR",
                    key.chars().take(32).collect::<String>()
                ),
                PCR,
            );
        }
        match (index, measurement(&value)) {
            (Some(index), Some(measurement)) => {
                measurements.insert(index, measurement);
            }
            _ => complete = false,
        }
    }
    complete.then_some(measurements)
}

fn measurement(value: &Value<'_>) -> Option<Measurement> {
    let mut section = value.section()?;
    let expected = section
        .required("expected", DIGEST)
        .and_then(|value| digest(&value));
    let warn_only = section
        .required("warnOnly", "true, false")
        .and_then(|value| value.boolean());
    section.finish();
    Some(Measurement {
        expected: expected?,
        warn_only: warn_only?,
    })
}

fn components(value: &Value<'_>) -> Option<Vec<ComponentDigest>> {
    let items = value.list("a list of pcr, name, digest")?;
    let components: Vec<_> = items.iter().map(component).collect();
    components.into_iter().collect()
}

fn component(value: &Value<'_>) -> Option<ComponentDigest> {
    let mut section = value.section()?;
    let pcr = section
        .required("pcr", PCR)
        .and_then(|value| value.number(0, 14))
        .and_then(|number| PcrIndex::new(number).ok());
    let rule = "the name of a component, such as kernel, initrd, command line";
    let name = section.required("name", rule).and_then(|value| {
        value.parse(rule, |text| {
            serde_json::from_value::<attest::Component>(text.into())
                .map_err(|_| format!("{text:?} is no component"))
        })
    });
    let digest = section
        .required("digest", DIGEST)
        .and_then(|value| digest(&value));
    section.finish();
    Some(ComponentDigest {
        pcr: pcr?,
        name: name?,
        digest: digest?,
    })
}

fn digest(value: &Value<'_>) -> Option<Digest> {
    value.parse(DIGEST, Digest::from_str)
}
