//! The names of Google's checks.

use std::fmt;

/// One check of what Google certifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The certificate says which instance the key is of.
    InstanceInfo,
    /// It is one of Google's production environment.
    Production,
    /// The project is as demanded.
    Project,
    /// The zone is as demanded.
    Zone,
    /// The instance is as demanded.
    Instance,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InstanceInfo => "instance information",
            Self::Production => "production environment",
            Self::Project => "Google Cloud project",
            Self::Zone => "Google Cloud zone",
            Self::Instance => "Compute Engine instance",
        })
    }
}
