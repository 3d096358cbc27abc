//! `TCG_Sp800_155_PlatformId_Event3` (PC Client Platform Firmware Profile, 10.4.5.3): where the firmware's maker publishes
//! reference values. Nothing covers it: it tells where to look, and nothing else.

use super::Guid;
use crate::tpm::{ParseError, Reader};

const SIGNATURE: &[u8; 16] = b"SP800-155 Event3";
/// A locator is a URI, a device path or a variable's name.
const MAX_LOCATOR: usize = 4096;

/// A note about reference values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceManifest<'a> {
    /// The platform's maker, by its IANA number.
    pub platform_vendor: u32,
    /// The manifest's number.
    pub manifest: Guid,
    /// The platform's maker.
    pub platform_manufacturer: String,
    /// The platform.
    pub platform_model: String,
    /// The platform's version.
    pub platform_version: String,
    /// The firmware's maker.
    pub firmware_manufacturer: String,
    /// The firmware's maker, by its IANA number.
    pub firmware_vendor: u32,
    /// The firmware's version.
    pub firmware_version: String,
    /// 0: the manifest itself, 1: a URI, 2: a device path, 3: a UEFI variable.
    pub locator_type: u32,
    /// Where the manifest is.
    pub locator: &'a [u8],
    /// The same for a platform certificate.
    pub certificate_locator_type: u32,
    /// Where the platform certificate is.
    pub certificate_locator: &'a [u8],
}

impl<'a> ReferenceManifest<'a> {
    /// Reads a note; nothing if it is of another kind.
    ///
    /// # Errors
    /// When it is of this kind and cut off, or a bound is broken.
    #[must_use]
    pub fn parse(note: &'a [u8]) -> Option<Result<Self, ParseError>> {
        let rest = note.strip_prefix(SIGNATURE)?;
        Some(Self::fields(Reader::little_endian(rest)))
    }

    fn fields(mut reader: Reader<'a>) -> Result<Self, ParseError> {
        let reader = &mut reader;
        let platform_vendor = reader.u32("PlatformManufacturerId")?;
        let manifest = Guid::from_bytes(reader.array("ReferenceManifestGuid")?);
        let platform_manufacturer = text(reader, "PlatformManufacturerStr")?;
        let platform_model = text(reader, "PlatformModel")?;
        let platform_version = text(reader, "PlatformVersion")?;
        let firmware_manufacturer = text(reader, "FirmwareManufacturerStr")?;
        let firmware_vendor = reader.u32("FirmwareManufacturerId")?;
        let firmware_version = text(reader, "FirmwareVersion")?;
        let locator_type = reader.u32("RimLocatorType")?;
        let locator = locator(reader, "RimLocator")?;
        let certificate_locator_type = reader.u32("PlatformCertLocatorType")?;
        let certificate_locator = self::locator(reader, "PlatformCertLocator")?;
        // Google's firmware pads its note
        Ok(Self {
            platform_vendor,
            manifest,
            platform_manufacturer,
            platform_model,
            platform_version,
            firmware_manufacturer,
            firmware_vendor,
            firmware_version,
            locator_type,
            locator,
            certificate_locator_type,
            certificate_locator,
        })
    }
}

fn text(reader: &mut Reader<'_>, field: &'static str) -> Result<String, ParseError> {
    let size = usize::from(reader.u8(field)?);
    let text = reader.bytes(field, size)?;
    Ok(String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)).into_owned())
}

fn locator<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], ParseError> {
    let size = reader.count(field, MAX_LOCATOR)?;
    reader.bytes(field, size)
}
