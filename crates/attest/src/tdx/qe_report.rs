//! The report of the quoting enclave: an SGX `REPORT_BODY` (Intel SDM volume 3D, 37.15; quote format appendix A.3.10).

use crate::tpm::{ParseError, Reader};

/// What the CPU says about the enclave that signed a quote. Borrows the bytes that the PCK signed.
#[derive(Clone, Debug)]
pub struct QeReport<'a> {
    bytes: &'a [u8],
    misc_select: u32,
    attributes: [u8; 16],
    mr_enclave: [u8; 32],
    mr_signer: [u8; 32],
    isv_prod_id: u16,
    isv_svn: u16,
    report_data: [u8; 64],
}

impl<'a> QeReport<'a> {
    pub(super) const SIZE: usize = 384;

    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(bytes);
        reader.bytes("CPUSVN", 16)?;
        let misc_select = reader.u32("MISCSELECT")?;
        reader.bytes("reserved", 28)?;
        let attributes = reader.array("ATTRIBUTES")?;
        let mr_enclave = reader.array("MRENCLAVE")?;
        reader.bytes("reserved", 32)?;
        let mr_signer = reader.array("MRSIGNER")?;
        reader.bytes("reserved", 96)?;
        let isv_prod_id = reader.u16("ISVPRODID")?;
        let isv_svn = reader.u16("ISVSVN")?;
        reader.bytes("reserved", 60)?;
        let report_data = reader.array("REPORTDATA")?;
        reader.finish("QE report")?;
        Ok(Self {
            bytes,
            misc_select,
            attributes,
            mr_enclave,
            mr_signer,
            isv_prod_id,
            isv_svn,
            report_data,
        })
    }

    /// What the PCK signed.
    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `MISCSELECT`.
    #[must_use]
    pub const fn misc_select(&self) -> u32 {
        self.misc_select
    }

    /// `ATTRIBUTES`: flags and XFRM, little endian.
    #[must_use]
    pub const fn attributes(&self) -> &[u8; 16] {
        &self.attributes
    }

    /// Measurement of the enclave.
    #[must_use]
    pub const fn mr_enclave(&self) -> &[u8; 32] {
        &self.mr_enclave
    }

    /// Who signed the enclave.
    #[must_use]
    pub const fn mr_signer(&self) -> &[u8; 32] {
        &self.mr_signer
    }

    /// Which enclave of its signer.
    #[must_use]
    pub const fn isv_prod_id(&self) -> u16 {
        self.isv_prod_id
    }

    /// Its security version: the QE SVN.
    #[must_use]
    pub const fn isv_svn(&self) -> u16 {
        self.isv_svn
    }

    /// The attestation key's digest, and zeros.
    pub(super) const fn report_data(&self) -> &[u8; 64] {
        &self.report_data
    }
}
