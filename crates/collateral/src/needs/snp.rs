//! What a report of SEV-SNP says about its chip.

use attest::sev_snp::{REPORT_SIZE, Report, SigningKey};

use crate::item::{Product, TcbVersion};

/// Before the report in the report of Azure's paravisor.
const HCL_MAGIC: &[u8] = b"HCLA";
const HCL_HEADER: usize = 32;

/// What a report says about its chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpReport {
    /// The report's version.
    pub version: u32,
    /// The product line, from version 3 on and if it is one we know.
    pub product: Option<Product>,
    /// The key that signed it.
    pub key: SigningKey,
    reported_tcb: u64,
    chip_id: [u8; 64],
}

impl SnpReport {
    /// A report, alone or in a paravisor's report, which for another kind of machine has something else there.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        let report = if bytes.starts_with(HCL_MAGIC) {
            bytes.get(HCL_HEADER..)?.get(..REPORT_SIZE)?
        } else {
            bytes
        };
        let report = Report::parse(report).ok()?;
        let fields = report.fields();
        Some(Self {
            version: fields.version.number(),
            product: fields
                .cpu_id
                .and_then(|cpu| cpu.product_line())
                .map(Product::from),
            key: fields.key_info.signing_key(),
            reported_tcb: u64::from_le_bytes(fields.reported_tcb.0),
            chip_id: fields.chip_id,
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
