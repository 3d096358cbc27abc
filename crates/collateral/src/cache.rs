//! Entries on disk: a directory of one file each, which several processes may use at once.
//!
//! A file is a bundle of one. It is written beside, synchronised and renamed, so that a name stands for a whole file or
//! for none, whatever stops a process. Names are made from items, never from what a service or a bundle says. A file that
//! can not be read is told and never used; it goes when its item is fetched anew.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use attest::x509::MAX_CRL;
use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::bundle::{Bundle, BundleError};
use crate::entry::Entry;
use crate::genuine::NotGenuine;
use crate::item::{Item, MAX_CHAIN};

/// Room for the archive around an entry: headers, the manifest, the padding.
const ENVELOPE: usize = 16 << 10;
/// Nobody else's: the directory may be one where an operator keeps archives of their own.
const ENDING: &str = ".collateral";
/// What a file is called until it is whole.
const UNFINISHED: &str = ".collateral-unfinished-";
/// After so long nobody writes an unfinished file any more.
const ABANDONED: Duration = Duration::from_secs(3600);
/// The most names of ours that are looked at.
const MAX_LISTED: usize = 20_000;

/// How much a cache may hold. What is beyond goes: what was fetched longest ago first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 4096,
            bytes: 64 << 20,
        }
    }
}

/// A directory with entries.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
    bounds: Bounds,
}

/// What the cache can not do.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory can not be made or read.
    #[error("use the directory {path}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else has the directory's name. A link is: where it leads may be another user's to say.
    #[error("{} is not a directory, or is a link to one", .0.display())]
    NotADirectory(PathBuf),
    /// Others than its owner, who must be the user of this process, may use the directory.
    #[error("the directory {path} may be used by others (owner {owner}, mode {mode:o})", path = path.display())]
    Permissions {
        /// The directory.
        path: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// A file can not be read.
    #[error("read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file can not be written.
    #[error("write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry that says to have been fetched after now: a wrong clock, here or where it was fetched.
    #[error("{item} says to have been fetched at {fetched_at}, which is still to come")]
    FromTheFuture {
        /// The item.
        item: Box<Item>,
        /// When it says so.
        fetched_at: Timestamp,
    },
    /// A list or statement that is not its publisher's, or not yet.
    #[error("{item} is not what its publisher has published")]
    NotGenuine {
        /// The item.
        item: Box<Item>,
        /// What is wrong.
        #[source]
        source: NotGenuine,
    },
    /// A file is not what was written there.
    #[error("the file {path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BundleError,
    },
    /// A file holds another item than its name says.
    #[error("the file {path} holds something else", path = path.display())]
    Exchanged {
        /// The file.
        path: PathBuf,
    },
}

/// A file of the directory.
#[derive(Debug)]
pub enum Listed {
    /// An entry.
    Entry(Box<Entry>),
    /// A file with an entry's name that can not be read as one.
    Damaged(CacheError),
}

/// What became of an entry that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// There was none of its item, or a damaged one.
    New,
    /// It replaced an older one.
    Replaced,
    /// The same list or statement is there, or another certificate, and was fetched as late or later; it stays.
    Kept,
    /// Its publisher has made the list or statement that is there after this one; it stays.
    Superseded,
    /// Nobody knows here who made it, and the one that is there is its publisher's; it stays.
    Unverified,
}

impl Cache {
    /// Opens a directory, and makes it if it is not there. Errors: others may use it, or it is a link.
    pub fn open(directory: &Path, bounds: Bounds) -> Result<Self, CacheError> {
        // a slash at the end would have the link followed that is not to be
        let directory: &Path = &directory.components().collect::<PathBuf>();
        let failed = |source| CacheError::Directory {
            path: directory.to_owned(),
            source,
        };
        if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let metadata = std::fs::symlink_metadata(directory).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(CacheError::NotADirectory(directory.to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Permissions {
                path: directory.to_owned(),
                owner: metadata.uid(),
                mode,
            });
        }
        let cache = Self {
            directory: directory.to_owned(),
            bounds,
        };
        cache.remove_abandoned();
        Ok(cache)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, item: &Item) -> PathBuf {
        self.directory.join(format!("{}{ENDING}", item.stem()))
    }

    /// The entry of an item, if there is one. Errors: it can not be read, or is damaged.
    pub fn read(&self, item: &Item) -> Result<Option<Entry>, CacheError> {
        let path = self.path(item);
        match read_entry(&path, limit(item))? {
            Some(entry) if entry.item() == item => Ok(Some(entry)),
            Some(_) => Err(CacheError::Exchanged { path }),
            None => Ok(None),
        }
    }

