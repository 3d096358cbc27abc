//! The HCL report: what the paravisor leaves in the TPM's NV index 0x01400001.
//!
//! ```text
//! 0     'HCLA', version, size of the whole, type of request, status, 12 reserved bytes
//! 32    report of the processor: 1184 bytes of SEV-SNP, or 1024 of TDX and padding
//! 1216  size from here on, version, type of the report, hash of the binding, size of the runtime data
//! 1236  runtime data: JSON
//! ```
//!
//! All numbers are little endian with 32 bits. Only the processor's report is signed, and of the rest only what its report data cover: the
//! runtime data. Everything else decides no more than how the bytes are read; what follows the whole is not read.

use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::runtime::{RuntimeClaims, RuntimeError};
use crate::sev_snp;
use crate::tpm::{EndorsedAk, HashAlgorithm, ParseError, PublicKey, Reader};

/// Larger than the NV index of any generation: 2048 and 2600 bytes are known.
pub const MAX_HCL_REPORT: usize = 8192;

const SIGNATURE: &[u8; 4] = b"HCLA";
const REPORT_AREA: usize = 1184;
const TD_REPORT: usize = 1024;
const RUNTIME_HEADER: usize = 20;
const RUNTIME_OFFSET: usize = 32 + REPORT_AREA;

const TYPE_SNP: u32 = 2;
const TYPE_TDX: u32 = 4;
const HASH_SHA256: u32 = 1;
const HASH_SHA384: u32 = 2;
const HASH_SHA512: u32 = 3;

/// What the processor wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware<'a> {
    /// An SEV-SNP attestation report, signed by the processor's key.
    Snp(&'a [u8; REPORT_AREA]),
    /// A `TDREPORT`, which only the processor that made it can check. A quote over the same data is what may be believed.
    TdReport(&'a [u8; TD_REPORT]),
}

/// An HCL report that was read, and that nobody has vouched for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport<'a> {
    version: u32,
    hardware: Hardware<'a>,
    hash: HashAlgorithm,
    runtime_data: &'a [u8],
    claims: RuntimeClaims,
}

/// Why bytes are not an HCL report.
#[derive(Debug, Error)]
pub enum HclError {
    /// Longer than any.
    #[error("the HCL report has {0} bytes, more than {MAX_HCL_REPORT}")]
    TooLong(usize),
    /// Cut off.
    #[error("the HCL report cannot be read")]
    Field(#[source] ParseError),
    /// Something else.
    #[error("it does not begin with HCLA, so it is no HCL report")]
    Signature,
    /// Sizes that do not fit into each other.
    #[error("{field} is {value}, but only {left} bytes are left for it")]
    Size {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// What there is.
        left: usize,
    },
    /// A kind of report without hardware behind it, or one this release does not know.
    #[error("the report is of type {0}; 2 (SEV-SNP) and 4 (TDX) are supported")]
    ReportType(u32),
    /// An unknown hash.
    #[error("the runtime data are bound by hash {0}, which is not supported")]
    HashType(u32),
    /// The JSON.
    #[error("the runtime data cannot be read")]
    Runtime(#[source] RuntimeError),
}

/// The processor's report was made over something else.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the report data are {found}, not the {hash} digest of the runtime data and zeros, {expected}"
)]
pub struct BindError {
    /// The hash.
    pub hash: HashAlgorithm,
    /// What they must be, in hex.
    pub expected: String,
    /// What they are, in hex.
    pub found: String,
}

impl HclReport<'_> {
    /// The processor's report in one of SEV-SNP, for who looks for the certificate of the key that signed it. Not believed.
    #[must_use]
    pub fn claimed_snp_report(bytes: &[u8]) -> Option<sev_snp::Report> {
        match HclReport::parse(bytes).ok()?.hardware() {
            Hardware::Snp(report) => sev_snp::Report::parse(report).ok(),
            Hardware::TdReport(_) => None,
        }
    }
}

impl<'a> HclReport<'a> {
    /// Reads a report, with or without the padding of its NV index.
    ///
    /// # Errors
    /// When the bytes are no HCL report of SEV-SNP or TDX, sizes do not fit, or the runtime data have no RSA key `HCLAkPub`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HclError> {
        if bytes.len() > MAX_HCL_REPORT {
            return Err(HclError::TooLong(bytes.len()));
        }
        let mut reader = Reader::little_endian(bytes);
        if &reader.array::<4>("signature").map_err(HclError::Field)? != SIGNATURE {
            return Err(HclError::Signature);
        }
        let version = reader.u32("version").map_err(HclError::Field)?;
        let size = reader.u32("report size").map_err(HclError::Field)?;
        let whole = within("report size", size, bytes)?;

