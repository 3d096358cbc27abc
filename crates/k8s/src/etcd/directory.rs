//! What etcd's directory on this node holds: its data, and beside it a note of which member the data belongs to.
//!
//! The note is written after the member was added and before etcd starts, and it goes after the data: data of a member that was added
//! never lies there without its note.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use cluster::{
    NodeName,
    etcd::{Data, MemberId},
};
use serde::{Deserialize, Serialize};

use crate::{
    control_plane::EtcdMembership,
    files::{File, FileError},
};

/// etcd's directory.
#[derive(Clone, Debug)]
pub struct Directory {
    data: PathBuf,
    note: PathBuf,
}

/// Which member the data belongs to, and with whom it started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// In hex, as etcd writes it.
    member: String,
    /// All members when it was added.
    members: Vec<(NodeName, Ipv4Addr)>,
}

/// The directory can not be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The note.
    #[error("{path} does not say which member the data of etcd belongs to", path = path.display())]
    Note {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Option<serde_json::Error>,
    },
}

impl Directory {
    /// etcd's data directory at `data`; the note lies beside it.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        let mut note = data.clone().into_os_string();
        note.push("-member.json");
        Self {
            data,
            note: note.into(),
        }
    }

    /// What it holds.
    pub fn holds(&self) -> Result<Data, DirectoryError> {
        let has_log = self.has_log()?;
        Ok(match self.note()? {
            Some((id, _)) if has_log => Data::Of(id),
            Some((id, _)) => Data::Fresh(id),
            None if has_log => Data::Unmarked,
            None => Data::None,
        })
    }

    /// The members with which the noted one was added.
    pub fn membership(&self) -> Result<Option<EtcdMembership>, DirectoryError> {
        let note = self.note()?;
        Ok(note.map(|(_, note)| EtcdMembership::Existing(note.members)))
    }

    /// Notes which member this node is from now on.
    pub fn mark(
        &self,
        id: MemberId,
        members: Vec<(NodeName, Ipv4Addr)>,
    ) -> Result<(), DirectoryError> {
        let note = Note {
            member: id.to_string(),
            members,
        };
        let json = serde_json::to_string(&note).map_err(|source| DirectoryError::Note {
            path: self.note.clone(),
            source: Some(source),
        })?;
        File::public(&self.note, json).write()?;
        // the name has to last as well: a member must not start without its note
        sync(parent(&self.note))?;
        Ok(())
    }

    /// Deletes the data, then the note. etcd must not run.
    pub fn discard(&self) -> Result<(), DirectoryError> {
        let fail = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| FileError {
                operation,
                path,
                source,
            }
        };
        // the directory itself stays: the unit may write there and nowhere else
        for entry in entries(&self.data)? {
            let removed = if entry.is_dir() {
                fs::remove_dir_all(&entry)
            } else {
                fs::remove_file(&entry)
            };
            removed.map_err(fail("delete", &entry))?;
        }
        match fs::remove_file(&self.note) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(fail("delete", &self.note)(source).into());
            }
            _ => {}
        }
        sync(parent(&self.note))?;
        Ok(())
    }

    /// Whether etcd would start from what is there: it looks for its write-ahead log, which appears whole.
    fn has_log(&self) -> Result<bool, DirectoryError> {
        let log = self.data.join("member/wal");
        Ok(entries(&log)?
            .iter()
            .any(|file| file.extension().is_some_and(|name| name == "wal")))
    }

    fn note(&self) -> Result<Option<(MemberId, Note)>, DirectoryError> {
        let json = match fs::read(&self.note) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(FileError {
                    operation: "read",
                    path: self.note.clone(),
                    source,
                }
                .into());
            }
        };
        let wrong = |source| DirectoryError::Note {
            path: self.note.clone(),
            source,
        };
        let note: Note = serde_json::from_slice(&json).map_err(|source| wrong(Some(source)))?;
        let id = u64::from_str_radix(&note.member, 16).map_err(|_| wrong(None))?;
        Ok(Some((MemberId(id), note)))
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

/// What lies in a directory; nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| FileError {
        operation: "list",
        path: directory.to_owned(),
        source,
    };
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn sync(directory: &Path) -> Result<(), FileError> {
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| FileError {
            operation: "sync",
            path: directory.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_comes_before_the_data_and_goes_after_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(root.path().join("etcd"));
        assert_eq!(directory.holds().unwrap(), Data::None);
        directory.discard().unwrap();

        let members = vec![("a".parse().unwrap(), Ipv4Addr::new(10, 45, 0, 1))];
        directory
            .mark(MemberId(0xfedc_ba98_7654_3210), members.clone())
            .unwrap();
        let id = MemberId(0xfedc_ba98_7654_3210);
        assert_eq!(directory.holds().unwrap(), Data::Fresh(id));
        assert_eq!(
            directory.membership().unwrap(),
            Some(EtcdMembership::Existing(members))
        );

        let wal = root.path().join("etcd/member/wal");
        // etcd makes its log under another name and renames it
        fs::create_dir_all(root.path().join("etcd/member/wal.tmp")).unwrap();
        assert_eq!(directory.holds().unwrap(), Data::Fresh(id));
        fs::create_dir_all(&wal).unwrap();
        fs::write(wal.join("0000000000000000-0000000000000000.wal"), "").unwrap();
        assert_eq!(directory.holds().unwrap(), Data::Of(id));

        let note = root.path().join("etcd-member.json");
        fs::remove_file(&note).unwrap();
        assert_eq!(directory.holds().unwrap(), Data::Unmarked);
        fs::write(&note, "{").unwrap();
        assert!(matches!(
            directory.holds(),
            Err(DirectoryError::Note { .. })
        ));
        directory.discard().unwrap();
        assert_eq!(directory.holds().unwrap(), Data::None);
        assert!(root.path().join("etcd").is_dir());
    }
}
