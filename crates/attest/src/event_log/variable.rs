//! `UEFI_VARIABLE_DATA` (PC Client Platform Firmware Profile, 10.2.6): a UEFI variable as it was measured.

use super::Guid;
use crate::tpm::{ParseError, Reader};

/// UTF-16 units of a name: far more than any variable's.
const MAX_NAME: usize = 256;

/// A UEFI variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Whose name it is.
    pub vendor: Guid,
    /// The name.
    pub name: String,
    /// The content.
    pub data: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads one, without a byte left over.
    ///
    /// # Errors
    /// When it is cut off, a bound is broken, the name is no UTF-16, or something follows.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(bytes);
        let vendor = Guid::from_bytes(reader.array("VariableName")?);
        let units = length(&mut reader, "UnicodeNameLength", MAX_NAME)?;
        let size = length(&mut reader, "VariableDataLength", bytes.len())?;
        let name =
            utf16(reader.bytes("UnicodeName", units * 2)?).ok_or(ParseError::Unsupported {
                field: "UnicodeName",
                value: units as u64,
            })?;
        let data = reader.bytes("VariableData", size)?;
        reader.finish("UEFI_VARIABLE_DATA")?;
        Ok(Self { vendor, name, data })
    }
}

/// A 64-bit length within its bound.
pub(super) fn length(
    reader: &mut Reader<'_>,
    field: &'static str,
    bound: usize,
) -> Result<usize, ParseError> {
    let value = usize::try_from(reader.u64(field)?).unwrap_or(usize::MAX);
    if value > bound {
        return Err(ParseError::TooLarge {
            field,
            value,
            bound,
        });
    }
    Ok(value)
}

/// All of these bytes as UTF-16.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    String::from_utf16(&units).ok()
}

/// UTF-16 up to its first NUL, or all of it.
pub(super) fn utf16_text(bytes: &[u8]) -> Option<String> {
    let text = utf16(bytes)?;
    Some(text.split('\0').next().unwrap_or_default().to_owned())
}
