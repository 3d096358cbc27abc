//! A TD quote as its bytes say it: versions 4 and 5 (Intel TDX DCAP Quote Generation Library and Quote Verification
//! Library, appendix A.3 and A.4). Nothing here is believed yet.

use thiserror::Error;

use super::body::TdReport;
use super::pck::PckExtensions;
use super::qe_report::QeReport;
use crate::tpm::{ParseError, Reader};
use crate::x509::{Certificate, MAX_INTERMEDIATES};

/// More than any quote a machine can make: a header, a body, and the chain of three certificates with the QE's
/// authentication data.
pub const MAX_QUOTE: usize = 64 * 1024;
/// Bytes of a header.
const HEADER: usize = 48;
/// Type and size of a version 5 body.
const BODY_HEAD: usize = 6;
/// Three certificates in PEM are below 4 KiB.
const MAX_CERTIFICATION_DATA: usize = 32 * 1024;
/// 32 bytes on every machine seen so far; the field could say 64 KiB.
const MAX_QE_AUTHENTICATION_DATA: usize = 1024;

const ECDSA_P256: u16 = 2;
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
/// The vendor id of Intel's quoting enclave.
const INTEL_QE: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

const BODY_SGX: u16 = 1;
const BODY_TD_1_0: u16 = 2;
const BODY_TD_1_5: u16 = 3;

const PCK_CHAIN: u16 = 5;
const QE_REPORT: u16 = 6;

/// Why bytes are not a TD quote of this release.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// Longer than any quote.
    #[error("the quote has {size} bytes, at most {MAX_QUOTE} are allowed")]
    TooLong {
        /// What it has.
        size: usize,
    },
    /// A version that this release cannot read.
    #[error("the quote has version {version}; versions 4 and 5 are supported")]
    Version {
        /// What it says.
        version: u16,
    },
    /// A quote of an SGX enclave: another technology, which says nothing about a virtual machine.
    #[error("the quote is of an SGX enclave, not of a trust domain")]
    Sgx,
    /// A quote of some other technology.
    #[error("the quote is of TEE type {tee_type:#x}, not of a trust domain (0x81)")]
    TeeType {
        /// What it says.
        tee_type: u32,
    },
    /// An attestation key that is not ECDSA P-256.
    #[error("the attestation key is of type {key_type}; only ECDSA P-256 (2) is supported")]
    KeyType {
        /// What it says.
        key_type: u16,
    },
    /// A quoting enclave of another vendor.
    #[error(
        "the quoting enclave is of vendor {}, not of Intel",
        hex::encode(vendor)
    )]
    Vendor {
        /// What it says.
        vendor: [u8; 16],
    },
    /// A body that this release cannot read.
    #[error(
        "the quote has a body of type {body_type}; types 2 (TD 1.0) and 3 (TD 1.5) are supported"
    )]
    BodyType {
        /// What it says.
        body_type: u16,
    },
    /// A body whose size is not the one of its type.
    #[error("a body of type {body_type} has {expected} bytes, the quote says {size}")]
    BodySize {
        /// The type.
        body_type: u16,
        /// What that type has.
        expected: usize,
        /// What the quote says.
        size: u32,
    },
    /// Certification data other than a QE report that is endorsed by a PCK chain.
    #[error("{place} is certification data of type {kind}; type {expected} is supported")]
    CertificationData {
        /// Which of the two nested structures.
        place: &'static str,
        /// What it says.
        kind: u16,
        /// What is read.
        expected: u16,
    },
    /// Bytes that are not zero after the length that the quote gives itself.
    #[error("{left} bytes that are not all zero follow the end of the quote")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The bytes do not have the shape.
    #[error(transparent)]
    Shape(#[from] ParseError),
}

/// The form of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoteVersion {
    /// Header and a TD 1.0 body.
    V4,
    /// Header, and a body that says its type.
    V5,
}

/// The signed header, as far as it says anything that is not fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The form of the quote.
    pub version: QuoteVersion,
    /// Bytes of the host's quote generation; its first 16 usually name the platform. Nobody vouches for them.
    pub user_data: [u8; 20],
}

