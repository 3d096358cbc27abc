//! The binary header of one copy: 4096 bytes, big-endian, its SHA-256 over itself (checksum zeroed) and the JSON area.

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

use super::json::{HeaderError, Problem, printable};
use super::{COPY_SIZE, Copy, JSON_SIZE};

pub(super) const SIZE: usize = 4096;
pub(super) const MAGIC_SIZE: usize = 6;
/// All fields lie in the first sector: writing it is what makes a header appear (`commit`).
pub(crate) const SECTOR: usize = 512;

const VERSION: u16 = 2;
const CHECKSUM_ALGORITHM: &str = "sha256";
const CHECKSUM_SIZE: usize = 32;

/// The fields that are not the same in every header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) uuid: Uuid,
    pub(super) sequence: u64,
    salt: [u8; 64],
}

pub(super) fn magic(copy: Copy) -> &'static [u8; MAGIC_SIZE] {
    match copy {
        Copy::Primary => b"LUKS\xba\xbe",
        Copy::Secondary => b"SKUL\xba\xbe",
    }
}

pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

impl Header {
    pub(super) fn parse(copy: Copy, bytes: &[u8], json: &[u8]) -> Result<Self, HeaderError> {
        let error = |field: &str, problem| HeaderError::new(format!("{copy}.{field}"), problem);
        let mut fields = Fields { rest: bytes };

        if fields.take()? != *magic(copy) {
            return Err(error("magic", Problem::NotA("that of LUKS")));
        }
        let version = u16::from_be_bytes(fields.take()?);
        only(VERSION, version).map_err(|problem| error("version", problem))?;
        let size = u64::from_be_bytes(fields.take()?);
        only(COPY_SIZE as u64, size).map_err(|problem| error("size", problem))?;
        let sequence = u64::from_be_bytes(fields.take()?);
        text("", &fields.take::<48>()?).map_err(|problem| error("label", problem))?;
        text(CHECKSUM_ALGORITHM, &fields.take::<32>()?)
            .map_err(|problem| error("checksum algorithm", problem))?;
        let salt = fields.take()?;
        let uuid = uuid(&fields.take()?).map_err(|problem| error("uuid", problem))?;
        text("", &fields.take::<48>()?).map_err(|problem| error("subsystem", problem))?;
        let offset = u64::from_be_bytes(fields.take()?);
        only(copy.offset() as u64, offset).map_err(|problem| error("offset", problem))?;
        if !is_blank(&fields.take::<184>()?) {
            return Err(error("padding", Problem::NotA("zero")));
        }
        let stored: [u8; CHECKSUM_SIZE] = fields.take()?;
        if !is_blank(fields.rest) {
            return Err(error("padding", Problem::NotA("zero")));
        }
        let header = Self {
            uuid,
            sequence,
            salt,
        };
        // Every byte of the binary header is fixed or in `header`, so this is the checksum of what was read.
        if header.checksum(copy, json) != stored {
            return Err(error("checksum", Problem::Checksum));
        }
        Ok(header)
    }

    /// Checks that two copies say the same. Their salts differ by design: they only make the checksums differ.
    pub(super) fn check_same(&self, other: &Self) -> Result<(), HeaderError> {
        if self.uuid != other.uuid {
            return Err(HeaderError::new("secondary.uuid", Problem::Differs));
        }
        if self.sequence != other.sequence {
            return Err(HeaderError::new("secondary.sequence", Problem::Differs));
        }
        Ok(())
    }

    pub(super) fn encode(&self, copy: Copy, json: &[u8; JSON_SIZE]) -> Vec<u8> {
        let mut bytes = self.encode_without_checksum(copy);
        bytes.extend_from_slice(&self.checksum(copy, json));
        bytes.resize(SIZE, 0);
        bytes
    }

    fn encode_without_checksum(&self, copy: Copy) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(magic(copy));
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(COPY_SIZE as u64).to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        for (text, size) in [("", 48), (CHECKSUM_ALGORITHM, 32)] {
            push_text(&mut bytes, text, size);
        }
        bytes.extend_from_slice(&self.salt);
        for (text, size) in [(self.uuid.to_string().as_str(), 40), ("", 48)] {
            push_text(&mut bytes, text, size);
        }
        bytes.extend_from_slice(&(copy.offset() as u64).to_be_bytes());
        bytes.resize(bytes.len() + 184, 0);
        bytes
    }

    fn checksum(&self, copy: Copy, json: &[u8]) -> [u8; CHECKSUM_SIZE] {
        let mut bytes = self.encode_without_checksum(copy);
        bytes.resize(SIZE, 0);
        let mut context = Context::new(&SHA256);
        context.update(&bytes);
        context.update(json);
        let mut sum = [0; CHECKSUM_SIZE];
        sum.copy_from_slice(context.finish().as_ref());
        sum
    }
}

/// Fields of fixed size from front to back.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let (field, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| HeaderError::new("header", Problem::Missing))?;
        self.rest = rest;
        Ok(*field)
    }
}

fn only<T: PartialEq + ToString>(expected: T, actual: T) -> Result<(), Problem> {
    if actual == expected {
        return Ok(());
    }
    Err(Problem::Not {
        expected: expected.to_string(),
        actual: actual.to_string(),
    })
}

/// A string in a field of zeros.
fn text(expected: &str, field: &[u8]) -> Result<(), Problem> {
    if padded(field) == Some(expected) {
        return Ok(());
    }
    let actual = printable(String::from_utf8_lossy(field).trim_end_matches('\0'));
    Err(Problem::Not {
        expected: format!("\"{expected}\""),
        actual: format!("\"{actual}\""),
    })
}

fn uuid(field: &[u8; 40]) -> Result<Uuid, Problem> {
    let problem = Problem::NotA("a lower-case UUID with hyphens");
    let Some(text) = padded(field) else {
        return Err(problem);
    };
    // The disk's key is derived from the text, so only one text per UUID may pass.
    match Uuid::try_parse(text) {
        Ok(uuid) if uuid.to_string() == text => Ok(uuid),
        Ok(_) | Err(_) => Err(problem),
    }
}

/// The text of a field, if nothing but zeros comes after it.
fn padded(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0)?;
    let (text, padding) = field.split_at_checked(end)?;
    if is_blank(padding) {
        str::from_utf8(text).ok()
    } else {
        None
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str, size: usize) {
    let end = bytes.len() + size;
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(end, 0);
}
