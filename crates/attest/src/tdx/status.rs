//! How Intel judges a TCB, and how several judgements become one (PCS API v4, "tcbStatus"; Quote Verification Library,
//! 4.1.2.4.17).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A TCB status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// All that Intel knows of is mended.
    UpToDate,
    /// Software in the trust domain must harden itself against something.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// The platform's configuration leaves something open.
    ConfigurationNeeded,
    /// Both.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// Updates are missing.
    OutOfDate,
    /// Updates are missing, and the configuration leaves something open.
    OutOfDateConfigurationNeeded,
    /// The platform is up to date by now, but the trust domain was started before.
    #[serde(rename = "TDRelaunchAdvised")]
    TdRelaunchAdvised,
    /// The same, and the configuration leaves something open.
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded")]
    TdRelaunchAdvisedConfigurationNeeded,
    /// The platform's keys cannot be trusted.
    Revoked,
    /// A word of Intel's that this release does not know. Never accepted.
    #[serde(other)]
    Unrecognized,
}

impl TcbStatus {
    /// Intel's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::Revoked => "Revoked",
            Self::Unrecognized => "a status this release does not know",
        }
    }

    /// Whether the configuration leaves something open.
    pub(super) const fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSwHardeningNeeded
                | Self::OutOfDateConfigurationNeeded
                | Self::TdRelaunchAdvisedConfigurationNeeded
        )
    }

    /// This status of a platform, lowered by the status of a part of it: the TDX module or the quoting enclave. Of a part
    /// Intel says only that it is up to date, out of date or revoked; anything else is not recognized.
    #[must_use]
    pub const fn lowered_by(self, part: Self) -> Self {
        match part {
            Self::UpToDate => self,
            Self::OutOfDate => match self {
                Self::UpToDate | Self::SwHardeningNeeded | Self::OutOfDate => Self::OutOfDate,
                Self::ConfigurationNeeded
                | Self::ConfigurationAndSwHardeningNeeded
                | Self::OutOfDateConfigurationNeeded => Self::OutOfDateConfigurationNeeded,
                Self::TdRelaunchAdvised => Self::OutOfDate,
                Self::TdRelaunchAdvisedConfigurationNeeded => Self::OutOfDateConfigurationNeeded,
                Self::Revoked => Self::Revoked,
                Self::Unrecognized => Self::Unrecognized,
            },
            Self::Revoked => Self::Revoked,
            Self::SwHardeningNeeded
            | Self::ConfigurationNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::OutOfDateConfigurationNeeded
            | Self::TdRelaunchAdvised
            | Self::TdRelaunchAdvisedConfigurationNeeded
            | Self::Unrecognized => match self {
                Self::Revoked => Self::Revoked,
                Self::UpToDate
                | Self::SwHardeningNeeded
                | Self::ConfigurationNeeded
                | Self::ConfigurationAndSwHardeningNeeded
                | Self::OutOfDate
                | Self::OutOfDateConfigurationNeeded
                | Self::TdRelaunchAdvised
                | Self::TdRelaunchAdvisedConfigurationNeeded
                | Self::Unrecognized => Self::Unrecognized,
            },
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
