//! A built image on disk: `image.raw`, `measurements.json`, `info.json`.
//!
//! It believes nothing the files say about security: the measurements in a policy come from where the user took them, and a
//! machine is judged by its evidence.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use attest::{ImageMeasurements, ImageMeasurementsError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{fat, gpt};

/// A partition table and what precedes it.
const TABLE_LEN: usize = 34 * gpt::SECTOR;
/// An ESP of this project has tens of MiB.
const MAX_ESP: u64 = 1 << 30;
const MAX_JSON: u64 = 256 * 1024;

/// `info.json`: which images there are and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInfo {
    /// Branch, `-` for a release.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Such as `stable`.
    pub stream: String,
    /// Such as `v0.1.0`.
    pub version: String,
    /// One entry for each provider and variant.
    pub list: Vec<ImageReference>,
}

/// Where the image for a provider and a variant is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ImageReference {
    /// Such as `qemu`.
    pub csp: String,
    /// Such as `qemu-vtpm`.
    pub attestation_variant: String,
    /// A file name beside `info.json`.
    pub reference: String,
}

/// Why a directory holds no usable image.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A file can not be read.
    #[error("can not read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// `info.json` is not what it should be.
    #[error("{0} is not an image description")]
    Info(PathBuf, #[source] serde_json::Error),
    /// `measurements.json` is not what it should be.
    #[error("{0} has no measurements")]
    Measurements(PathBuf, #[source] ImageMeasurementsError),
    /// The disk has no partition table of this project.
    #[error("{0} has no usable partition table")]
    Table(PathBuf, #[source] gpt::GptError),
    /// The disk has no EFI system partition, or one that is far too large.
    #[error("{0} has no EFI system partition")]
    NoEsp(PathBuf),
    /// The ESP has no UKI where this project puts it.
    #[error("the EFI system partition of {0} has no UKI")]
    NoUki(PathBuf, #[source] fat::FatError),
}

/// An image and what belongs to it.
#[derive(Debug)]
pub struct Image {
    disk: PathBuf,
    info: ImageInfo,
    measurements: ImageMeasurements,
}

impl Image {
    /// Name of the disk in an image's directory.
    pub const DISK: &'static str = "image.raw";
    /// Name of the description.
    pub const INFO: &'static str = "info.json";
    /// Name of the measurements.
    pub const MEASUREMENTS: &'static str = "measurements.json";

    /// Opens the image in `directory`.
    ///
    /// # Errors
    ///
    /// When a file is missing or not what it should be. The disk's content is not read.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let read = |name: &str| {
            let path = directory.join(name);
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|file| file.take(MAX_JSON).read_to_end(&mut bytes))
                .map_err(|error| OpenError::Read(path.clone(), error))?;
            Ok((path, bytes))
        };
        let (path, bytes) = read(Self::INFO)?;
        let info = serde_json::from_slice(&bytes).map_err(|error| OpenError::Info(path, error))?;
        let (path, bytes) = read(Self::MEASUREMENTS)?;
        let measurements = ImageMeasurements::from_json(&bytes)
            .map_err(|error| OpenError::Measurements(path, error))?;
        let disk = directory.join(Self::DISK);
        std::fs::metadata(&disk).map_err(|error| OpenError::Read(disk.clone(), error))?;
        Ok(Self {
            disk,
            info,
            measurements,
        })
    }

    /// The disk's path.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// The description.
    #[must_use]
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }

    /// The measurements the build predicted.
    #[must_use]
    pub fn measurements(&self) -> &ImageMeasurements {
        &self.measurements
    }

    /// Where the UKI lies in the disk. It is in one piece: whoever holds the disk can read or overwrite it there.
    ///
    /// # Errors
    ///
    /// When the disk is not one of this project.
    pub fn uki_range(&self) -> Result<Range<u64>, OpenError> {
        uki_range(&self.disk)
    }

    /// The UKI.
    ///
    /// # Errors
    ///
    /// When the disk is not one of this project.
    pub fn uki(&self) -> Result<Vec<u8>, OpenError> {
        let range = self.uki_range()?;
        read_range(&self.disk, range.start, range.end - range.start)
    }
}

/// Where the UKI lies in the disk at `path`.
///
/// # Errors
///
/// When the disk is not one of this project.
pub fn uki_range(path: &Path) -> Result<Range<u64>, OpenError> {
    let len = std::fs::metadata(path)
        .map_err(|error| OpenError::Read(path.to_owned(), error))?
        .len();
    let start = read_range(path, 0, len.min(TABLE_LEN as u64))?;
    let partitions =
        gpt::parse(&start, len).map_err(|error| OpenError::Table(path.to_owned(), error))?;
    let esp = partitions
        .iter()
        .find(|partition| partition.kind == gpt::ESP && partition.len <= MAX_ESP);
    let esp = esp.ok_or_else(|| OpenError::NoEsp(path.to_owned()))?;
    let bytes = read_range(path, esp.offset, esp.len)?;
    let (offset, len) =
        fat::find_uki(&bytes).map_err(|error| OpenError::NoUki(path.to_owned(), error))?;
    let start = esp.offset + offset as u64;
    Ok(start..start + len as u64)
}

fn read_range(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>, OpenError> {
    let read = || {
        let mut bytes = Vec::new();
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| OpenError::Read(path.to_owned(), error))
}
