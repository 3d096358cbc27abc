//! Logs of real machines lead where other programs say that they lead, in every bank and to every quoted register.

use std::collections::BTreeMap;

use attest::event_log::{
    Bank, BankLogError, Explanation, Form, Log, Quoted, QuotedError, Register, Rtmr,
};
use attest::{Component, PcrIndex};
use base64::Engine as _;
use serde_json::Value;

use crate::log_files::{LOGS, evidence_file, parsed, quote_of, registers};

fn manifest() -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&evidence_file("manifest.json")).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

fn sample(id: &str) -> Value {
    manifest()
        .into_iter()
        .find(|sample| sample["id"] == id)
        .unwrap_or_else(|| panic!("no sample {id}"))
}

fn bank_of(name: &str) -> Bank {
    Bank::ALL
        .into_iter()
        .find(|bank| bank.to_string() == name)
        .unwrap_or_else(|| panic!("no bank {name}"))
}

/// The register of a number in a log of this form.
fn register(form: Form, number: u32) -> Register {
    match form {
        Form::Legacy | Form::CryptoAgile => Register::Pcr(PcrIndex::new(number).unwrap()),
        Form::Ccel => Register::Rtmr(Rtmr::ALL[number as usize - 1]),
    }
}

/// All samples of the folder, every bank of each, every register.
#[test]
fn every_log_leads_where_other_programs_say() {
    let mut seen = Vec::new();
    for sample in manifest() {
        if sample["variant"] != "eventlog" {
            continue;
        }
        let id = sample["id"].as_str().unwrap();
        let bytes = evidence_file(&format!("{id}/eventlog.bin"));
        let is_td = id.starts_with("eventlog/ccel/");
        seen.push(format!("{id}/eventlog.bin"));
        if id == "eventlog/go-attestation/short-no-action" {
            // "must not crash; invalid log": a note and no measurement
            assert!(Log::parse(&bytes).is_err());
            continue;
        }
        let log = parsed(&bytes, is_td);
        let form = match sample["measured"]["format"].as_str().unwrap() {
            "legacy SHA-1" => Form::Legacy,
            _ if is_td => Form::Ccel,
            _ => Form::CryptoAgile,
        };
        assert_eq!(log.form(), form, "{id}");
        let end = sample["measured"]["end"]
            .as_u64()
            .unwrap_or(bytes.len() as u64);
        assert_eq!(log.length() as u64, end, "{id}");
        let replay = sample["measured"]["replay"].as_object().unwrap();
        assert_eq!(log.banks().len(), replay.len(), "{id}");
        for (bank, values) in replay {
            let bank = log
                .bank(bank_of(bank))
                .unwrap_or_else(|error| panic!("{id}: {error}"));
            let replayed = bank.replay();
            let mut touched: Vec<Register> = bank.events().iter().map(|e| e.register).collect();
            touched.sort_unstable();
            touched.dedup();
            let values: BTreeMap<Register, &str> = values
                .as_object()
                .unwrap()
                .iter()
                .map(|(number, value)| {
                    let number = number.parse().unwrap();
                    (register(form, number), value.as_str().unwrap())
                })
                .collect();
            assert_eq!(touched, values.keys().copied().collect::<Vec<_>>(), "{id}");
            for (register, value) in values {
                assert_eq!(replayed[&register].to_string(), value, "{id}, {register}");
            }
        }
        // notes extend nothing and are counted by the other program
        let events = sample["measured"]["events"].as_u64().unwrap();
        let measured = log.bank(log.banks()[0]).unwrap().events().len() as u64;
        assert!(measured <= events && events - measured <= 2, "{id}");
    }
    let known: Vec<&str> = LOGS
        .iter()
        .map(|(path, _)| *path)
        .filter(|path| path.starts_with("eventlog/"))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, known);
    assert_eq!(seen.len(), 21);
}

fn pcrs_of(folder: &str, bank: Bank) -> Quoted {
    let json: Value =
        serde_json::from_slice(&evidence_file(&format!("{folder}/pcrs.json"))).unwrap();
    let values: Vec<(PcrIndex, Vec<u8>)> = json[bank.to_string()]
        .as_object()
        .unwrap()
        .iter()
        .map(|(number, value)| {
            let index = PcrIndex::new(number.parse().unwrap()).unwrap();
            (index, hex::decode(value.as_str().unwrap()).unwrap())
        })
        .collect();
    Quoted::pcrs(
        bank,
        values
            .iter()
            .map(|(index, value)| (*index, value.as_slice())),
    )
    .unwrap()
}

