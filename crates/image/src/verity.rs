//! The dm-verity hash tree of a file system image.
//!
//! Writes what `veritysetup format` writes with SHA-256 and 4096-byte blocks; it checks nothing, the kernel does that.
//!
//! Specification: Linux `Documentation/admin-guide/device-mapper/verity.rst`, cryptsetup's wiki page "DMVerity" (superblock).

use aws_lc_rs::digest::{Context, SHA256};

#[cfg(test)]
mod tests;

/// Data and hash block size.
pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;

/// A hash tree and the root hash that pins it.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    /// Superblock and all levels, the content of the hash partition.
    pub bytes: Vec<u8>,
    /// What the kernel is told.
    pub root_hash: [u8; DIGEST],
}

/// Builds the tree over `data`, whose length is a multiple of [`BLOCK`] and more than one of them.
#[must_use]
pub fn build(data: &[u8], uuid: [u8; 16], salt: &[u8; 32]) -> Tree {
    let mut levels = vec![level(data, salt)];
    while let Some(last) = levels.last().filter(|last| last.len() > BLOCK) {
        levels.push(level(last, salt));
    }
    let mut bytes = superblock(data.len() / BLOCK, uuid, salt);
    bytes.resize(BLOCK, 0);
    let mut root_hash = [0; DIGEST];
    if let Some(top) = levels.last() {
        root_hash = hash(top, salt);
    }
    for level in levels.iter().rev() {
        bytes.extend_from_slice(level);
    }
    Tree { bytes, root_hash }
}

/// The digests of all blocks, padded to whole blocks.
fn level(data: &[u8], salt: &[u8; 32]) -> Vec<u8> {
    let mut out: Vec<u8> = data
        .chunks(BLOCK)
        .flat_map(|block| hash(block, salt))
        .collect();
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn hash(block: &[u8], salt: &[u8; 32]) -> [u8; DIGEST] {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(block);
    let mut out = [0; DIGEST];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn superblock(blocks: usize, uuid: [u8; 16], salt: &[u8; 32]) -> Vec<u8> {
    let mut out = b"verity\0\0".to_vec();
    out.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    out.extend_from_slice(&uuid);
    out.extend_from_slice(b"sha256");
    out.resize(64, 0);
    out.extend_from_slice(&[0, 16, 0, 0, 0, 16, 0, 0]);
    out.extend_from_slice(&(blocks as u64).to_le_bytes());
    out.extend_from_slice(&[32, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(salt);
    out.resize(512, 0);
    out
}
