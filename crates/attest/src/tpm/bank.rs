//! Values of PCRs of one bank, whatever its hash. They come from a peer and say nothing until a quote was verified.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::HashAlgorithm;
use crate::{PcrIndex, PcrValues};

/// What a PCR holds: as long as its bank's digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrValue {
    bank: HashAlgorithm,
    bytes: Vec<u8>,
}

/// Bytes that no PCR of the bank can hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PcrValueError {
    /// Of another length.
    #[error("a value of the {bank} bank has {length} bytes, not {}", bank.length())]
    Length {
        /// The bank.
        bank: HashAlgorithm,
        /// The length.
        length: usize,
    },
    /// Not hexadecimal.
    #[error("a PCR value is not hexadecimal")]
    Hex,
}

impl PcrValue {
    /// A value of a bank.
    ///
    /// # Errors
    /// When it is not as long as the bank's digest.
    pub fn new(bank: HashAlgorithm, bytes: &[u8]) -> Result<Self, PcrValueError> {
        if bytes.len() == bank.length() {
            Ok(Self {
                bank,
                bytes: bytes.to_vec(),
            })
        } else {
            Err(PcrValueError::Length {
                bank,
                length: bytes.len(),
            })
        }
    }

    /// A value of a bank, in hexadecimal.
    ///
    /// # Errors
    /// When the text is not hexadecimal, or not as long as the bank's digest.
    pub fn from_hex(bank: HashAlgorithm, text: &str) -> Result<Self, PcrValueError> {
        if text.len() > 2 * HashAlgorithm::MAX_LENGTH {
            return Err(PcrValueError::Length {
                bank,
                length: text.len() / 2,
            });
        }
        let bytes = hex::decode(text).map_err(|_| PcrValueError::Hex)?;
        Self::new(bank, &bytes)
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlgorithm {
        self.bank
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing was ever measured into the PCR.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }
}

impl fmt::Display for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.bytes))
    }
}

impl fmt::Debug for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.bank)
    }
}

/// Claimed values of one bank: at most one for each PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankValues {
    bank: HashAlgorithm,
    values: BTreeMap<PcrIndex, PcrValue>,
}

/// Why values are not those of one bank.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BankValuesError {
    /// A value that belongs to another bank.
    #[error("the value of PCR {index} is of the {found} bank, not of {expected}")]
    OtherBank {
        /// The PCR.
        index: PcrIndex,
        /// The bank of the value.
        found: HashAlgorithm,
        /// The bank of the values.
        expected: HashAlgorithm,
    },
    /// The same PCR again.
    #[error("PCR {0} is given twice")]
    Twice(PcrIndex),
}

impl BankValues {
    /// Takes values as they are claimed.
    ///
    /// # Errors
    /// When one is of another bank, or a PCR has two.
    pub fn new(
        bank: HashAlgorithm,
        values: impl IntoIterator<Item = (PcrIndex, PcrValue)>,
    ) -> Result<Self, BankValuesError> {
        let mut map = BTreeMap::new();
        for (index, value) in values {
            if value.bank != bank {
                return Err(BankValuesError::OtherBank {
                    index,
                    found: value.bank,
                    expected: bank,
                });
            }
            if map.insert(index, value).is_some() {
                return Err(BankValuesError::Twice(index));
            }
        }
        Ok(Self { bank, values: map })
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlgorithm {
        self.bank
    }

    /// One value.
    #[must_use]
    pub fn get(&self, index: PcrIndex) -> Option<&PcrValue> {
        self.values.get(&index)
    }

    /// The values in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (PcrIndex, &PcrValue)> {
        self.values.iter().map(|(index, value)| (*index, value))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What a quote over exactly these PCRs holds, by a key that signs with `hash`.
    #[must_use]
    pub fn quote_digest(&self, hash: HashAlgorithm) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.values.values().map(PcrValue::as_bytes).collect();
        hash.digest(&parts)
    }
}

impl From<&PcrValues> for BankValues {
    fn from(values: &PcrValues) -> Self {
        let bank = HashAlgorithm::Sha256;
        let values = values
            .iter()
            .map(|(index, value)| {
                let bytes = value.as_bytes().to_vec();
                (index, PcrValue { bank, bytes })
            })
            .collect();
        Self { bank, values }
    }
}
