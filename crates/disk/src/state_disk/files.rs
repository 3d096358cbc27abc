//! The files in memory that go from the initrd to the root file system, and writing them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::StateDiskError;

const NEW_HEADER: &str = "state.luks2-header.new-";

/// The files in memory that go from the initrd to the root file system.
#[derive(Debug, Clone)]
pub struct RunFiles {
    pub(super) directory: PathBuf,
}

impl RunFiles {
    /// Where they are on a node.
    pub const DIRECTORY: &str = "/run/constellation";

    /// The files in a directory, which has to be on a file system in memory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    pub(super) fn first_boot_key(&self) -> PathBuf {
        self.directory.join("first-boot.key")
    }

    pub(super) fn header(&self) -> PathBuf {
        self.directory.join("state.luks2-header")
    }

    /// A copy of the header to change, under a name that was never used. A process that was killed may have left a cryptsetup that still
    /// works on its own copy.
    pub(super) fn new_header(&self) -> PathBuf {
        self.directory
            .join(format!("{NEW_HEADER}{}", Uuid::new_v4()))
    }

    /// Removes the copies that were left.
    pub(super) fn remove_new_headers(&self) -> Result<(), StateDiskError> {
        let list = |source| file("list", &self.directory)(source);
        for entry in fs::read_dir(&self.directory).map_err(list)? {
            let entry = entry.map_err(list)?;
            if entry.file_name().to_string_lossy().starts_with(NEW_HEADER) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    pub(super) fn description(&self) -> PathBuf {
        self.directory.join("state-disk.json")
    }
}

pub(super) fn make_run_directory(files: &RunFiles) -> Result<(), StateDiskError> {
    fs::create_dir_all(&files.directory).map_err(file("make", &files.directory))
}

pub(super) fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), StateDiskError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut created| created.write_all(bytes))
        .map_err(file("write", path))
}

pub(super) fn remove(path: &Path) -> Result<(), StateDiskError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(file("remove", path)(source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateDiskError {
    move |source| StateDiskError::File {
        what,
        path: path.to_owned(),
        source,
    }
}
