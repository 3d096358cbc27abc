//! Keys of AMD chips: what the key distribution service knows them by. AMD publication 57230, VCEK certificate and KDS
//! interface specification.

use std::fmt;
use std::str::FromStr;

use attest::sev_snp::ProductLine;

use super::ItemError;

/// A line of processors with one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 8004 and 97x4.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// Every product line.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// As the service and its certificates spell it.
    pub fn vendor_name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// As `attest` calls it.
    pub(crate) fn line(self) -> ProductLine {
        match self {
            Self::Milan => ProductLine::Milan,
            Self::Genoa => ProductLine::Genoa,
            Self::Turin => ProductLine::Turin,
        }
    }

    /// Bytes of a chip's identifier that the service knows it by.
    pub fn chip_id_length(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl From<ProductLine> for Product {
    fn from(line: ProductLine) -> Self {
        match line {
            ProductLine::Milan => Self::Milan,
            ProductLine::Genoa => Self::Genoa,
            ProductLine::Turin => Self::Turin,
        }
    }
}

/// Lower case: `milan`.
impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        })
    }
}

impl FromStr for Product {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        Self::ALL
            .into_iter()
            .find(|product| product.to_string() == text)
            .ok_or(ItemError::Choice {
                what: "product line",
                choices: "milan, genoa, turin",
            })
    }
}

/// Which kind of key signs reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signer {
    /// A chip's own.
    Vcek,
    /// One loaded by a cloud provider.
    Vlek,
}

/// As in the service's paths: `vcek`, `vlek`.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        })
    }
}

impl FromStr for Signer {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        match text {
            "vcek" => Ok(Self::Vcek),
            "vlek" => Ok(Self::Vlek),
            _ => Err(ItemError::Choice {
                what: "signer",
                choices: "vcek, vlek",
            }),
        }
    }
}

/// A chip's identifier: 64 bytes, 8 on Turin. Never all zero, which is how a report hides it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChipId(Vec<u8>);

impl ChipId {
    /// The identifier.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Lower case hexadecimal.
impl fmt::Display for ChipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for ChipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChipId({self})")
    }
}

/// Security versions of the firmware that a chip's key is derived from. Laid out as the service asks for them, which is
/// not one layout for all product lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TcbVersion {
    /// Of the firmware of the cryptographic coprocessor's controller; on Turin only.
    pub fmc: Option<u8>,
    /// Of the boot loader.
    pub boot_loader: u8,
    /// Of the trusted execution environment's operating system.
    pub tee: u8,
    /// Of the SNP firmware.
    pub snp: u8,
    /// Of the microcode.
    pub microcode: u8,
}

impl TcbVersion {
    /// Of a `TCB_VERSION` as a report has it, read as a little-endian number (AMD publication 56860, table 3).
    pub fn from_raw(product: Product, raw: u64) -> Self {
        let [b0, b1, b2, b3, _, _, b6, b7] = raw.to_le_bytes();
        match product {
            Product::Milan | Product::Genoa => Self {
                fmc: None,
                boot_loader: b0,
                tee: b1,
                snp: b6,
                microcode: b7,
            },
            Product::Turin => Self {
                fmc: Some(b0),
                boot_loader: b1,
                tee: b2,
                snp: b3,
                microcode: b7,
            },
        }
    }

    /// FMC if there is one, boot loader, TEE, SNP, microcode.
    pub(crate) fn as_bytes(&self) -> Vec<u8> {
        self.fmc
            .into_iter()
            .chain([self.boot_loader, self.tee, self.snp, self.microcode])
            .collect()
    }

    /// As the service is asked for it.
    pub(crate) fn query(&self) -> String {
        let fmc = self
            .fmc
            .map(|fmc| format!("fmcSPL={fmc:02}&"))
            .unwrap_or_default();
        format!(
            "{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            self.boot_loader, self.tee, self.snp, self.microcode
        )
    }
}

/// `bl=4,tee=0,snp=24,ucode=217`, on Turin with `fmc=1,` before it.
impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc={fmc},")?;
        }
        write!(
            f,
            "bl={},tee={},snp={},ucode={}",
            self.boot_loader, self.tee, self.snp, self.microcode
        )
    }
}

