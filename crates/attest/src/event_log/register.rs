//! The registers of a log: a TPM's PCRs, or the measurement registers of a TD.

use std::fmt;

use crate::PcrIndex;

/// A runtime measurement register of a TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rtmr {
    /// Firmware's configuration and Secure Boot: what PCR 1 and 7 are elsewhere.
    Rtmr0,
    /// What firmware starts, and from where: PCR 2 to 6.
    Rtmr1,
    /// What the boot loader starts, and how: PCR 8 to 15.
    Rtmr2,
    /// Left to the workload.
    Rtmr3,
}

impl Rtmr {
    /// In order.
    pub const ALL: [Self; 4] = [Self::Rtmr0, Self::Rtmr1, Self::Rtmr2, Self::Rtmr3];

    /// The number in its name.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Rtmr0 => 0,
            Self::Rtmr1 => 1,
            Self::Rtmr2 => 2,
            Self::Rtmr3 => 3,
        }
    }
}

impl fmt::Display for Rtmr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("RTMR{}", self.number()))
    }
}

/// A register that events are measured into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// Of a TPM.
    Pcr(PcrIndex),
    /// What a TD consisted of before it ran. No event of the running TD can reach it.
    Mrtd,
    /// Of a TD.
    Rtmr(Rtmr),
}

impl Register {
    /// A TPM's PCR by its number.
    pub(super) fn pcr(number: u32) -> Option<Self> {
        PcrIndex::new(number).ok().map(Self::Pcr)
    }

    /// A TD's register by its index in the log (UEFI 38.4.1).
    pub(super) const fn of_td(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Mrtd),
            1 => Some(Self::Rtmr(Rtmr::Rtmr0)),
            2 => Some(Self::Rtmr(Rtmr::Rtmr1)),
            3 => Some(Self::Rtmr(Rtmr::Rtmr2)),
            4 => Some(Self::Rtmr(Rtmr::Rtmr3)),
            _ => None,
        }
    }

    /// Whether it is the PCR of this number.
    pub(super) fn is_pcr(self, number: u8) -> bool {
        match self {
            Self::Pcr(index) => index.number() == number,
            Self::Mrtd | Self::Rtmr(_) => false,
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(index) => f.pad(&format!("PCR {index}")),
            Self::Mrtd => f.pad("MRTD"),
            Self::Rtmr(rtmr) => fmt::Display::fmt(rtmr, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_a_td_have_an_index_each() {
        let rtmrs = Rtmr::ALL.map(Register::Rtmr).map(Some);
        let found = [1, 2, 3, 4].map(Register::of_td);
        assert_eq!(found, rtmrs);
        assert_eq!(Register::of_td(0), Some(Register::Mrtd));
        assert_eq!(Register::of_td(5), None);
    }

    #[test]
    fn a_pcr_is_its_own_number_and_no_register_of_a_td() {
        let pcr = Register::pcr(3).unwrap();
        assert!(pcr.is_pcr(3));
        assert!(!pcr.is_pcr(0) && !pcr.is_pcr(4));
        assert!(!Register::Mrtd.is_pcr(0) && !Register::Rtmr(Rtmr::Rtmr3).is_pcr(3));
    }
}
