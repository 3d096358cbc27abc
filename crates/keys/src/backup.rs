//! The file of a backup: a header in the clear, and the content encrypted and authenticated in parts, so that neither side needs
//! the whole of it in memory.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `CSTLBKUP` |
//! | 2 | version of the format, 1 |
//! | 16 | the backup key's fingerprint |
//! | 32 | random salt of this file |
//! | 32 | cluster ID |
//! | 8 | when it was begun: seconds since 1970 |
//! | 8 | etcd's revision |
//! | 1, n | length and text of etcd's version, at most 32 bytes |
//! | 32 | HMAC-SHA256 over all of the above |
//!
//! then parts: 4 bytes number, from 0; 4 bytes length of the content, with the highest bit set in the last part; the content,
//! AES-256-GCM; 16 bytes tag. The number and length are authenticated with the content. Numbers are big-endian.
//!
//! All keys are HKDF-SHA256 of the backup key with the file's salt; that of the content depends on the header as well. As in the STREAM
//! construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) the nonce is the part's number and whether it is the last, under a key that no
//! other file has. It is made of aws-lc-rs, which is here already, rather than of a second crypto library with a STREAM of its own.
//!
//! What is cut off, left out, exchanged or changed is refused, and said by name. The content before that place was given out by then:
//! whoever uses it waits for [`Opener::finish`]. Does no IO.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hkdf, hmac};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secret::{RandomError, SECRET_LENGTH, SecretBytes};
use crate::{BackupKey, ClusterId};

const MAGIC: &[u8; 8] = b"CSTLBKUP";
const VERSION: u16 = 1;
/// Most content in one part.
pub const PART: usize = 64 * 1024;
const TAG: usize = 16;
const FRAME: usize = 8;
const LAST: u32 = 1 << 31;
const MAX_ETCD_VERSION: usize = 32;
/// Everything before etcd's version, its length included.
const FIXED: usize = 8 + 2 + 16 + 32 + 32 + 8 + 8 + 1;
const MAC: usize = 32;
/// Ids of keys that are derived from the backup key.
const FINGERPRINT: &[u8] = b"constellation backup fingerprint";
const HEADER_KEY: &[u8] = b"constellation backup header";
const CONTENT_KEY: &[u8] = b"constellation backup content";

/// What the header says. Believed once [`Opener`] gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The cluster it was made of.
    pub cluster_id: ClusterId,
    /// When it was begun, in seconds since 1970.
    pub begun: i64,
    /// etcd's revision then.
    pub revision: i64,
    /// etcd's version, such as `3.5.16`.
    pub etcd_version: String,
}

/// Why a file is no backup that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Another kind of file.
    #[error("this is not a backup of a Constellation cluster")]
    NotABackup,
    /// From a later release.
    #[error("the backup has format {0}; this program reads format {VERSION}")]
    Version(u16),
    /// Another master secret.
    #[error("the backup was made with another master secret")]
    WrongKey,
    /// The header was changed.
    #[error("the header of the backup was changed")]
    Header,
    /// The end is missing.
    #[error("the backup is cut off: its end is missing")]
    Cut,
    /// Parts are missing, doubled or exchanged.
    #[error("the backup is not whole: where part {expected} should be there is part {found}")]
    Order {
        /// The part that comes next.
        expected: u32,
        /// The part that is there.
        found: u32,
    },
    /// A part was changed.
    #[error("part {0} of the backup was changed")]
    Changed(u32),
    /// Something behind the end.
    #[error("there is something behind the end of the backup")]
    Trailing,
    /// A cluster's content does not fit.
    #[error("a backup has at most {} GiB", (u32::MAX as u64 * PART as u64) >> 30)]
    TooLarge,
    /// Not of this cluster.
    #[error("the backup is of the cluster {found}, not of {expected}")]
    OtherCluster {
        /// The cluster it should be of.
        expected: ClusterId,
        /// The cluster it is of.
        found: ClusterId,
    },
    /// etcd's version is no version.
    #[error("etcd's version {0:?} can not be written into a backup")]
    EtcdVersion(String),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Header {
    /// Checks that it is a backup of this cluster.
    pub fn expect_cluster(&self, expected: &ClusterId) -> Result<(), BackupError> {
        if self.cluster_id == *expected {
            return Ok(());
        }
        Err(BackupError::OtherCluster {
            expected: expected.clone(),
            found: self.cluster_id.clone(),
        })
    }

    fn to_bytes(&self, key: &BackupKey, salt: &[u8; 32]) -> Result<Vec<u8>, BackupError> {
        let version = self.etcd_version.as_bytes();
        let length = match u8::try_from(version.len()) {
            Ok(length) if is_version(version) => length,
            _ => return Err(BackupError::EtcdVersion(self.etcd_version.clone())),
        };
        let mut bytes = Vec::with_capacity(FIXED + version.len() + MAC);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&key.fingerprint());
        bytes.extend_from_slice(salt);
        bytes.extend_from_slice(self.cluster_id.as_bytes());
        bytes.extend_from_slice(&self.begun.to_be_bytes());
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.push(length);
        bytes.extend_from_slice(version);
        let mac = hmac::sign(&header_key(key, salt), &bytes);
        bytes.extend_from_slice(mac.as_ref());
        Ok(bytes)
    }
}

