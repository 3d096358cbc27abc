//! What a machine must have booted: one generation of images, or two while a cluster is upgraded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use super::machine::{Machine, Needed, PcrBank};
use super::pcrs::{self, PcrDigest as _, PcrMeasurements};
use super::{MAX_COMPONENTS, Measurements, PolicyError, check_image};
use crate::yaml::Value;
use crate::{Component, ComponentDigest, Digest, Digest384, PcrIndex, PcrValues};

/// The most launch measurements of one generation: they differ by the number of processors.
const MAX_LAUNCH: usize = 64;

/// Accepted values of one register of 48 bytes: one of them must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted384 {
    /// The values; at least one.
    pub accepted: BTreeSet<Digest384>,
    /// Whether another value is a warning and not a refusal.
    pub warn_only: bool,
}

/// One accepted generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub(crate) image: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) pcrs: PcrMeasurements,
    pub(crate) components: Vec<ComponentDigest>,
    pub(crate) launch: Option<Accepted384>,
    pub(crate) mrtd: Option<Accepted384>,
    pub(crate) rtmrs: BTreeMap<u8, Accepted384>,
}

impl Generation {
    /// The image's name, if the policy came from one.
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// From when on it is accepted no more. Only the older one of two has an end.
    #[must_use]
    pub const fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Accepted PCRs of the SHA-256 bank. Empty: the machine has none of that bank.
    #[must_use]
    pub const fn pcrs(&self) -> &Measurements {
        const NONE: &Measurements = &Measurements::new();
        match &self.pcrs {
            PcrMeasurements::Sha256(accepted) => accepted,
            PcrMeasurements::None | PcrMeasurements::Sha384(_) => NONE,
        }
    }

    /// Accepted PCRs, in the bank of the machine.
    #[must_use]
    pub const fn pcr_measurements(&self) -> &PcrMeasurements {
        &self.pcrs
    }

    /// What the PCRs are made of.
    #[must_use]
    pub fn components(&self) -> &[ComponentDigest] {
        &self.components
    }

    /// The launch measurement of an SEV-SNP report.
    #[must_use]
    pub const fn launch(&self) -> Option<&Accepted384> {
        self.launch.as_ref()
    }

    /// MRTD of a TDX quote.
    #[must_use]
    pub const fn mrtd(&self) -> Option<&Accepted384> {
        self.mrtd.as_ref()
    }

    /// RTMRs of a TDX quote, by number.
    #[must_use]
    pub const fn rtmrs(&self) -> &BTreeMap<u8, Accepted384> {
        &self.rtmrs
    }

    /// Whether it has not ended at `now`.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    /// Whether each enforced PCR has its value in the SHA-256 bank.
    pub(crate) fn accepts(&self, pcrs: &PcrValues) -> bool {
        self.pcrs.accepts(pcrs)
    }

    /// Whether what a trust domain booted is enforced: its firmware, and what that started.
    pub(crate) fn pins_trust_domain(&self) -> bool {
        is_enforced(self.mrtd.as_ref())
            && [1, 2]
                .iter()
                .all(|number| is_enforced(self.rtmrs.get(number)))
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::Map::new();
        if let Some(image) = &self.image {
            json.insert("image".to_owned(), json!(image));
        }
        if let Some(expires) = self.expires {
            json.insert("expires".to_owned(), json!(expires));
        }
        if let Some(pcrs) = self.pcrs.to_json() {
            json.insert("pcrs".to_owned(), pcrs);
        }
        if !self.components.is_empty() {
            json.insert("components".to_owned(), json!(self.components));
        }
        if let Some(launch) = &self.launch {
            json.insert("launch".to_owned(), launch.to_json());
        }
        if let Some(mrtd) = &self.mrtd {
            json.insert("mrtd".to_owned(), mrtd.to_json());
        }
        if !self.rtmrs.is_empty() {
            let rtmrs = self
                .rtmrs
                .iter()
                .map(|(n, value)| (n.to_string(), value.to_json()));
            json.insert(
                "rtmrs".to_owned(),
                rtmrs.collect::<serde_json::Map<_, _>>().into(),
            );
        }
        json.into()
    }
}

impl Accepted384 {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({ "accepted": self.accepted, "warnOnly": self.warn_only })
    }
}

fn is_enforced(register: Option<&Accepted384>) -> bool {
    register.is_some_and(|register| !register.warn_only)
}

