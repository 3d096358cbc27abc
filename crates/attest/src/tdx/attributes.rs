//! `TDATTRIBUTES`: how a trust domain was made (TDX module ABI, "ATTRIBUTES").

use std::fmt;
use std::ops::BitOr;

/// A set of attribute bits. Bits that this release does not know are carried.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TdAttributes(u64);

impl TdAttributes {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// The host may read and change the trust domain: it is not confidential.
    pub const DEBUG: Self = Self(1);
    /// Linear address space separation.
    pub const LASS: Self = Self(1 << 27);
    /// An access to a page that is not accepted is fatal, and not an exception that the host could provoke at will.
    pub const SEPT_VE_DISABLE: Self = Self(1 << 28);
    /// A migration domain may move the trust domain to another machine.
    pub const MIGRATABLE: Self = Self(1 << 29);
    /// Protection keys for supervisor pages.
    pub const PKS: Self = Self(1 << 30);
    /// Key Locker.
    pub const KEY_LOCKER: Self = Self(1 << 31);
    /// The trust domain is a provisioning agent of TDX Connect.
    pub const TPA: Self = Self(1 << 62);
    /// Performance counters, which also show what the host runs beside.
    pub const PERFMON: Self = Self(1 << 63);

    /// The bits that have names, `DEBUG` apart.
    const NAMED: [(Self, &'static str); 7] = [
        (Self::LASS, "LASS"),
        (Self::SEPT_VE_DISABLE, "SEPT_VE_DISABLE"),
        (Self::MIGRATABLE, "MIGRATABLE"),
        (Self::PKS, "PKS"),
        (Self::KEY_LOCKER, "KL"),
        (Self::TPA, "TPA"),
        (Self::PERFMON, "PERFMON"),
    ];

    /// The set of these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The bits that have no meaning in this release.
    #[must_use]
    pub fn reserved(self) -> Self {
        Self::NAMED
            .iter()
            .fold(self.without(Self::DEBUG), |left, (bit, _)| {
                left.without(*bit)
            })
    }
}

impl BitOr for TdAttributes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for TdAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |f: &mut fmt::Formatter<'_>, word: &str| {
            let result = write!(f, "{separator}{word}");
            separator = " ";
            result
        };
        if self.contains(Self::DEBUG) {
            write(f, "DEBUG")?;
        }
        for (bit, name) in Self::NAMED {
            if self.contains(bit) {
                write(f, name)?;
            }
        }
        match self.reserved().0 {
            0 if self.0 == 0 => write(f, "none"),
            0 => Ok(()),
            bits => write(f, &format!("{bits:#x}")),
        }
    }
}

impl fmt::Debug for TdAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TdAttributes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_told_by_name_and_the_unknown_by_number() {
        for (bits, words) in [
            (0, "none"),
            (1, "DEBUG"),
            (1 << 28, "SEPT_VE_DISABLE"),
            (
                0xc000_0000_f800_0001,
                "DEBUG LASS SEPT_VE_DISABLE MIGRATABLE PKS KL TPA PERFMON",
            ),
            (1 << 5, "0x20"),
            (0x1000_0020, "SEPT_VE_DISABLE 0x20"),
        ] {
            let attributes = TdAttributes::from_bits(bits);
            assert_eq!(attributes.to_string(), words);
            assert_eq!(format!("{attributes:?}"), format!("TdAttributes({words})"));
        }
    }

    #[test]
    fn what_is_in_both_sets_is_in_their_union() {
        let union = (TdAttributes::PKS | TdAttributes::LASS) | TdAttributes::PKS;
        assert_eq!(union.bits(), 1 << 30 | 1 << 27);
    }
}