/// One log, two genuine quotes of two banks over it.
#[test]
fn a_log_explains_the_quotes_of_both_banks() {
    for (name, bank) in [
        ("gce-cos-85-sha256", Bank::Sha256),
        ("gce-cos-85-sha384", Bank::Sha384),
    ] {
        let folder = format!("gcp-vtpm/go-tpm-tools/{name}");
        let quoted = pcrs_of(&folder, bank);
        let bytes = evidence_file(&format!("{folder}/eventlog.bin"));
        let log = Log::parse(&bytes).unwrap();
        let comparison = log.bank(bank).unwrap().compare(&quoted);
        let unexplained: Vec<String> = comparison
            .unexplained()
            .map(|register| register.to_string())
            .collect();
        let manifest = sample(&folder);
        let explained = &manifest["measured"]["log_matches_pcrs"][bank.to_string()];
        for number in explained.as_array().unwrap() {
            let name = format!("PCR {number}");
            assert!(!unexplained.contains(&name), "{folder}, {name}");
        }
        assert!(
            unexplained.iter().all(|name| name == "PCR 10"),
            "{unexplained:?}"
        );
        log.bank(bank)
            .unwrap()
            .explain(&quoted, &registers(Form::CryptoAgile)[..8])
            .unwrap_or_else(|error| panic!("{folder}: {error}"));
        // the other bank's values are of another length, and never equal
        let other = if bank == Bank::Sha256 {
            Bank::Sha384
        } else {
            Bank::Sha256
        };
        let others = log.bank(other).unwrap();
        assert_eq!(others.compare(&quoted).unexplained().count(), 24);
    }
}

fn rtmrs_of(id: &str) -> [[u8; 48]; 4] {
    let measured = &sample(id)["measured"];
    [0, 1, 2, 3].map(|number| {
        let value = measured[format!("rtmr{number}")].as_str().unwrap();
        hex::decode(value).unwrap().try_into().unwrap()
    })
}

/// The logs of TDs beside the RTMRs of their quotes, good and bad as other programs found them.
#[test]
fn logs_of_tds_explain_their_rtmrs() {
    for (id, file) in [
        ("tdx/go-tdx-guest/v4-gcp-cos-113", "ccel.bin"),
        ("tdx/attestation-rs/v4-b0c06f-live", "ccel.bin"),
        ("tdx/attestation-rs/v4-b0c06f-live", "ccel-other-boot.bin"),
        ("tdx/cc-trusted-api/v4-pre-production-root", "ccel.bin"),
    ] {
        let bytes = evidence_file(&format!("{id}/{file}"));
        let log = parsed(&bytes, true);
        let quoted = Quoted::rtmrs(&rtmrs_of(id));
        let bank = log.bank(Bank::Sha384).unwrap();
        let unexplained: Vec<Register> = bank.compare(&quoted).unexplained().collect();
        // a log of another boot, and one that goes on where the quote was made
        let expected =
            if file == "ccel-other-boot.bin" || id == "tdx/cc-trusted-api/v4-pre-production-root" {
                vec![Register::Rtmr(Rtmr::Rtmr2)]
            } else {
                Vec::new()
            };
        assert_eq!(unexplained, expected, "{id}/{file}");
        if file == "ccel.bin" {
            let manifest = &sample(id)["measured"]["ccel_matches_rtmr"];
            for (name, holds) in manifest.as_object().unwrap() {
                let is_explained = !unexplained
                    .iter()
                    .any(|register| register.to_string().eq_ignore_ascii_case(name));
                assert_eq!(holds.as_bool().unwrap(), is_explained, "{id}, {name}");
            }
        }
        let explained = bank.explain(&quoted, &registers(Form::Ccel));
        match (explained, expected.is_empty()) {
            (Ok(_), true) => {}
            (Err(error), false) => {
                assert_eq!(error.registers().len(), 1);
                assert!(matches!(
                    error.registers()[0].1,
                    Explanation::Differs { .. }
                ));
                assert!(error.to_string().contains("RTMR2: quoted "), "{error}");
            }
            (explained, _) => panic!("{id}/{file}: {explained:?}"),
        }
    }
}

