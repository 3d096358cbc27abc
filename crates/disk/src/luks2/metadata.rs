//! The accepted shape of a header's JSON, field by field, and its writing.

use core::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::json::{self, HeaderError, Object, Problem};
use super::{DATA_OFFSET, HEADERS_SIZE, JSON_SIZE, Kind};

/// The only cipher, of the data and of the keyslot. `cipher_null-ecb` in either is the attack of CVE-2025-58356.
const CIPHER: &str = "aes-xts-plain64";
const CIPHER_KEY: u64 = 64;
const INTEGRITY: &str = "hmac(sha256)";
const INTEGRITY_KEY: u64 = 32;
const SECTOR_SIZE: u64 = 4096;
const STRIPES: u64 = 4000;
const TOKEN: &str = "constellation-state-disk";
const KEYSLOTS_SIZE: u64 = DATA_OFFSET - HEADERS_SIZE as u64;

/// cryptsetup's own minimum. The upper bounds only keep a host from making a machine compute for ever.
const ITERATIONS: core::ops::RangeInclusive<u64> = 1000..=10_000_000;

/// The values that are not the same in every header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    kind: Kind,
    area_offset: u64,
    kdf: Kdf,
    digest: Digest,
    /// Our token's flag, if the token is there.
    pub(super) initialized: Option<bool>,
}

/// How the keyslot's passphrase becomes a key. The passphrases are random 256-bit keys, so the cost does not matter for their
/// safety, and a disk made with any of these opens.
#[derive(Debug, PartialEq, Eq)]
enum Kdf {
    Pbkdf2 {
        iterations: u64,
        salt: [u8; 32],
    },
    /// What the original writes: 64 MiB.
    Argon2id {
        time: u64,
        memory_kib: u64,
        cpus: u64,
        salt: [u8; 32],
    },
}

/// The digest that tells whether an opened keyslot gave the right volume key.
#[derive(Debug, PartialEq, Eq)]
struct Digest {
    iterations: u64,
    salt: [u8; 32],
    digest: [u8; 32],
}

impl Metadata {
    pub(super) fn parse(kind: Kind, area: &[u8]) -> Result<Self, HeaderError> {
        let end = area.iter().position(|byte| *byte == 0);
        let (text, padding) = end
            .and_then(|end| area.split_at_checked(end))
            .ok_or_else(|| HeaderError::new("json", Problem::NotA("shorter than its area")))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(HeaderError::new(
                "json",
                Problem::NotA("followed by zeros only"),
            ));
        }
        let mut root = json::parse(text)?;

        // Before the others, so that a refusal names the attack and not a field that only an attacked header has.
        let mut config = root.object("config")?;
        config.decimal("json_size", JSON_SIZE as u64..=JSON_SIZE as u64)?;
        config.decimal("keyslots_size", KEYSLOTS_SIZE..=KEYSLOTS_SIZE)?;
        config.finish()?;

        let mut segments = root.object("segments")?;
        segment(kind, segments.object("0")?)?;
        segments.finish()?;

        let mut keyslots = root.object("keyslots")?;
        let (area_offset, kdf) = keyslot(kind, keyslots.object("0")?)?;
        keyslots.finish()?;

        let mut digests = root.object("digests")?;
        let digest = Digest::parse(digests.object("0")?)?;
        digests.finish()?;

        let mut tokens = root.object("tokens")?;
        let initialized = match kind {
            Kind::StateDisk if tokens.has("0") => Some(token(tokens.object("0")?)?),
            Kind::StateDisk | Kind::Volume => None,
        };
        tokens.finish()?;

        root.finish()?;
        Ok(Self {
            kind,
            area_offset,
            kdf,
            digest,
            initialized,
        })
    }

    pub(super) fn keyslot_area(&self) -> Range<u64> {
        self.area_offset..self.area_offset + area_size(self.kind)
    }

    /// The JSON area.
    pub(super) fn encode(&self) -> [u8; JSON_SIZE] {
        let text = self.to_json().to_string();
        let mut area = [0; JSON_SIZE];
        let (start, _) = area
            .split_at_mut_checked(text.len())
            .expect("every value is of bounded size, and together they have about 1200 bytes");
        start.copy_from_slice(text.as_bytes());
        area
    }

    fn to_json(&self) -> Value {
        let mut segment = json!({
            "type": "crypt",
            "offset": DATA_OFFSET.to_string(),
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": CIPHER,
            "sector_size": SECTOR_SIZE,
        });
        if self.kind == Kind::StateDisk {
            segment["integrity"] = json!({
                "type": INTEGRITY,
                "journal_encryption": "none",
                "journal_integrity": "none",
            });
        }
        let mut tokens = json!({});
        if let Some(initialized) = self.initialized {
            tokens["0"] =
                json!({ "type": TOKEN, "keyslots": [], "diskIsInitialized": initialized });
        }
        json!({
            "keyslots": { "0": {
                "type": "luks2",
                "key_size": volume_key_size(self.kind),
                "af": { "type": "luks1", "stripes": STRIPES, "hash": "sha256" },
                "area": {
                    "type": "raw",
                    "offset": self.area_offset.to_string(),
                    "size": area_size(self.kind).to_string(),
                    "encryption": CIPHER,
                    "key_size": CIPHER_KEY,
                },
                "kdf": self.kdf.to_json(),
            } },
            "tokens": tokens,
            "segments": { "0": segment },
            "digests": { "0": {
                "type": "pbkdf2",
                "keyslots": ["0"],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": self.digest.iterations,
                "salt": STANDARD.encode(self.digest.salt),
                "digest": STANDARD.encode(self.digest.digest),
            } },
            "config": {
                "json_size": JSON_SIZE.to_string(),
                "keyslots_size": KEYSLOTS_SIZE.to_string(),
            },
        })
    }
}

