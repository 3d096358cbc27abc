//! What the certificate of a VCEK or VLEK says of its key (AMD publication 57230, "VCEK Certificate and KDS Interface
//! Specification", section 3, and its VLEK counterpart). AMD's integers are strict DER; anything else is refused.

use std::fmt;

use thiserror::Error;

use super::product::ProductLine;
use super::tcb::{RawTcb, TcbLayout};

/// Dotted object identifiers below AMD's arc.
pub mod oid {
    /// Version of the extensions.
    pub const STRUCT_VERSION: &str = "1.3.6.1.4.1.3704.1.1";
    /// Product, for example `Milan-B0`.
    pub const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
    /// Level of the boot loader.
    pub const BOOT_LOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
    /// Level of the trusted execution environment.
    pub const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
    /// Level of the SNP firmware.
    pub const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
    /// Reserved level 4.
    pub const SPL4: &str = "1.3.6.1.4.1.3704.1.3.4";
    /// Reserved level 5.
    pub const SPL5: &str = "1.3.6.1.4.1.3704.1.3.5";
    /// Reserved level 6.
    pub const SPL6: &str = "1.3.6.1.4.1.3704.1.3.6";
    /// Reserved level 7.
    pub const SPL7: &str = "1.3.6.1.4.1.3704.1.3.7";
    /// Level of the microcode.
    pub const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
    /// Level of the FMC, from Turin on.
    pub const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";
    /// The chip, in a VCEK's certificate.
    pub const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
    /// The cloud provider, in a VLEK's certificate.
    pub const CSP_ID: &str = "1.3.6.1.4.1.3704.1.5";
}

/// Longest text of an extension, in bytes.
const MAX_TEXT: usize = 64;

/// Why the extensions of a certificate are not those of a VCEK or VLEK.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VekError {
    /// An extension that must be there.
    #[error("extension {0} is missing")]
    Missing(&'static str),
    /// An extension that this kind of certificate or product line does not have.
    #[error("extension {0} does not belong into this certificate")]
    Unexpected(&'static str),
    /// Not the DER of an integer from 0 to 255.
    #[error("extension {0} is not a DER integer from 0 to 255")]
    Integer(&'static str),
    /// Not a short IA5 string of printable characters.
    #[error("extension {0} is not a printable IA5 string of 1 to {MAX_TEXT} bytes")]
    Text(&'static str),
    /// Not the identifier of a chip of this line.
    #[error("the hardware id has not the {expected} bytes of its product line, but {actual}")]
    HardwareId {
        /// Size for the product line.
        expected: usize,
        /// Size of the extension.
        actual: usize,
    },
}

/// Kind of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VekKind {
    /// Versioned chip endorsement key: of one chip.
    Vcek,
    /// Versioned loaded endorsement key: of one cloud provider, on many chips.
    Vlek,
}

impl VekKind {
    /// The subject's common name in a certificate.
    #[must_use]
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-VCEK",
            Self::Vlek => "SEV-VLEK",
        }
    }

    /// The common name of who signs such certificates for a product line (ASK or ASVK).
    #[must_use]
    pub fn issuer_name(self, line: ProductLine) -> String {
        format!("{}{line}", self.issuer_prefix())
    }

    /// The kind by the subject's common name.
    #[must_use]
    pub fn from_common_name(name: &str) -> Option<Self> {
        [Self::Vcek, Self::Vlek]
            .into_iter()
            .find(|kind| kind.common_name() == name)
    }

    /// The product line by the issuer's common name.
    #[must_use]
    pub fn line_of_issuer(self, name: &str) -> Option<ProductLine> {
        ProductLine::from_name(name.strip_prefix(self.issuer_prefix())?)
    }

    const fn issuer_prefix(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-",
            Self::Vlek => "SEV-VLEK-",
        }
    }
}

impl fmt::Display for VekKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        })
    }
}

/// A chip, as its certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HardwareId {
    /// Milan and Genoa.
    Long([u8; 64]),
    /// Turin.
    Short([u8; 8]),
}

impl HardwareId {
    /// The identifier as a report states it: a short one is followed by zeros.
    #[must_use]
    pub fn chip_id(&self) -> [u8; 64] {
        match self {
            Self::Long(id) => *id,
            Self::Short(id) => {
                let mut chip_id = [0; 64];
                for (to, from) in chip_id.iter_mut().zip(id) {
                    *to = *from;
                }
                chip_id
            }
        }
    }
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VekOwner {
    /// One chip's: a VCEK.
    Chip(HardwareId),
    /// A cloud provider's, by its distinguished name: a VLEK.
    Provider(String),
}

/// The extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VekExtensions {
    /// Version of the extensions: 0 for Milan and Genoa, 1 for Turin. Carried; the layout follows the product line.
    pub struct_version: u8,
    /// Product, with its stepping where AMD names it.
    pub product_name: String,
    /// The levels the key was derived for, in the bytes of the product line's reports.
    pub tcb: RawTcb,
    /// Whose key it is.
    pub owner: VekOwner,
}