fn is_version(text: &[u8]) -> bool {
    (1..=MAX_ETCD_VERSION).contains(&text.len())
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(byte))
}

impl BackupKey {
    /// Tells one backup key from another, and nothing else about it.
    fn fingerprint(&self) -> [u8; 16] {
        let derived = derive(self, &[], &[FINGERPRINT]);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&derived.expose()[..16]);
        fingerprint
    }

    /// What a cluster keeps of the key, to know who may have a backup of it: SHA-256. The key has 256 bits that nobody can guess.
    pub fn verifier(&self) -> BackupKeyVerifier {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.expose_bytes()).as_ref());
        BackupKeyVerifier(hash)
    }
}

/// Tells the backup key of a cluster from every other.
#[derive(Debug, Clone)]
pub struct BackupKeyVerifier([u8; 32]);

impl BackupKeyVerifier {
    /// As it is kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the key, in constant time.
    pub fn accepts(&self, key: &BackupKey) -> bool {
        key.verifier().0.ct_eq(&self.0).into()
    }
}

fn derive(key: &BackupKey, salt: &[u8], info: &[&[u8]]) -> SecretBytes {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.expose_bytes());
    SecretBytes::build(|bytes| {
        extracted
            .expand(info, hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(bytes))
    })
    .expect("HKDF-SHA256 fails only for more than 255 blocks, and 32 bytes are one block")
}

fn header_key(key: &BackupKey, salt: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, derive(key, salt, &[HEADER_KEY]).expose())
}

fn content_key(key: &BackupKey, salt: &[u8; 32], header: &[u8]) -> LessSafeKey {
    let derived: SecretBytes = derive(key, salt, &[CONTENT_KEY, digest(&SHA256, header).as_ref()]);
    let key: &[u8; SECRET_LENGTH] = derived.expose();
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key of AES-256 has 32 bytes"))
}

/// Number and length of a part, and what follows from them.
#[derive(Clone, Copy)]
struct Frame {
    number: u32,
    length: u32,
    last: bool,
}

impl Frame {
    fn to_bytes(self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        bytes[..4].copy_from_slice(&self.number.to_be_bytes());
        let flag = if self.last { LAST } else { 0 };
        bytes[4..].copy_from_slice(&(self.length | flag).to_be_bytes());
        bytes
    }

