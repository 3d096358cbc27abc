//! The files of a directory, by name, within bounds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The most files of a directory.
const MAX_FILES: usize = 256;
/// The most bytes of a file. The largest evidence is an event log, the largest endorsement a revocation list.
const MAX_FILE: u64 = 1 << 20;

/// What a directory holds. Never empty.
pub(crate) struct Files {
    directory: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Reads a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| {
            Failure::usage(format!("read the directory {}", directory.display())).because(error)
        };
        let mut files = BTreeMap::new();
        for (count, entry) in std::fs::read_dir(directory)
            .map_err(unreadable)?
            .enumerate()
        {
            if count == MAX_FILES {
                return Err(Failure::usage(format!(
                    "{} has more than {MAX_FILES} files: give the directory of one machine",
                    directory.display()
                )));
            }
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let (Some(name), true) = (name, path.is_file()) {
                files.insert(name.to_owned(), read(&path, MAX_FILE)?);
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
        })
    }

    /// The first of these that is there.
    pub(crate) fn get(&self, names: &[&str]) -> Option<&[u8]> {
        names
            .iter()
            .find_map(|name| self.files.get(*name))
            .map(Vec::as_slice)
    }

    /// The first of these, one of which must be there.
    pub(crate) fn need(&self, names: &[&str]) -> Result<&[u8], Failure> {
        self.get(names).ok_or_else(|| {
            let found: Vec<&str> = self.files.keys().map(String::as_str).collect();
            Failure::usage(format!(
                "{} holds no {}",
                self.directory.display(),
                names.join(" or ")
            ))
            .hint(if found.is_empty() {
                "the directory holds no files".to_owned()
            } else {
                format!("it holds {}", found.join(", "))
            })
        })
    }

    /// Every file by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// A whole file.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::usage(format!("read {}", path.display())).because(error))?;
    if bytes.len() as u64 > most {
        return Err(Failure::usage(format!(
            "{} has more than {most} bytes: that is no evidence",
            path.display()
        )));
    }
    Ok(bytes)
}
