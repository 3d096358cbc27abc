//! What a report of SEV-SNP says about its chip. AMD publication 56860, table 23.

use crate::item::{Product, TcbVersion};

const SIZE: usize = 1184;
/// Before the report in the report of Azure's paravisor.
const HCL_MAGIC: &[u8] = b"HCLA";
const HCL_HEADER: usize = 32;
/// Reports of versions that nobody has thought of yet are still reports; anything else has a large number there.
const HIGHEST_VERSION: u32 = 64;

/// The key that signed a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKey {
    /// The chip's.
    Vcek,
    /// The cloud provider's.
    Vlek,
    /// Another, by its number.
    Other(u32),
}

/// What a report says about its chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpReport {
    /// The report's version.
    pub version: u32,
    /// The product line, from version 3 on and if it is one we know.
    pub product: Option<Product>,
    /// The key that signed it.
    pub key: ReportKey,
    reported_tcb: u64,
    chip_id: [u8; 64],
}

impl SnpReport {
    /// A report, alone or in a paravisor's report.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(HCL_MAGIC) {
            let report = bytes.get(HCL_HEADER..HCL_HEADER.checked_add(SIZE)?)?;
            return Self::read(report);
        }
        if bytes.len() != SIZE {
            return None;
        }
        Self::read(bytes)
    }

    fn read(report: &[u8]) -> Option<Self> {
        let version = u32::from_le_bytes(field(report, 0)?);
        // a paravisor's report of another kind of machine has something else there
        if !(2..=HIGHEST_VERSION).contains(&version) {
            return None;
        }
        let [family, model] = field(report, 0x188)?;
        let key = (u32::from_le_bytes(field(report, 0x48)?) >> 2) & 7;
        Some(Self {
            version,
            product: (version >= 3).then(|| line(family, model)).flatten(),
            key: match key {
                0 => ReportKey::Vcek,
                1 => ReportKey::Vlek,
                other => ReportKey::Other(other),
            },
            reported_tcb: u64::from_le_bytes(field(report, 0x180)?),
            chip_id: field(report, 0x1a0)?,
        })
    }

    /// The version of firmware that the report's key is derived from.
    pub(super) fn tcb(&self, product: Product) -> TcbVersion {
        TcbVersion::from_raw(product, self.reported_tcb)
    }

    /// The chip, as the service knows it.
    pub(super) fn chip(&self, product: Product) -> &[u8] {
        self.chip_id
            .get(..product.chip_id_length())
            .unwrap_or_default()
    }
}

fn field<const N: usize>(report: &[u8], offset: usize) -> Option<[u8; N]> {
    report.get(offset..)?.first_chunk().copied()
}

/// Family and model as CPUID has them, combined with their extensions. AMD publication 57230.
fn line(family: u8, model: u8) -> Option<Product> {
    match (family, model) {
        (0x19, 0x00..=0x0f) => Some(Product::Milan),
        (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Product::Genoa),
        (0x1a, 0x00..=0x1f) => Some(Product::Turin),
        _ => None,
    }
}
