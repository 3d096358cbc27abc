//! A strict parser of PE32+ files, as far as measuring one needs it: sections and the Authenticode digest.
//!
//! It does not check signatures, relocate or load. What the firmware would refuse or what two readers could understand in two
//! ways (sections outside of the file, overlapping ones, a certificate table that is not at the end) is an error.
//!
//! Specification: Microsoft "PE Format" and "Windows Authenticode Portable Executable Signature Format"; the digest is
//! computed as EDK II does it for PCR 4 (`SecurityPkg/Library/DxeTpm2MeasureBootLib`).

use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;

use crate::bytes::{array_at, range, u16_at, u32_at};

#[cfg(test)]
mod tests;

/// More than any boot stub has; a bound for the loops below.
const MAX_SECTIONS: usize = 96;
const COFF_LEN: usize = 24;
const SECTION_LEN: usize = 40;
const CERTIFICATE_DIRECTORY: usize = 4;

/// Why bytes are not a PE file that can be measured.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PeError {
    /// The file ends inside of a header.
    #[error("the file ends inside of its {0}")]
    Truncated(&'static str),
    /// A magic number is wrong.
    #[error("no {0} signature")]
    Signature(&'static str),
    /// Not a 64-bit file.
    #[error("optional header magic {0:#06x} is not PE32+")]
    NotPe32Plus(u16),
    /// Too many sections.
    #[error("{0} sections")]
    TooManySections(usize),
    /// A section lies outside of the file or inside of the headers.
    #[error("section {0} lies outside of the file or inside of the headers")]
    SectionRange(String),
    /// Two sections share bytes of the file.
    #[error("sections {0} and {1} overlap")]
    SectionOverlap(String, String),
    /// Two sections have one name.
    #[error("more than one section {0}")]
    SectionTwice(String),
    /// A section's content is longer than the bytes the file has for it.
    #[error("section {0} is longer in memory than in the file")]
    SectionPadded(String),
    /// The certificate table is not the end of the file.
    #[error("the certificate table is not the last thing in the file")]
    CertificateTable,
}

/// One section header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name without its trailing zeros.
    pub name: String,
    /// Address relative to the image base.
    pub virtual_address: u32,
    /// Size in memory: the length of the content proper.
    pub virtual_size: u32,
    /// Size in the file, with the padding to the file alignment.
    pub raw_size: u32,
    /// Where the section is in the file.
    pub raw_offset: u32,
}

/// Offsets of the header fields that the writer of a UKI changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) section_count: usize,
    pub(crate) optional: usize,
    pub(crate) section_table: usize,
    pub(crate) header_len: usize,
    pub(crate) section_alignment: u32,
    pub(crate) file_alignment: u32,
}

/// A parsed PE32+ file.
#[derive(Debug)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    sections: Vec<Section>,
    layout: Layout,
    checksum: usize,
    /// Offset of the certificate directory entry, if the optional header is long enough to have one.
    certificate_entry: Option<usize>,
    certificate_len: usize,
}

