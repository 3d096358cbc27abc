//! Writes cpio archives as the kernel unpacks them for the initrd.
//!
//! Every entry belongs to root and has no time: the archive depends on names, modes and contents alone.
//!
//! Specification: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.

use thiserror::Error;

#[cfg(test)]
mod tests;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file and its content.
    File(&'a [u8]),
    /// A symbolic link and where it points.
    Link(&'a str),
}

/// The archive can not hold an entry.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0} is too large for a cpio archive")]
pub struct TooLarge(String);

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Appends an entry. Directories come before what is in them.
    ///
    /// # Errors
    ///
    /// When the content has 4 GiB or more.
    pub fn push(&mut self, path: &str, permissions: u32, kind: Kind<'_>) -> Result<(), TooLarge> {
        self.entries += 1;
        let (mode, links, content) = match kind {
            Kind::Directory => (0o040_000 | permissions, 2, &[][..]),
            Kind::File(content) => (0o100_000 | permissions, 1, content),
            Kind::Link(target) => (0o120_777, 1, target.as_bytes()),
        };
        self.entry(path, self.entries, mode, links, content)
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn finish(mut self) -> Result<Vec<u8>, TooLarge> {
        self.entry("TRAILER!!!", 0, 0, 1, &[])?;
        Ok(self.bytes)
    }

    fn entry(
        &mut self,
        path: &str,
        inode: u32,
        mode: u32,
        links: u32,
        content: &[u8],
    ) -> Result<(), TooLarge> {
        let too_large = |_| TooLarge(path.to_owned());
        let len = u32::try_from(content.len()).map_err(too_large)?;
        let name_len = u32::try_from(path.len() + 1).map_err(too_large)?;
        self.bytes.extend_from_slice(b"070701");
        for field in [inode, mode, 0, 0, links, 0, len, 0, 0, 0, 0, name_len, 0] {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
