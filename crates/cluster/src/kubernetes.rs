//! The version of Kubernetes a cluster runs, and which versions may be asked for.
//!
//! Does not know how minors differ on a node: that table is `k8s::control_plane`.
//! Spec: design/cluster.md, "Kubernetes without moving parts in between".

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The oldest minor that users may run: a rule, not a list, so that a new upstream minor works on the day it appears.
pub const OLDEST_SUPPORTED_MINOR: u16 = 32;
/// The one old minor the project's own tests use, because it can be built anywhere from Debian's source package.
pub const TEST_MINOR: u16 = 20;
/// The newest minor whose release notes were read when the table of differences was written.
pub const NEWEST_KNOWN_MINOR: u16 = 37;

/// An exact release of Kubernetes 1, such as `v1.37.1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    minor: u16,
    patch: u16,
}

/// What the project promises for a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// One of the releases users may run.
    Supported,
    /// Newer than anything its authors could have known; expected to work.
    NewerThanKnown,
    /// For the project's tests only.
    TestsOnly,
}

/// Why a text is not a usable version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the form `v1.<minor>.<patch>`.
    #[error("{0:?} is not an exact Kubernetes version such as v1.{NEWEST_KNOWN_MINOR}.0")]
    Malformed(String),
    /// A real version that no cluster can be made with.
    #[error(
        "Kubernetes {0} is not supported: it must be v1.{OLDEST_SUPPORTED_MINOR}.0 or newer (v1.{TEST_MINOR} is accepted for tests)"
    )]
    Unsupported(Version),
}

impl Version {
    /// Names release `v1.<minor>.<patch>` without judging it.
    pub const fn new(minor: u16, patch: u16) -> Self {
        Self { minor, patch }
    }

    /// The minor, which decides about flags.
    pub const fn minor(self) -> u16 {
        self.minor
    }

    /// The patch level.
    pub const fn patch(self) -> u16 {
        self.patch
    }

    /// Tells whether clusters may be made with this version.
    pub const fn support(self) -> Result<Support, VersionError> {
        match self.minor {
            TEST_MINOR => Ok(Support::TestsOnly),
            OLDEST_SUPPORTED_MINOR..=NEWEST_KNOWN_MINOR => Ok(Support::Supported),
            minor if minor > NEWEST_KNOWN_MINOR => Ok(Support::NewerThanKnown),
            _ => Err(VersionError::Unsupported(self)),
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let malformed = || VersionError::Malformed(text.chars().take(64).collect());
        let mut parts = text.strip_prefix('v').ok_or_else(malformed)?.split('.');
        let number = |part: Option<&str>| -> Option<u16> {
            let part = part?;
            let canonical = part.bytes().all(|byte| byte.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'));
            if canonical { part.parse().ok() } else { None }
        };
        let (major, minor, patch) = (
            number(parts.next()),
            number(parts.next()),
            number(parts.next()),
        );
        match (major, minor, patch, parts.next()) {
            (Some(1), Some(minor), Some(patch), None) => Ok(Self { minor, patch }),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.minor, self.patch)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_exact_versions() {
        for text in ["v1.20.2", "v1.32.0", "v1.37.11", "v1.0.0"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        assert_eq!("v1.35.4".parse(), Ok(Version::new(35, 4)));
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "v1",
            "v1.35",
            "1.35.0",
            "v1.35.0.0",
            "v2.0.0",
            "v1.035.0",
            "v1.35.0-rc.1",
            "v1.35.+1",
            "v1.35.",
            "v1..0",
            "v1.99999.0",
            " v1.35.0",
            "v1.35.0/../x",
        ] {
            assert_eq!(
                text.parse::<Version>(),
                Err(VersionError::Malformed(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn support_is_a_rule() {
        assert_eq!(Version::new(20, 2).support(), Ok(Support::TestsOnly));
        assert_eq!(
            Version::new(31, 13).support(),
            Err(VersionError::Unsupported(Version::new(31, 13)))
        );
        assert_eq!(Version::new(32, 0).support(), Ok(Support::Supported));
        assert_eq!(Version::new(37, 1).support(), Ok(Support::Supported));
        assert_eq!(Version::new(41, 0).support(), Ok(Support::NewerThanKnown));
    }
}