    fn nonce(self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = self.last.into();
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Makes a backup, part by part.
pub struct Sealer {
    key: LessSafeKey,
    next: u32,
}

impl Sealer {
    /// Begins a backup. The bytes are its header.
    pub fn begin(key: &BackupKey, header: &Header) -> Result<(Self, Vec<u8>), BackupError> {
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| RandomError)?;
        let bytes = header.to_bytes(key, &salt)?;
        let sealer = Self {
            key: content_key(key, &salt, &bytes),
            next: 0,
        };
        Ok((sealer, bytes))
    }

    /// The next part of at most [`PART`] bytes, which is not the last.
    ///
    /// # Panics
    /// For more than [`PART`] bytes.
    pub fn part(&mut self, content: &[u8]) -> Result<Vec<u8>, BackupError> {
        let next = self.next.checked_add(1).ok_or(BackupError::TooLarge)?;
        let part = self.seal(content, false);
        self.next = next;
        Ok(part)
    }

    /// The last part of at most [`PART`] bytes.
    ///
    /// # Panics
    /// For more than [`PART`] bytes.
    pub fn last(self, content: &[u8]) -> Vec<u8> {
        self.seal(content, true)
    }

    fn seal(&self, content: &[u8], last: bool) -> Vec<u8> {
        assert!(content.len() <= PART, "a part has at most {PART} bytes");
        let frame = Frame {
            number: self.next,
            length: u32::try_from(content.len()).expect("checked above"),
            last,
        };
        let head = frame.to_bytes();
        let mut part = Vec::with_capacity(FRAME + content.len() + TAG);
        part.extend_from_slice(&head);
        part.extend_from_slice(content);
        let (_, sealed) = part.split_at_mut(FRAME);
        let tag = self
            .key
            .seal_in_place_separate_tag(frame.nonce(), Aad::from(head), sealed)
            .expect("AES-GCM seals 64 KiB");
        part.extend_from_slice(tag.as_ref());
        part
    }
}

/// Reads a backup as its bytes come.
pub struct Opener {
    state: State,
    buffer: Vec<u8>,
}

enum State {
    Header(BackupKey),
    Parts {
        header: Header,
        key: LessSafeKey,
        next: u32,
    },
    Whole(Header),
    Refused(BackupError),
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(..)")
    }
}

impl Opener {
    /// Reads a backup with this key.
    pub fn new(key: BackupKey) -> Self {
        Self {
            state: State::Header(key),
            buffer: Vec::new(),
        }
    }

