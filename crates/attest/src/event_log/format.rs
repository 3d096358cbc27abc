//! The three forms of a log, read within bounds.

use super::manifest::ReferenceManifest;
use super::replay::{BankLog, BankLogError, Measured};
use super::{Bank, BankDigest, MAX_LOG, Register, event_type};
use crate::tpm::{ParseError, Reader};

/// The largest memory area of a TD's log: firmware sets 64 or 256 KiB aside.
pub const MAX_CCEL: usize = 256 * 1024;
/// Ten times what the largest server writes.
const MAX_EVENTS: usize = 2048;
/// SHA-1, three SHA-2, SM3, three SHA-3.
const MAX_ALGORITHMS: usize = 8;
const MAX_DIGEST: usize = 64;

const SPEC_ID_SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const STARTUP_LOCALITY_SIGNATURE: &[u8; 16] = b"StartupLocality\0";
/// The register number of records that belong to none.
const NO_REGISTER: u32 = 0xffff_ffff;

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `TCG_PCR_EVENT` records: one SHA-1 digest each.
    Legacy,
    /// `TCG_PCR_EVENT2` records behind a list of the banks.
    CryptoAgile,
    /// The same for the registers of a TD, in a memory area that is larger than the log (ACPI table `CCEL`).
    Ccel,
}

/// A log that could be read. Whether it has anything to do with a machine is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    form: Form,
    banks: Vec<Bank>,
    startup_locality: u8,
    records: Vec<Record<'a>>,
    notes: Vec<&'a [u8]>,
    length: usize,
}

/// One measurement, in every bank.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record<'a> {
    register: Register,
    kind: u32,
    /// Digests of algorithms that are no [`Bank`] were skipped.
    digests: Vec<BankDigest>,
    data: &'a [u8],
}

impl<'a> Log<'a> {
    /// Reads the log of a machine with a TPM, crypto-agile or legacy.
    ///
    /// # Errors
    /// When it is longer than [`MAX_LOG`], cut off, of neither form, or breaks a bound.
    pub fn parse(log: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = bounded(log, MAX_LOG)?;
        let first = First::read(&mut reader, MAX_LOG)?;
        if first.kind == event_type::NO_ACTION && first.data.starts_with(SPEC_ID_SIGNATURE) {
            if first.register != 0 && first.register != NO_REGISTER {
                return Err(unsupported("pcrIndex of the first event", first.register));
            }
            return Self::agile(reader, &first, Form::CryptoAgile, log.len());
        }
        Self::legacy(log)
    }

    /// Reads the memory area of a TD's log. It ends with the last record; what follows must be all ones or all zeros.
    ///
    /// # Errors
    /// When the area is larger than [`MAX_CCEL`], the log is cut off, has no SHA-384, something follows its end, or it
    /// breaks a bound.
    pub fn parse_ccel(area: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = bounded(area, MAX_CCEL)?;
        let first = First::read(&mut reader, MAX_CCEL)?;
        if first.kind != event_type::NO_ACTION {
            return Err(unsupported("eventType of the first event", first.kind));
        }
        if first.register != NO_REGISTER && Register::of_td(first.register).is_none() {
            return Err(unsupported("mrIndex of the first event", first.register));
        }
        let log = Self::agile(reader, &first, Form::Ccel, area.len())?;
        if !log.banks.contains(&Bank::Sha384) {
            return Err(unsupported("algorithms without sha384", 0_u32));
        }
        Ok(log)
    }

