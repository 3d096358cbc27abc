//! Reads and writes the partition table of an image.
//!
//! The reader is for images this project built (it finds the ESP); the firmware and the kernel have their own. The writer makes
//! the whole table from the partitions' content, with no free identifiers: the result depends on the arguments alone.
//!
//! Specification: UEFI 2.10 chapter 5; Discoverable Partitions Specification (UAPI.2) for the type identifiers.

use thiserror::Error;

use crate::bytes::{array_at, range, u32_at, u64_at};

#[cfg(test)]
mod tests;

/// Logical block size. Images are made for disks with 512-byte sectors.
pub const SECTOR: usize = 512;
/// Type of the EFI system partition.
pub const ESP: Guid = Guid::from_text(*b"c12a7328f81f11d2ba4b00a0c93ec93b");
/// Type of the root partition for x86-64.
pub const ROOT: Guid = Guid::from_text(*b"4f68bce3e8cd4db196e7fbcaf984b709");
/// Type of the verity data for the root partition for x86-64.
pub const ROOT_VERITY: Guid = Guid::from_text(*b"2c7357edebd246d9aec123d437ec2bf5");

const ENTRIES: usize = 128;
const ENTRY_LEN: usize = 128;
const HEADER_LEN: usize = 92;
const MIB: usize = 1 << 20;
const READ_ONLY: u64 = 1 << 60;

/// A GUID, kept in the order in which it is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    const fn from_text(text: [u8; 32]) -> Self {
        let mut bytes = [0; 16];
        let mut at = 0;
        while at < 16 {
            bytes[at] = nibble(text[2 * at]) << 4 | nibble(text[2 * at + 1]);
            at += 1;
        }
        Self(bytes)
    }

    /// On disk the first three fields are little-endian.
    fn to_disk(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }

    fn from_disk(bytes: [u8; 16]) -> Self {
        // The conversion is its own inverse.
        Self(Self(bytes).to_disk())
    }
}

const fn nibble(digit: u8) -> u8 {
    if digit.is_ascii_digit() {
        digit - b'0'
    } else {
        digit - b'a' + 10
    }
}

/// Why a disk has no usable partition table.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum GptError {
    /// The disk ends before the table does.
    #[error("the disk ends inside of the partition table")]
    Truncated,
    /// No GPT there.
    #[error("no GPT signature")]
    Signature,
    /// A size field has a value that no image of this project has.
    #[error("unusual geometry of the partition table")]
    Geometry,
    /// A checksum does not match.
    #[error("wrong checksum of the partition table's {0}")]
    Checksum(&'static str),
    /// A partition reaches beyond the disk or ends before it starts.
    #[error("partition {0} lies outside of the disk")]
    Range(usize),
}

/// One partition of a table that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Its own identifier.
    pub id: Guid,
    /// First byte on the disk.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// One partition to write.
#[derive(Debug)]
pub struct Content<'a> {
    /// What it is for.
    pub kind: Guid,
    /// Its own identifier.
    pub id: Guid,
    /// Name in the table, ASCII.
    pub name: &'a str,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