    /// The header, once it is read.
    pub fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Parts { header, .. } | State::Whole(header) => Some(header),
            State::Header(_) | State::Refused(_) => None,
        }
    }

    /// Takes the next bytes of the file, and gives their content to `content`. Keeps at most one part of the file.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut content: impl FnMut(Zeroizing<Vec<u8>>),
    ) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let missing = match self.wanted() {
                Ok(wanted) => wanted.saturating_sub(self.buffer.len()),
                Err(error) => return Err(self.refuse(error)),
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            match self.take() {
                Ok(Some(part)) => content(part),
                Ok(None) => {}
                Err(error) => return Err(self.refuse(error)),
            }
        }
        Ok(())
    }

    /// Takes the end of the file.
    pub fn finish(self) -> Result<Header, BackupError> {
        match self.state {
            State::Whole(header) => Ok(header),
            State::Refused(error) => Err(error),
            State::Header(_) if !MAGIC.starts_with(&self.buffer[..self.buffer.len().min(8)]) => {
                Err(BackupError::NotABackup)
            }
            State::Header(_) if self.buffer.is_empty() => Err(BackupError::NotABackup),
            State::Header(_) | State::Parts { .. } => Err(BackupError::Cut),
        }
    }

    fn refuse(&mut self, error: BackupError) -> BackupError {
        self.state = State::Refused(error.clone());
        error
    }

    /// How many bytes the buffer has to hold until something can be done with them.
    fn wanted(&self) -> Result<usize, BackupError> {
        match &self.state {
            State::Header(_) => match self.buffer.get(FIXED - 1) {
                None if self.buffer.len() < MAGIC.len() => Ok(MAGIC.len()),
                None => Ok(FIXED),
                Some(length) => Ok(FIXED + usize::from(*length) + MAC),
            },
            State::Parts { next, .. } => match Self::frame(&self.buffer, *next)? {
                None => Ok(FRAME),
                Some(frame) => Ok(FRAME + frame.length as usize + TAG),
            },
            State::Whole(_) => Err(BackupError::Trailing),
            State::Refused(error) => Err(error.clone()),
        }
    }

    /// The head of the part in the buffer, if it is there.
    fn frame(buffer: &[u8], next: u32) -> Result<Option<Frame>, BackupError> {
        let (Some(number), Some(length)) = (number(buffer, 0), number(buffer, 4)) else {
            return Ok(None);
        };
        if number != next {
            return Err(BackupError::Order {
                expected: next,
                found: number,
            });
        }
        let (length, last) = (length & !LAST, length & LAST != 0);
        if length as usize > PART {
            return Err(BackupError::Changed(next));
        }
        Ok(Some(Frame {
            number,
            length,
            last,
        }))
    }

    /// Uses what the buffer holds, if that is enough.
    fn take(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, BackupError> {
        if let State::Header(key) = &self.state {
            if self.buffer.len() >= MAGIC.len() && !self.buffer.starts_with(MAGIC) {
                return Err(BackupError::NotABackup);
            }
            let length = self.buffer.get(FIXED - 1).copied().map(usize::from);
            if length.is_some_and(|length| self.buffer.len() == FIXED + length + MAC) {
                let (header, content) = open_header(key, &self.buffer)?;
                self.buffer.clear();
                self.state = State::Parts {
                    header,
                    key: content,
                    next: 0,
                };
            }
            return Ok(None);
        }
        let State::Parts { header, key, next } = &mut self.state else {
            return Ok(None);
        };
        let Some(frame) = Self::frame(&self.buffer, *next)? else {
            return Ok(None);
        };
        if self.buffer.len() < FRAME + frame.length as usize + TAG {
            return Ok(None);
        }
        // plain text never stays in the buffer
        let mut part = Zeroizing::new(self.buffer.split_off(FRAME));
        self.buffer.clear();
        let length = key
            .open_in_place(frame.nonce(), Aad::from(frame.to_bytes()), &mut part)
            .map_err(|_| BackupError::Changed(frame.number))?
            .len();
        part.truncate(length);
        if frame.last {
            self.state = State::Whole(header.clone());
        } else {
            *next = next.checked_add(1).ok_or(BackupError::TooLarge)?;
        }
        Ok(Some(part))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Checks a header of the right length.
fn open_header(key: &BackupKey, bytes: &[u8]) -> Result<(Header, LessSafeKey), BackupError> {
    let mut fields = Fields(bytes);
    let _magic: [u8; 8] = fields.array()?;
    let version = u16::from_be_bytes(fields.array()?);
    if version != VERSION {
        return Err(BackupError::Version(version));
    }
    let fingerprint: [u8; 16] = fields.array()?;
    if fingerprint != key.fingerprint() {
        return Err(BackupError::WrongKey);
    }
    let salt: [u8; 32] = fields.array()?;
    let (signed, mac) = bytes.split_at(bytes.len() - MAC);
    hmac::verify(&header_key(key, &salt), signed, mac).map_err(|_| BackupError::Header)?;
    let cluster_id: [u8; 32] = fields.array()?;
    let begun = i64::from_be_bytes(fields.array()?);
    let revision = i64::from_be_bytes(fields.array()?);
    let [length] = fields.array()?;
    let etcd_version = fields.take(length.into())?;
    // whoever has the key made it, and may still have made it wrong
    if !is_version(etcd_version) {
        return Err(BackupError::Header);
    }
    let header = Header {
        cluster_id: ClusterId::from_slice(&cluster_id).map_err(|_| BackupError::Header)?,
        begun,
        revision,
        etcd_version: String::from_utf8_lossy(etcd_version).into_owned(),
    };
    Ok((header, content_key(key, &salt, bytes)))
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BackupError> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(BackupError::Header)?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        self.take(N)?.try_into().map_err(|_| BackupError::Header)
    }
}

#[cfg(test)]
mod tests;
