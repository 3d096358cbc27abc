//! How Intel judges a TCB, and how several judgements become one (PCS API v4, "tcbStatus"; Quote Verification Library,
//! 4.1.2.5).

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
    const fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSwHardeningNeeded
                | Self::OutOfDateConfigurationNeeded
                | Self::TdRelaunchAdvisedConfigurationNeeded
        )
    }

    /// Whether updates are missing.
    const fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }

    /// Whether software must harden itself, beside what else there may be.
    const fn needs_hardening(self) -> bool {
        matches!(
            self,
            Self::SwHardeningNeeded | Self::ConfigurationAndSwHardeningNeeded
        )
    }

    /// This word about a level of a platform. That a new start is advised follows from two judgements, and is in no statement.
    pub(super) const fn of_platform(self) -> Self {
        if matches!(
            self,
            Self::TdRelaunchAdvised | Self::TdRelaunchAdvisedConfigurationNeeded
        ) {
            return Self::Unrecognized;
        }
        self
    }

    /// This status, lowered by that of a TDX module. Of a module Intel says only that it is up to date, out of date or revoked;
    /// anything else is not recognized.
    #[must_use]
    pub const fn lowered_by(self, module: Self) -> Self {
        match module {
            Self::UpToDate | Self::OutOfDate | Self::Revoked => self.joined(module),
            Self::SwHardeningNeeded
            | Self::ConfigurationNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::OutOfDateConfigurationNeeded
            | Self::TdRelaunchAdvised
            | Self::TdRelaunchAdvisedConfigurationNeeded
            | Self::Unrecognized => self.joined(Self::Unrecognized),
        }
    }

    /// This status, lowered by that of a quoting enclave, whose configuration may leave something open too.
    #[must_use]
    pub const fn lowered_by_qe(self, enclave: Self) -> Self {
        match enclave {
            Self::UpToDate
            | Self::OutOfDate
            | Self::Revoked
            | Self::ConfigurationNeeded
            | Self::OutOfDateConfigurationNeeded => self.joined(enclave),
            Self::SwHardeningNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::TdRelaunchAdvised
            | Self::TdRelaunchAdvisedConfigurationNeeded
            | Self::Unrecognized => self.joined(Self::Unrecognized),
        }
    }

    /// This status of when a trust domain was started, with that of what runs now. Intel's library reports that of the start, or
    /// that a new start would help; here what is worse now counts as well, because a trust domain can be moved.
    #[must_use]
    pub const fn while_now(self, current: Self) -> Self {
        let is_fine_now = matches!(
            current,
            Self::UpToDate
                | Self::SwHardeningNeeded
                | Self::ConfigurationNeeded
                | Self::ConfigurationAndSwHardeningNeeded
        );
        if !self.is_out_of_date() || !is_fine_now {
            self.joined(current)
        } else if self.needs_configuration() || current.needs_configuration() {
            Self::TdRelaunchAdvisedConfigurationNeeded
        } else {
            Self::TdRelaunchAdvised
        }
    }

    /// All that either of them says.
    const fn joined(self, other: Self) -> Self {
        if matches!(self, Self::Revoked) || matches!(other, Self::Revoked) {
            return Self::Revoked;
        }
        if matches!(self.of_platform(), Self::Unrecognized)
            || matches!(other.of_platform(), Self::Unrecognized)
        {
            return Self::Unrecognized;
        }
        let configuration = self.needs_configuration() || other.needs_configuration();
        if self.is_out_of_date() || other.is_out_of_date() {
            return if configuration {
                Self::OutOfDateConfigurationNeeded
            } else {
                Self::OutOfDate
            };
        }
        match (
            configuration,
            self.needs_hardening() || other.needs_hardening(),
        ) {
            (false, false) => Self::UpToDate,
            (false, true) => Self::SwHardeningNeeded,
            (true, false) => Self::ConfigurationNeeded,
            (true, true) => Self::ConfigurationAndSwHardeningNeeded,
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
