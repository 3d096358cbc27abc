//! Logs of real machines, cut anywhere and with any bit flipped: no panic, and no value that was not quoted is explained.

use std::sync::LazyLock;

use attest::event_log::{
    Bank, DevicePath, EventLog, Explained, GoogleFirmware, Log, PartitionTable, Quoted,
    ReferenceManifest, Rtmr, SecureBoot, SignatureDatabase, TdFirmware, Variable,
};
use proptest::prelude::*;

use crate::log_files::{LOGS, best_bank, evidence_file, parsed, quote_of, registers};

/// Everything that reads a log.
fn everything(bytes: &[u8]) {
    for log in [Log::parse(bytes), Log::parse_ccel(bytes)]
        .into_iter()
        .flatten()
    {
        assert!(log.length() <= bytes.len());
        log.claimed_manifests().for_each(drop);
        for bank in Bank::ALL {
            let Ok(bank) = log.bank(bank) else { continue };
            drop(attest::component::of_td_log(&bank));
            let quoted = quote_of(&bank);
            assert_eq!(bank.compare(&quoted).unexplained().count(), 0);
            let registers = registers(bank.form());
            let explained = bank.explain(&quoted, &registers);
            facts(&explained.expect("a log leads to where it leads"));
        }
    }
    if let Ok(log) = EventLog::parse(bytes) {
        drop(log.replay());
    }
    drop(Variable::parse(bytes));
    drop(SignatureDatabase::parse(bytes));
    drop(DevicePath::parse(bytes));
    drop(PartitionTable::parse(bytes));
    drop(ReferenceManifest::parse(bytes));
}

fn facts(log: &Explained<'_>) {
    drop(SecureBoot::of(log));
    if let Ok(firmware) = GoogleFirmware::of(log) {
        assert_eq!(
            firmware.demand(firmware.version, firmware.technology),
            Ok(())
        );
    }
    drop(TdFirmware::of(log));
    drop(log.loader_events());
    drop(log.partition_tables());
    for application in log.applications() {
        drop(application.claimed_path.map(|path| path.to_string()));
    }
}

/// The logs, without the padding of TDs' areas: most of their bytes.
static SAMPLES: LazyLock<Vec<(Vec<u8>, bool)>> = LazyLock::new(|| {
    LOGS.into_iter()
        .filter(|(path, _)| !path.contains("short-no-action"))
        .map(|(path, is_td)| {
            let mut bytes = evidence_file(path);
            let length = parsed(&bytes, is_td).length();
            bytes.truncate(length);
            (bytes, is_td)
        })
        .collect()
});

/// A log that is cut is refused or ends earlier: it never leads to the value of the whole one.
#[test]
fn a_log_cut_anywhere_leads_elsewhere() {
    for path in [
        "eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin",
        "eventlog/ccel/trustee-ovmf/eventlog.bin",
    ] {
        let is_td = path.contains("ccel");
        let mut bytes = evidence_file(path);
        bytes.truncate(parsed(&bytes, is_td).length());
        let whole = parsed(&bytes, is_td);
        let bank = best_bank(&whole);
        let quoted = quote_of(&whole.bank(bank).unwrap());
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            everything(cut);
            let log = if is_td {
                Log::parse_ccel(cut)
            } else {
                Log::parse(cut)
            };
            let Ok(Ok(log)) = log.map(|log| log.bank(bank)) else {
                continue;
            };
            let registers = registers(log.form());
            assert!(
                log.explain(&quoted, &registers).is_err(),
                "{path}, {length}"
            );
        }
    }
}

/// Every bit of two whole logs: what is still explained has the same digests in the same registers.
#[test]
fn a_log_with_any_bit_flipped_leads_elsewhere_or_to_the_same_digests() {
    for path in [
        "eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin",
        "eventlog/ccel/trustee-ovmf/eventlog.bin",
    ] {
        let is_td = path.contains("ccel");
        let mut bytes = evidence_file(path);
        bytes.truncate(parsed(&bytes, is_td).length());
        let whole = parsed(&bytes, is_td);
        let bank = best_bank(&whole);
        let whole = whole.bank(bank).unwrap();
        let quoted = quote_of(&whole);
        let expected: Vec<_> = whole
            .events()
            .iter()
            .map(|e| (e.register, e.digest))
            .collect();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let log = if is_td {
                Log::parse_ccel(&flipped)
            } else {
                Log::parse(&flipped)
            };
            let Ok(Ok(log)) = log.map(|log| log.bank(bank)) else {
                continue;
            };
            let registers = registers(log.form());
            if let Ok(explained) = log.explain(&quoted, &registers) {
                let found: Vec<_> = explained.events().map(|e| (e.register, e.digest)).collect();
                assert_eq!(found, expected, "{path}, bit {at}");
            }
        }
    }
}

/// RTMRs that differ in any bit are not explained.
#[test]
fn rtmrs_with_any_bit_flipped_are_not_explained() {
    let area = evidence_file("eventlog/ccel/trustee-ovmf/eventlog.bin");
    let log = parsed(&area, true).bank(Bank::Sha384).unwrap();
    let values = log.replay();
    let good = Rtmr::ALL.map(|rtmr| {
        let value = values[&attest::event_log::Register::Rtmr(rtmr)];
        <[u8; 48]>::try_from(value.as_bytes()).unwrap()
    });
    assert_eq!(log.compare(&Quoted::rtmrs(&good)).unexplained().count(), 0);
    for at in 0..4 * 48 * 8 {
        let mut rtmrs = good;
        rtmrs[at / 384][at % 384 / 8] ^= 1 << (at % 8);
        let unexplained: Vec<_> = log.compare(&Quoted::rtmrs(&rtmrs)).unexplained().collect();
        assert_eq!(
            unexplained,
            [attest::event_log::Register::Rtmr(Rtmr::ALL[at / 384])]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn damaged_logs_of_real_machines(
        which in any::<usize>(),
        cut in 0_usize..600,
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
    ) {
        let samples = &*SAMPLES;
        let mut bytes = samples[which % samples.len()].0.clone();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] ^= value;
        }
        bytes.truncate(bytes.len() - cut % bytes.len());
        everything(&bytes);
    }

    /// Damage where it reaches: in the records' data, with digests that fit.
    #[test]
    fn damaged_events_that_were_measured(
        which in any::<usize>(),
        changes in prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 1..8),
        cut in 0_usize..40,
    ) {
        let samples = &*SAMPLES;
        let mut editor = crate::log_files::Editor::open(&samples[which % samples.len()].0);
        let count = editor.records.len();
        for (record, at, value) in changes {
            let record = &mut editor.records[record % count];
            if record.data.is_empty() {
                continue;
            }
            let at = at % record.data.len();
            record.data[at] ^= value;
            let length = record.data.len();
            record.data.truncate(length - cut % length);
            record.measure();
        }
        everything(&editor.bytes());
    }

    #[test]
    fn random_bytes_as_logs(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        everything(&bytes);
    }
}
