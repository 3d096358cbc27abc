//! The report: an SPDM `GET_MEASUREMENTS` request and the `MEASUREMENTS` response to it, one after the other (DSP0274 1.1, tables 44 to 48).

use std::collections::BTreeMap;

use thiserror::Error;

use super::Sha384;
use crate::tpm::{ParseError, Reader};
use crate::x509::Certificate;
use crate::x509::der::{self, DerError, tag};

/// Bytes of the longest report that is read. A Hopper's has 4 KiB, most of it 64 measurements.
pub const MAX_REPORT: usize = 64 * 1024;
/// Bytes of a nonce.
pub const NONCE_LENGTH: usize = 32;

/// SPDM 1.1: the last version whose signature covers the messages as they are.
const VERSION: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// Bit 0 of the request's attributes: with a signature.
const SIGNATURE_REQUESTED: u8 = 0x01;
/// As the operation of a request: every measurement.
const ALL_MEASUREMENTS: u8 = 0xff;
/// `MeasurementSpecification`: that of the DMTF.
const DMTF: u8 = 0x01;
/// r || s of P-384.
const SIGNATURE_LENGTH: usize = 96;

/// Why bytes are not a report.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    /// A structure that does not hold together.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Two measurements or two opaque fields of one number: which one counts would be a guess.
    #[error("{what} {number} stands twice")]
    Twice {
        /// The kind of field.
        what: &'static str,
        /// Its index or type.
        number: u16,
    },
    /// Bytes behind the signature that are not padding.
    #[error("{left} bytes that are not zero follow the signature")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The extension of the device's certificate that names its firmware is missing.
    #[error("the certificate of {subject} does not say which firmware its key belongs to")]
    NoFirmwareId {
        /// Whose certificate.
        subject: String,
    },
    /// The extension of the device's certificate that names its firmware does not read.
    #[error("the firmware identity in the device's certificate does not read")]
    FirmwareId(#[from] DerError),
    /// A digest of another kind.
    #[error("the firmware identity in the device's certificate is not a SHA-384 digest")]
    FirmwareIdHash,
}

/// The type of a field of the response's opaque data, which the device signs and NVIDIA's driver defines. Others are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpaqueField(pub u16);

impl OpaqueField {
    /// Version of the driver, text.
    pub const DRIVER_VERSION: Self = Self(3);
    /// Version of the VBIOS, eight bytes.
    pub const VBIOS_VERSION: Self = Self(6);
    /// SHA-384 of the firmware that holds the device's key.
    pub const FIRMWARE_ID: Self = Self(20);
}

/// A report as its maker claims it. [`super::appraise`] believes it.
#[derive(Clone, Debug)]
pub struct Report {
    signed: Box<[u8]>,
    signature: Box<[u8]>,
    nonce: [u8; NONCE_LENGTH],
    measurements: BTreeMap<u8, Box<[u8]>>,
    opaque: BTreeMap<OpaqueField, Box<[u8]>>,
}

