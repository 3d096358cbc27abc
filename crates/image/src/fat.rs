//! The EFI system partition: a FAT32 file system that holds one file, the UKI, in one piece.
//!
//! The firmware reads it; nothing else does, and nobody writes to it after the build. Because the file is in one piece, where it
//! lies can be told from the boot sector and two directory entries.
//!
//! Specification: Microsoft "FAT32 File System Specification" 1.03.

use thiserror::Error;

use crate::bytes::{array_at, range, u16_at, u32_at};

#[cfg(test)]
mod tests;

const SECTOR: usize = 512;
const RESERVED: usize = 32;
/// Below this number of clusters a driver takes the file system for FAT16.
const MIN_CLUSTERS: usize = 65_525;
const FIRST_CLUSTER: usize = 2;
/// Root directory, `EFI`, `BOOT`: one cluster each.
const DIRECTORIES: usize = 3;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// 1980-01-01, the first day FAT can tell.
const DATE: u16 = 0x0021;

/// Why a partition is not an ESP as this module writes it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FatError {
    /// The file is too long for FAT.
    #[error("the UKI is too large for a FAT file system")]
    TooLarge,
    /// Not a FAT32 file system.
    #[error("not a FAT32 file system with 512-byte clusters")]
    Format,
    /// The path is not there.
    #[error("no file EFI/BOOT/BOOTX64.EFI")]
    NotFound,
    /// The file is in pieces, or reaches beyond the partition.
    #[error("EFI/BOOT/BOOTX64.EFI is not in one piece inside of the partition")]
    Fragmented,
}

/// A file system with `uki` as `EFI/BOOT/BOOTX64.EFI`.
///
/// # Errors
///
/// When `uki` has 4 GiB or more.
pub fn build(uki: &[u8]) -> Result<Vec<u8>, FatError> {
    let uki_len = u32::try_from(uki.len()).map_err(|_| FatError::TooLarge)?;
    let file_clusters = uki.len().div_ceil(SECTOR);
    let clusters = (DIRECTORIES + file_clusters + 1).max(MIN_CLUSTERS + 16);
    let fat_sectors = ((clusters + FIRST_CLUSTER) * 4).div_ceil(SECTOR);
    let sectors = RESERVED + 2 * fat_sectors + clusters;
    let sector_count = u32::try_from(sectors).map_err(|_| FatError::TooLarge)?;

    let mut table = vec![
        0x0fff_fff8,
        END_OF_CHAIN,
        END_OF_CHAIN,
        END_OF_CHAIN,
        END_OF_CHAIN,
    ];
    let file_start = u32::try_from(table.len()).map_err(|_| FatError::TooLarge)?;
    let file_end = file_start + u32::try_from(file_clusters).map_err(|_| FatError::TooLarge)?;
    table.extend(
        (file_start + 1..=file_end).map(|next| if next == file_end { END_OF_CHAIN } else { next }),
    );
    let mut fat: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
    fat.resize(fat_sectors * SECTOR, 0);

    let boot = boot_sector(
        sector_count,
        u32::try_from(fat_sectors).map_err(|_| FatError::TooLarge)?,
    );
    let info = info_sector();
    let mut out = Vec::with_capacity(sectors * SECTOR);
    // Boot sector, information sector, and their copies at sector 6.
    for sector in [&boot, &info] {
        out.extend_from_slice(sector);
    }
    out.resize(6 * SECTOR, 0);
    for sector in [&boot, &info] {
        out.extend_from_slice(sector);
    }
    out.resize(RESERVED * SECTOR, 0);
    out.extend_from_slice(&fat);
    out.extend_from_slice(&fat);
    let directories = [
        vec![
            entry(b"CONSTEL    ", 0x08, 0, 0),
            entry(b"EFI        ", 0x10, 3, 0),
        ],
        vec![
            entry(b".          ", 0x10, 3, 0),
            entry(b"..         ", 0x10, 0, 0),
            entry(b"BOOT       ", 0x10, 4, 0),
        ],
        vec![
            entry(b".          ", 0x10, 4, 0),
            entry(b"..         ", 0x10, 3, 0),
            entry(b"BOOTX64 EFI", 0x21, file_start, uki_len),
        ],
    ];
    for directory in directories {
        out.extend(directory.concat());
        out.resize(out.len().next_multiple_of(SECTOR), 0);
    }
    out.extend_from_slice(uki);
    out.resize(sectors * SECTOR, 0);
    Ok(out)
}

