//! The archive: the one form of `ustar` (POSIX.1-1988) that is written here. A header is read by making it again from the
//! name and the size in it, and comparing all of it.

const BLOCK: usize = 512;
/// Longest name that a header takes without its prefix field, which is never used.
const MAX_NAME: usize = 100;

/// Why bytes are no such archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// It ends before its end.
    #[error("it is cut off")]
    CutOff,
    /// Something that is no file.
    #[error("{name:?} is a {kind}; only files are allowed")]
    NotAFile {
        /// Its name.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A name that none of ours has.
    #[error("{0:?} is not a name that a bundle has")]
    Name(String),
    /// A header with anything else in it.
    #[error("the header of {0:?} is not as it must be")]
    Header(String),
    /// Bytes after the content that are not zero.
    #[error("there is something behind the content of {0:?}")]
    Padding(String),
    /// Bytes after the end.
    #[error("there is something behind the archive's end")]
    Trailing,
}

/// The header of a file: mode 0644, owner 0, time 0. `name` is one of ours, so it fits.
fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let size = format!("{size:011o}\0");
    for (offset, field) in [
        (0, name.as_bytes()),
        (100, b"0000644\0".as_slice()),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, size.as_bytes()),
        (136, b"00000000000\0"),
        // the sum counts itself as blanks
        (148, b"        "),
        (156, b"0"),
        (257, b"ustar\0"),
        (263, b"00"),
    ] {
        put(&mut header, offset, field);
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    header
}

fn put(block: &mut [u8; BLOCK], offset: usize, field: &[u8]) {
    for (to, from) in block.iter_mut().skip(offset).zip(field) {
        *to = *from;
    }
}

/// Appends a file.
pub(super) fn append(out: &mut Vec<u8>, name: &str, content: &[u8]) {
    out.extend_from_slice(&header(name, content.len()));
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Appends the end: two blocks of zeros.
pub(super) fn finish(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            ended: false,
        }
    }

    /// The next file: its name and content. `None` after the last, if nothing is behind it.
    pub(super) fn next(&mut self) -> Result<Option<(&'a str, &'a [u8])>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let (block, rest) = self
            .rest
            .split_first_chunk::<BLOCK>()
            .ok_or(TarError::CutOff)?;
        if block.iter().all(|byte| *byte == 0) {
            let (second, behind) = rest.split_first_chunk::<BLOCK>().ok_or(TarError::CutOff)?;
            if !behind.is_empty() || second.iter().any(|byte| *byte != 0) {
                return Err(TarError::Trailing);
            }
            self.ended = true;
            return Ok(None);
        }
        let (name, size) = read_header(block)?;
        let (content, rest) = rest.split_at_checked(size).ok_or(TarError::CutOff)?;
        let padding = size.next_multiple_of(BLOCK) - size;
        let (padding, rest) = rest.split_at_checked(padding).ok_or(TarError::CutOff)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(TarError::Padding(name.to_owned()));
        }
        self.rest = rest;
        Ok(Some((name, content)))
    }
}

fn read_header(block: &[u8; BLOCK]) -> Result<(&str, usize), TarError> {
    let name = until_zero(block.get(..MAX_NAME).unwrap_or_default());
    let shown = || String::from_utf8_lossy(name).into_owned();
    let kind = match block.get(156) {
        Some(b'0') => None,
        Some(b'1') => Some("hard link"),
        Some(b'2') => Some("symbolic link"),
        Some(b'3' | b'4') => Some("device"),
        Some(b'5') => Some("directory"),
        Some(b'6') => Some("pipe"),
        Some(b'x' | b'g' | b'L' | b'K') => Some("extended header"),
        _ => Some("thing of an unknown kind"),
    };
    if let Some(kind) = kind {
        return Err(TarError::NotAFile {
            name: shown(),
            kind,
        });
    }
    let ours = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-' || *byte == b'.'
    };
    let name = match std::str::from_utf8(name) {
        Ok(text) if name.iter().all(ours) && !text.is_empty() && !text.starts_with('.') => text,
        _ => return Err(TarError::Name(shown())),
    };
    let size = until_zero(block.get(124..136).unwrap_or_default());
    let size = std::str::from_utf8(size)
        .ok()
        .and_then(|octal| usize::from_str_radix(octal, 8).ok())
        .ok_or_else(|| TarError::Header(name.to_owned()))?;
    if header(name, size) == *block {
        Ok((name, size))
    } else {
        Err(TarError::Header(name.to_owned()))
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
