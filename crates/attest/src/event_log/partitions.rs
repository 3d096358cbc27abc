//! `UEFI_GPT_DATA` (PC Client Platform Firmware Profile, 10.2.5): the partition table of the disk that was booted from.

use super::variable::{length, utf16_text};
use super::{Explained, Guid, Said, event_type};
use crate::tpm::{ParseError, Reader};

/// As many as the usual table has room for.
const MAX_PARTITIONS: usize = 128;
const ENTRY: u32 = 128;
/// `EFI_PARTITION_TABLE_HEADER` without its padding.
const HEADER: u32 = 92;

/// A partition in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// Its own number.
    pub id: Guid,
    /// First and last block, both of it.
    pub blocks: (u64, u64),
    /// Attributes.
    pub attributes: u64,
    /// Its name.
    pub name: String,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTable {
    /// The disk's number.
    pub disk: Guid,
    /// The partitions in use.
    pub partitions: Vec<Partition>,
}

impl PartitionTable {
    /// Reads one, without a byte left over.
    ///
    /// # Errors
    /// When it is cut off, is none, something follows, or a bound is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(bytes);
        let signature: [u8; 8] = reader.array("Signature")?;
        if &signature != b"EFI PART" {
            return Err(ParseError::Unsupported {
                field: "Signature",
                value: u64::from_be_bytes(signature),
            });
        }
        reader.u32("Revision")?;
        let size = reader.u32("HeaderSize")?;
        if size != HEADER {
            return Err(ParseError::Unsupported {
                field: "HeaderSize",
                value: size.into(),
            });
        }
        reader.bytes("HeaderCRC32 to LastUsableLBA", 40)?;
        let disk = Guid::from_bytes(reader.array("DiskGUID")?);
        reader.u64("PartitionEntryLBA")?;
        reader.u32("NumberOfPartitionEntries")?;
        let entry = reader.u32("SizeOfPartitionEntry")?;
        if entry != ENTRY {
            return Err(ParseError::Unsupported {
                field: "SizeOfPartitionEntry",
                value: entry.into(),
            });
        }
        reader.u32("PartitionEntryArrayCRC32")?;
        let count = length(&mut reader, "NumberOfPartitions", MAX_PARTITIONS)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(partition(&mut reader)?);
        }
        reader.finish("UEFI_GPT_DATA")?;
        Ok(Self { disk, partitions })
    }
}

fn partition(reader: &mut Reader<'_>) -> Result<Partition, ParseError> {
    const NAME: usize = 72;
    Ok(Partition {
        kind: Guid::from_bytes(reader.array("PartitionTypeGUID")?),
        id: Guid::from_bytes(reader.array("UniquePartitionGUID")?),
        blocks: (reader.u64("StartingLBA")?, reader.u64("EndingLBA")?),
        attributes: reader.u64("Attributes")?,
        name: utf16_text(reader.bytes("PartitionName", NAME)?).ok_or(ParseError::Unsupported {
            field: "PartitionName",
            value: NAME as u64,
        })?,
    })
}

impl Explained<'_> {
    /// The partition tables that were measured, in order; an error for one that cannot be read.
    #[must_use]
    pub fn partition_tables(&self) -> Vec<Result<Said<PartitionTable>, ParseError>> {
        self.events()
            .filter(|event| event.kind == event_type::EFI_GPT_EVENT)
            .map(|event| {
                let table = PartitionTable::parse(event.data)?;
                Ok(if event.covers_data() {
                    Said::Measured(table)
                } else {
                    Said::Claimed(table)
                })
            })
            .collect()
    }
}
