//! Puts a unified kernel image together: a systemd boot stub with further sections.
//!
//! The result depends on the arguments alone: no time, no path, no tool's version. It does not sign.
//!
//! Specification: UAPI.5 "Unified Kernel Image"; sections are laid out as `ukify` does it.

use thiserror::Error;

use crate::pe::{Pe, PeError};

#[cfg(test)]
pub(crate) mod tests;

/// Sections of a UKI in the order the stub measures them into PCR 11 (systemd 257, `unified_sections`).
/// `.pcrsig` is left out: it signs the result, and the stub does not measure it.
pub const MEASURED_SECTIONS: [&str; 13] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids",
];

const SECTION_LEN: usize = 40;
/// Initialised data, readable.
const DATA: u32 = 0x4000_0040;

/// Why no UKI could be made.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The stub is not a PE file.
    #[error("the boot stub can not be used")]
    Stub(#[source] PeError),
    /// The stub is signed; adding sections would break the signature.
    #[error("the boot stub is signed")]
    Signed,
    /// The stub has a section of that name already.
    #[error("the boot stub has a section {0} already")]
    Duplicate(String),
    /// The section table can not grow.
    #[error("the boot stub has no room for {0} more section headers")]
    NoRoom(usize),
    /// A section name does not fit its field, or the image is too large.
    #[error("section {0} does not fit")]
    TooLarge(String),
}

/// Appends `sections` (name, content) to `stub`.
///
/// # Errors
///
/// See [`BuildError`].
pub fn build(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, BuildError> {
    let pe = Pe::parse(stub).map_err(BuildError::Stub)?;
    if pe.is_signed() {
        return Err(BuildError::Signed);
    }
    let layout = pe.layout();
    let count = pe.sections().len();
    let table_end = layout.section_table + (count + sections.len()) * SECTION_LEN;
    let first_raw = pe
        .sections()
        .iter()
        .filter(|section| section.raw_size > 0)
        .map(|section| section.raw_offset)
        .min();
    let limit = first_raw
        .and_then(|raw| usize::try_from(raw).ok())
        .unwrap_or(layout.header_len);
    if table_end > limit.min(layout.header_len) {
        return Err(BuildError::NoRoom(sections.len()));
    }
    let mut out = stub.to_vec();
    let mut address = pe
        .sections()
        .iter()
        .map(|section| section.virtual_address.saturating_add(section.virtual_size));
    let mut address = address.by_ref().max().unwrap_or_default();
    for (index, (name, content)) in sections.iter().enumerate() {
        let too_large = || BuildError::TooLarge((*name).to_owned());
        if pe.sections().iter().any(|section| section.name == *name) {
            return Err(BuildError::Duplicate((*name).to_owned()));
        }
        let mut field = [0; 8];
        field
            .get_mut(..name.len())
            .ok_or_else(too_large)?
            .copy_from_slice(name.as_bytes());
        pad(&mut out, layout.file_alignment);
        address = align(address, layout.section_alignment).ok_or_else(too_large)?;
        let raw_offset = u32::try_from(out.len()).map_err(|_| too_large())?;
        let virtual_size = u32::try_from(content.len()).map_err(|_| too_large())?;
        out.extend_from_slice(content);
        pad(&mut out, layout.file_alignment);
        let raw_size = u32::try_from(out.len()).map_err(|_| too_large())? - raw_offset;
        let mut header = Vec::with_capacity(SECTION_LEN);
        header.extend_from_slice(&field);
        for value in [virtual_size, address, raw_size, raw_offset, 0, 0, 0, DATA] {
            header.extend_from_slice(&value.to_le_bytes());
        }
        put(
            &mut out,
            layout.section_table + (count + index) * SECTION_LEN,
            &header,
        );
        address = address.checked_add(virtual_size).ok_or_else(too_large)?;
    }
    let total =
        u16::try_from(count + sections.len()).map_err(|_| BuildError::NoRoom(sections.len()))?;
    put(&mut out, layout.section_count, &total.to_le_bytes());
    let image_len = align(address, layout.section_alignment)
        .ok_or_else(|| BuildError::TooLarge("image".to_owned()))?;
    put(&mut out, layout.optional + 56, &image_len.to_le_bytes());
    Ok(out)
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    // In range: the headers were parsed from the same bytes, and the table's room was checked.
    if let Some(target) = out.get_mut(at..at + bytes.len()) {
        target.copy_from_slice(bytes);
    }
}

fn pad(out: &mut Vec<u8>, alignment: u32) {
    let alignment = usize::try_from(alignment.max(1)).unwrap_or(1);
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn align(value: u32, alignment: u32) -> Option<u32> {
    value.checked_next_multiple_of(alignment.max(1))
}
