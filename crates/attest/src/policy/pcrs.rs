//! Accepted PCRs, in the one bank that a kind of machine proves.
//!
//! The bank is a type: a value of SHA-256 and a register of SHA-384 have no comparison, and a value of the wrong length is
//! told when the policy is read.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::json;

use super::machine::{Machine, PcrBank};
use super::{MAX_COMPONENTS, Measurement, Measurements, Policy, PolicyError};
use crate::yaml::Value;
use crate::{ComponentDigest, Digest, Digest384, PcrIndex, PcrValues};

/// Accepted PCRs of one bank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PcrMeasurements {
    /// The machine has no PCRs.
    #[default]
    None,
    /// Those of the SHA-256 bank, which a quote is over.
    Sha256(Measurements),
    /// Those of the SHA-384 bank, which a document of AWS states.
    Sha384(Measurements<Digest384>),
}

impl PcrMeasurements {
    /// Whether each enforced PCR has its value in the SHA-256 bank. Values of another bank are in none.
    pub(crate) fn accepts(&self, pcrs: &PcrValues) -> bool {
        match self {
            Self::Sha256(accepted) => accepted.iter().all(|(index, measurement)| {
                measurement.warn_only || pcrs.get(*index) == measurement.expected
            }),
            Self::None | Self::Sha384(_) => false,
        }
    }

    /// Names of the registers, as far as they are enforced or not.
    pub(crate) fn names(&self, warn_only: bool) -> Vec<String> {
        fn names<D>(bank: &str, accepted: &Measurements<D>, warn_only: bool) -> Vec<String> {
            accepted
                .iter()
                .filter(|(_, value)| value.warn_only == warn_only)
                .map(|(index, _)| format!("{bank}PCR {index}"))
                .collect()
        }
        match self {
            Self::None => Vec::new(),
            Self::Sha256(accepted) => names("", accepted, warn_only),
            Self::Sha384(accepted) => names("SHA-384 ", accepted, warn_only),
        }
    }

    /// As documents have them; nothing, where there are none.
    pub(crate) fn to_json(&self) -> Option<serde_json::Value> {
        match self {
            Self::None => None,
            Self::Sha256(accepted) => Some(to_json(accepted)),
            Self::Sha384(accepted) => Some(to_json(accepted)),
        }
    }

    /// Reads them, in the bank of `machine`.
    pub(crate) fn read(value: &Value<'_>, machine: Option<Machine>) -> Option<Self> {
        match machine.map(Machine::bank) {
            Some(Some(PcrBank::Sha384)) => of_bank(value).map(Self::Sha384),
            Some(Some(PcrBank::Sha256)) => of_bank(value).map(Self::Sha256),
            // a wrong variant has been reported, and either length may be right
            None => of_any_bank(value).map(|_| Self::None),
            // that such a machine has no PCRs is told with the rest of its generation
            Some(None) => of_any_bank(value).map(|pcrs| match pcrs.len() {
                0 => Self::None,
                _ => Self::Sha256(Measurements::new()),
            }),
        }
    }
}