impl Report {
    /// Reads a report of at most [`MAX_REPORT`] bytes. Zeros behind the signature are taken for padding.
    ///
    /// # Errors
    ///
    /// If the bytes are anything else, among them a request for another operation than all measurements, signed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() > MAX_REPORT {
            return Err(ReportError::Parse(ParseError::TooLarge {
                field: "the report",
                value: bytes.len(),
                bound: MAX_REPORT,
            }));
        }
        let mut reader = Reader::little_endian(bytes);
        expect(&mut reader, "the version of the request", VERSION)?;
        expect(&mut reader, "the code of the request", GET_MEASUREMENTS)?;
        let attributes = reader.u8("the attributes of the request")?;
        if attributes & SIGNATURE_REQUESTED == 0 {
            return Err(unsupported("the attributes of the request", attributes));
        }
        expect(
            &mut reader,
            "the operation of the request",
            ALL_MEASUREMENTS,
        )?;
        let nonce = reader.array("the nonce of the request")?;
        reader.u8("the slot of the request")?;

        expect(&mut reader, "the version of the response", VERSION)?;
        expect(&mut reader, "the code of the response", MEASUREMENTS)?;
        reader.bytes("the parameters of the response", 2)?;
        let count = reader.u8("the number of measurements")?;
        let [low, middle, high] = reader.array("the length of the measurements")?;
        let length = u32::from_le_bytes([low, middle, high, 0]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let record = reader.bytes("the measurements", length)?;
        let measurements = measurements(record, count)?;
        reader.bytes("the nonce of the response", NONCE_LENGTH)?;
        let length = reader.u16("the length of the opaque data")?;
        let opaque = opaque(reader.bytes("the opaque data", usize::from(length))?)?;
        let signature = reader.bytes("the signature", SIGNATURE_LENGTH)?;
        let left = reader.rest();
        let end = bytes.len() - left.len() - SIGNATURE_LENGTH;
        let signed = bytes.get(..end).unwrap_or_default();
        if left.iter().any(|byte| *byte != 0) {
            return Err(ReportError::Trailing { left: left.len() });
        }
        Ok(Self {
            signed: signed.into(),
            signature: signature.into(),
            nonce,
            measurements,
            opaque,
        })
    }

    /// The nonce of whoever asked.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; NONCE_LENGTH] {
        &self.nonce
    }

    /// The value of the measurement of this index, from 1 on.
    #[must_use]
    pub fn measurement(&self, index: u8) -> Option<&[u8]> {
        self.measurements.get(&index).map(|value| &**value)
    }

    /// The indexes of the measurements, in order.
    pub fn indexes(&self) -> impl Iterator<Item = u8> + '_ {
        self.measurements.keys().copied()
    }

    /// A field of the opaque data.
    #[must_use]
    pub fn opaque(&self, field: OpaqueField) -> Option<&[u8]> {
        self.opaque.get(&field).map(|value| &**value)
    }

    /// The driver's version, as `550.90.07`.
    #[must_use]
    pub fn driver(&self) -> Option<&str> {
        let text = self.opaque(OpaqueField::DRIVER_VERSION)?;
        let text = std::str::from_utf8(text).ok()?;
        Some(text.trim_end_matches('\0'))
    }

    /// The VBIOS's version, as tools of NVIDIA show it: `96.00.9F.00.01`.
    #[must_use]
    pub fn vbios(&self) -> Option<String> {
        let bytes = self.opaque(OpaqueField::VBIOS_VERSION)?;
        let [a, b, c, d, last, 0, 0, 0] = bytes else {
            return None;
        };
        // a little endian number of four octets and one more, as two digits each
        Some(format!("{d:02X}.{c:02X}.{b:02X}.{a:02X}.{last:02X}"))
    }

    pub(super) fn signed(&self) -> &[u8] {
        &self.signed
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

fn unsupported(field: &'static str, value: u8) -> ReportError {
    ReportError::Parse(ParseError::Unsupported {
        field,
        value: u64::from(value),
    })
}

fn expect(reader: &mut Reader<'_>, field: &'static str, expected: u8) -> Result<(), ReportError> {
    match reader.u8(field)? {
        value if value == expected => Ok(()),
        value => Err(unsupported(field, value)),
    }
}

/// Blocks (tables 46 and 47), as many as the response says and no byte more.
fn measurements(record: &[u8], count: u8) -> Result<BTreeMap<u8, Box<[u8]>>, ReportError> {
    let mut measurements = BTreeMap::new();
    let mut reader = Reader::little_endian(record);
    for _ in 0..count {
        let index = reader.u8("the index of a measurement")?;
        expect(&mut reader, "the specification of a measurement", DMTF)?;
        let size = reader.u16("the size of a measurement")?;
        let mut block = Reader::little_endian(reader.bytes("a measurement", usize::from(size))?);
        block.u8("the type of a measurement")?;
        let size = block.u16("the length of a measurement's value")?;
        let value = block.bytes("the value of a measurement", usize::from(size))?;
        block.finish("a measurement")?;
        if measurements.insert(index, value.into()).is_some() {
            return Err(ReportError::Twice {
                what: "measurement",
                number: u16::from(index),
            });
        }
    }
    reader.finish("the measurements")?;
    Ok(measurements)
}

/// Fields of a type, a length and a value each.
fn opaque(data: &[u8]) -> Result<BTreeMap<OpaqueField, Box<[u8]>>, ReportError> {
    let mut fields = BTreeMap::new();
    let mut reader = Reader::little_endian(data);
    while !reader.is_empty() {
        let field = reader.u16("the type of an opaque field")?;
        let length = reader.u16("the length of an opaque field")?;
        let value = reader.bytes("an opaque field", usize::from(length))?;
        if fields.insert(OpaqueField(field), value.into()).is_some() {
            return Err(ReportError::Twice {
                what: "opaque field",
                number: field,
            });
        }
    }
    Ok(fields)
}

/// The digest of the firmware that a certificate was made for: `CompositeDeviceID` of TCG "Implicit Identity Based Device Attestation"
/// (1.0, appendix), which holds the version, the ROM's key and the firmware's hash.
pub(super) fn certified_firmware(certificate: &Certificate) -> Result<&Sha384, ReportError> {
    const OID: &str = "2.23.133.5.4.1";
    const FIELD: &str = "the firmware identity";
    const SHA384: &str = "2.16.840.1.101.3.4.2.2";
    let value = certificate
        .extension(OID)
        .ok_or_else(|| ReportError::NoFirmwareId {
            subject: certificate.subject().to_string(),
        })?;
    let mut outer = der::Reader::new(value);
    let mut identity = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    identity.small_integer(FIELD)?;
    identity.element(FIELD, tag::SEQUENCE)?;
    let mut firmware = identity.sequence(FIELD)?;
    identity.finish(FIELD)?;
    let hash = firmware.oid(FIELD)?;
    let digest = firmware.contents(FIELD, tag::OCTET_STRING)?;
    firmware.finish(FIELD)?;
    if !hash.is(SHA384) {
        return Err(ReportError::FirmwareIdHash);
    }
    digest.try_into().map_err(|_| ReportError::FirmwareIdHash)
}
