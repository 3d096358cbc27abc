//! Several entries in one file, for a site without Internet, and one entry in one file, for the cache.
//!
//! A plain tar archive: `manifest.json`, then the files of each item, sorted by name. The same entries and the same time
//! give the same bytes. What is read must be laid out exactly as it is written here, so there is nothing in it that is
//! not checked: no link, no path, no second file of a name, no byte between or after the files.
//!
//! A bundle is foreign bytes: the hashes in it keep it whole, and say nothing about who made it. Nothing in it is trusted
//! more than what a vendor's service answers.

mod manifest;
mod tar;

use aws_lc_rs::digest;
use jiff::Timestamp;

use crate::entry::Entry;
use crate::item::Item;
use crate::shape::ShapeError;

use manifest::{FileRecord, ItemRecord, Manifest};
use tar::Reader;
pub use tar::TarError;

/// The most bytes of a bundle.
pub const MAX_BUNDLE: usize = 64 << 20;
/// The most items in a bundle.
pub const MAX_ITEMS: usize = 4096;
/// The most bytes of a manifest.
const MAX_MANIFEST: usize = 4 << 20;
const MANIFEST: &str = "manifest.json";

/// Entries, at most [`MAX_ITEMS`], no item twice, sorted by the names of their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    made_at: Timestamp,
    entries: Vec<Entry>,
}

/// Why a bundle can not be made, or is none.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// More bytes than [`MAX_BUNDLE`].
    #[error("a bundle has at most {MAX_BUNDLE} bytes")]
    TooLarge,
    /// More items than [`MAX_ITEMS`].
    #[error("a bundle has at most {MAX_ITEMS} items")]
    TooMany,
    /// No archive as it must be.
    #[error("not an archive as `constellation collateral export` writes it")]
    Archive(#[source] TarError),
    /// It does not begin with the manifest.
    #[error("the first file is {0:?}, not {MANIFEST}")]
    NoManifest(String),
    /// The manifest does not parse.
    #[error("the manifest does not parse: {0}")]
    Manifest(String),
    /// A manifest of another version.
    #[error("version {0} of the manifest; this program knows version 1")]
    Version(u64),
    /// An item twice, or not in its place.
    #[error("the item {0} is there twice, or not in its place")]
    Order(Box<Item>),
    /// An item with files that are not its own.
    #[error("the item {0} has other files than it must")]
    Files(Box<Item>),
    /// A file that is not the next of the manifest.
    #[error("the file {actual:?} is there in place of {expected:?}")]
    Unexpected {
        /// The next file of the manifest.
        expected: String,
        /// The one in the archive.
        actual: String,
    },
    /// A file of the manifest is not there.
    #[error("the file {0:?} is missing")]
    Missing(String),
    /// More files than the manifest has.
    #[error("the file {0:?} is not in the manifest")]
    Surplus(String),
    /// Another length than the manifest says.
    #[error("the file {0:?} has another length than the manifest says")]
    Length(String),
    /// Another hash than the manifest says.
    #[error("the file {0:?} has another hash than the manifest says")]
    Hash(String),
    /// Bytes that are not the item.
    #[error("the files of {item} are not what they are called")]
    Shape {
        /// The item.
        item: Box<Item>,
        /// What is wrong.
        #[source]
        source: ShapeError,
    },
}