/// The memory area around a log may be ones or zeros and have any size up to its bound; nothing may hide in it.
#[test]
fn the_padding_of_a_td_log_is_ones_or_zeros() {
    let area = evidence_file("eventlog/ccel/trustee-grub/eventlog.bin");
    let whole = parsed(&area, true);
    let log = &area[..whole.length()];
    let value = |bytes: &[u8]| parsed(bytes, true).bank(Bank::Sha384).unwrap().replay();
    let expected = value(&area);
    for padding in [
        vec![],
        vec![0; 1],
        vec![0xff; 1],
        vec![0; 200_000],
        vec![0xff; 200_000],
    ] {
        let bytes = [log, &padding].concat();
        assert_eq!(value(&bytes), expected, "{} bytes", padding.len());
        assert_eq!(parsed(&bytes, true).length(), log.len());
    }
    for padding in [
        [vec![0xff; 100], vec![0]].concat(),
        [vec![0; 100], vec![1]].concat(),
        vec![0xfe; 100],
        [vec![0xff; 4], log[65..].to_vec()].concat(),
    ] {
        assert!(Log::parse_ccel(&[log, &padding].concat()).is_err());
    }
    // a TPM's log is a file, and has none
    let file = evidence_file("eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin");
    assert!(Log::parse(&file).is_ok());
    assert!(Log::parse(&[file.clone(), vec![0xff; 64]].concat()).is_err());
    assert!(Log::parse(&[file, vec![0; 64]].concat()).is_err());
    let too_large = [log, &vec![0; 256 * 1024 + 1 - log.len()]].concat();
    assert!(Log::parse_ccel(&too_large).is_err());
    assert!(
        Log::parse_ccel(&too_large[1..]).is_err(),
        "not a log any more"
    );
    assert!(Log::parse_ccel(&too_large[..256 * 1024]).is_ok());
}

/// A TD's log has SHA-384 and register numbers 0 to 4; a TPM's is not taken for one.
#[test]
fn a_td_log_is_not_a_tpm_log() {
    let td = evidence_file("eventlog/ccel/trustee-grub/eventlog.bin");
    assert!(Log::parse(&td[..parsed(&td, true).length()]).is_err());
    let sha256 = evidence_file("eventlog/keylime/secureboot/eventlog.bin");
    assert!(Log::parse_ccel(&sha256).is_err());
    let three_banks = evidence_file("eventlog/go-tpm-tools/cos-101-amd-sev/eventlog.bin");
    assert!(
        Log::parse_ccel(&three_banks).is_err(),
        "PCR 5 is no register of a TD"
    );
    let legacy = evidence_file("eventlog/go-tpm-tools/debian-10/eventlog.bin");
    assert!(Log::parse_ccel(&legacy).is_err());
}

/// MRTD and registers that nobody quoted are never explained.
#[test]
fn what_was_not_quoted_is_not_explained() {
    let area = evidence_file("eventlog/ccel/trustee-grub/eventlog.bin");
    let log = parsed(&area, true).bank(Bank::Sha384).unwrap();
    let quoted = quote_of(&log);
    let error = log.clone().explain(&quoted, &[Register::Mrtd]).unwrap_err();
    assert_eq!(
        error.registers(),
        [(Register::Mrtd, Explanation::NotQuoted)]
    );
    let pcr = Register::Pcr(PcrIndex::new(7).unwrap());
    assert!(log.clone().explain(&quoted, &[pcr]).is_err());
    let pcrs = Quoted::pcrs(
        Bank::Sha384,
        [(PcrIndex::new(7).unwrap(), [0; 48].as_slice())],
    )
    .unwrap();
    assert!(matches!(
        log.explain(&pcrs, &[pcr]).unwrap_err().registers(),
        [(_, Explanation::NotInLog { .. })]
    ));
}

#[test]
fn quoted_values_have_the_size_of_their_bank() {
    let seven = PcrIndex::new(7).unwrap();
    assert!(matches!(
        Quoted::pcrs(Bank::Sha256, [(seven, [0; 48].as_slice())]),
        Err(QuotedError::Length { .. })
    ));
    assert_eq!(
        Quoted::pcrs(
            Bank::Sha1,
            [(seven, [0; 20].as_slice()), (seven, [0; 20].as_slice())]
        ),
        Err(QuotedError::Twice(Register::Pcr(seven)))
    );
}