fn volume_key_size(kind: Kind) -> u64 {
    match kind {
        Kind::StateDisk => CIPHER_KEY + INTEGRITY_KEY,
        Kind::Volume => CIPHER_KEY,
    }
}

/// The split key, rounded up to a page.
fn area_size(kind: Kind) -> u64 {
    (volume_key_size(kind) * STRIPES).next_multiple_of(4096)
}

fn segment(kind: Kind, mut segment: Object) -> Result<(), HeaderError> {
    segment.literal("type", "crypt")?;
    segment.decimal("offset", DATA_OFFSET..=DATA_OFFSET)?;
    segment.literal("size", "dynamic")?;
    segment.literal("iv_tweak", "0")?;
    segment.literal("encryption", CIPHER)?;
    segment.number("sector_size", SECTOR_SIZE..=SECTOR_SIZE)?;
    match kind {
        Kind::StateDisk => {
            let mut integrity = segment.object("integrity")?;
            integrity.literal("type", INTEGRITY)?;
            integrity.literal("journal_encryption", "none")?;
            integrity.literal("journal_integrity", "none")?;
            integrity.finish()?;
        }
        Kind::Volume => {}
    }
    segment.finish()
}

fn keyslot(kind: Kind, mut keyslot: Object) -> Result<(u64, Kdf), HeaderError> {
    keyslot.literal("type", "luks2")?;
    let key_size = volume_key_size(kind);
    keyslot.number("key_size", key_size..=key_size)?;

    let mut splitter = keyslot.object("af")?;
    splitter.literal("type", "luks1")?;
    splitter.number("stripes", STRIPES..=STRIPES)?;
    splitter.literal("hash", "sha256")?;
    splitter.finish()?;

    let mut area = keyslot.object("area")?;
    area.literal("type", "raw")?;
    let size = area_size(kind);
    // Behind both headers, before the data. cryptsetup moves the area when it changes a key, so the place is not fixed.
    let offset = area.decimal("offset", HEADERS_SIZE as u64..=DATA_OFFSET - size)?;
    if !offset.is_multiple_of(4096) {
        let problem = Problem::NotA("a multiple of 4096");
        return Err(HeaderError::new("keyslots.0.area.offset", problem));
    }
    area.decimal("size", size..=size)?;
    area.literal("encryption", CIPHER)?;
    area.number("key_size", CIPHER_KEY..=CIPHER_KEY)?;
    area.finish()?;

    let kdf = Kdf::parse(keyslot.object("kdf")?)?;
    keyslot.finish()?;
    Ok((offset, kdf))
}

fn token(mut token: Object) -> Result<bool, HeaderError> {
    token.literal("type", TOKEN)?;
    token.list("keyslots", &[])?;
    let initialized = token.boolean("diskIsInitialized")?;
    token.finish()?;
    Ok(initialized)
}

impl Kdf {
    fn parse(mut kdf: Object) -> Result<Self, HeaderError> {
        let name = kdf.text("type")?;
        let parsed = match name.as_str() {
            "pbkdf2" => {
                kdf.literal("hash", "sha256")?;
                Self::Pbkdf2 {
                    iterations: kdf.number("iterations", ITERATIONS)?,
                    salt: kdf.bytes("salt")?,
                }
            }
            "argon2id" => Self::Argon2id {
                time: kdf.number("time", 1..=64)?,
                memory_kib: kdf.number("memory", 32..=1024 * 1024)?,
                cpus: kdf.number("cpus", 1..=4)?,
                salt: kdf.bytes("salt")?,
            },
            other => {
                let problem = Problem::Not {
                    expected: "\"pbkdf2\" or \"argon2id\"".to_owned(),
                    actual: format!("\"{}\"", json::printable(other)),
                };
                return Err(HeaderError::new("keyslots.0.kdf.type", problem));
            }
        };
        kdf.finish()?;
        Ok(parsed)
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Pbkdf2 { iterations, salt } => json!({
                "type": "pbkdf2",
                "hash": "sha256",
                "iterations": iterations,
                "salt": STANDARD.encode(salt),
            }),
            Self::Argon2id {
                time,
                memory_kib,
                cpus,
                salt,
            } => json!({
                "type": "argon2id",
                "time": time,
                "memory": memory_kib,
                "cpus": cpus,
                "salt": STANDARD.encode(salt),
            }),
        }
    }
}

impl Digest {
    fn parse(mut digest: Object) -> Result<Self, HeaderError> {
        digest.literal("type", "pbkdf2")?;
        digest.list("keyslots", &["0"])?;
        digest.list("segments", &["0"])?;
        digest.literal("hash", "sha256")?;
        let parsed = Self {
            iterations: digest.number("iterations", ITERATIONS)?,
            salt: digest.bytes("salt")?,
            digest: digest.bytes("digest")?,
        };
        digest.finish()?;
        Ok(parsed)
    }
}