impl FromStr for TcbVersion {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        let mut rest = text.split(',').peekable();
        let mut field = |name: &str| -> Option<u8> {
            let value = rest.peek()?.strip_prefix(name)?.strip_prefix('=')?;
            let number = value.parse().ok()?;
            rest.next();
            Some(number)
        };
        let fmc = field("fmc");
        let version = (|| {
            Some(Self {
                fmc,
                boot_loader: field("bl")?,
                tee: field("tee")?,
                snp: field("snp")?,
                microcode: field("ucode")?,
            })
        })();
        version
            // one spelling only, and nothing after it
            .filter(|version| version.to_string() == text)
            .ok_or(ItemError::Tcb)
    }
}

/// A chip's key at one TCB version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vcek {
    product: Product,
    chip: ChipId,
    tcb: TcbVersion,
}

impl Vcek {
    /// Errors: a chip identifier of another length than the product line's, or all zero; a TCB version of another
    /// product line's layout.
    pub fn new(product: Product, chip: &[u8], tcb: TcbVersion) -> Result<Self, ItemError> {
        if chip.len() != product.chip_id_length() {
            return Err(ItemError::ChipIdLength {
                product,
                actual: chip.len(),
            });
        }
        if chip.iter().all(|byte| *byte == 0) {
            return Err(ItemError::ChipIdHidden);
        }
        if tcb.fmc.is_some() != (product == Product::Turin) {
            return Err(ItemError::TcbLayout { product });
        }
        Ok(Self {
            product,
            chip: ChipId(chip.to_vec()),
            tcb,
        })
    }

    /// The product line.
    pub fn product(&self) -> Product {
        self.product
    }

    /// The chip.
    pub fn chip(&self) -> &ChipId {
        &self.chip
    }

    /// The TCB version.
    pub fn tcb(&self) -> TcbVersion {
        self.tcb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_differ_between_product_lines() {
        let raw = 0xd918_0000_0403_0201;
        assert_eq!(
            TcbVersion::from_raw(Product::Milan, raw).query(),
            "blSPL=01&teeSPL=02&snpSPL=24&ucodeSPL=217"
        );
        assert_eq!(
            TcbVersion::from_raw(Product::Turin, raw).query(),
            "fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=217"
        );
    }

    #[test]
    fn a_chip_that_cannot_be_asked_for_is_refused() {
        let milan = TcbVersion::from_raw(Product::Milan, 1);
        let turin = TcbVersion::from_raw(Product::Turin, 1);
        for (product, chip, tcb, expected) in [
            (Product::Milan, vec![0; 64], milan, ItemError::ChipIdHidden),
            (
                Product::Milan,
                vec![1; 8],
                milan,
                ItemError::ChipIdLength {
                    product: Product::Milan,
                    actual: 8,
                },
            ),
            (
                Product::Turin,
                vec![1; 64],
                turin,
                ItemError::ChipIdLength {
                    product: Product::Turin,
                    actual: 64,
                },
            ),
            (
                Product::Genoa,
                vec![1; 64],
                turin,
                ItemError::TcbLayout {
                    product: Product::Genoa,
                },
            ),
            (
                Product::Turin,
                vec![1; 8],
                milan,
                ItemError::TcbLayout {
                    product: Product::Turin,
                },
            ),
        ] {
            assert_eq!(Vcek::new(product, &chip, tcb), Err(expected));
        }
    }

    #[test]
    fn a_tcb_version_has_one_spelling() {
        for text in [
            "bl=4,tee=0,snp=24,ucode=217",
            "fmc=1,bl=1,tee=1,snp=4,ucode=81",
        ] {
            assert_eq!(text.parse::<TcbVersion>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "bl=4,tee=0,snp=24",
            "bl=04,tee=0,snp=24,ucode=217",
            "bl=4,tee=0,snp=24,ucode=256",
            "bl=4,tee=0,snp=24,ucode=217,",
            "tee=0,bl=4,snp=24,ucode=217",
            "bl=+4,tee=0,snp=24,ucode=217",
        ] {
            assert_eq!(text.parse::<TcbVersion>(), Err(ItemError::Tcb), "{text:?}");
        }
    }
}
