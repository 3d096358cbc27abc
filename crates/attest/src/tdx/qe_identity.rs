//! QE identity: which quoting enclaves Intel vouches for (PCS API v4, "Get TDX QE Identity", version 2).

use jiff::Timestamp;
use serde::Deserialize;

use super::qe_report::QeReport;
use super::signed::{self, Signed, StatementError, bytes_of_hex};
use super::tcb_info::{SvnLevel, bounded_levels, level_of};

/// The signed body.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    id: String,
    version: u32,
    /// From when on it is said.
    pub issue_date: Timestamp,
    /// Until when it is said.
    pub next_update: Timestamp,
    /// Grows with each set of known weaknesses that Intel judges by.
    pub tcb_evaluation_data_number: u32,
    /// Bytes in the order of the report, which is little endian.
    #[serde(rename = "miscselect", deserialize_with = "bytes_of_hex")]
    misc_select: [u8; 4],
    #[serde(rename = "miscselectMask", deserialize_with = "bytes_of_hex")]
    misc_select_mask: [u8; 4],
    #[serde(deserialize_with = "bytes_of_hex")]
    attributes: [u8; 16],
    #[serde(deserialize_with = "bytes_of_hex")]
    attributes_mask: [u8; 16],
    #[serde(rename = "mrsigner", deserialize_with = "bytes_of_hex")]
    mr_signer: [u8; 32],
    #[serde(rename = "isvprodid")]
    isv_prod_id: u16,
    tcb_levels: Vec<SvnLevel>,
}

/// What of a quoting enclave is not as Intel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QeMismatch {
    MrSigner,
    IsvProdId,
    MiscSelect,
    Attributes,
}

impl QeMismatch {
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::MrSigner => "MRSIGNER",
            Self::IsvProdId => "ISVPRODID",
            Self::MiscSelect => "MISCSELECT",
            Self::Attributes => "ATTRIBUTES",
        }
    }
}

impl QeIdentity {
    pub(super) fn parse(bytes: &[u8]) -> Result<Signed<Self>, StatementError> {
        let signed: Signed<Self> = signed::enclave_identity(bytes)?;
        let identity = signed.claimed();
        if identity.id != "TD_QE" || identity.version != 2 {
            return Err(StatementError::Kind {
                id: identity.id.clone(),
                version: identity.version,
                expected: "the identity of TD_QE in version 2",
            });
        }
        bounded_levels(&identity.tcb_levels)?;
        Ok(signed)
    }

    pub(super) fn check(&self, report: &QeReport<'_>) -> Result<(), QeMismatch> {
        let misc_select = report.misc_select() & u32::from_le_bytes(self.misc_select_mask);
        let attributes =
            u128::from_be_bytes(*report.attributes()) & u128::from_be_bytes(self.attributes_mask);
        if report.mr_signer() != &self.mr_signer {
            Err(QeMismatch::MrSigner)
        } else if report.isv_prod_id() != self.isv_prod_id {
            Err(QeMismatch::IsvProdId)
        } else if misc_select != u32::from_le_bytes(self.misc_select) {
            Err(QeMismatch::MiscSelect)
        } else if attributes != u128::from_be_bytes(self.attributes) {
            Err(QeMismatch::Attributes)
        } else {
            Ok(())
        }
    }

    /// The level of the enclave, if it reaches any.
    pub(super) fn level(&self, report: &QeReport<'_>) -> Option<&SvnLevel> {
        level_of(&self.tcb_levels, report.isv_svn())
    }
}
