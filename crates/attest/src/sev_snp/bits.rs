//! The bit fields of a report. Bits this release does not know are carried as they are and mean nothing to any check.

use std::fmt;

/// Declares the known bits of a field once: constants, their names for a person, and the words of [`fmt::Display`].
macro_rules! bits {
    ($type:ident: $($(#[$doc:meta])* $constant:ident = $bit:literal, $word:literal;)*) => {
        impl $type {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            const NAMED: &'static [(Self, &'static str)] = &[$((Self::$constant, $word)),*];

            /// The bits as a number.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// Whether all of `other`'s bits are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The bits of either.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The bits that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// The named bits that are set, in words.
            #[must_use]
            pub fn words(self) -> String {
                let words: Vec<&str> = Self::NAMED
                    .iter()
                    .filter(|(bit, _)| self.contains(*bit))
                    .map(|(_, word)| *word)
                    .collect();
                if words.is_empty() {
                    "none".to_owned()
                } else {
                    words.join(", ")
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x} ({})", self.0, self.words())
            }
        }
    };
}

/// What the guest's owner demanded of the platform at launch and permitted it (AMD 56860, table 10 "Guest Policy"). The firmware
/// enforces it for the life of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GuestPolicy(pub(super) u64);

bits! { GuestPolicy:
    /// The guest may run on a machine with simultaneous multithreading.
    SMT = 16, "SMT allowed";
    /// Reserved; always one.
    RESERVED_ONE = 17, "reserved bit 17";
    /// A migration agent may be associated with the guest, and then move it.
    MIGRATE_MA = 18, "migration agent allowed";
    /// The host may decrypt the guest's memory.
    DEBUG = 19, "debug allowed";
    /// The guest may run on one socket only.
    SINGLE_SOCKET = 20, "single socket";
    /// CXL devices and memory may be populated.
    CXL_ALLOW = 21, "CXL allowed";
    /// Memory must be encrypted by AES-256-XTS.
    MEM_AES_256_XTS = 22, "AES-256-XTS demanded";
    /// Running average power limit must be disabled.
    RAPL_DIS = 23, "RAPL disabled";
    /// Ciphertext of the guest's DRAM must be hidden from the host.
    CIPHERTEXT_HIDING_DRAM = 24, "ciphertext hiding demanded";
    /// Pages may not be swapped or moved by the host.
    PAGE_SWAP_DISABLE = 25, "page swap disabled";
}

impl GuestPolicy {
    /// No bit.
    pub const NONE: Self = Self(0);

    /// A policy from its number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether a bit is set that this release does not know.
    #[must_use]
    pub fn has_unknown(self) -> bool {
        const ABI: u64 = 0xffff;
        let known = Self::NAMED
            .iter()
            .fold(Self(ABI), |known, (bit, _)| known.with(*bit));
        self.without(known) != Self::NONE
    }

    /// Lowest version of the firmware's interface the guest runs on.
    #[must_use]
    pub const fn abi(self) -> Abi {
        let [minor, major, ..] = self.0.to_le_bytes();
        Abi { major, minor }
    }
}

/// Version of the firmware's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Abi {
    /// Changes with incompatible interfaces.
    pub major: u8,
    /// Changes with additions.
    pub minor: u8,
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the platform is set to (AMD 56860, "PLATFORM_INFO" of the report). Versions below 3 leave most bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlatformInfo(pub(super) u64);

bits! { PlatformInfo:
    /// Simultaneous multithreading is on.
    SMT_EN = 0, "SMT on";
    /// Transparent memory encryption is on.
    TSME_EN = 1, "TSME on";
    /// Memory has error correction.
    ECC_EN = 2, "ECC on";
    /// Running average power limit is off.
    RAPL_DIS = 3, "RAPL off";
    /// Ciphertext of DRAM is hidden from the host.
    CIPHERTEXT_HIDING_DRAM_EN = 4, "ciphertext hiding on";
    /// No two addresses of memory led to the same cell, at the last start (answers BadRAM, AMD-SB-3015).
    ALIAS_CHECK_COMPLETE = 5, "alias check complete";
    /// Trusted devices are on.
    TIO_EN = 7, "TIO on";
}

impl PlatformInfo {
    /// No bit.
    pub const NONE: Self = Self(0);

