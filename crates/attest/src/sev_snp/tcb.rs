//! Security patch levels of the processor's firmware: `TCB_VERSION` of the SEV-SNP firmware ABI (AMD publication 56860,
//! tables 3 and 4). Eight bytes whose meaning depends on the product line.

use std::fmt;

/// How a product line packs its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcbLayout {
    /// Boot loader, TEE, four reserved bytes, SNP, microcode.
    MilanGenoa,
    /// FMC, boot loader, TEE, SNP, three reserved bytes, microcode.
    Turin,
}

/// The eight bytes as they are in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawTcb(pub [u8; 8]);

impl RawTcb {
    /// The levels, by the layout of a product line.
    #[must_use]
    pub const fn decode(self, layout: TcbLayout) -> Tcb {
        match layout {
            TcbLayout::MilanGenoa => {
                let [boot_loader, tee, _, _, _, _, snp, microcode] = self.0;
                Tcb::milan_genoa(boot_loader, tee, snp, microcode)
            }
            TcbLayout::Turin => {
                let [fmc, boot_loader, tee, snp, _, _, _, microcode] = self.0;
                Tcb::turin(fmc, boot_loader, tee, snp, microcode)
            }
        }
    }
}

impl fmt::Display for RawTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Security patch levels. A higher level includes what the lower ones repaired; there is no order between layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tcb {
    layout: TcbLayout,
    /// Always zero where the layout has none.
    fmc: u8,
    boot_loader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

impl Tcb {
    /// Levels of Milan or Genoa.
    #[must_use]
    pub const fn milan_genoa(boot_loader: u8, tee: u8, snp: u8, microcode: u8) -> Self {
        Self {
            layout: TcbLayout::MilanGenoa,
            fmc: 0,
            boot_loader,
            tee,
            snp,
            microcode,
        }
    }

    /// Levels of Turin.
    #[must_use]
    pub const fn turin(fmc: u8, boot_loader: u8, tee: u8, snp: u8, microcode: u8) -> Self {
        Self {
            layout: TcbLayout::Turin,
            fmc,
            boot_loader,
            tee,
            snp,
            microcode,
        }
    }

    /// The layout the levels belong to.
    #[must_use]
    pub const fn layout(&self) -> TcbLayout {
        self.layout
    }

    /// Whether no level at all is above zero: as a minimum it would demand nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        matches!(
            (
                self.fmc,
                self.boot_loader,
                self.tee,
                self.snp,
                self.microcode
            ),
            (0, 0, 0, 0, 0)
        )
    }

    /// Whether each level reaches the one of `minimum`; never if the layouts differ.
    #[must_use]
    pub fn is_at_least(&self, minimum: &Self) -> bool {
        self.layout == minimum.layout
            && self.fmc >= minimum.fmc
            && self.boot_loader >= minimum.boot_loader
            && self.tee >= minimum.tee
            && self.snp >= minimum.snp
            && self.microcode >= minimum.microcode
    }

    /// The bytes, with reserved ones zero.
    #[must_use]
    pub const fn encode(&self) -> RawTcb {
        let Self {
            layout,
            fmc,
            boot_loader,
            tee,
            snp,
            microcode,
        } = *self;
        RawTcb(match layout {
            TcbLayout::MilanGenoa => [boot_loader, tee, 0, 0, 0, 0, snp, microcode],
            TcbLayout::Turin => [fmc, boot_loader, tee, snp, 0, 0, 0, microcode],
        })
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layout {
            TcbLayout::MilanGenoa => {}
            TcbLayout::Turin => write!(f, "FMC {}, ", self.fmc)?,
        }
        write!(
            f,
            "boot loader {}, TEE {}, SNP {}, microcode {}",
            self.boot_loader, self.tee, self.snp, self.microcode
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_has_its_own_bytes() {
        let raw = RawTcb([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            raw.decode(TcbLayout::MilanGenoa),
            Tcb::milan_genoa(1, 2, 7, 8)
        );
        assert_eq!(raw.decode(TcbLayout::Turin), Tcb::turin(1, 2, 3, 4, 8));
        assert_eq!(
            Tcb::milan_genoa(1, 2, 7, 8).encode(),
            RawTcb([1, 2, 0, 0, 0, 0, 7, 8])
        );
        assert_eq!(
            Tcb::turin(1, 2, 3, 4, 8).encode(),
            RawTcb([1, 2, 3, 4, 0, 0, 0, 8])
        );
        assert_eq!(
            Tcb::turin(1, 2, 3, 4, 8).to_string(),
            "FMC 1, boot loader 2, TEE 3, SNP 4, microcode 8"
        );
    }

    #[test]
    fn one_lower_level_is_below_the_minimum() {
        let minimum = Tcb::turin(2, 2, 2, 2, 2);
        assert!(Tcb::turin(2, 2, 2, 2, 2).is_at_least(&minimum));
        assert!(Tcb::turin(3, 3, 3, 3, 3).is_at_least(&minimum));
        for lower in [
            Tcb::turin(1, 9, 9, 9, 9),
            Tcb::turin(9, 1, 9, 9, 9),
            Tcb::turin(9, 9, 1, 9, 9),
            Tcb::turin(9, 9, 9, 1, 9),
            Tcb::turin(9, 9, 9, 9, 1),
            Tcb::milan_genoa(9, 9, 9, 9),
        ] {
            assert!(!lower.is_at_least(&minimum), "{lower}");
        }
    }

    #[test]
    fn a_minimum_of_nothing_is_told_apart() {
        assert!(Tcb::turin(0, 0, 0, 0, 0).is_zero());
        for some in [
            Tcb::turin(1, 0, 0, 0, 0),
            Tcb::turin(0, 1, 0, 0, 0),
            Tcb::turin(0, 0, 1, 0, 0),
            Tcb::turin(0, 0, 0, 1, 0),
            Tcb::turin(0, 0, 0, 0, 1),
        ] {
            assert!(!some.is_zero(), "{some}");
        }
    }
}