impl<'a> Pe<'a> {
    /// Parses headers and section table.
    ///
    /// # Errors
    ///
    /// See [`PeError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        let dos = "DOS header";
        if range(bytes, 0, 2).ok_or(PeError::Truncated(dos))? != b"MZ" {
            return Err(PeError::Signature("MZ"));
        }
        let pe = size(u32_at(bytes, 0x3c).ok_or(PeError::Truncated(dos))?);
        let coff = range(bytes, pe, COFF_LEN).ok_or(PeError::Truncated("COFF header"))?;
        if array_at(coff, 0) != Some(*b"PE\0\0") {
            return Err(PeError::Signature("PE"));
        }
        let truncated = PeError::Truncated("COFF header");
        let section_count = usize::from(u16_at(coff, 6).ok_or(truncated)?);
        if section_count > MAX_SECTIONS {
            return Err(PeError::TooManySections(section_count));
        }
        let optional_len = usize::from(u16_at(coff, 20).ok_or(PeError::Truncated("COFF header"))?);
        let optional_at = pe + COFF_LEN;
        let optional =
            range(bytes, optional_at, optional_len).ok_or(PeError::Truncated("optional header"))?;
        let field = |at| u32_at(optional, at).ok_or(PeError::Truncated("optional header"));
        let magic = u16_at(optional, 0).ok_or(PeError::Truncated("optional header"))?;
        if magic != 0x20b {
            return Err(PeError::NotPe32Plus(magic));
        }
        let header_len = size(field(60)?);
        let directories = size(field(108)?);
        let entry = 112 + CERTIFICATE_DIRECTORY * 8;
        let (certificate_entry, certificate) = if directories > CERTIFICATE_DIRECTORY {
            (
                Some(optional_at + entry),
                (size(field(entry)?), size(field(entry + 4)?)),
            )
        } else {
            (None, (0, 0))
        };
        let certificate_len = match certificate {
            (_, 0) => 0,
            (at, len) if at.checked_add(len) == Some(bytes.len()) => len,
            _ => return Err(PeError::CertificateTable),
        };
        let section_table = optional_at + optional_len;
        let table = range(bytes, section_table, section_count * SECTION_LEN)
            .ok_or(PeError::Truncated("section table"))?;
        if header_len < section_table + table.len() || header_len > bytes.len() {
            return Err(PeError::Truncated("headers"));
        }
        let sections = table
            .chunks_exact(SECTION_LEN)
            .map(section)
            .collect::<Option<Vec<_>>>();
        let sections = sections.ok_or(PeError::Truncated("section table"))?;
        check_ranges(&sections, header_len, bytes.len() - certificate_len)?;
        let layout = Layout {
            section_count: pe + 6,
            optional: optional_at,
            section_table,
            header_len,
            section_alignment: field(32)?,
            file_alignment: field(36)?,
        };
        Ok(Self {
            bytes,
            sections,
            layout,
            checksum: optional_at + 64,
            certificate_entry,
            certificate_len,
        })
    }

    /// All sections in the order of the table.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the file carries an Authenticode signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.certificate_len > 0
    }

    /// The content of the section `name`, without the padding of the file; `None` if there is no such section.
    ///
    /// # Errors
    ///
    /// When the name is there twice, or the content is not wholly in the file.
    pub fn section(&self, name: &str) -> Result<Option<&'a [u8]>, PeError> {
        let mut found = self.sections.iter().filter(|section| section.name == name);
        let Some(section) = found.next() else {
            return Ok(None);
        };
        if found.next().is_some() {
            return Err(PeError::SectionTwice(name.to_owned()));
        }
        if section.virtual_size > section.raw_size {
            return Err(PeError::SectionPadded(name.to_owned()));
        }
        let content = range(
            self.bytes,
            size(section.raw_offset),
            size(section.virtual_size),
        );
        content
            .map(Some)
            .ok_or_else(|| PeError::SectionRange(name.to_owned()))
    }

    /// The Authenticode SHA-256 digest: everything but the checksum, the certificate directory entry and the certificates.
    #[must_use]
    pub fn authenticode(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        // Every range was checked by `parse`; an empty slice stands for one that was not.
        let mut update =
            |from: usize, to: usize| context.update(self.bytes.get(from..to).unwrap_or_default());
        update(0, self.checksum);
        match self.certificate_entry {
            Some(entry) => {
                update(self.checksum + 4, entry);
                update(entry + 8, self.layout.header_len);
            }
            None => update(self.checksum + 4, self.layout.header_len),
        }
        let mut sections: Vec<_> = self
            .sections
            .iter()
            .filter(|section| section.raw_size > 0)
            .collect();
        sections.sort_by_key(|section| section.raw_offset);
        let mut hashed = self.layout.header_len;
        for section in sections {
            update(
                size(section.raw_offset),
                size(section.raw_offset) + size(section.raw_size),
            );
            hashed += size(section.raw_size);
        }
        update(hashed, self.bytes.len() - self.certificate_len);
        finish(context)
    }
}

fn finish(context: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn section(header: &[u8]) -> Option<Section> {
    let name: [u8; 8] = array_at(header, 0)?;
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    Some(Section {
        name: String::from_utf8_lossy(name.get(..end)?).into_owned(),
        virtual_size: u32_at(header, 8)?,
        virtual_address: u32_at(header, 12)?,
        raw_size: u32_at(header, 16)?,
        raw_offset: u32_at(header, 20)?,
    })
}

fn check_ranges(sections: &[Section], header_len: usize, end: usize) -> Result<(), PeError> {
    let mut ranges: Vec<_> = sections
        .iter()
        .filter(|section| section.raw_size > 0)
        .collect();
    ranges.sort_by_key(|section| section.raw_offset);
    let mut free = header_len;
    let mut last = "";
    for section in ranges {
        let start = size(section.raw_offset);
        let stop = start
            .checked_add(size(section.raw_size))
            .filter(|&stop| stop <= end);
        let Some(stop) = stop.filter(|_| start >= header_len) else {
            return Err(PeError::SectionRange(section.name.clone()));
        };
        if start < free {
            return Err(PeError::SectionOverlap(
                last.to_owned(),
                section.name.clone(),
            ));
        }
        free = stop;
        last = &section.name;
    }
    Ok(())
}

/// `usize` has 64 bits on every machine this runs on; a smaller one sees an impossible offset and refuses.
fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