/// A bank that the log has not, or not for every measurement, or that is not computed here, explains nothing.
#[test]
fn a_bank_is_whole_or_not_there() {
    let bytes = evidence_file("eventlog/keylime/secureboot/eventlog.bin");
    let log = Log::parse(&bytes).unwrap();
    assert_eq!(
        log.bank(Bank::Sha384),
        Err(BankLogError::NotInLog(Bank::Sha384))
    );
    assert_eq!(
        log.bank(Bank::Sm3_256),
        Err(BankLogError::NotComputed(Bank::Sm3_256))
    );

    let bytes = evidence_file("eventlog/go-tpm-tools/cos-101-amd-sev/eventlog.bin");
    let mut editor = crate::log_files::Editor::open(&bytes);
    editor.records[5]
        .digests
        .retain(|(id, _)| *id != Bank::Sha384.algorithm());
    let bytes = editor.bytes();
    let log = Log::parse(&bytes).unwrap();
    assert!(log.bank(Bank::Sha256).is_ok());
    assert!(matches!(
        log.bank(Bank::Sha384),
        Err(BankLogError::Missing {
            bank: Bank::Sha384,
            number: 5
        })
    ));
}

/// SHA-512 and SM3 beside SHA-256: no machine of the samples has them.
#[test]
fn other_banks_are_carried() {
    let bytes = evidence_file("eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin");
    let mut editor = crate::log_files::Editor::open(&bytes);
    let mut spec = editor.header[32..56].to_vec();
    spec.extend(4_u32.to_le_bytes());
    for (id, size) in [
        (0x000b_u16, 32_u16),
        (0x000d, 64),
        (0x0012, 32),
        (0x0027, 32),
    ] {
        spec.extend(id.to_le_bytes());
        spec.extend(size.to_le_bytes());
    }
    spec.push(0);
    editor.header.truncate(28);
    editor
        .header
        .extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    editor.header.extend(spec);
    for record in &mut editor.records {
        record.digests.push((0x000d, vec![0x5a; 64]));
        record.digests.push((0x0012, vec![1; 32]));
        record.digests.push((0x0027, vec![2; 32]));
    }
    let with = editor.bytes();
    let log = Log::parse(&with).unwrap();
    assert_eq!(log.banks(), [Bank::Sha256, Bank::Sha512, Bank::Sm3_256]);
    let before = Log::parse(&bytes).unwrap().bank(Bank::Sha256).unwrap();
    assert_eq!(log.bank(Bank::Sha256).unwrap(), before);
    let sha512 = log.bank(Bank::Sha512).unwrap();
    let extended: Vec<u8> = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA512,
        &[vec![0; 64], vec![0x5a; 64]].concat(),
    )
    .as_ref()
    .to_vec();
    let six = Register::Pcr(PcrIndex::new(6).unwrap());
    assert_eq!(
        sha512.replay()[&six].as_bytes(),
        extended,
        "PCR 6 has a separator only"
    );
    assert_eq!(
        log.bank(Bank::Sm3_256),
        Err(BankLogError::NotComputed(Bank::Sm3_256))
    );
}

/// Another program read these logs too: register, digest, data, and whether the digest is over the data, event by event.
#[test]
fn events_of_td_logs_are_those_another_program_read() {
    for name in ["trustee-grub", "trustee-ovmf", "trustee-gke"] {
        let area = evidence_file(&format!("eventlog/ccel/{name}/eventlog.bin"));
        let log = parsed(&area, true);
        let bank = log.bank(Bank::Sha384).unwrap();
        let quoted = quote_of(&bank);
        let explained = bank
            .clone()
            .explain(&quoted, &registers(Form::Ccel))
            .unwrap();
        let json: Value = serde_json::from_slice(&evidence_file(&format!(
            "eventlog/ccel/{name}/expected.json"
        )))
        .unwrap();
        let events = json["uefi_event_logs"].as_array().unwrap();
        let (notes, expected): (Vec<&Value>, Vec<&Value>) = events
            .iter()
            .partition(|event| event["type_name"] == "EV_NO_ACTION");
        assert_eq!(log.claimed_manifests().count(), notes.len(), "{name}");
        assert_eq!(bank.events().len(), expected.len(), "{name}");
        let mut applications = explained.applications().into_iter();
        for (event, expected) in bank.events().iter().zip(expected) {
            let kind = expected["type_name"].as_str().unwrap();
            let number = expected["index"].as_u64().unwrap();
            assert_eq!(
                event.register,
                register(Form::Ccel, u32::try_from(number).unwrap())
            );
            assert_eq!(expected["digests"][0]["alg"], "SHA-384");
            assert_eq!(expected["digests"][0]["digest"], event.digest.to_string());
            let data = base64::engine::general_purpose::STANDARD
                .decode(expected["event"].as_str().unwrap())
                .unwrap();
            assert_eq!(event.data, data);
            assert_eq!(
                expected["digest_matches_event"],
                event.covers_data(),
                "{kind}"
            );
            let details = &expected["details"];
            if let Some(text) = details["unicode_name"].as_str() {
                let variable = attest::event_log::Variable::parse(event.data).unwrap();
                assert_eq!(variable.name, text);
                let vendor = details["variable_name"].as_str().unwrap().replace('-', "");
                assert_eq!(hex::encode(variable.vendor.as_bytes()), vendor);
                let content = base64::engine::general_purpose::STANDARD
                    .decode(details["variable_data"].as_str().unwrap())
                    .unwrap();
                assert_eq!(variable.data, content);
            }
            if kind == "EV_EFI_BOOT_SERVICES_APPLICATION" {
                let application = applications.next().unwrap();
                assert_eq!(application.digest, event.digest);
                let path = application.claimed_path.map(|path| their_words(&path));
                let theirs: Option<Vec<&str>> = details["device_paths"]
                    .as_array()
                    .map(|nodes| nodes.iter().map(|node| node.as_str().unwrap()).collect());
                assert_eq!(path.is_some(), theirs.is_some());
                for (ours, theirs) in path.iter().flatten().zip(theirs.iter().flatten()) {
                    assert!(theirs.starts_with(ours), "{ours} and {theirs}");
                }
                assert_eq!(path.map(|p| p.len()), theirs.map(|p| p.len()));
            }
        }
        assert!(applications.next().is_none());
    }
}

