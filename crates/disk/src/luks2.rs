//! The guard before every LUKS2 header (specification: "LUKS2 On-Disk Format Specification", version 1.1.4).
//!
//! The header of a disk is the host's input: it is only checksummed, and it says how the disk is to be decrypted. A host that
//! rewrites it can ask for a null cipher (CVE-2025-58356, CVE-2025-59054), a second unencrypted segment, a re-encryption
//! that decrypts, or no integrity. So:
//!
//! 1. the header is read once into memory, and never again from the disk;
//! 2. [`VerifiedHeader::parse`] accepts exactly one shape, and names the field that deviates;
//! 3. `cryptsetup` gets a detached header that is *written anew from the parsed values* ([`VerifiedHeader::encode`]), so that its
//!    parser never sees the host's text, and two parsers can not read one text in two ways.
//!
//! What it does not do: decide whether a disk is the right one (that is the key: another disk's header does not open with it),
//! or detect that the whole disk is an older copy of itself. The dm-integrity superblock behind the header is the host's
//! input too; its reader is the kernel, which takes from it the layout and no algorithm.

mod binary;
pub(crate) mod commit;
mod json;
mod metadata;

use core::fmt;
use core::ops::Range;

use uuid::Uuid;

pub use json::{HeaderError, Problem};
use metadata::Metadata;

/// Bytes before the keyslot area: two copies of binary header and JSON.
pub const HEADERS_SIZE: usize = 2 * COPY_SIZE;
/// Bytes before the data.
pub const DATA_OFFSET: u64 = 16 * 1024 * 1024;

const COPY_SIZE: usize = binary::SIZE + JSON_SIZE;
const JSON_SIZE: usize = 12 * 1024;

/// What a header is for; the two kinds have one accepted shape each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node's state disk: with integrity, and with our token once a node has set it.
    StateDisk,
    /// A volume without integrity, without a token.
    Volume,
}

/// Which of the two copies of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    Primary,
    Secondary,
}

impl Copy {
    const ALL: [Self; 2] = [Self::Primary, Self::Secondary];

    pub(crate) fn offset(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Secondary => COPY_SIZE,
        }
    }
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// A header that has the one accepted shape. Opening a disk demands it.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedHeader {
    binary: binary::Header,
    metadata: Metadata,
    secondary_is_blank: bool,
}

impl VerifiedHeader {
    /// Whether there is the start of a LUKS header at all, in either place. Says nothing about its being acceptable.
    pub fn is_present(bytes: &[u8]) -> bool {
        Copy::ALL.into_iter().any(|copy| {
            let at = copy.offset();
            let start = bytes.get(at..at + binary::MAGIC_SIZE);
            // Either magic in either place: a header that was moved is not no header.
            start.is_some_and(|start| Copy::ALL.iter().any(|copy| start == binary::magic(*copy)))
        })
    }

    /// Parses the first [`HEADERS_SIZE`] bytes of a device. What comes after them is not looked at.
    pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Self, HeaderError> {
        let copy = |copy: Copy| {
            let at = copy.offset();
            bytes
                .get(at..at + COPY_SIZE)
                .and_then(|bytes| bytes.split_at_checked(binary::SIZE))
                .ok_or_else(|| HeaderError::new("header", Problem::Missing))
        };
        let (primary, primary_json) = copy(Copy::Primary)?;
        let (secondary, secondary_json) = copy(Copy::Secondary)?;

        let header = binary::Header::parse(Copy::Primary, primary, primary_json)?;
        // The blank sector is the last step of writing a header not yet done (`commit`); it is written again then.
        let secondary_is_blank = binary::is_blank(secondary);
        if !secondary_is_blank {
            let other = binary::Header::parse(Copy::Secondary, secondary, secondary_json)?;
            header.check_same(&other)?;
        }
        if primary_json != secondary_json {
            return Err(HeaderError::new("secondary.json", Problem::Differs));
        }
        let metadata = Metadata::parse(kind, primary_json)?;
        Ok(Self {
            binary: header,
            metadata,
            secondary_is_blank,
        })
    }

    /// The UUID, which names the disk's key.
    pub fn uuid(&self) -> Uuid {
        self.binary.uuid
    }

    /// Whether a node has set its own key on this disk.
    pub fn is_initialized(&self) -> bool {
        self.metadata.initialized == Some(true)
    }

    /// Where the encrypted volume key is on the device.
    pub fn keyslot_area(&self) -> Range<u64> {
        self.metadata.keyslot_area()
    }

    /// Whether the second copy is still to be written.
    pub(crate) fn secondary_is_blank(&self) -> bool {
        self.secondary_is_blank
    }

    /// The same header with our token.
    pub(crate) fn with_token(mut self, initialized: bool) -> Self {
        self.metadata.initialized = Some(initialized);
        self.binary.sequence = self.binary.sequence.saturating_add(1);
        self
    }

    /// Both copies, written anew from the parsed values: [`HEADERS_SIZE`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let json = self.metadata.encode();
        let mut bytes = Vec::with_capacity(HEADERS_SIZE);
        for copy in Copy::ALL {
            bytes.extend_from_slice(&self.binary.encode(copy, &json));
            bytes.extend_from_slice(&json);
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