impl Bundle {
    /// Errors: too many entries, or two of one item.
    pub fn new(
        made_at: Timestamp,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, BundleError> {
        let mut entries: Vec<Entry> = entries.into_iter().take(MAX_ITEMS + 1).collect();
        if entries.len() > MAX_ITEMS {
            return Err(BundleError::TooMany);
        }
        entries.sort_by_cached_key(|entry| entry.item().file_name());
        for (one, next) in entries.iter().zip(entries.iter().skip(1)) {
            if one.item().file_name() == next.item().file_name() {
                return Err(BundleError::Order(Box::new(next.item().clone())));
            }
        }
        Ok(Self { made_at, entries })
    }

    /// When it was made, to the second, by the clock of whoever made it.
    pub fn made_at(&self) -> Timestamp {
        self.made_at
    }

    /// What is in it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is in it.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The file. Errors: [`BundleError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let items = self.entries.iter().map(|entry| ItemRecord {
            item: entry.item().to_string(),
            fetched_at: entry.fetched_at(),
            files: files(entry)
                .map(|(name, bytes)| FileRecord {
                    name,
                    size: bytes.len(),
                    sha256: sha256(bytes),
                })
                .collect(),
        });
        let manifest = Manifest {
            version: manifest::VERSION,
            made_at: self.made_at,
            items: items.collect(),
        };
        let mut out = Vec::new();
        tar::append(&mut out, MANIFEST, &manifest.to_bytes()?);
        for (name, bytes) in self.entries.iter().flat_map(files) {
            tar::append(&mut out, &name, bytes);
            if out.len() > MAX_BUNDLE {
                return Err(BundleError::TooLarge);
            }
        }
        tar::finish(&mut out);
        if out.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge);
        }
        Ok(out)
    }

    /// Reads a bundle, and every entry in it for its shape. Nothing is taken of one that is wrong anywhere.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge);
        }
        let mut archive = Reader::new(bytes);
        let (name, content) = archive
            .next()
            .map_err(BundleError::Archive)?
            .ok_or_else(|| BundleError::NoManifest(String::new()))?;
        if name != MANIFEST {
            return Err(BundleError::NoManifest(name.to_owned()));
        }
        if content.len() > MAX_MANIFEST {
            return Err(BundleError::TooLarge);
        }
        let manifest = Manifest::parse(content)?;
        if manifest.items.len() > MAX_ITEMS {
            return Err(BundleError::TooMany);
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut last = String::new();
        for record in &manifest.items {
            let item = record.item()?;
            let name = item.file_name();
            if name <= last {
                return Err(BundleError::Order(Box::new(item)));
            }
            last = name;
            entries.push(entry(&mut archive, item, record)?);
        }
        if let Some((name, _)) = archive.next().map_err(BundleError::Archive)? {
            return Err(BundleError::Surplus(name.to_owned()));
        }
        Ok(Self {
            made_at: manifest.made_at,
            entries,
        })
    }
}

/// The next entry of an archive.
fn entry(archive: &mut Reader<'_>, item: Item, record: &ItemRecord) -> Result<Entry, BundleError> {
    let body_name = item.file_name();
    let chain_name = item.chain_file_name();
    let (body, chain) = match (record.files.as_slice(), &chain_name) {
        ([body], None) if body.name == body_name => (body, None),
        ([body, chain], Some(name)) if body.name == body_name && chain.name == *name => {
            (body, Some(chain))
        }
        _ => return Err(BundleError::Files(Box::new(item))),
    };
    let body = file(archive, body)?;
    let chain = chain.map(|record| file(archive, record)).transpose()?;
    Entry::new(item.clone(), record.fetched_at, body, chain).map_err(|source| BundleError::Shape {
        item: Box::new(item),
        source,
    })
}

/// The next file of an archive, which must be this one.
fn file<'a>(archive: &mut Reader<'a>, record: &FileRecord) -> Result<&'a [u8], BundleError> {
    let (name, content) = archive
        .next()
        .map_err(BundleError::Archive)?
        .ok_or_else(|| BundleError::Missing(record.name.clone()))?;
    if name != record.name {
        return Err(BundleError::Unexpected {
            expected: record.name.clone(),
            actual: name.to_owned(),
        });
    }
    if content.len() != record.size {
        return Err(BundleError::Length(record.name.clone()));
    }
    if sha256(content) != record.sha256 {
        return Err(BundleError::Hash(record.name.clone()));
    }
    Ok(content)
}

/// The files of an entry, in their order.
fn files(entry: &Entry) -> impl Iterator<Item = (String, &[u8])> {
    let chain = entry.item().chain_file_name().zip(entry.issuer_chain());
    std::iter::once((entry.item().file_name(), entry.body())).chain(chain)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
