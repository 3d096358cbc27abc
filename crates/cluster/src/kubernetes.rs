//! The version of Kubernetes a cluster runs, and which versions may be asked for.
//!
//! Does not know how minors differ on a node: that table is `k8s::control_plane`.
//! Spec: design/cluster.md, "Kubernetes without moving parts in between".

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The oldest minor that users may run.
pub const OLDEST_SUPPORTED_MINOR: u16 = 32;
/// The one old minor the project's own tests use, because it can be built anywhere from Debian's source package.
pub const TEST_MINOR: u16 = 20;
/// The newest minor that users may run. It is the image's limit: its containerd is 1.7, and kubelets from 1.36 on want containerd 2.
pub const NEWEST_KNOWN_MINOR: u16 = 35;

/// An exact release of Kubernetes 1, such as `v1.35.1`.
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
    /// For the project's tests only.
    TestsOnly,
}

/// Why a text is not a usable version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the form `v1.<minor>.<patch>`.
    #[error("{0:?} is not an exact Kubernetes version such as v1.{NEWEST_KNOWN_MINOR}.0")]
    Malformed(String),
    /// A release that is too old.
    #[error(
        "Kubernetes {0} is not supported: it must be v1.{OLDEST_SUPPORTED_MINOR}.0 or newer (v1.{TEST_MINOR} is accepted for tests)"
    )]
    TooOld(Version),
    /// A release whose kubelet the image's container runtime cannot serve.
    #[error(
        "Kubernetes {0} is not supported: it needs containerd 2, and this release's image has containerd 1.7; v1.{NEWEST_KNOWN_MINOR} is the newest"
    )]
    TooNew(Version),
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
            ..OLDEST_SUPPORTED_MINOR => Err(VersionError::TooOld(self)),
            OLDEST_SUPPORTED_MINOR..=NEWEST_KNOWN_MINOR => Ok(Support::Supported),
            _ => Err(VersionError::TooNew(self)),
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
    fn supported_is_what_the_image_can_run() {
        assert_eq!(Version::new(20, 2).support(), Ok(Support::TestsOnly));
        for old in [Version::new(19, 9), Version::new(31, 13)] {
            assert_eq!(old.support(), Err(VersionError::TooOld(old)));
        }
        assert_eq!(Version::new(32, 0).support(), Ok(Support::Supported));
        assert_eq!(Version::new(35, 4).support(), Ok(Support::Supported));
        let new = Version::new(36, 0);
        let error = new.support().unwrap_err();
        assert_eq!(error, VersionError::TooNew(new));
        assert!(error.to_string().contains("v1.35 is the newest"), "{error}");
    }
}
