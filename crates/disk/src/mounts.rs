//! Mounting the state disk's file system, and making the directories that the root file system binds from it.

use std::ffi::CStr;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// A mount or a directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory could not be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file system could not be mounted.
    #[error("cannot mount {} at {}", device.display(), target.display())]
    Mount {
        /// The device.
        device: PathBuf,
        /// The mount point.
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file system could not be unmounted.
    #[error("cannot unmount {}", target.display())]
    Unmount {
        /// The mount point.
        target: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Mounts an ext4 file system; the mount point is made if it is not there.
///
/// After an error in its metadata, which on a disk with integrity means that the host changed it, nothing more is written.
pub fn mount_ext4(device: &Path, target: &Path) -> Result<(), MountError> {
    const OPTIONS: &CStr = c"errors=remount-ro";
    make_directory(target, 0o755)?;
    rustix::mount::mount(device, target, c"ext4", MountFlags::NODEV, OPTIONS).map_err(|source| {
        MountError::Mount {
            device: device.to_owned(),
            target: target.to_owned(),
            source: source.into(),
        }
    })
}

/// Unmounts a file system.
pub fn unmount(target: &Path) -> Result<(), MountError> {
    rustix::mount::unmount(target, UnmountFlags::empty()).map_err(|source| MountError::Unmount {
        target: target.to_owned(),
        source: source.into(),
    })
}

/// Makes a directory and those above it; one that is there stays as it is.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), MountError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| MountError::Directory {
            path: path.to_owned(),
            source,
        })
}
