//! The parts of a booted machine that a PCR stands for, so that a refusal can name the part and not only the register.
//!
//! Names only explain a verdict. Whether a machine is accepted depends on PCR values alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, PcrIndex};

mod classify;
mod compare;
mod td;

pub(crate) use classify::of_log;
pub(crate) use compare::{Hints, compare};
pub use td::{TdComponent, of_td_log};

/// A part of a machine that is measured when it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Component {
    /// Firmware code.
    #[serde(rename = "firmware")]
    Firmware,
    /// Firmware settings and the tables it hands over.
    #[serde(rename = "firmware configuration")]
    FirmwareConfiguration,
    /// The firmware's announcement that it starts a boot option.
    #[serde(rename = "boot attempt")]
    BootAttempt,
    /// The firmware's separator between itself and what it boots.
    #[serde(rename = "separator")]
    Separator,
    /// The unified kernel image as a whole (Authenticode).
    #[serde(rename = "boot loader (UKI)")]
    BootLoader,
    /// Linux.
    #[serde(rename = "kernel")]
    Kernel,
    /// The initial ramdisk.
    #[serde(rename = "initrd")]
    Initrd,
    /// The kernel's command line.
    #[serde(rename = "command line")]
    CommandLine,
    /// The root file system, by the dm-verity root hash in the command line: its digest is that root hash itself.
    #[serde(rename = "root file system")]
    RootFileSystem,
    /// The os-release section of the UKI.
    #[serde(rename = "os-release")]
    OsRelease,
    /// The kernel version section of the UKI.
    #[serde(rename = "uname")]
    Uname,
    /// The SBAT section of the UKI.
    #[serde(rename = "sbat")]
    Sbat,
    /// The splash picture of the UKI.
    #[serde(rename = "splash")]
    Splash,
    /// The device tree of the UKI.
    #[serde(rename = "device tree")]
    DeviceTree,
    /// The microcode section of the UKI.
    #[serde(rename = "microcode")]
    Microcode,
    /// The key for signed PCR policies in the UKI.
    #[serde(rename = "PCR signature key")]
    PcrSignatureKey,
    /// Another section of the UKI.
    #[serde(rename = "UKI section")]
    UkiSection,
    /// Additions to the command line, or credentials, that came from outside the image.
    #[serde(rename = "command line additions or credentials")]
    Additions,
    /// System extensions that came from outside the image.
    #[serde(rename = "system extensions")]
    Extensions,
    /// Secure Boot keys and state.
    #[serde(rename = "Secure Boot policy")]
    SecureBootPolicy,
    /// The partition table and the boot choice.
    #[serde(rename = "partition table")]
    PartitionTable,
    /// The cluster a machine belongs to.
    #[serde(rename = "cluster mark")]
    ClusterMark,
    /// Something measured that nothing here knows.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Component {
    /// What is measured into a PCR, in words, where the log does not show which part of it differs.
    #[must_use]
    pub const fn measured_into(pcr: PcrIndex) -> &'static str {
        match pcr.number() {
            0 | 2 => "firmware",
            1 | 3 | 6 => "firmware configuration",
            4 => "boot loader (UKI) or kernel",
            5 => "partition table",
            7 | 14 => "Secure Boot policy",
            8 => "nothing (used by other boot loaders)",
            9 => "command line or initrd",
            10 => "files measured by the kernel (IMA)",
            11 => "a section of the UKI",
            12 => "command line additions or credentials",
            13 => "system extensions",
            15 => "cluster mark",
            _ => "not part of the boot",
        }
    }

    /// The part an event without a description of its own belongs to.
    pub(crate) const fn of_register(pcr: PcrIndex) -> Self {
        match pcr.number() {
            0 | 2 => Self::Firmware,
            1 | 3 | 6 => Self::FirmwareConfiguration,
            5 => Self::PartitionTable,
            7 | 14 => Self::SecureBootPolicy,
            11 => Self::UkiSection,
            12 => Self::Additions,
            13 => Self::Extensions,
            15 => Self::ClusterMark,
            _ => Self::Unknown,
        }
    }

    /// The name in documents and refusals.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::FirmwareConfiguration => "firmware configuration",
            Self::BootAttempt => "boot attempt",
            Self::Separator => "separator",
            Self::BootLoader => "boot loader (UKI)",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::CommandLine => "command line",
            Self::RootFileSystem => "root file system",
            Self::OsRelease => "os-release",
            Self::Uname => "uname",
            Self::Sbat => "sbat",
            Self::Splash => "splash",
            Self::DeviceTree => "device tree",
            Self::Microcode => "microcode",
            Self::PcrSignatureKey => "PCR signature key",
            Self::UkiSection => "UKI section",
            Self::Additions => "command line additions or credentials",
            Self::Extensions => "system extensions",
            Self::SecureBootPolicy => "Secure Boot policy",
            Self::PartitionTable => "partition table",
            Self::ClusterMark => "cluster mark",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The digest one component of an image has in one PCR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ComponentDigest {
    /// The PCR it is measured into.
    pub pcr: PcrIndex,
    /// What it is.
    pub name: Component,
    /// What is extended; for [`Component::RootFileSystem`] the root hash.
    pub digest: Digest,
}

crate::strict::objects!(ComponentDigest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_is_told_by_what_is_measured_into_it() {
        let rows = [
            ("firmware", Component::Firmware),
            ("firmware configuration", Component::FirmwareConfiguration),
            ("firmware", Component::Firmware),
            ("firmware configuration", Component::FirmwareConfiguration),
            ("boot loader (UKI) or kernel", Component::Unknown),
            ("partition table", Component::PartitionTable),
            ("firmware configuration", Component::FirmwareConfiguration),
            ("Secure Boot policy", Component::SecureBootPolicy),
            ("nothing (used by other boot loaders)", Component::Unknown),
            ("command line or initrd", Component::Unknown),
            ("files measured by the kernel (IMA)", Component::Unknown),
            ("a section of the UKI", Component::UkiSection),
            (
                "command line additions or credentials",
                Component::Additions,
            ),
            ("system extensions", Component::Extensions),
            ("Secure Boot policy", Component::SecureBootPolicy),
            ("cluster mark", Component::ClusterMark),
            ("not part of the boot", Component::Unknown),
        ];
        for (index, (words, component)) in PcrIndex::all().zip(rows) {
            assert_eq!(Component::measured_into(index), words, "{index}");
            assert_eq!(Component::of_register(index), component, "{index}");
        }
    }
}