impl VekExtensions {
    /// Reads the extensions of a certificate of `kind` for `line`. `extension` gives the value of the extension with a dotted
    /// object identifier.
    ///
    /// # Errors
    /// If one is missing, is not strict DER, or belongs to another kind or line.
    pub fn read<'a>(
        kind: VekKind,
        line: ProductLine,
        extension: impl Fn(&'static str) -> Option<&'a [u8]>,
    ) -> Result<Self, VekError> {
        let required = |oid| extension(oid).ok_or(VekError::Missing(oid));
        let level = |oid| small_integer(oid, required(oid)?);
        let absent = |oid| match extension(oid) {
            None => Ok(()),
            Some(_) => Err(VekError::Unexpected(oid)),
        };
        let [boot_loader, tee, snp, microcode] =
            [oid::BOOT_LOADER, oid::TEE, oid::SNP, oid::MICROCODE].map(level);
        let [spl5, spl6, spl7] = [oid::SPL5, oid::SPL6, oid::SPL7].map(level);
        let tcb = RawTcb(match line.tcb_layout() {
            TcbLayout::MilanGenoa => {
                absent(oid::FMC)?;
                let spl4 = level(oid::SPL4)?;
                [
                    boot_loader?,
                    tee?,
                    spl4,
                    spl5?,
                    spl6?,
                    spl7?,
                    snp?,
                    microcode?,
                ]
            }
            // the FMC took the place of level 4: there is no byte for another value than zero
            TcbLayout::Turin => {
                if extension(oid::SPL4).is_some() && level(oid::SPL4)? != 0 {
                    return Err(VekError::Unexpected(oid::SPL4));
                }
                let fmc = level(oid::FMC)?;
                [
                    fmc,
                    boot_loader?,
                    tee?,
                    snp?,
                    spl5?,
                    spl6?,
                    spl7?,
                    microcode?,
                ]
            }
        });
        let owner = match kind {
            VekKind::Vcek => {
                absent(oid::CSP_ID)?;
                VekOwner::Chip(hardware_id(line, required(oid::HARDWARE_ID)?)?)
            }
            VekKind::Vlek => {
                absent(oid::HARDWARE_ID)?;
                VekOwner::Provider(text(oid::CSP_ID, required(oid::CSP_ID)?)?)
            }
        };
        Ok(Self {
            struct_version: level(oid::STRUCT_VERSION)?,
            product_name: text(oid::PRODUCT_NAME, required(oid::PRODUCT_NAME)?)?,
            tcb,
            owner,
        })
    }

    /// The product line of the product's name: what is before the stepping.
    #[must_use]
    pub fn product_line(&self) -> Option<ProductLine> {
        let name = self.product_name.as_str();
        ProductLine::from_name(name.split_once('-').map_or(name, |(line, _)| line))
    }
}

/// DER `INTEGER` from 0 to 255, in its one shortest form.
fn small_integer(oid: &'static str, der: &[u8]) -> Result<u8, VekError> {
    match *der {
        [0x02, 1, value @ ..=0x7f] => Ok(value),
        [0x02, 2, 0, value @ 0x80..=0xff] => Ok(value),
        _ => Err(VekError::Integer(oid)),
    }
}

/// DER `IA5String`.
fn text(oid: &'static str, der: &[u8]) -> Result<String, VekError> {
    let bad = || VekError::Text(oid);
    let [0x16, length, bytes @ ..] = der else {
        return Err(bad());
    };
    let printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if usize::from(*length) != bytes.len()
        || bytes.is_empty()
        || bytes.len() > MAX_TEXT
        || !printable
    {
        return Err(bad());
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| bad())
}

/// The identifier alone, as AMD's key service has it, or in a DER `OCTET STRING`, as it has had it at times. The sizes
/// cannot be mistaken for one another.
fn hardware_id(line: ProductLine, value: &[u8]) -> Result<HardwareId, VekError> {
    let expected = match line.tcb_layout() {
        TcbLayout::MilanGenoa => 64,
        TcbLayout::Turin => 8,
    };
    let id = match value {
        [0x04, length, id @ ..] if id.len() == expected && usize::from(*length) == expected => id,
        plain => plain,
    };
    let wrong_size = || VekError::HardwareId {
        expected,
        actual: id.len(),
    };
    match line.tcb_layout() {
        TcbLayout::MilanGenoa => id.try_into().map(HardwareId::Long),
        TcbLayout::Turin => id.try_into().map(HardwareId::Short),
    }
    .map_err(|_| wrong_size())
}

#[cfg(test)]
mod tests;