fn to_json<D: Display>(accepted: &Measurements<D>) -> serde_json::Value {
    accepted
        .iter()
        .map(|(index, value)| {
            let json =
                json!({ "expected": value.expected.to_string(), "warnOnly": value.warn_only });
            (index.to_string(), json)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What a PCR of one bank holds.
pub(super) trait PcrDigest: Copy + Eq + FromStr<Err: Display> + 'static {
    /// The bank.
    const BANK: &'static str;
    /// How long a value is, in hexadecimal digits.
    const DIGITS: usize;
    /// What it holds where nothing was measured.
    const ZERO: Self;
    /// The rule for a person.
    const RULE: &'static str;

    /// The value.
    fn bytes(&self) -> &[u8];
}

impl PcrDigest for Digest {
    const BANK: &'static str = "SHA-256";
    const DIGITS: usize = 64;
    const ZERO: Self = Self::ZERO;
    const RULE: &'static str = "64 hex digits";

    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PcrDigest for Digest384 {
    const BANK: &'static str = "SHA-384";
    const DIGITS: usize = 96;
    const ZERO: Self = Self::ZERO;
    const RULE: &'static str = "96 hex digits";

    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Reads accepted values of the SHA-256 bank by PCR, as policies and a cluster's config write them. Problems are noted at
/// their places.
pub fn pcrs(value: &Value<'_>) -> Option<Measurements> {
    of_bank(value)
}

fn of_bank<D: PcrDigest>(value: &Value<'_>) -> Option<Measurements<D>> {
    read(value, D::RULE, digest)
}

/// What can be said of values whose bank is not known.
fn of_any_bank(value: &Value<'_>) -> Option<Measurements<()>> {
    read(value, "64 or 96 hex digits", |text| {
        digest::<Digest>(text)
            .map(drop)
            .or_else(|_| digest::<Digest384>(text).map(drop))
    })
}

/// One value. That of the other bank is told apart from what is no digest at all.
fn digest<D: PcrDigest>(text: &str) -> Result<D, String> {
    text.parse::<D>().map_err(|error| {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let other = [(Digest::BANK, Digest::DIGITS), (Digest384::BANK, Digest384::DIGITS)]
            .into_iter()
            .find(|(_, digits)| is_hex && *digits == text.len() && *digits != D::DIGITS);
        match other {
            Some((bank, digits)) => format!(
                "{error}: this is a value of {bank} ({digits} digits), and such a machine proves its PCRs in the {} bank",
                D::BANK
            ),
            None => error.to_string(),
        }
    })
}

fn read<D>(
    value: &Value<'_>,
    rule: &str,
    digest: impl Fn(&str) -> Result<D, String>,
) -> Option<Measurements<D>> {
    let mut section = value.section()?;
    let mut pcrs = BTreeMap::new();
    let mut complete = true;
    for (key, value) in section.all() {
        // one spelling for each number, so that none is there twice
        let index = PcrIndex::all().find(|index| index.to_string() == key);
        if index.is_none() {
            let key: String = key.chars().take(32).collect();
            value.problem(format!("{key:?} is not a PCR"), "a PCR from 0 to 14");
        }
        match (index, measurement(&value, rule, &digest)) {
            (Some(index), Some(measurement)) => {
                pcrs.insert(index, measurement);
            }
            _ => complete = false,
        }
    }
    complete.then_some(pcrs)
}

fn measurement<D>(
    value: &Value<'_>,
    rule: &str,
    digest: impl Fn(&str) -> Result<D, String>,
) -> Option<Measurement<D>> {
    let mut section = value.section()?;
    let expected = section
        .required("expected", rule)
        .and_then(|value| value.word(rule, digest));
    let warn_only = section
        .required("warnOnly", "true, false")
        .and_then(|value| value.boolean());
    section.finish();
    Some(Measurement {
        expected: expected?,
        warn_only: warn_only?,
    })
}

/// PCRs that leave no part of the code open and name none that is not a policy's business.
pub(super) fn check<D: PcrDigest>(measurements: &Measurements<D>) -> Result<(), PolicyError> {
    if measurements.is_empty() {
        return Err(PolicyError::Empty);
    }
    for (index, measurement) in measurements {
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
    for index in indices(Policy::REQUIRED_PCRS) {
        if !measurements.contains_key(&index) {
            return Err(PolicyError::Missing(index));
        }
    }
    for index in indices(Policy::CODE_PCRS) {
        match measurements.get(&index) {
            None => return Err(PolicyError::Missing(index)),
            Some(code) if code.warn_only => return Err(PolicyError::CodeNotEnforced(index)),
            Some(code) if code.expected == D::ZERO => {
                return Err(PolicyError::NothingMeasured(index));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Components of PCRs that have a value.
pub(super) fn check_components(
    measurements: &Measurements,
    components: &[ComponentDigest],
) -> Result<(), PolicyError> {
    if components.len() > MAX_COMPONENTS {
        return Err(PolicyError::TooManyComponents(components.len()));
    }
    match components
        .iter()
        .find(|component| !measurements.contains_key(&component.pcr))
    {
        Some(stray) => Err(PolicyError::StrayComponent(stray.name, stray.pcr)),
        None => Ok(()),
    }
}

pub(super) fn indices<const N: usize>(indices: [u32; N]) -> impl Iterator<Item = PcrIndex> {
    indices
        .into_iter()
        .filter_map(|index| PcrIndex::new(index).ok())
}

fn is_placeholder<D: PcrDigest>(digest: &D) -> bool {
    digest.bytes().chunks(2).all(|pair| pair == [0x12, 0x34])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not even zeros are what the other bank holds where nothing was measured.
    #[test]
    fn values_of_another_bank_and_none_at_all_accept_no_register_of_this_one() {
        let registers = PcrValues::at_reset();
        let index = PcrIndex::new(8).unwrap();
        let zero = |warn_only| Measurement {
            expected: Digest::ZERO,
            warn_only,
        };
        assert!(PcrMeasurements::Sha256([(index, zero(false))].into()).accepts(&registers));
        for warn_only in [false, true] {
            let zero = Measurement {
                expected: Digest384::ZERO,
                warn_only,
            };
            assert!(!PcrMeasurements::Sha384([(index, zero)].into()).accepts(&registers));
        }
        assert!(!PcrMeasurements::Sha384(Measurements::new()).accepts(&registers));
        assert!(!PcrMeasurements::None.accepts(&registers));
    }
}
