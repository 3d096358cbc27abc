//! The TCG event log of a boot, crypto-agile form (TCG PC Client Platform Firmware Profile, section 10).
//!
//! The log is a hint: it names the parts behind a PCR. Nothing is accepted because of it; a log that does not lead to
//! the quoted values is a reason to refuse. Its data fields are not covered by any digest and are never trusted.

use crate::tpm::{ParseError, Reader, alg};
use crate::{Digest, PcrIndex, PcrValues};

/// The largest log: in base64 it must leave room in an evidence document.
pub const MAX_LOG: usize = 160 * 1024;
/// Ten times what the largest server writes.
const MAX_EVENTS: usize = 2048;
/// SHA-1, three SHA-2, SM3, three SHA-3.
const MAX_ALGORITHMS: usize = 8;
const MAX_DIGEST: usize = 64;

const SPEC_ID_SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const STARTUP_LOCALITY_SIGNATURE: &[u8; 16] = b"StartupLocality\0";
/// The PCR number of records that belong to none.
const NO_PCR: u32 = 0xffff_ffff;

/// `EV_*` numbers that mean something here.
pub mod event_type {
    /// Informative; extends nothing.
    pub const NO_ACTION: u32 = 0x0000_0003;
    /// Between firmware and what it boots.
    pub const SEPARATOR: u32 = 0x0000_0004;
    /// Tagged by the operating system's loader: the kernel's EFI stub.
    pub const EVENT_TAG: u32 = 0x0000_0006;
    /// Initial program loader data: systemd-stub's sections.
    pub const IPL: u32 = 0x0000_000d;
    /// An EFI application was started: boot loader, UKI, kernel.
    pub const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
    /// A text about what firmware does.
    pub const EFI_ACTION: u32 = 0x8000_0007;
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The PCR that was extended.
    pub pcr: PcrIndex,
    /// `EV_*`.
    pub kind: u32,
    /// What was extended into the SHA-256 bank.
    pub digest: Digest,
    /// What the writer says about it. Not covered by anything.
    pub data: &'a [u8],
}

/// A parsed log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    startup_locality: u8,
    events: Vec<Event<'a>>,
}

impl<'a> EventLog<'a> {
    /// Parses a log.
    ///
    /// # Errors
    /// When it is longer than [`MAX_LOG`], cut off, not crypto-agile, without SHA-256, or breaks a bound.
    pub fn parse(log: &'a [u8]) -> Result<Self, ParseError> {
        if log.len() > MAX_LOG {
            return Err(ParseError::TooLarge {
                field: "event log",
                value: log.len(),
                bound: MAX_LOG,
            });
        }
        let mut reader = Reader::little_endian(log);
        let algorithms = spec_id(&mut reader)?;
        let mut parsed = Self {
            startup_locality: 0,
            events: Vec::new(),
        };
        let mut records = 0_usize;
        while !reader.is_empty() {
            records += 1;
            if records > MAX_EVENTS {
                return Err(ParseError::TooLarge {
                    field: "number of events",
                    value: records,
                    bound: MAX_EVENTS,
                });
            }
            parsed.record(&mut reader, &algorithms)?;
        }
        Ok(parsed)
    }

    /// The measurements in order.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The measurements of one PCR in order.
    pub fn of_pcr(&self, pcr: PcrIndex) -> impl Iterator<Item = &Event<'a>> {
        self.events.iter().filter(move |event| event.pcr == pcr)
    }

    /// What the PCRs hold after these events.
    #[must_use]
    pub fn replay(&self) -> PcrValues {
        let mut values = PcrValues::at_reset();
        if let Some(first) = PcrIndex::all().next() {
            let mut locality = [0; 32];
            if let Some(last) = locality.last_mut() {
                *last = self.startup_locality;
            }
            values.set(first, Digest::from_bytes(locality));
        }
        for event in &self.events {
            values.extend(event.pcr, &event.digest);
        }
        values
    }

    /// The PCRs a log of firmware and kernel accounts for whose value in `pcrs` these events do not lead to. Not 10
    /// (the kernel's IMA keeps its own list), not 15 (the cluster mark comes later, from us), not 16 to 23.
    #[must_use]
    pub fn unexplained(&self, pcrs: &PcrValues) -> Vec<PcrIndex> {
        let replayed = self.replay();
        PcrIndex::all()
            .filter(|index| !index.is_resettable() && !matches!(index.number(), 10 | 15))
            .filter(|index| replayed.get(*index) != pcrs.get(*index))
            .collect()
    }

    /// `TCG_PCR_EVENT2`.
    fn record(
        &mut self,
        reader: &mut Reader<'a>,
        algorithms: &[(u16, usize)],
    ) -> Result<(), ParseError> {
        let pcr = reader.u32("pcrIndex")?;
        let kind = reader.u32("eventType")?;
        let digest = sha256_of(reader, algorithms)?;
        let size = reader.count("eventSize", MAX_LOG)?;
        let data = reader.bytes("event", size)?;
        if kind == event_type::NO_ACTION {
            // the locality the TPM was started from is where PCR 0 begins, so it can only precede PCR 0's events
            let is_first = !self.events.iter().any(|event| event.pcr.number() == 0);
            if let Some([locality]) = data.strip_prefix(STARTUP_LOCALITY_SIGNATURE)
                && pcr == 0
                && is_first
            {
                self.startup_locality = *locality;
            }
            return Ok(());
        }
        let pcr = PcrIndex::new(pcr).map_err(|_| ParseError::Unsupported {
            field: "pcrIndex",
            value: pcr.into(),
        })?;
        self.events.push(Event {
            pcr,
            kind,
            digest,
            data,
        });
        Ok(())
    }
}

