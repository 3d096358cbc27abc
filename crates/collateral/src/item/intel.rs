//! What Intel's provisioning certification service is asked by. Intel SGX and TDX PCS API, version 4.

use std::fmt;
use std::str::FromStr;

use super::ItemError;

/// Family, model, stepping, platform type and custom SKU of a platform: six bytes out of its PCK certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fmspc([u8; 6]);

impl Fmspc {
    /// Of the bytes in a PCK certificate.
    pub fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

/// Lower case hexadecimal.
impl fmt::Display for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fmspc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fmspc({self})")
    }
}

impl FromStr for Fmspc {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        let mut bytes = [0; 6];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ItemError::Fmspc)?;
        Ok(Self(bytes))
    }
}

/// Which of Intel's two statements: after a security update, the early one asks for it at once, and the standard one a
/// few months later, when platforms have had time to take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Update {
    /// At once.
    Early,
    /// When platforms have had time.
    Standard,
}

/// As in the service's queries.
impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Early => "early",
            Self::Standard => "standard",
        })
    }
}

impl FromStr for Update {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        match text {
            "early" => Ok(Self::Early),
            "standard" => Ok(Self::Standard),
            _ => Err(ItemError::Choice {
                what: "update",
                choices: "early, standard",
            }),
        }
    }
}

/// A CA of Intel's that certifies platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PckCa {
    /// Of platforms with several packages; every machine that can run trust domains.
    Platform,
    /// Of single processors.
    Processor,
}

impl PckCa {
    /// The common name of its certificate.
    pub fn common_name(self) -> &'static str {
        match self {
            Self::Platform => "Intel SGX PCK Platform CA",
            Self::Processor => "Intel SGX PCK Processor CA",
        }
    }
}

/// As in the service's queries.
impl fmt::Display for PckCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        })
    }
}

impl FromStr for PckCa {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        match text {
            "platform" => Ok(Self::Platform),
            "processor" => Ok(Self::Processor),
            _ => Err(ItemError::Choice {
                what: "CA",
                choices: "platform, processor",
            }),
        }
    }
}