/// Reads the measurements: either PCRs, for one generation, or `generations`. `outside`: image and components that stand
/// beside them.
pub(crate) fn read(
    value: &Value<'_>,
    machine: Option<Machine>,
    outside: (Option<String>, Vec<ComponentDigest>),
) -> Option<Vec<Generation>> {
    let mut section = value.section()?;
    let Some(list) = section.optional("generations") else {
        let pcrs = PcrMeasurements::read(value, machine)?;
        let (image, components) = outside;
        let only = Generation {
            image,
            pcrs,
            components,
            ..Generation::default()
        };
        return valid(only, value, machine).map(|only| vec![only]);
    };
    section.finish();
    if outside.0.is_some() || !outside.1.is_empty() {
        value.problem(
            "image and components stand beside generations",
            "each in the generation it is of",
        );
    }
    const RULE: &str = "a list of one or two generations, the newer one first";
    let items = list.list(RULE)?;
    if !(1..=2).contains(&items.len()) {
        list.problem(format!("{} generations are listed", items.len()), RULE);
        return None;
    }
    let read: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(place, item)| generation(item, machine, place))
        .collect();
    read.into_iter().collect()
}

fn generation(value: &Value<'_>, machine: Option<Machine>, place: usize) -> Option<Generation> {
    let mut section = value.section()?;
    let image = section
        .optional("image")
        .map_or(Some(None), |value| image(&value).map(Some));
    let expires = if place == 0 {
        if section.optional("expires").is_some() {
            section.problem(
                "the newest generation has no end",
                "expires on the older one only",
            );
        }
        Some(None)
    } else {
        section
            .required("expires", TIME)
            .and_then(|value| time(&value))
            .map(Some)
    };
    let pcrs = section
        .optional("pcrs")
        .map_or(Some(PcrMeasurements::None), |value| {
            PcrMeasurements::read(&value, machine)
        });
    let components = section
        .optional("components")
        .map_or_else(|| Some(Vec::new()), |value| components(&value));
    let mut register = |name: &'static str| {
        section
            .optional(name)
            .map_or(Some(None), |value| accepted(&value).map(Some))
    };
    let (launch, mrtd) = (register("launch"), register("mrtd"));
    let rtmrs = section
        .optional("rtmrs")
        .map_or_else(|| Some(BTreeMap::new()), |value| rtmrs(&value));
    section.finish();
    let generation = Generation {
        image: image?,
        expires: expires?,
        pcrs: pcrs?,
        components: components?,
        launch: launch?,
        mrtd: mrtd?,
        rtmrs: rtmrs?,
    };
    valid(generation, value, machine)
}

const TIME: &str = "a time such as 2026-12-31T00:00:00Z";

/// Reads a time.
pub(crate) fn time(value: &Value<'_>) -> Option<Timestamp> {
    value.parse(TIME, str::parse::<Timestamp>)
}

/// A generation that leaves nothing open that its machine has.
fn valid(
    generation: Generation,
    value: &Value<'_>,
    machine: Option<Machine>,
) -> Option<Generation> {
    // a wrong variant has been reported, and nothing can be said without it
    let machine = machine?;
    let mut is_valid = true;
    let mut wrong = |what: String, allowed: &str| {
        value.problem(what, allowed);
        is_valid = false;
    };
    let checked = match (machine.bank(), &generation.pcrs) {
        (None, PcrMeasurements::None) => Ok(()),
        (None, PcrMeasurements::Sha256(_) | PcrMeasurements::Sha384(_)) => {
            wrong(
                format!("a {machine} machine has no PCRs"),
                "launch, or mrtd and rtmrs",
            );
            Ok(())
        }
        (Some(_), PcrMeasurements::None) => Err(PolicyError::Empty),
        (Some(_), PcrMeasurements::Sha256(accepted)) => pcrs::check(accepted)
            .and_then(|()| pcrs::check_components(accepted, &generation.components)),
        (Some(_), PcrMeasurements::Sha384(accepted)) => pcrs::check(accepted),
    };
    if let Err(error) = checked {
        wrong(
            error.to_string(),
            "PCRs 4, 8, 9, 11, 12 and 13, each with expected and warnOnly",
        );
    }
    if machine.bank() == Some(PcrBank::Sha384) && !generation.components.is_empty() {
        wrong(
            format!(
                "{machine} machines have no components: they name parts by an event log, and documents of AWS come without one"
            ),
            "",
        );
    }
    match (machine.launch(), &generation.launch) {
        (Needed::Absent, Some(_)) => {
            wrong(format!("a {machine} machine has no launch measurement"), "")
        }
        (Needed::Required, None) => wrong(
            "has no launch measurement, so any code would be accepted".to_owned(),
            "launch, with accepted and warnOnly: false",
        ),
        (Needed::Required, Some(launch)) if launch.warn_only => wrong(
            "only warns about the launch measurement, so any code would be accepted".to_owned(),
            "warnOnly: false",
        ),
        _ => {}
    }
    let is_empty = generation.mrtd.is_none() && generation.rtmrs.is_empty();
    match machine.rtmrs() {
        Needed::Absent if !is_empty => {
            wrong(format!("a {machine} machine has no MRTD and no RTMRs"), "");
        }
        Needed::Required => {
            if !generation.pins_trust_domain() {
                wrong(
                    "does not enforce MRTD, RTMR 1 and RTMR 2, so other code would be accepted: MRTD alone is only the firmware".to_owned(),
                    "mrtd, and rtmrs 1 and 2, each with accepted and warnOnly: false",
                );
            }
        }
        Needed::Absent | Needed::Optional => {}
    }
    if machine.mrtd_is_paravisor() && !is_enforced(generation.mrtd.as_ref()) {
        wrong(
            format!(
                "without an enforced MRTD a policy for {machine} machines accepts every paravisor"
            ),
            "in each generation mrtd, with accepted and warnOnly: false",
        );
    }
    is_valid.then_some(generation)
}