/// The words of the other program for a path, as far as we have them.
fn their_words(path: &attest::event_log::DevicePath) -> Vec<String> {
    use attest::event_log::Node;
    path.nodes
        .iter()
        .map(|node| match node {
            Node::Acpi(0x0a03_41d0, unit) => format!("ACPI(PNP0A03,{unit})"),
            Node::Pci(device, function) => format!("Pci({function},{device})"),
            Node::Nvme(namespace, id) => format!(
                "Path(3,23,{}{})",
                hex::encode(namespace.to_le_bytes()),
                hex::encode(id)
            ),
            Node::GptPartition(number, id) => {
                format!("HD({number},GPT,{},", id.to_string().to_uppercase())
            }
            Node::File(path) => format!("File({path})"),
            Node::Vendor(id) => format!("VenMedia({}", id.to_string().to_uppercase()),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The parts of a TD's boot get their names from kind and content, for several PCRs share a register.
#[test]
fn parts_of_a_td_boot_get_their_names() {
    let named = |path: &str, rtmr: Rtmr| -> Vec<Component> {
        let area = evidence_file(path);
        let log = parsed(&area, true).bank(Bank::Sha384).unwrap();
        attest::component::of_td_log(&log)
            .into_iter()
            .filter(|part| part.rtmr == rtmr)
            .map(|part| part.name)
            .collect()
    };
    let gke = "eventlog/ccel/trustee-gke/eventlog.bin";
    assert_eq!(
        named(gke, Rtmr::Rtmr1),
        [
            Component::BootAttempt,
            Component::Separator,
            Component::PartitionTable,
            Component::BootLoader,
            Component::Kernel,
            Component::BootAttempt,
            Component::BootAttempt,
        ]
    );
    assert_eq!(
        named(gke, Rtmr::Rtmr2),
        [
            Component::Kernel,
            Component::OsRelease,
            Component::CommandLine,
            Component::Initrd,
            Component::Uname,
            Component::Sbat,
        ]
    );
    let rtmr0 = named(gke, Rtmr::Rtmr0);
    assert_eq!(rtmr0[..2], [Component::FirmwareConfiguration; 2]);
    assert_eq!(rtmr0[2..7], [Component::SecureBootPolicy; 5]);
    assert_eq!(rtmr0[7], Component::Separator);
    assert_eq!(
        named("eventlog/ccel/trustee-ovmf/eventlog.bin", Rtmr::Rtmr2),
        [Component::CommandLine, Component::Initrd]
    );
    // a TPM's log has no RTMRs
    let bytes = evidence_file("eventlog/go-tpm-tools/cos-101-amd-sev/eventlog.bin");
    let log = Log::parse(&bytes).unwrap();
    assert_eq!(
        attest::component::of_td_log(&log.bank(Bank::Sha384).unwrap()),
        []
    );
}