    fn agile(
        mut reader: Reader<'a>,
        first: &First<'a>,
        form: Form,
        size: usize,
    ) -> Result<Self, ParseError> {
        let algorithms = spec_id(first.data)?;
        let mut log = Self::empty(form);
        log.banks = algorithms
            .iter()
            .filter_map(|(id, _)| Bank::from_algorithm(*id))
            // the registers of a TD have one bank, whatever a log announces
            .filter(|bank| form != Form::Ccel || *bank == Bank::Sha384)
            .collect();
        let mut records = 0_usize;
        while !reader.is_empty() {
            if form == Form::Ccel && is_padding(reader.rest()) {
                break;
            }
            count(&mut records)?;
            let index = reader.u32("register of an event")?;
            let kind = reader.u32("eventType")?;
            let digests = digests(&mut reader, &algorithms)?;
            let data = data(&mut reader, size)?;
            log.add(index, kind, digests, data)?;
        }
        log.length = size.saturating_sub(reader.rest().len());
        Ok(log)
    }

    /// There is no header, so one measurement at least must say that this is a log.
    fn legacy(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(bytes);
        let mut log = Self::empty(Form::Legacy);
        log.banks = vec![Bank::Sha1];
        log.length = bytes.len();
        let mut records = 0_usize;
        while !reader.is_empty() {
            count(&mut records)?;
            let First {
                register,
                kind,
                digest,
                data,
            } = First::read(&mut reader, bytes.len())?;
            let digest = BankDigest::new(Bank::Sha1, &digest).ok();
            log.add(register, kind, digest.into_iter().collect(), data)?;
        }
        if log.records.is_empty() {
            return Err(unsupported("number of measurements", 0_u32));
        }
        Ok(log)
    }

    const fn empty(form: Form) -> Self {
        Self {
            form,
            banks: Vec::new(),
            startup_locality: 0,
            records: Vec::new(),
            notes: Vec::new(),
            length: 0,
        }
    }

    fn add(
        &mut self,
        index: u32,
        kind: u32,
        digests: Vec<BankDigest>,
        data: &'a [u8],
    ) -> Result<(), ParseError> {
        if kind == event_type::NO_ACTION {
            // the locality the TPM was started from is where PCR 0 begins, so it can only precede PCR 0's events
            if let Some([locality]) = data.strip_prefix(STARTUP_LOCALITY_SIGNATURE)
                && self.form == Form::CryptoAgile
                && index == 0
                && !self.records.iter().any(|record| record.register.is_pcr(0))
            {
                self.startup_locality = *locality;
            }
            self.notes.push(data);
            return Ok(());
        }
        let register = match self.form {
            Form::Legacy | Form::CryptoAgile => Register::pcr(index),
            Form::Ccel => Register::of_td(index),
        };
        self.records.push(Record {
            register: register.ok_or_else(|| unsupported("register of an event", index))?,
            kind,
            digests,
            data,
        });
        Ok(())
    }

    /// How it is written.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The banks that its header announces, in its order.
    #[must_use]
    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// Where its last record ends: of a TD's memory area only so many bytes have to travel.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The locality from which the TPM was started: where PCR 0 begins.
    pub(super) const fn startup_locality(&self) -> u8 {
        self.startup_locality
    }

    /// The reference manifests that firmware points to (SP 800-155). No digest covers such a note.
    pub fn claimed_manifests(&self) -> impl Iterator<Item = ReferenceManifest<'a>> {
        self.notes
            .iter()
            .filter_map(|note| ReferenceManifest::parse(note)?.ok())
    }

    /// Its measurements in one bank.
    ///
    /// # Errors
    /// When a measurement has no digest of the bank, or its hash is not computed here.
    pub fn bank(&self, bank: Bank) -> Result<BankLog<'a>, BankLogError> {
        if !bank.is_computed() {
            return Err(BankLogError::NotComputed(bank));
        }
        if !self.banks.contains(&bank) {
            return Err(BankLogError::NotInLog(bank));
        }
        let events = self.records.iter().enumerate().map(|(number, record)| {
            let digest = record.digests.iter().find(|digest| digest.bank() == bank);
            Ok(Measured {
                register: record.register,
                kind: record.kind,
                digest: *digest.ok_or(BankLogError::Missing { bank, number })?,
                data: record.data,
            })
        });
        let events = events.collect::<Result<_, _>>()?;
        Ok(BankLog::new(self.form, bank, self.startup_locality, events))
    }
}