    /// Writes an entry, unless the one that is there is to stay: what its publisher made later, what is known to be its publisher's where
    /// that is not known of the new one, and otherwise what came later. One that says to come from after `now`, or that is not genuine, is refused.
    pub fn write(&self, entry: &Entry, now: Timestamp) -> Result<Written, CacheError> {
        if entry.is_from_the_future(now) {
            return Err(CacheError::FromTheFuture {
                item: Box::new(entry.item().clone()),
                fetched_at: entry.fetched_at(),
            });
        }
        entry
            .check_genuine(now)
            .map_err(|source| CacheError::NotGenuine {
                item: Box::new(entry.item().clone()),
                source,
            })?;
        // another machine's clock, or a lie: it must not look newer than what is fetched next
        let entry = &entry.fetched_by(now);
        let written = match self.read(entry.item()) {
            Ok(Some(there)) => {
                let placed = entry.placed_over(&there, now);
                if placed != Written::Replaced {
                    return Ok(placed);
                }
                placed
            }
            Ok(None) | Err(_) => Written::New,
        };
        let path = self.path(entry.item());
        let bytes = Bundle::new(entry.fetched_at(), [entry.clone()])
            .and_then(|bundle| bundle.to_bytes())
            .map_err(|source| CacheError::Damaged {
                path: path.clone(),
                source,
            })?;
        let aside = self.aside();
        put(&aside, &path, &bytes).map_err(|source| {
            // the error that counts is the first
            std::fs::remove_file(&aside).ok();
            CacheError::Write {
                path: path.clone(),
                source,
            }
        })?;
        self.make_room(&path);
        Ok(written)
    }

    /// A name that nobody else writes at.
    fn aside(&self) -> PathBuf {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.directory.join(format!(
            "{UNFINISHED}{}-{count}-{}",
            std::process::id(),
            since.as_nanos()
        ))
    }

    /// Every file with an entry's name, sorted by name. Others are not ours to speak of.
    pub fn list(&self) -> Result<Vec<Listed>, CacheError> {
        let mut listed = Vec::new();
        for name in self.names(is_entry)? {
            let path = self.directory.join(&name);
            match read_entry(&path, MAX_FILE) {
                Ok(Some(entry)) if self.path(entry.item()) == path => {
                    listed.push(Listed::Entry(Box::new(entry)));
                }
                Ok(Some(_)) => listed.push(Listed::Damaged(CacheError::Exchanged { path })),
                // another process has taken it away since
                Ok(None) => {}
                Err(error) => listed.push(Listed::Damaged(error)),
            }
        }
        Ok(listed)
    }

    fn names(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<String>, CacheError> {
        let failed = |source| CacheError::Directory {
            path: self.directory.clone(),
            source,
        };
        let mut names = Vec::new();
        for file in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_meant(name)) {
                names.push(name.to_owned());
            }
            if names.len() == MAX_LISTED {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what is beyond the bounds, but not what was just written. A failure leaves a cache that is too large, which
    /// is no reason to be without the entry.
    fn make_room(&self, keep: &Path) {
        let Ok(names) = self.names(is_entry) else {
            return;
        };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = names
            .iter()
            .filter_map(|name| {
                let path = self.directory.join(name);
                let metadata = std::fs::symlink_metadata(&path).ok()?;
                Some((metadata.modified().ok()?, metadata.len(), path))
            })
            .collect();
        files.sort();
        let mut count = files.len();
        let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if count <= self.bounds.entries && bytes <= self.bounds.bytes {
                break;
            }
            if path != keep && std::fs::remove_file(&path).is_ok() {
                count -= 1;
                bytes = bytes.saturating_sub(size);
                tracing::info!(path = %path.display(), "the cache is full: its oldest entry goes");
            }
        }
    }

    /// What processes that were killed while they wrote have left.
    fn remove_abandoned(&self) {
        for name in self.names(is_unfinished).unwrap_or_default() {
            let path = self.directory.join(&name);
            let is_old = || {
                let written = std::fs::symlink_metadata(&path).and_then(|m| m.modified());
                written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
            };
            if is_old() {
                // if it can not be removed now, the next one may
                std::fs::remove_file(&path).ok();
            }
        }
    }
}

/// Whether it is a name that [`Cache::path`] makes.
fn is_entry(name: &str) -> bool {
    name.strip_suffix(ENDING).is_some_and(Item::has_stem)
}

/// Whether it is a name that [`Cache::aside`] makes.
fn is_unfinished(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix(UNFINISHED)
        .is_some_and(|rest| rest.split('-').count() == 3 && rest.split('-').all(is_number))
}

/// The most bytes of any file.
const MAX_FILE: usize = MAX_CRL + MAX_CHAIN + ENVELOPE;

fn limit(item: &Item) -> usize {
    let chain = if item.has_issuer_chain() {
        MAX_CHAIN
    } else {
        0
    };
    item.limit() + chain + ENVELOPE
}

fn read_entry(path: &Path, limit: usize) -> Result<Option<Entry>, CacheError> {
    let failed = |source| CacheError::Read {
        path: path.to_owned(),
        source,
    };
    let damaged = |source| CacheError::Damaged {
        path: path.to_owned(),
        source,
    };
    // no link is followed, and a pipe does not keep us
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > limit {
        return Err(damaged(BundleError::TooLarge));
    }
    let mut entries = Bundle::parse(&bytes).map_err(damaged)?.into_entries();
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) => Ok(Some(entry)),
        _ => Err(CacheError::Exchanged {
            path: path.to_owned(),
        }),
    }
}

/// Writes a file whole under its name.
fn put(aside: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(aside, path)?;
    // the name as well
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