/// Reads the primary table from the first bytes of a disk that is `disk_len` bytes long.
///
/// # Errors
///
/// See [`GptError`].
pub fn parse(start: &[u8], disk_len: u64) -> Result<Vec<Partition>, GptError> {
    let header = range(start, SECTOR, HEADER_LEN).ok_or(GptError::Truncated)?;
    if header.get(..8) != Some(b"EFI PART") {
        return Err(GptError::Signature);
    }
    let field = |at| u32_at(header, at).ok_or(GptError::Truncated);
    let table_at = u64_at(header, 72).ok_or(GptError::Truncated)?;
    let sizes = (
        u32_at(header, 12),
        table_at,
        u32_at(header, 80),
        u32_at(header, 84),
    );
    if sizes
        != (
            u32::try_from(HEADER_LEN).ok(),
            2,
            u32::try_from(ENTRIES).ok(),
            u32::try_from(ENTRY_LEN).ok(),
        )
    {
        return Err(GptError::Geometry);
    }
    let mut zeroed = header.to_vec();
    zeroed
        .iter_mut()
        .skip(16)
        .take(4)
        .for_each(|byte| *byte = 0);
    if crc32(&zeroed) != field(16)? {
        return Err(GptError::Checksum("header"));
    }
    let table = range(start, 2 * SECTOR, ENTRIES * ENTRY_LEN).ok_or(GptError::Truncated)?;
    if crc32(table) != field(88)? {
        return Err(GptError::Checksum("entries"));
    }
    let mut partitions = Vec::new();
    for (index, entry) in table.chunks_exact(ENTRY_LEN).enumerate() {
        let kind: [u8; 16] = array_at(entry, 0).ok_or(GptError::Truncated)?;
        if kind == [0; 16] {
            continue;
        }
        let first = u64_at(entry, 32).ok_or(GptError::Truncated)?;
        let last = u64_at(entry, 40).ok_or(GptError::Truncated)?;
        let blocks = last
            .checked_sub(first)
            .and_then(|blocks| blocks.checked_add(1));
        let (offset, len) = blocks
            .and_then(|blocks| {
                Some((
                    first.checked_mul(SECTOR as u64)?,
                    blocks.checked_mul(SECTOR as u64)?,
                ))
            })
            .filter(|(offset, len)| offset.checked_add(*len).is_some_and(|end| end <= disk_len))
            .ok_or(GptError::Range(index))?;
        let id = Guid::from_disk(array_at(entry, 16).ok_or(GptError::Truncated)?);
        partitions.push(Partition {
            kind: Guid::from_disk(kind),
            id,
            offset,
            len,
        });
    }
    Ok(partitions)
}

/// Writes a disk with these partitions, each aligned to a MiB, and both copies of the table.
#[must_use]
pub fn build(disk_id: Guid, partitions: &[Content<'_>]) -> Vec<u8> {
    let mut disk = vec![0; MIB];
    let mut table = Vec::with_capacity(ENTRIES * ENTRY_LEN);
    for partition in partitions {
        let first = disk.len() / SECTOR;
        disk.extend_from_slice(partition.bytes);
        disk.resize(disk.len().next_multiple_of(MIB), 0);
        table.extend_from_slice(&partition.kind.to_disk());
        table.extend_from_slice(&partition.id.to_disk());
        for value in [first as u64, (disk.len() / SECTOR - 1) as u64, READ_ONLY] {
            table.extend_from_slice(&value.to_le_bytes());
        }
        let mut name: Vec<u8> = partition
            .name
            .encode_utf16()
            .take(36)
            .flat_map(u16::to_le_bytes)
            .collect();
        name.resize(72, 0);
        table.extend_from_slice(&name);
    }
    table.resize(ENTRIES * ENTRY_LEN, 0);
    disk.resize(disk.len() + MIB, 0);

    let last = disk.len() / SECTOR - 1;
    let table_sectors = table.len() / SECTOR;
    let header = |this: usize, other: usize, table_at: usize| {
        let mut header = b"EFI PART\x00\x00\x01\x00".to_vec();
        header.extend_from_slice(&[0x5c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for value in [this, other, 2 + table_sectors, last - table_sectors - 1] {
            header.extend_from_slice(&(value as u64).to_le_bytes());
        }
        header.extend_from_slice(&disk_id.to_disk());
        header.extend_from_slice(&(table_at as u64).to_le_bytes());
        header.extend_from_slice(&[0x80, 0, 0, 0, 0x80, 0, 0, 0]);
        header.extend_from_slice(&crc32(&table).to_le_bytes());
        let checksum = crc32(&header);
        header.splice(16..20, checksum.to_le_bytes());
        header
    };
    let primary = header(1, last, 2);
    let backup = header(last, 1, last - table_sectors);
    let mut put = |sector: usize, bytes: &[u8]| {
        if let Some(place) = disk.get_mut(sector * SECTOR..sector * SECTOR + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &protective_mbr(last));
    put(1, &primary);
    put(2, &table);
    put(last - table_sectors, &table);
    put(last, &backup);
    disk
}

/// Says to those who know no GPT that the whole disk is in use.
fn protective_mbr(last: usize) -> Vec<u8> {
    let mut sector = vec![0; 446];
    sector.extend_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    sector.extend_from_slice(&u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes());
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector
}

/// CRC-32 of IEEE 802.3, bit by bit: it runs over 16 KiB.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}
