//! What is inside of a backup: the essentials, then etcd's snapshot, which ends with its own SHA-256.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use zeroize::Zeroizing;

use super::{Essentials, EssentialsError};

/// Most bytes of essentials: some certificates and keys.
pub(super) const MAX_ESSENTIALS: usize = 256 * 1024;
const LENGTH: usize = 4;
/// etcd's database grows by pages, its file by blocks of this size.
const BLOCK: u64 = 512;

/// Why the content of a backup is none.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The essentials.
    #[error(transparent)]
    Essentials(#[from] EssentialsError),
    /// The lengths do not fit.
    #[error("the backup ends before etcd's snapshot does")]
    Short,
    /// etcd's own hash.
    #[error("etcd's snapshot has not the hash that etcd gave it")]
    Hash,
}

/// Reads the content as it comes.
pub struct Content {
    /// The essentials, with their length, as far as they are there.
    head: Zeroizing<Vec<u8>>,
    essentials: Option<Essentials>,
    hash: Context,
    /// The last bytes of the snapshot so far: they may be its hash.
    tail: Vec<u8>,
    /// How long the snapshot is without them.
    hashed: u64,
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}

impl Content {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            head: Zeroizing::new(Vec::new()),
            essentials: None,
            hash: Context::new(&SHA256),
            tail: Vec::new(),
            hashed: 0,
        }
    }

    /// Takes a part, and gives back what of it is etcd's snapshot, its hash included.
    pub fn push<'a>(&mut self, part: &'a [u8]) -> Result<&'a [u8], ContentError> {
        let snapshot = if self.essentials.is_none() {
            self.take_essentials(part)?
        } else {
            part
        };
        self.tail.extend_from_slice(snapshot);
        let before = self.tail.len().saturating_sub(SHA256_OUTPUT_LEN);
        if let Some(bytes) = self.tail.get(..before) {
            self.hash.update(bytes);
            self.hashed += u64::try_from(before).unwrap_or(u64::MAX);
        }
        self.tail.drain(..before);
        Ok(snapshot)
    }

    /// Takes the end.
    pub fn finish(self) -> Result<Essentials, ContentError> {
        let essentials = self.essentials.ok_or(ContentError::Short)?;
        if self.tail.len() != SHA256_OUTPUT_LEN
            || self.hashed == 0
            || !self.hashed.is_multiple_of(BLOCK)
        {
            return Err(ContentError::Short);
        }
        if self.hash.finish().as_ref() != self.tail {
            return Err(ContentError::Hash);
        }
        Ok(essentials)
    }

    fn take_essentials<'a>(&mut self, part: &'a [u8]) -> Result<&'a [u8], ContentError> {
        let mut rest = part;
        loop {
            let wanted = match self.head.first_chunk::<LENGTH>() {
                None => LENGTH,
                Some(length) => {
                    let length = u32::from_be_bytes(*length) as usize;
                    if length > MAX_ESSENTIALS {
                        return Err(EssentialsError::Malformed.into());
                    }
                    LENGTH + length
                }
            };
            let missing = wanted.saturating_sub(self.head.len());
            let (now, later) = rest.split_at(missing.min(rest.len()));
            self.head.extend_from_slice(now);
            rest = later;
            if self.head.len() < wanted {
                return Ok(rest);
            }
            if wanted > LENGTH {
                let json = self.head.get(LENGTH..).unwrap_or_default();
                self.essentials = Some(Essentials::from_json(json)?);
                self.head = Zeroizing::new(Vec::new());
                return Ok(rest);
            }
            if u32::from_be_bytes(*self.head.first_chunk().unwrap_or(&[0; LENGTH])) == 0 {
                return Err(EssentialsError::Malformed.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;
    use jiff::Timestamp;

    use super::*;
    use crate::{control_plane::EncryptionKey, pki::Authorities};

    fn content(snapshot: &[u8]) -> Vec<u8> {
        let essentials = Essentials::new(
            "v1.20.2".parse().unwrap(),
            cluster::network::AddressPlan::default(),
            Authorities::generate("test", Timestamp::now()).unwrap(),
            EncryptionKey::generate().unwrap(),
        );
        let mut bytes = essentials.to_content().unwrap().to_vec();
        bytes.extend_from_slice(snapshot);
        bytes.extend_from_slice(digest(&SHA256, snapshot).as_ref());
        bytes
    }

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Essentials), ContentError> {
        let mut content = Content::new();
        let mut snapshot = Vec::new();
        for part in bytes.chunks(step) {
            snapshot.extend_from_slice(content.push(part)?);
        }
        Ok((snapshot, content.finish()?))
    }

    #[test]
    fn content_is_read_in_any_pieces_and_the_snapshots_own_hash_is_checked() {
        let snapshot = vec![7; 3 * 512];
        let bytes = content(&snapshot);
        for step in [1, 3, 100, 5000, bytes.len()] {
            let (found, essentials) = read(&bytes, step).unwrap();
            assert_eq!(found[..snapshot.len()], snapshot);
            assert_eq!(found.len(), snapshot.len() + 32);
            assert_eq!(essentials.version, "v1.20.2".parse().unwrap());
        }
        let mut changed = bytes.clone();
        let at = bytes.len() - 40;
        changed[at] ^= 1;
        assert!(matches!(read(&changed, 100), Err(ContentError::Hash)));
        for cut in [0, 1, 4, 100, bytes.len() - 1, bytes.len() - 512] {
            assert!(read(&bytes[..cut], 100).is_err(), "{cut}");
        }
        for length in [0_u32, 1, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            assert!(read(&bytes, 100).is_err(), "{length}");
        }
    }
}
