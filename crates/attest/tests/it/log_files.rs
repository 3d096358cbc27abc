//! Event logs of real machines, and an editor for them: one named lie at a time.

use std::path::PathBuf;

use attest::event_log::{Bank, BankDigest, BankLog, Form, Log, Quoted, Register, Rtmr};

/// A file of `testdata/evidence`.
pub(crate) fn evidence_file(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every log, and whether it is a TD's.
pub(crate) const LOGS: [(&str, bool); 26] = [
    (
        "eventlog/ccel/go-eventlog-dupe-separator/eventlog.bin",
        true,
    ),
    ("eventlog/ccel/trustee-gke/eventlog.bin", true),
    ("eventlog/ccel/trustee-grub/eventlog.bin", true),
    ("eventlog/ccel/trustee-ovmf/eventlog.bin", true),
    ("eventlog/go-attestation/ebs-missing/eventlog.bin", false),
    ("eventlog/go-attestation/option-rom/eventlog.bin", false),
    (
        "eventlog/go-attestation/short-no-action/eventlog.bin",
        false,
    ),
    (
        "eventlog/go-tpm-tools/arch-linux-workstation/eventlog.bin",
        false,
    ),
    ("eventlog/go-tpm-tools/cos-101-amd-sev/eventlog.bin", false),
    ("eventlog/go-tpm-tools/cos-85-amd-sev/eventlog.bin", false),
    ("eventlog/go-tpm-tools/debian-10/eventlog.bin", false),
    (
        "eventlog/go-tpm-tools/eventlogwithsp800155/eventlog.bin",
        false,
    ),
    ("eventlog/go-tpm-tools/rhel8-uefi/eventlog.bin", false),
    (
        "eventlog/go-tpm-tools/ubuntu-2104-no-dbx/eventlog.bin",
        false,
    ),
    (
        "eventlog/go-tpm-tools/ubuntu-2104-no-secure-boot/eventlog.bin",
        false,
    ),
    (
        "eventlog/go-tpm-tools/ubuntu-2404-amd-sevsnp/eventlog.bin",
        false,
    ),
    ("eventlog/intel-ita/bios-measurements/eventlog.bin", false),
    ("eventlog/keylime/bios-measurements/eventlog.bin", false),
    ("eventlog/keylime/secureboot/eventlog.bin", false),
    ("eventlog/tpm2-tools/postcode/eventlog.bin", false),
    ("eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin", false),
    (
        "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256/eventlog.bin",
        false,
    ),
    (
        "tdx/attestation-rs/v4-b0c06f-live/ccel-other-boot.bin",
        true,
    ),
    ("tdx/attestation-rs/v4-b0c06f-live/ccel.bin", true),
    ("tdx/cc-trusted-api/v4-pre-production-root/ccel.bin", true),
    ("tdx/go-tdx-guest/v4-gcp-cos-113/ccel.bin", true),
];

/// A quote over where the log leads.
pub(crate) fn quote_of(log: &BankLog<'_>) -> Quoted {
    let values = log.replay();
    match log.form() {
        Form::Ccel => Quoted::rtmrs(&Rtmr::ALL.map(|rtmr| {
            let value = values[&Register::Rtmr(rtmr)];
            value.as_bytes().try_into().expect("RTMRs are SHA-384")
        })),
        Form::Legacy | Form::CryptoAgile => Quoted::pcrs(
            log.bank(),
            values.iter().filter_map(|(register, value)| {
                let Register::Pcr(index) = register else {
                    return None;
                };
                Some((*index, value.as_bytes()))
            }),
        )
        .expect("each PCR has one value of the bank's size"),
    }
}

/// The registers that a log of this form accounts for.
pub(crate) fn registers(form: Form) -> Vec<Register> {
    match form {
        Form::Ccel => Rtmr::ALL.map(Register::Rtmr).to_vec(),
        Form::Legacy | Form::CryptoAgile => (0..16)
            .map(|number| Register::Pcr(attest::PcrIndex::new(number).unwrap()))
            .collect(),
    }
}

/// A record, so that it can be changed.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) index: u32,
    pub(crate) kind: u32,
    pub(crate) digests: Vec<(u16, Vec<u8>)>,
    pub(crate) data: Vec<u8>,
}

impl Raw {
    /// A measurement of its own data.
    pub(crate) fn plain(index: u32, kind: u32, data: &[u8], banks: &[Bank]) -> Self {
        let digests = banks.iter().map(|bank| (bank.algorithm(), Vec::new()));
        let mut raw = Self {
            index,
            kind,
            digests: digests.collect(),
            data: data.to_vec(),
        };
        raw.measure();
        raw
    }

