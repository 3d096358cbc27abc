//! Unpacks a checked tar.gz into a directory: regular files and directories, never a path outside, never through a link.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component as Part, Path, PathBuf},
};

use flate2::read::GzDecoder;

/// More than any archive of Kubernetes unpacks to.
const MAX_UNPACKED: u64 = 2 << 30;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not a tar.gz, or cut off.
    #[error("the archive is damaged")]
    Damaged(#[source] io::Error),
    /// A path that leads out of the directory.
    #[error("the archive has an entry {0:?} that leads out of its directory")]
    Escapes(PathBuf),
    /// Links, devices and the like.
    #[error("the archive has an entry {0:?} that is neither a file nor a directory")]
    Kind(PathBuf),
    /// It unpacks to more than is sensible.
    #[error("the archive unpacks to more than {MAX_UNPACKED} bytes")]
    TooLarge,
    /// Writing failed.
    #[error("write {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

/// Unpacks `archive` into `directory`; files get the executable bits of their entry, but none beyond `mode`.
pub(super) fn unpack(archive: impl Read, directory: &Path, mode: u32) -> Result<(), UnpackError> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut unpacked = 0_u64;
    for entry in archive.entries().map_err(UnpackError::Damaged)? {
        let mut entry = entry.map_err(UnpackError::Damaged)?;
        let name = entry.path().map_err(UnpackError::Damaged)?.into_owned();
        let kind = entry.header().entry_type();
        // checked before anything is written: also for entries that would be refused for their kind
        let relative = safe(&name)?;
        let path = directory.join(&relative);
        refuse_links(directory, &relative)?;
        let io = |source| UnpackError::Io {
            path: path.clone(),
            source,
        };
        if kind.is_dir() {
            fs::create_dir_all(&path).map_err(io)?;
        } else if kind.is_file() {
            unpacked = unpacked.saturating_add(entry.size());
            if unpacked > MAX_UNPACKED {
                return Err(UnpackError::TooLarge);
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(io)?;
            }
            let entry_mode = entry.header().mode().map_err(UnpackError::Damaged)?;
            write_file(&mut entry, &path, (entry_mode | 0o600) & mode)?;
        } else {
            return Err(UnpackError::Kind(name));
        }
    }
    Ok(())
}

fn write_file(entry: &mut impl Read, path: &Path, mode: u32) -> Result<(), UnpackError> {
    let io = |source| UnpackError::Io {
        path: path.to_owned(),
        source,
    };
    // never into an existing file: it may be running, or a link
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    io::copy(entry, &mut file).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            UnpackError::Damaged(source)
        }
        _ => io(source),
    })?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(io)
}

/// The entry's path, if it stays below the directory.
fn safe(name: &Path) -> Result<PathBuf, UnpackError> {
    let mut relative = PathBuf::new();
    for part in name.components() {
        match part {
            Part::Normal(part) => relative.push(part),
            Part::CurDir => {}
            Part::ParentDir | Part::RootDir | Part::Prefix(_) => {
                return Err(UnpackError::Escapes(name.to_owned()));
            }
        }
    }
    Ok(relative)
}

/// Refuses a path that passes through a symbolic link below `directory`.
fn refuse_links(directory: &Path, relative: &Path) -> Result<(), UnpackError> {
    let mut path = directory.to_owned();
    for part in relative {
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
            return Err(UnpackError::Escapes(relative.to_owned()));
        }
    }
    Ok(())
}