/// Where the UKI lies in the partition: offset and length.
///
/// # Errors
///
/// See [`FatError`].
pub fn find_uki(partition: &[u8]) -> Result<(usize, usize), FatError> {
    let geometry = (
        u16_at(partition, 11),
        partition.get(13),
        u16_at(partition, 17),
        u16_at(partition, 22),
    );
    if geometry != (Some(512), Some(&1), Some(0), Some(0)) || u16_at(partition, 510) != Some(0xaa55)
    {
        return Err(FatError::Format);
    }
    let reserved = usize::from(u16_at(partition, 14).ok_or(FatError::Format)?);
    let fats = usize::from(*partition.get(16).ok_or(FatError::Format)?);
    let fat_sectors = size(u32_at(partition, 36).ok_or(FatError::Format)?);
    let data = fats
        .checked_mul(fat_sectors)
        .and_then(|sectors| sectors.checked_add(reserved));
    let data = data
        .and_then(|sectors| sectors.checked_mul(SECTOR))
        .ok_or(FatError::Format)?;
    let offset = |cluster: usize| {
        cluster
            .checked_sub(FIRST_CLUSTER)
            .and_then(|index| index.checked_mul(SECTOR))
            .and_then(|at| at.checked_add(data))
    };
    let mut cluster = size(u32_at(partition, 44).ok_or(FatError::Format)?);
    let mut len = 0;
    for name in [b"EFI        ", b"BOOT       ", b"BOOTX64 EFI"] {
        let directory = offset(cluster)
            .and_then(|at| range(partition, at, SECTOR))
            .ok_or(FatError::NotFound)?;
        let entry = directory
            .chunks_exact(32)
            .find(|entry| entry.get(..11) == Some(name))
            .ok_or(FatError::NotFound)?;
        let high = usize::from(u16_at(entry, 20).ok_or(FatError::NotFound)?);
        cluster = high << 16 | usize::from(u16_at(entry, 26).ok_or(FatError::NotFound)?);
        len = size(u32_at(entry, 28).ok_or(FatError::NotFound)?);
    }
    let start = offset(cluster)
        .filter(|&at| range(partition, at, len).is_some())
        .ok_or(FatError::Fragmented)?;
    let clusters = len.div_ceil(SECTOR);
    let fat = reserved.checked_mul(SECTOR).ok_or(FatError::Format)?;
    for this in cluster..cluster.saturating_add(clusters.saturating_sub(1)) {
        let at = this
            .checked_mul(4)
            .and_then(|at| at.checked_add(fat))
            .ok_or(FatError::Fragmented)?;
        let next: [u8; 4] = array_at(partition, at).ok_or(FatError::Fragmented)?;
        if size(u32::from_le_bytes(next) & END_OF_CHAIN) != this + 1 {
            return Err(FatError::Fragmented);
        }
    }
    Ok((start, len))
}

fn boot_sector(sectors: u32, fat_sectors: u32) -> Vec<u8> {
    let mut out = vec![0xeb, 0x58, 0x90];
    out.extend_from_slice(b"CONSTEL ");
    out.extend_from_slice(&[
        0, 2, 1, 32, 0, 2, 0, 0, 0, 0, 0xf8, 0, 0, 63, 0, 255, 0, 0, 0, 0, 0,
    ]);
    out.extend_from_slice(&sectors.to_le_bytes());
    out.extend_from_slice(&fat_sectors.to_le_bytes());
    // Flags, version, root cluster, information sector, copy of the boot sector.
    out.extend_from_slice(&[0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 6, 0]);
    out.resize(64, 0);
    out.extend_from_slice(&[0x80, 0, 0x29, 0x4c, 0x53, 0x4e, 0x43]);
    out.extend_from_slice(b"CONSTEL    FAT32   ");
    out.resize(510, 0);
    out.extend_from_slice(&[0x55, 0xaa]);
    out
}

/// The information sector with nothing known about free clusters.
fn info_sector() -> Vec<u8> {
    let mut out = b"RRaA".to_vec();
    out.resize(484, 0);
    out.extend_from_slice(b"rrAa\xff\xff\xff\xff\xff\xff\xff\xff");
    out.resize(510, 0);
    out.extend_from_slice(&[0x55, 0xaa]);
    out
}

fn entry(name: &[u8; 11], attributes: u8, cluster: u32, len: u32) -> Vec<u8> {
    let [a, b, c, d] = cluster.to_le_bytes();
    let [y, z] = DATE.to_le_bytes();
    let mut out = name.to_vec();
    out.extend_from_slice(&[attributes, 0, 0, 0, 0, y, z, y, z, c, d, 0, 0, y, z, a, b]);
    out.extend_from_slice(&len.to_le_bytes());
    out
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