    /// Digests over the data, as a TPM would be told.
    pub(crate) fn measure(&mut self) {
        for (id, digest) in &mut self.digests {
            let bank = Bank::from_algorithm(*id).unwrap();
            *digest = BankDigest::of(bank, &[&self.data])
                .unwrap()
                .as_bytes()
                .to_vec();
        }
    }
}

/// A log in pieces.
#[derive(Clone, Debug)]
pub(crate) struct Editor {
    /// The header of a crypto-agile log; empty for a legacy one.
    pub(crate) header: Vec<u8>,
    pub(crate) records: Vec<Raw>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn length(bytes: &[u8], at: usize) -> usize {
    word(bytes, at) as usize
}

impl Editor {
    /// Takes a good log apart. Padding is left out.
    pub(crate) fn open(log: &[u8]) -> Self {
        let size = length(log, 28);
        let is_agile = log[32..].starts_with(b"Spec ID Event03\0");
        let header = if is_agile { &log[..32 + size] } else { &[] };
        let mut sizes = Vec::new();
        for at in 0..if is_agile { length(log, 32 + 24) } else { 0 } {
            let at = 32 + 28 + 4 * at;
            let pair = |at: usize| u16::from_le_bytes(log[at..at + 2].try_into().unwrap());
            sizes.push((pair(at), usize::from(pair(at + 2))));
        }
        let mut at = header.len();
        let mut records = Vec::new();
        while at < log.len() && !log[at..].iter().all(|byte| *byte == 0xff) {
            let (index, kind) = (word(log, at), word(log, at + 4));
            at += 8;
            let mut digests = Vec::new();
            if is_agile {
                let count = word(log, at);
                at += 4;
                for _ in 0..count {
                    let id = u16::from_le_bytes(log[at..at + 2].try_into().unwrap());
                    let size = sizes.iter().find(|(known, _)| *known == id).unwrap().1;
                    digests.push((id, log[at + 2..at + 2 + size].to_vec()));
                    at += 2 + size;
                }
            } else {
                digests.push((Bank::Sha1.algorithm(), log[at..at + 20].to_vec()));
                at += 20;
            }
            let size = length(log, at);
            records.push(Raw {
                index,
                kind,
                digests,
                data: log[at + 4..at + 4 + size].to_vec(),
            });
            at += 4 + size;
        }
        Self {
            header: header.to_vec(),
            records,
        }
    }

    /// Puts it together again.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut log = self.header.clone();
        for record in &self.records {
            log.extend(record.index.to_le_bytes());
            log.extend(record.kind.to_le_bytes());
            if !self.header.is_empty() {
                log.extend(u32::try_from(record.digests.len()).unwrap().to_le_bytes());
            }
            for (id, digest) in &record.digests {
                if !self.header.is_empty() {
                    log.extend(id.to_le_bytes());
                }
                log.extend(digest);
            }
            log.extend(u32::try_from(record.data.len()).unwrap().to_le_bytes());
            log.extend(&record.data);
        }
        log
    }

    /// The first record of this kind in this register.
    pub(crate) fn first(&mut self, index: u32, kind: u32) -> &mut Raw {
        let at = self.position(index, kind);
        &mut self.records[at]
    }

    /// Where the first record of this kind in this register is.
    pub(crate) fn position(&self, index: u32, kind: u32) -> usize {
        self.records
            .iter()
            .position(|record| record.index == index && record.kind == kind)
            .expect("the log has such a record")
    }

    /// Where the Secure Boot variable of this name is.
    pub(crate) fn variable(&self, name: &str) -> usize {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.records
            .iter()
            .position(|record| {
                record.kind == 0x8000_0001
                    && record.data[16] as usize * 2 == name.len()
                    && record.data[32..].starts_with(&name)
            })
            .expect("the log has such a variable")
    }
}

/// Reads a log as what it is.
pub(crate) fn parsed(bytes: &[u8], is_td: bool) -> Log<'_> {
    let log = if is_td {
        Log::parse_ccel(bytes)
    } else {
        Log::parse(bytes)
    };
    log.unwrap_or_else(|error| panic!("{error}"))
}

/// The best bank of a log.
pub(crate) fn best_bank(log: &Log<'_>) -> Bank {
    *log.banks().iter().max().expect("a log has a bank")
}

/// The editor gives back what it was given.
#[test]
fn the_editor_changes_nothing_by_itself() {
    for (path, is_td) in LOGS {
        let bytes = evidence_file(path);
        let again = Editor::open(&bytes).bytes();
        assert_eq!(again, bytes[..again.len()], "{path}");
        if !is_td {
            assert_eq!(again.len(), bytes.len(), "{path}");
        }
    }
}
