//! Looking at a device: new, or the state disk of a node. Reads the header once and changes nothing.

use core::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::luks2::{HEADERS_SIZE, HeaderError, Kind, VerifiedHeader};

/// Room for the header, the integrity metadata and a file system that is of any use.
const MINIMUM_SIZE: u64 = 256 * 1024 * 1024;

/// What the header says a disk is.
#[derive(Debug)]
pub enum Found {
    /// No node has set its key on it.
    New(NewDisk),
    /// It belongs to a node that has joined a cluster.
    Initialized(Box<InitializedDisk>),
}

/// Why a disk is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewDisk {
    /// It has no header.
    NoHeader,
    /// Its header says that no node has set its key.
    NotInitialized,
}

/// An initialised disk's header and encrypted volume key, as read once and verified.
pub struct InitializedDisk {
    pub(super) header: VerifiedHeader,
    pub(super) keyslot: Vec<u8>,
}

impl fmt::Debug for InitializedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InitializedDisk({})", self.uuid())
    }
}

impl InitializedDisk {
    /// The UUID, which names the key that opens the disk.
    pub fn uuid(&self) -> Uuid {
        self.header.uuid()
    }
}

/// A disk could not be looked at, or its header is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The device.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is too small to be a state disk.
    #[error("{} has {actual} bytes, a state disk needs {MINIMUM_SIZE}", path.display())]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Its size.
        actual: u64,
    },
    /// There is a header, and it is not accepted.
    #[error("{} has a header that is refused", path.display())]
    Header {
        /// The device.
        path: PathBuf,
        #[source]
        source: HeaderError,
    },
}

/// Reads the header of a device, once, and says what the device is. Changes nothing.
pub fn probe(path: &Path) -> Result<Found, ProbeError> {
    let read = |source| ProbeError::Read {
        path: path.to_owned(),
        source,
    };
    let mut device = File::open(path).map_err(read)?;
    let size = io::Seek::seek(&mut device, io::SeekFrom::End(0)).map_err(read)?;
    if size < MINIMUM_SIZE {
        return Err(ProbeError::TooSmall {
            path: path.to_owned(),
            actual: size,
        });
    }
    let mut headers = vec![0; HEADERS_SIZE];
    device.read_exact_at(&mut headers, 0).map_err(read)?;
    if !VerifiedHeader::is_present(&headers) {
        return Ok(Found::New(NewDisk::NoHeader));
    }
    let header =
        VerifiedHeader::parse(Kind::StateDisk, &headers).map_err(|source| ProbeError::Header {
            path: path.to_owned(),
            source,
        })?;
    if !header.is_initialized() {
        return Ok(Found::New(NewDisk::NotInitialized));
    }
    let keyslot = read_keyslot(&device, &header).map_err(read)?;
    Ok(Found::Initialized(Box::new(InitializedDisk {
        header,
        keyslot,
    })))
}

pub(super) fn read_keyslot(file: &File, header: &VerifiedHeader) -> io::Result<Vec<u8>> {
    let area = header.keyslot_area();
    let length = usize::try_from(area.end - area.start).map_err(io::Error::other)?;
    let mut keyslot = vec![0; length];
    file.read_exact_at(&mut keyslot, area.start)?;
    Ok(keyslot)
}

#[cfg(test)]
mod tests;