fn bounded(log: &[u8], bound: usize) -> Result<Reader<'_>, ParseError> {
    if log.len() > bound {
        return Err(ParseError::TooLarge {
            field: "event log",
            value: log.len(),
            bound,
        });
    }
    Ok(Reader::little_endian(log))
}

const fn count(records: &mut usize) -> Result<(), ParseError> {
    *records += 1;
    if *records > MAX_EVENTS {
        return Err(ParseError::TooLarge {
            field: "number of events",
            value: *records,
            bound: MAX_EVENTS,
        });
    }
    Ok(())
}

fn unsupported(field: &'static str, value: impl Into<u64>) -> ParseError {
    ParseError::Unsupported {
        field,
        value: value.into(),
    }
}

/// The rest of a memory area that was never written: ones as flash memory has them, or zeros.
fn is_padding(rest: &[u8]) -> bool {
    rest.first()
        .is_some_and(|first| matches!(first, 0x00 | 0xff) && rest.iter().all(|byte| byte == first))
}

/// A `TCG_PCR_EVENT`: the first record of every log, and each of a legacy one.
struct First<'a> {
    register: u32,
    kind: u32,
    digest: [u8; 20],
    data: &'a [u8],
}

impl<'a> First<'a> {
    fn read(reader: &mut Reader<'a>, bound: usize) -> Result<Self, ParseError> {
        Ok(Self {
            register: reader.u32("register of the first event")?,
            kind: reader.u32("eventType of the first event")?,
            digest: reader.array("digest of the first event")?,
            data: data(reader, bound)?,
        })
    }
}

fn data<'a>(reader: &mut Reader<'a>, bound: usize) -> Result<&'a [u8], ParseError> {
    let size = reader.count("eventSize", bound)?;
    reader.bytes("event", size)
}

/// A `TCG_EfiSpecIDEvent`: which digests each record carries.
fn spec_id(data: &[u8]) -> Result<Vec<(u16, usize)>, ParseError> {
    let mut event = Reader::little_endian(data);
    let signature: [u8; 16] = event.array("signature")?;
    if &signature != SPEC_ID_SIGNATURE {
        let value = u64::from_be_bytes(signature.first_chunk().copied().unwrap_or_default());
        return Err(unsupported("signature of the log", value));
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
        let is_wrong = Bank::from_algorithm(id).is_some_and(|bank| bank.size() != size);
        if is_wrong || algorithms.iter().any(|(known, _)| *known == id) {
            return Err(unsupported("algorithmId", id));
        }
        algorithms.push((id, size));
    }
    let vendor = usize::from(event.u8("vendorInfoSize")?);
    event.bytes("vendorInfo", vendor)?;
    // bytes after the vendor's are padding of some firmware; the record's size says where the next one starts
    Ok(algorithms)
}

/// `TPML_DIGEST_VALUES`: each algorithm of the header at most once, and no other.
fn digests(
    reader: &mut Reader<'_>,
    algorithms: &[(u16, usize)],
) -> Result<Vec<BankDigest>, ParseError> {
    let count = reader.count("digest count", algorithms.len())?;
    if count == 0 {
        return Err(unsupported("digest count", 0_u32));
    }
    let mut seen: Vec<u16> = Vec::with_capacity(count);
    let mut digests = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.u16("digest algorithm")?;
        let size = algorithms
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, size)| *size);
        let Some(size) = size.filter(|_| !seen.contains(&id)) else {
            return Err(unsupported("digest algorithm", id));
        };
        seen.push(id);
        let digest = reader.bytes("digest", size)?;
        if let Some(bank) = Bank::from_algorithm(id)
            && let Ok(digest) = BankDigest::new(bank, digest)
        {
            digests.push(digest);
        }
    }
    Ok(digests)
}
