//! PCR numbers and the values of one bank.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::Digest;

/// A PCR, 0 to 23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrIndex(u8);

/// A number that is no PCR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no such PCR: a TPM has 0 to 23")]
pub struct PcrIndexError;

impl PcrIndex {
    /// How many a TPM 2.0 has.
    pub const COUNT: usize = 24;
    /// The cluster mark.
    pub const CLUSTER_MARK: Self = Self(15);
    /// The first one that software may reset or that a dynamic launch owns: from here on no policy input.
    const FIRST_RESETTABLE: u8 = 16;

    /// # Errors
    /// For numbers above 23.
    pub const fn new(index: u32) -> Result<Self, PcrIndexError> {
        if index < 24 {
            #[expect(clippy::cast_possible_truncation, reason = "below 24")]
            return Ok(Self(index as u8));
        }
        Err(PcrIndexError)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Every PCR in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..24).map(Self)
    }

    /// PCRs 16 to 23 start anew without a reboot, so they say nothing about how the machine booted.
    #[must_use]
    pub const fn is_resettable(self) -> bool {
        self.0 >= Self::FIRST_RESETTABLE
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for PcrIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for PcrIndex {
    /// A number, or a number's one decimal spelling: JSON has text keys only.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Index;

        impl Visitor<'_> for Index {
            type Value = PcrIndex;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a PCR, 0 to 23")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PcrIndex, E> {
                u32::try_from(number)
                    .ok()
                    .and_then(|n| PcrIndex::new(n).ok())
                    .ok_or_else(|| E::custom(PcrIndexError))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PcrIndex, E> {
                u64::try_from(number)
                    .map_err(|_| E::custom(PcrIndexError))
                    .and_then(|n| self.visit_u64(n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PcrIndex, E> {
                PcrIndex::all()
                    .find(|index| index.to_string() == text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Index)
    }
}

/// The 24 values of the SHA-256 bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues([Digest; PcrIndex::COUNT]);

impl PcrValues {
    /// What a TPM holds right after its reset, before the firmware measured anything: zero, and ones in the registers
    /// of a dynamic launch (17 to 22).
    #[must_use]
    pub fn at_reset() -> Self {
        let mut values = [Digest::ZERO; PcrIndex::COUNT];
        for (index, value) in values.iter_mut().enumerate() {
            if (17..=22).contains(&index) {
                *value = Digest::from_bytes([0xff; 32]);
            }
        }
        Self(values)
    }

    /// The values in the order of their numbers.
    #[must_use]
    pub const fn from_values(values: [Digest; PcrIndex::COUNT]) -> Self {
        Self(values)
    }

    /// One value.
    #[must_use]
    pub fn get(&self, index: PcrIndex) -> Digest {
        // an index is below the array's length by construction; the fallback keeps this free of a panic path
        self.0
            .get(usize::from(index.number()))
            .copied()
            .unwrap_or(Digest::ZERO)
    }

    /// Replaces one value.
    pub fn set(&mut self, index: PcrIndex, value: Digest) {
        if let Some(slot) = self.0.get_mut(usize::from(index.number())) {
            *slot = value;
        }
    }

    /// Extends one value as TPM2_PCR_Extend does.
    pub fn extend(&mut self, index: PcrIndex, digest: &Digest) {
        self.set(index, self.get(index).extended_by(digest));
    }

    /// Numbers with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (PcrIndex, &Digest)> {
        PcrIndex::all().zip(&self.0)
    }

    /// What a quote over all 24 holds as its PCR digest.
    #[must_use]
    pub fn quote_digest(&self) -> Digest {
        let parts: Vec<&[u8]> = self
            .0
            .iter()
            .map(|value| value.as_bytes().as_slice())
            .collect();
        Digest::of_parts(&parts)
    }
}

impl Serialize for PcrValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