/// Reads an image's name.
pub(crate) fn image(value: &Value<'_>) -> Option<String> {
    const RULE: &str = "1 to 256 printable characters";
    value.parse(RULE, |text| {
        check_image(text)
            .map(|()| text.to_owned())
            .map_err(|error| error.to_string())
    })
}

/// Reads accepted values of a register of 48 bytes.
pub(crate) fn accepted(value: &Value<'_>) -> Option<Accepted384> {
    const RULE: &str = "a list of 1 to 64 SHA-384 digests, 96 hex digits each, none of them zero";
    let mut section = value.section()?;
    let accepted = section.required("accepted", RULE).and_then(|value| {
        let accepted = super::flags::set(&value, RULE, |text| match text.parse() {
            Ok(Digest384::ZERO) => {
                Err("is what a register holds where nothing was measured".to_owned())
            }
            Ok(digest) => Ok(digest),
            Err(error) => Err(error.to_string()),
        })?;
        if accepted.is_empty() || accepted.len() > MAX_LAUNCH {
            value.problem(format!("{} digests are listed", accepted.len()), RULE);
            return None;
        }
        Some(accepted)
    });
    let warn_only = section
        .required("warnOnly", "true, false")
        .and_then(|value| value.boolean());
    section.finish();
    Some(Accepted384 {
        accepted: accepted?,
        warn_only: warn_only?,
    })
}

fn rtmrs(value: &Value<'_>) -> Option<BTreeMap<u8, Accepted384>> {
    let mut section = value.section()?;
    let mut rtmrs = BTreeMap::new();
    let mut complete = true;
    for (key, value) in section.all() {
        // RTMR 3 is what the system extends while it runs
        let number = (0..=2_u8).find(|number| number.to_string() == key);
        if number.is_none() {
            let key: String = key.chars().take(32).collect();
            value.problem(format!("{key:?} is no RTMR of a boot"), "0, 1, 2");
        }
        match (number, accepted(&value)) {
            (Some(number), Some(register)) => {
                rtmrs.insert(number, register);
            }
            _ => complete = false,
        }
    }
    complete.then_some(rtmrs)
}

/// Reads the list of components.
pub fn components(value: &Value<'_>) -> Option<Vec<ComponentDigest>> {
    const RULE: &str = "a list of at most 128 of pcr, name, digest";
    let items = value.list(RULE)?;
    if items.len() > MAX_COMPONENTS {
        value.problem(format!("{} components are listed", items.len()), RULE);
        return None;
    }
    let read: Vec<_> = items.iter().map(component).collect();
    read.into_iter().collect()
}

fn component(value: &Value<'_>) -> Option<ComponentDigest> {
    let mut section = value.section()?;
    let pcr = section
        .required("pcr", "a PCR from 0 to 14")
        .and_then(|value| value.number(0, 14))
        .and_then(|number| PcrIndex::new(number).ok());
    let rule = "the name of a component, such as kernel, initrd, command line";
    let name = section.required("name", rule).and_then(|value| {
        value.parse(rule, |text| {
            serde_json::from_value::<Component>(text.into())
                .map_err(|_| format!("{text:?} is no component"))
        })
    });
    let digest = section
        .required("digest", Digest::RULE)
        .and_then(|value| value.word(Digest::RULE, str::parse::<Digest>));
    section.finish();
    Some(ComponentDigest {
        pcr: pcr?,
        name: name?,
        digest: digest?,
    })
}