/// The first record, a `TCG_PCR_EVENT` around a `TCG_EfiSpecIDEvent`: which digests each record carries.
fn spec_id(reader: &mut Reader<'_>) -> Result<Vec<(u16, usize)>, ParseError> {
    let pcr = reader.u32("pcrIndex of the first event")?;
    if pcr != 0 && pcr != NO_PCR {
        return Err(ParseError::Unsupported {
            field: "pcrIndex of the first event",
            value: pcr.into(),
        });
    }
    let kind = reader.u32("eventType of the first event")?;
    if kind != event_type::NO_ACTION {
        return Err(ParseError::Unsupported {
            field: "eventType of the first event",
            value: kind.into(),
        });
    }
    reader.bytes("digest of the first event", 20)?;
    let size = reader.count("size of the first event", MAX_LOG)?;
    let mut event = Reader::little_endian(reader.bytes("first event", size)?);
    let signature: [u8; 16] = event.array("signature")?;
    if &signature != SPEC_ID_SIGNATURE {
        let value = u64::from_be_bytes(signature.first_chunk().copied().unwrap_or_default());
        return Err(ParseError::Unsupported {
            field: "signature of the log",
            value,
        });
    }
    event.u32("platformClass")?;
    event.bytes("specVersion", 3)?;
    event.u8("uintnSize")?;
    let count = event.count("numberOfAlgorithms", MAX_ALGORITHMS)?;
    let mut algorithms: Vec<(u16, usize)> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = event.u16("algorithmId")?;
        let size = usize::from(event.u16("digestSize")?);
        if size > MAX_DIGEST {
            return Err(ParseError::TooLarge {
                field: "digestSize",
                value: size,
                bound: MAX_DIGEST,
            });
        }
        let is_wrong_sha256 = id == alg::SHA256 && size != 32;
        if is_wrong_sha256 || algorithms.iter().any(|(known, _)| *known == id) {
            return Err(ParseError::Unsupported {
                field: "algorithmId",
                value: id.into(),
            });
        }
        algorithms.push((id, size));
    }
    let vendor = usize::from(event.u8("vendorInfoSize")?);
    event.bytes("vendorInfo", vendor)?;
    // bytes after the vendor's are padding of some firmware; the record's size says where the next one starts
    Ok(algorithms)
}

/// `TPML_DIGEST_VALUES`: reads all digests, each algorithm at most once, and keeps SHA-256's.
fn sha256_of(reader: &mut Reader<'_>, algorithms: &[(u16, usize)]) -> Result<Digest, ParseError> {
    let count = reader.count("digest count", algorithms.len())?;
    let mut seen: Vec<u16> = Vec::with_capacity(count);
    let mut sha256 = None;
    for _ in 0..count {
        let id = reader.u16("digest algorithm")?;
        let size = algorithms
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, size)| *size);
        let Some(size) = size.filter(|_| !seen.contains(&id)) else {
            return Err(ParseError::Unsupported {
                field: "digest algorithm",
                value: id.into(),
            });
        };
        seen.push(id);
        let digest = reader.bytes("digest", size)?;
        if id == alg::SHA256 {
            sha256 = digest
                .first_chunk::<32>()
                .map(|bytes| Digest::from_bytes(*bytes));
        }
    }
    sha256.ok_or(ParseError::Unsupported {
        field: "digests without sha256",
        value: count as u64,
    })
}
