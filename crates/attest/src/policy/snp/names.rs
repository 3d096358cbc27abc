//! The bits of guest policies and platforms that a policy names.

use crate::policy::flags::Flag;

/// What a guest policy may permit the host. Debugging and a migration agent are never accepted, so they have no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Simultaneous multithreading.
    Smt,
    /// CXL devices with memory.
    Cxl,
}

impl Flag for Permission {
    const ALL: &'static [Self] = &[Self::Smt, Self::Cxl];

    fn as_str(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::Cxl => "cxl",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Smt => 16,
            Self::Cxl => 21,
        }
    }
}

/// What a guest policy can demand of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestFlag {
    /// Only hosts with one socket.
    SingleSocket,
    /// Memory is encrypted by AES-256-XTS.
    MemAes256Xts,
    /// The host's power meter (RAPL) is off.
    RaplDisabled,
    /// The host cannot read ciphertext in DRAM.
    CiphertextHidingDram,
    /// The host cannot swap or move the guest's pages.
    PageSwapDisabled,
}

impl Flag for GuestFlag {
    const ALL: &'static [Self] = &[
        Self::SingleSocket,
        Self::MemAes256Xts,
        Self::RaplDisabled,
        Self::CiphertextHidingDram,
        Self::PageSwapDisabled,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::SingleSocket => "singleSocket",
            Self::MemAes256Xts => "memAes256Xts",
            Self::RaplDisabled => "raplDisabled",
            Self::CiphertextHidingDram => "ciphertextHidingDram",
            Self::PageSwapDisabled => "pageSwapDisabled",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::SingleSocket => 20,
            Self::MemAes256Xts => 22,
            Self::RaplDisabled => 23,
            Self::CiphertextHidingDram => 24,
            Self::PageSwapDisabled => 25,
        }
    }
}

/// What the firmware says about its platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlatformFlag {
    /// All memory is encrypted, not only that of guests.
    TsmeEnabled,
    /// Memory corrects errors.
    EccEnabled,
    /// The power meter (RAPL) is off.
    RaplDisabled,
    /// Ciphertext in DRAM is hidden from the host.
    CiphertextHidingDramEnabled,
    /// The firmware looked for aliases of memory and found none.
    AliasCheckComplete,
    /// Trusted devices are on.
    TioEnabled,
}

impl Flag for PlatformFlag {
    const ALL: &'static [Self] = &[
        Self::TsmeEnabled,
        Self::EccEnabled,
        Self::RaplDisabled,
        Self::CiphertextHidingDramEnabled,
        Self::AliasCheckComplete,
        Self::TioEnabled,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::TsmeEnabled => "tsmeEnabled",
            Self::EccEnabled => "eccEnabled",
            Self::RaplDisabled => "raplDisabled",
            Self::CiphertextHidingDramEnabled => "ciphertextHidingDramEnabled",
            Self::AliasCheckComplete => "aliasCheckComplete",
            Self::TioEnabled => "tioEnabled",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::TsmeEnabled => 1,
            Self::EccEnabled => 2,
            Self::RaplDisabled => 3,
            Self::CiphertextHidingDramEnabled => 4,
            Self::AliasCheckComplete => 5,
            Self::TioEnabled => 7,
        }
    }
}