    /// Platform information from its number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Which key signed a report (bits 4:2 of offset 48h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningKey {
    /// The chip's key for this TCB.
    Vcek,
    /// The cloud provider's key for this TCB.
    Vlek,
    /// None: the signature is not there.
    Unsigned,
    /// A kind this release does not know.
    Unknown(u8),
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek => f.pad("VCEK"),
            Self::Vlek => f.pad("VLEK"),
            Self::Unsigned => f.pad("no key"),
            Self::Unknown(kind) => write!(f, "unknown kind of key {kind}"),
        }
    }
}

/// The flags at offset 48h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyInfo(pub(super) u32);

impl KeyInfo {
    /// Whether the digest of an author key is in the report.
    #[must_use]
    pub const fn has_author_key(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the host forbade the chip's key to sign.
    #[must_use]
    pub const fn masks_chip_key(self) -> bool {
        self.0 & 2 != 0
    }

    /// The key that signed the report, as it states itself.
    #[must_use]
    pub const fn signing_key(self) -> SigningKey {
        let [low, ..] = self.0.to_le_bytes();
        match (low >> 2) & 0b111 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::Unsigned,
            kind => SigningKey::Unknown(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_has_each_bit_where_the_specification_has_it() {
        let policy = GuestPolicy::from_bits(0x0003_0133);
        assert_eq!(
            policy.abi(),
            Abi {
                major: 1,
                minor: 0x33
            }
        );
        assert_eq!(policy.words(), "SMT allowed, reserved bit 17");
        assert!(!GuestPolicy::from_bits(0x03ff_ffff).has_unknown());
        assert!(GuestPolicy::from_bits(0x0403_0000).has_unknown());
        assert_eq!(
            GuestPolicy::from_bits(0xffff_ffff_ffff_ffff).words(),
            "SMT allowed, reserved bit 17, migration agent allowed, debug allowed, single socket, CXL allowed, \
             AES-256-XTS demanded, RAPL disabled, ciphertext hiding demanded, page swap disabled"
        );
        for (bit, policy) in [
            (18, GuestPolicy::MIGRATE_MA),
            (19, GuestPolicy::DEBUG),
            (20, GuestPolicy::SINGLE_SOCKET),
            (21, GuestPolicy::CXL_ALLOW),
            (22, GuestPolicy::MEM_AES_256_XTS),
            (23, GuestPolicy::RAPL_DIS),
            (24, GuestPolicy::CIPHERTEXT_HIDING_DRAM),
            (25, GuestPolicy::PAGE_SWAP_DISABLE),
        ] {
            assert_eq!(policy.bits(), 1 << bit);
        }
    }

    #[test]
    fn platform_information_of_a_real_turin_is_read() {
        let info = PlatformInfo::from_bits(0x65);
        assert_eq!(info.words(), "SMT on, ECC on, alias check complete");
        assert_eq!(
            info.to_string(),
            "0x65 (SMT on, ECC on, alias check complete)"
        );
        assert_eq!(PlatformInfo::TIO_EN.bits(), 0x80);
        assert_eq!(PlatformInfo::NONE.words(), "none");
    }

    #[test]
    fn sets_are_told_apart() {
        let both = PlatformInfo::SMT_EN.with(PlatformInfo::ECC_EN);
        assert!(both.contains(PlatformInfo::ECC_EN));
        assert!(!PlatformInfo::ECC_EN.contains(both));
        assert_eq!(both.without(PlatformInfo::SMT_EN), PlatformInfo::ECC_EN);
    }

    #[test]
    fn the_signing_key_is_read_from_its_three_bits() {
        for (bits, key) in [
            (0b0_0000, SigningKey::Vcek),
            (0b0_0011, SigningKey::Vcek),
            (0b0_0100, SigningKey::Vlek),
            (0b1_1100, SigningKey::Unsigned),
            (0b0_1000, SigningKey::Unknown(2)),
            (0xffff_ffe4, SigningKey::Vlek),
        ] {
            assert_eq!(KeyInfo(bits).signing_key(), key, "{bits:#x}");
        }
        assert!(KeyInfo(1).has_author_key() && !KeyInfo(1).masks_chip_key());
        assert!(KeyInfo(2).masks_chip_key() && !KeyInfo(2).has_author_key());
    }
}
