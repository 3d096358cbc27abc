//! Files that are read bounded and written whole: whatever stops a command, a name stands for all of a file or for none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::failure::Failure;

/// The most a file of ours has.
const MAX_FILE: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    use std::io::Read;
    let failed = |error| Failure::config(format!("read {}", path.display())).because(error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure::config(format!(
            "{} has more than {MAX_FILE} bytes",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

/// A text file, if it is there.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| Failure::config(format!("{} is not UTF-8", path.display())))
}

fn write_failed(path: &Path, error: io::Error) -> Failure {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    let failure = Failure::infrastructure(format!("write {}", path.display())).because(error);
    if full {
        failure.hint("free some space on that disk and run the same command again")
    } else {
        failure
    }
}

/// Where a file is written before it gets its name.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Writes a file that must not be there yet. It has its name only when it is whole.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let fresh = write_aside(path, bytes, mode)?;
    name(&fresh, path).map_err(|error| {
        // the error that counts is the first
        std::fs::remove_file(&fresh).ok();
        write_failed(path, error)
    })
}

/// Gives a file that is whole another name, which nothing has yet. On an error the file is where it was.
pub(crate) fn name(aside: &Path, path: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, aside, CWD, path, RenameFlags::NOREPLACE) {
        // this file system knows only renames that replace; a link never does, but there are none on vfat
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            std::fs::hard_link(aside, path)?;
            std::fs::remove_file(aside)
        }
        named => Ok(named?),
    }
}

/// Replaces a file whole: whoever reads it sees the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let fresh = write_aside(path, bytes, mode)?;
    std::fs::rename(&fresh, path).map_err(|error| write_failed(path, error))
}

fn write_aside(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, Failure> {
    let fresh = unfinished(path);
    remove(&fresh)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|error| {
            // the error that counts is the first
            std::fs::remove_file(&fresh).ok();
            write_failed(path, error)
        })?;
    Ok(fresh)
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::infrastructure(format!("remove {}", path.display())).because(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_never_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        // what a run that was killed while it wrote leaves
        std::fs::write(unfinished(&path), "hal").unwrap();
        create(&path, b"one", 0o600).unwrap();
        create(&path, b"two", 0o600).unwrap_err();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("one"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_are_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(read_text(&directory.path().join("none")).unwrap(), None);
    }
}
