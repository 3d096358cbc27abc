//! Azure's confidential machines: the paravisor's report in the vTPM, the host's quote, and AMD's certificates by the
//! metadata service.
//!
//! The report stands in an NV area. For other user data than at boot, 64 bytes are written to a second area, and the
//! paravisor makes the report anew when it is read next.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::metadata::{Metadata, MetadataError};
use crate::tpm::{Tpm, TpmError};

/// The paravisor's report.
pub const REPORT_AREA: u32 = 0x0140_0001;
/// What the next report is made over.
pub const USER_DATA_AREA: u32 = 0x0140_0002;
/// Where the vTPM keeps its attestation key.
pub const AK_HANDLE: u32 = 0x8100_0003;
/// The certificate of that key, on a machine of Trusted Launch.
pub const AK_CERTIFICATE_AREA: u32 = 0x01c1_01d0;
const QUOTE_PATH: &str = "/acc/tdquote";
const CERTIFICATES_PATH: &str = "/metadata/THIM/amd/certification";
const HEADER: usize = 32;
/// Of the hardware's report within the paravisor's: the larger one, AMD's.
const HARDWARE_REPORT: usize = 1184;
/// `TDREPORT_STRUCT`.
const TD_REPORT: usize = 1024;
const MAGIC: &[u8] = b"HCLA";
/// Of the type in the runtime data, which follow the hardware's report.
const TYPE_OFFSET: usize = HEADER + HARDWARE_REPORT + 8;

/// Why Azure's evidence cannot be had.
#[derive(Debug, Error)]
pub enum AzureError {
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The metadata service.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// No such area.
    #[error("the TPM has no area {REPORT_AREA:#010x}: this machine is no confidential VM of Azure")]
    NoReport,
    /// Bytes that are not the paravisor's report.
    #[error("the paravisor's report cannot be read: {0}")]
    Report(&'static str),
    /// A document that is not the one that was asked for.
    #[error("the metadata service's document cannot be read")]
    Document(#[source] serde_json::Error),
    /// A quote that is no base64url.
    #[error("the metadata service's quote cannot be read")]
    Quote(#[source] base64::DecodeError),
}

/// The paravisor's report, with the hardware it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HclReport {
    /// Of an SEV-SNP machine: the report is in it.
    Snp(Vec<u8>),
    /// Of a TDX machine: a quote has to be made of what is in it.
    Tdx(Vec<u8>),
}

impl HclReport {
    /// Reads the report of this machine.
    ///
    /// # Errors
    /// When the TPM fails, or has none.
    pub fn read(tpm: &mut Tpm) -> Result<Self, AzureError> {
        let bytes = tpm.nv_read(REPORT_AREA)?.ok_or(AzureError::NoReport)?;
        Self::parse(bytes)
    }

    /// Has the report made over `user_data`, and reads it.
    ///
    /// # Errors
    /// As [`HclReport::read`].
    pub fn read_over(tpm: &mut Tpm, user_data: &[u8; 64]) -> Result<Self, AzureError> {
        // first, because on another machine nothing should be written
        tpm.nv_length(REPORT_AREA)?.ok_or(AzureError::NoReport)?;
        tpm.nv_write(USER_DATA_AREA, user_data)?;
        Self::read(tpm)
    }

    /// Looks at the head only: `attest` looks at the rest.
    ///
    /// # Errors
    /// When it is not the paravisor's, or of hardware that is not known.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, AzureError> {
        if !bytes.starts_with(MAGIC) {
            return Err(AzureError::Report("it does not begin with HCLA"));
        }
        let kind = bytes
            .get(TYPE_OFFSET..)
            .and_then(|rest| rest.first_chunk::<4>())
            .ok_or(AzureError::Report("it is cut off"))?;
        match u32::from_le_bytes(*kind) {
            2 => Ok(Self::Snp(bytes)),
            4 => Ok(Self::Tdx(bytes)),
            _ => Err(AzureError::Report(
                "it is neither of SEV-SNP nor of TDX: the machine may be a Trusted Launch VM",
            )),
        }
    }

    /// The bytes for the evidence.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Snp(bytes) | Self::Tdx(bytes) => bytes,
        }
    }
}

#[derive(Serialize)]
struct QuoteRequest {
    report: String,
}

#[derive(Deserialize)]
struct QuoteAnswer {
    quote: String,
}

/// Has the host make a TD quote of what a TDX machine's report holds.
///
/// # Errors
/// When the report is of other hardware, or the host does not answer with a quote.
pub fn td_quote(metadata: &Metadata, report: &HclReport) -> Result<Vec<u8>, AzureError> {
    let HclReport::Tdx(bytes) = report else {
        return Err(AzureError::Report(
            "a TD quote is made of TDX machines only",
        ));
    };
    let td_report = bytes
        .get(HEADER..HEADER + TD_REPORT)
        .ok_or(AzureError::Report("it is cut off"))?;
    let request = QuoteRequest {
        report: URL_SAFE_NO_PAD.encode(td_report),
    };
    let request = serde_json::to_vec(&request).map_err(AzureError::Document)?;
    let answer = metadata.post_json(QUOTE_PATH, &request)?;
    let answer: QuoteAnswer = serde_json::from_slice(&answer).map_err(AzureError::Document)?;
    URL_SAFE_NO_PAD
        .decode(answer.quote.trim_end_matches('='))
        .map_err(AzureError::Quote)
}

/// AMD's certificates for the processor this machine runs on. They still have to lead to a root.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AmdCertificates {
    /// PEM of the VCEK.
    #[serde(rename = "vcekCert")]
    pub vcek: String,
    /// PEM of what is above it.
    #[serde(rename = "certificateChain")]
    pub chain: String,
}

/// Asks the metadata service for AMD's certificates, which are not limited in their rate as AMD's own service is.
///
/// # Errors
/// When it does not answer with them.
pub fn amd_certificates(metadata: &Metadata) -> Result<AmdCertificates, AzureError> {
    let answer = metadata.get(CERTIFICATES_PATH, "Metadata: true")?;
    serde_json::from_slice(&answer).map_err(AzureError::Document)
}
