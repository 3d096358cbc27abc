//! Product lines: which AMD processors share a root key, and how a report names its processor.

use std::fmt;

use super::tcb::TcbLayout;

/// Processors that share AMD root and signing keys (AMD "VCEK Certificate and KDS Interface Specification", table 2).
///
/// Closed: a line without built-in roots and a known layout of its security patch levels cannot be appraised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProductLine {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004: Genoa, Bergamo, Siena.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl ProductLine {
    /// Every line of this release.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// AMD's name, as in certificates and in the addresses of the key service.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The line with exactly this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|line| line.name() == name)
    }

    /// How the line packs its security patch levels.
    #[must_use]
    pub const fn tcb_layout(self) -> TcbLayout {
        match self {
            Self::Milan | Self::Genoa => TcbLayout::MilanGenoa,
            Self::Turin => TcbLayout::Turin,
        }
    }
}

impl fmt::Display for ProductLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Family, model and stepping by the processor, combined as CPUID Fn8000_0001_EAX does (reports from version 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuId {
    /// Base and extended family.
    pub family: u8,
    /// Base and extended model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl CpuId {
    /// The product line, if this release knows the processor.
    #[must_use]
    pub const fn product_line(self) -> Option<ProductLine> {
        match (self.family, self.model) {
            (0x19, 0x00..=0x0f) => Some(ProductLine::Milan),
            // A0h to AFh are Bergamo and Siena
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(ProductLine::Genoa),
            // 10h to 1Fh are the dense parts
            (0x1a, 0x00..=0x1f) => Some(ProductLine::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "family {:02x}h model {:02x}h stepping {:02x}h",
            self.family, self.model, self.stepping
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nothing_else_is_a_line() {
        for line in ProductLine::ALL {
            assert_eq!(ProductLine::from_name(line.name()), Some(line));
        }
        for other in ["", "milan", "Milan ", "Naples", "Rome", "Venice"] {
            assert_eq!(ProductLine::from_name(other), None, "{other:?}");
        }
    }

    #[test]
    fn processors_belong_to_their_line() {
        let line = |family, model| {
            CpuId {
                family,
                model,
                stepping: 1,
            }
            .product_line()
        };
        for (family, model, expected) in [
            (0x19, 0x01, Some(ProductLine::Milan)),
            (0x19, 0x0f, Some(ProductLine::Milan)),
            (0x19, 0x11, Some(ProductLine::Genoa)),
            (0x19, 0xa0, Some(ProductLine::Genoa)),
            (0x1a, 0x02, Some(ProductLine::Turin)),
            (0x1a, 0x11, Some(ProductLine::Turin)),
            (0x19, 0x20, None),
            (0x19, 0xb0, None),
            (0x1a, 0x20, None),
            (0x17, 0x31, None),
            (0x00, 0x00, None),
        ] {
            assert_eq!(line(family, model), expected, "{family:#x} {model:#x}");
        }
    }
}