        let (_, area) =
            whole
                .split_at_checked(RUNTIME_OFFSET - REPORT_AREA)
                .ok_or(HclError::Size {
                    field: "report size",
                    value: size,
                    left: bytes.len(),
                })?;
        let mut reader = Reader::little_endian(area);
        let area = reader.bytes("hardware report", REPORT_AREA);
        let area = area.map_err(HclError::Field)?;
        let (runtime, hash, report_type) = runtime(reader)?;
        let hardware = match report_type {
            TYPE_SNP => area.first_chunk().map(Hardware::Snp),
            TYPE_TDX => area.first_chunk().map(Hardware::TdReport),
            other => return Err(HclError::ReportType(other)),
        };
        Ok(Self {
            version,
            // the area is as long as the longer of both
            hardware: hardware.ok_or(HclError::ReportType(report_type))?,
            hash,
            runtime_data: runtime,
            claims: RuntimeClaims::parse(runtime).map_err(HclError::Runtime)?,
        })
    }

    /// Version of the header; nothing depends on it.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The processor's report.
    #[must_use]
    pub const fn hardware(&self) -> Hardware<'a> {
        self.hardware
    }

    /// The bytes that the processor's report covers.
    #[must_use]
    pub const fn runtime_data(&self) -> &'a [u8] {
        self.runtime_data
    }

    /// What they say: claims, until the processor's report was checked.
    #[must_use]
    pub const fn claims(&self) -> &RuntimeClaims {
        &self.claims
    }

    /// What the report data of the processor's report must be, all 64 bytes: the digest of the runtime data, and zeros.
    #[must_use]
    pub fn expected_report_data(&self) -> [u8; 64] {
        let mut expected = [0; 64];
        let digest = self.hash.digest(&[self.runtime_data]);
        for (to, from) in expected.iter_mut().zip(digest) {
            *to = from;
        }
        expected
    }

    /// Holds the runtime data against the report data of a report. Whether a processor made that report is for others to say.
    ///
    /// # Errors
    /// When the report data are anything but the digest of the runtime data, followed by zeros.
    pub fn bind(&self, report_data: &[u8; 64]) -> Result<BoundAk<'_>, BindError> {
        let expected = self.expected_report_data();
        if bool::from(expected.ct_eq(report_data)) {
            Ok(BoundAk {
                claims: &self.claims,
            })
        } else {
            Err(BindError {
                hash: self.hash,
                expected: hex::encode(expected),
                found: hex::encode(report_data),
            })
        }
    }
}

/// Runtime data that certain report data cover. Only [`HclReport::bind`] makes one.
#[derive(Debug)]
pub struct BoundAk<'a> {
    claims: &'a RuntimeClaims,
}

impl<'a> BoundAk<'a> {
    /// The attestation key.
    #[must_use]
    pub const fn key(&self) -> &'a PublicKey {
        self.claims.ak()
    }

    /// The other claims.
    #[must_use]
    pub const fn claims(&self) -> &'a RuntimeClaims {
        self.claims
    }

    /// The caller has checked the processor's report, and that a paravisor made it.
    pub(crate) fn endorsed(&self) -> EndorsedAk {
        EndorsedAk::new(self.claims.ak().clone(), "that the hardware report covers")
    }
}

/// The structure of this size at the start of `bytes`.
fn within<'a>(field: &'static str, size: u32, bytes: &'a [u8]) -> Result<&'a [u8], HclError> {
    usize::try_from(size)
        .ok()
        .and_then(|size| bytes.get(..size))
        .ok_or(HclError::Size {
            field,
            value: size,
            left: bytes.len(),
        })
}

/// The runtime data, how they are bound, and what report is before them.
fn runtime(mut reader: Reader<'_>) -> Result<(&[u8], HashAlgorithm, u32), HclError> {
    let rest = reader.rest();
    let size = reader.u32("data size").map_err(HclError::Field)?;
    let data = within("data size", size, rest)?;
    let mut reader = Reader::little_endian(data);
    let header = reader.bytes("runtime data header", RUNTIME_HEADER);
    let mut header = Reader::little_endian(header.map_err(HclError::Field)?);
    header.u32("data size").map_err(HclError::Field)?;
    header.u32("data version").map_err(HclError::Field)?;
    let report_type = header.u32("report type").map_err(HclError::Field)?;
    let hash = match header.u32("hash type").map_err(HclError::Field)? {
        HASH_SHA256 => HashAlgorithm::Sha256,
        HASH_SHA384 => HashAlgorithm::Sha384,
        HASH_SHA512 => HashAlgorithm::Sha512,
        other => return Err(HclError::HashType(other)),
    };
    let length = header.u32("runtime data size").map_err(HclError::Field)?;
    let runtime = within("runtime data size", length, reader.rest())?;
    Ok((runtime, hash, report_type))
}