/// A quote, read but not verified. Borrows the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Quote<'a> {
    header: Header,
    body: TdReport,
    signed: &'a [u8],
    signature: [u8; 64],
    attestation_key: [u8; 64],
    qe_report: QeReport<'a>,
    qe_report_signature: [u8; 64],
    qe_authentication_data: &'a [u8],
    pck_chain: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads a quote. Zero bytes after its end are allowed: the kernel's interfaces hand out padded buffers.
    ///
    /// # Errors
    /// When the bytes are not exactly one quote of a trust domain, signed with an ECDSA P-256 attestation key that a QE
    /// report and a PCK certificate chain vouch for.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_QUOTE {
            return Err(QuoteError::TooLong { size: bytes.len() });
        }
        let mut reader = Reader::little_endian(bytes);
        let header = header(&mut reader)?;
        let (body, body_end) = match header.version {
            QuoteVersion::V4 => (
                TdReport::td_1_0(reader.array("TD report")?)?,
                HEADER + TdReport::SIZE_1_0,
            ),
            QuoteVersion::V5 => typed_body(&mut reader)?,
        };
        let size = reader.count("signature data length", bytes.len())?;
        let mut data = Reader::little_endian(reader.bytes("signature data", size)?);
        let left = bytes.len().saturating_sub(body_end + 4 + size);
        if reader.bytes("padding", left)?.iter().any(|byte| *byte != 0) {
            return Err(QuoteError::Trailing { left });
        }

        let signature = data.array("quote signature")?;
        let attestation_key = data.array("attestation key")?;
        let mut certification =
            certification_data(&mut data, "the quote's certification", QE_REPORT)?;
        data.finish("quote signature data")?;

        let qe_report = QeReport::parse(certification.bytes("QE report", QeReport::SIZE)?)?;
        let qe_report_signature = certification.array("QE report signature")?;
        let qe_authentication_data =
            certification.sized("QE authentication data", MAX_QE_AUTHENTICATION_DATA)?;
        let chain = certification_data(
            &mut certification,
            "the QE report's certification",
            PCK_CHAIN,
        )?;
        certification.finish("QE report certification data")?;

        Ok(Self {
            header,
            body,
            signed: bytes.get(..body_end).unwrap_or_default(),
            signature,
            attestation_key,
            qe_report,
            qe_report_signature,
            qe_authentication_data,
            pck_chain: chain.rest(),
        })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What the TDX module says about the trust domain. Not believed before [`super::appraise`] has returned.
    #[must_use]
    pub const fn body(&self) -> &TdReport {
        &self.body
    }

    /// What the CPU says about the quoting enclave.
    #[must_use]
    pub const fn qe_report(&self) -> &QeReport<'a> {
        &self.qe_report
    }

    /// The PCK certificate chain as it is in the quote: PEM, or DER certificates one after another.
    #[must_use]
    pub const fn pck_chain(&self) -> &'a [u8] {
        self.pck_chain
    }

    /// The family of platforms that the chain names, for who looks for Intel's statements about it. Not believed.
    #[must_use]
    pub fn claimed_fmspc(&self) -> Option<[u8; 6]> {
        let certificates = match Certificate::parse_prefix(self.pck_chain) {
            Ok((certificate, _)) => vec![certificate],
            Err(_) => Certificate::chain_from_pem(self.pck_chain, MAX_INTERMEDIATES).ok()?,
        };
        certificates
            .iter()
            .find_map(|it| PckExtensions::of(it).ok())
            .map(|extensions| extensions.fmspc)
    }

    /// Header and body: what the attestation key signed.
    pub(super) const fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// r and s over [`Self::signed`].
    pub(super) const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// x and y of the attestation key.
    pub(super) const fn attestation_key(&self) -> &[u8; 64] {
        &self.attestation_key
    }

    /// r and s over the QE report, by the PCK.
    pub(super) const fn qe_report_signature(&self) -> &[u8; 64] {
        &self.qe_report_signature
    }

    /// What the QE binds into its report beside the attestation key.
    pub(super) const fn qe_authentication_data(&self) -> &'a [u8] {
        self.qe_authentication_data
    }
}

fn header(reader: &mut Reader<'_>) -> Result<Header, QuoteError> {
    let version = reader.u16("version")?;
    let key_type = reader.u16("attestation key type")?;
    // the version comes first: a version 3 quote has no TEE type, its bytes mean something else
    let known = match version {
        4 => QuoteVersion::V4,
        5 => QuoteVersion::V5,
        3 => return Err(QuoteError::Sgx),
        _ => return Err(QuoteError::Version { version }),
    };
    match reader.u32("TEE type")? {
        TEE_TDX => {}
        TEE_SGX => return Err(QuoteError::Sgx),
        tee_type => return Err(QuoteError::TeeType { tee_type }),
    }
    if key_type != ECDSA_P256 {
        return Err(QuoteError::KeyType { key_type });
    }
    // the SVNs of QE and PCE in quotes of version 3; those that count are in the QE report and the PCK certificate
    reader.bytes("reserved", 4)?;
    let vendor = reader.array("QE vendor id")?;
    if vendor != INTEL_QE {
        return Err(QuoteError::Vendor { vendor });
    }
    Ok(Header {
        version: known,
        user_data: reader.array("user data")?,
    })
}

fn typed_body(reader: &mut Reader<'_>) -> Result<(TdReport, usize), QuoteError> {
    let body_type = reader.u16("body type")?;
    let size = reader.u32("body size")?;
    let expected = match body_type {
        BODY_TD_1_0 => TdReport::SIZE_1_0,
        BODY_TD_1_5 => TdReport::SIZE_1_5,
        BODY_SGX => return Err(QuoteError::Sgx),
        _ => return Err(QuoteError::BodyType { body_type }),
    };
    if usize::try_from(size) != Ok(expected) {
        return Err(QuoteError::BodySize {
            body_type,
            expected,
            size,
        });
    }
    let body = if body_type == BODY_TD_1_0 {
        TdReport::td_1_0(reader.array("TD report")?)?
    } else {
        TdReport::td_1_5(reader.array("TD report")?)?
    };
    Ok((body, HEADER + BODY_HEAD + expected))
}

/// Type, size and content; the content is all there is in what holds it.
fn certification_data<'a>(
    reader: &mut Reader<'a>,
    place: &'static str,
    expected: u16,
) -> Result<Reader<'a>, QuoteError> {
    let kind = reader.u16("certification data type")?;
    if kind != expected {
        return Err(QuoteError::CertificationData {
            place,
            kind,
            expected,
        });
    }
    let size = reader.count("certification data size", MAX_CERTIFICATION_DATA)?;
    Ok(Reader::little_endian(
        reader.bytes("certification data", size)?,
    ))
}
