//! What events say, and which of it is so: applications, partition tables, boot loaders, Google's firmware, a TD's.

use attest::event_log::{
    Bank, DevicePath, Explained, Form, GoogleFirmware, GoogleFirmwareError, ImageKind, LoaderEvent,
    Log, PartitionTable, Register, Rtmr, Said, SignatureDatabase, SignatureKind, TdFirmware,
    TdFirmwareError, Technology, Variable, event_type,
};
use attest::tpm::ParseError;

use crate::log_files::{Editor, Raw, best_bank, evidence_file, parsed, quote_of, registers};

fn explained<'a>(log: &Log<'a>) -> Explained<'a> {
    let bank = log.bank(best_bank(log)).unwrap();
    let quoted = quote_of(&bank);
    let registers = registers(bank.form());
    bank.explain(&quoted, &registers).unwrap()
}

fn pcr(number: u32) -> Register {
    Register::Pcr(attest::PcrIndex::new(number).unwrap())
}

#[test]
fn applications_have_a_digest_and_a_claimed_path() {
    let bytes = evidence_file("eventlog/keylime/secureboot/eventlog.bin");
    let log = parsed(&bytes, false);
    let applications = explained(&log).applications();
    let shown: Vec<(ImageKind, Register, String, Option<String>)> = applications
        .into_iter()
        .map(|application| {
            (
                application.claimed_kind,
                application.register,
                application.digest.to_string()[..8].to_owned(),
                application.claimed_path.map(|path| path.to_string()),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                ImageKind::BootServicesDriver,
                pcr(2),
                "7e381839".to_owned(),
                Some("PciRoot(0x0)/Pci(0x2,0x0)/Pci(0x0,0x0)/Path(4,8,20 bytes)".to_owned()),
            ),
            (
                ImageKind::Application,
                pcr(4),
                "27b12463".to_owned(),
                Some(
                    "PciRoot(0x0)/Pci(0x2,0x3)/Pci(0x0,0x0)/\
                     HD(1,GPT,a88ed452-9a52-45c4-91ce-3da7707caaab)/\\EFI\\redhat\\shimx64.efi"
                        .to_owned()
                ),
            ),
            (
                ImageKind::Application,
                pcr(4),
                "0abc88ee".to_owned(),
                Some("\\EFI\\redhat\\grubx64.efi".to_owned()),
            ),
            // GRUB hands the kernel over without a path
            (ImageKind::Application, pcr(4), "219b8b53".to_owned(), None),
        ]
    );
}

/// A path may say anything; what cannot be read is left out, and the digest stays.
#[test]
fn a_path_that_cannot_be_read_takes_nothing_else_with_it() {
    let bytes = evidence_file("eventlog/tpm2-tools/postcode/eventlog.bin");
    let applications = explained(&parsed(&bytes, false)).applications();
    // old shims write something of their own
    let unread = applications
        .iter()
        .filter(|a| a.claimed_path.is_none())
        .count();
    assert_eq!(unread, 2);
}

#[test]
fn device_paths_within_bounds_only() {
    let end = [0x7f, 0xff, 4, 0];
    let file = [[4, 4, 10, 0].as_slice(), &[0x5c, 0, 0x61, 0, 0, 0], &end].concat();
    assert_eq!(DevicePath::parse(&file).unwrap().to_string(), "\\a");
    for length in 0..file.len() {
        assert!(DevicePath::parse(&file[..length]).is_err(), "{length}");
    }
    assert!(DevicePath::parse(&[file.clone(), vec![0]].concat()).is_err());
    let nodes = |count: usize| [[1, 3, 4, 0].repeat(count), end.to_vec()].concat();
    assert_eq!(DevicePath::parse(&nodes(64)).unwrap().nodes.len(), 64);
    assert!(matches!(
        DevicePath::parse(&nodes(65)),
        Err(ParseError::TooLarge {
            field: "device path nodes",
            ..
        })
    ));
    assert!(matches!(
        DevicePath::parse(&vec![0; 4097]),
        Err(ParseError::TooLarge {
            field: "DevicePath",
            ..
        })
    ));
    // the longest that is read: one node, and the end
    let longest = [&[1, 4, 0xfc, 0x0f][..], &[0; 4088], &end].concat();
    assert_eq!(longest.len(), 4096);
    assert_eq!(DevicePath::parse(&longest).unwrap().nodes.len(), 1);
    // the end of one of several paths is not the end, and neither is another node with its sub-type
    for node in [[0x7f, 1, 4, 0], [1, 0xff, 4, 0]] {
        let path = DevicePath::parse(&[node, end].concat()).unwrap();
        assert_eq!(path.nodes.len(), 1, "{node:x?}");
        assert!(DevicePath::parse(&node).is_err(), "{node:x?}");
    }
    // a node shorter than its head would be read for ever
    assert!(DevicePath::parse(&[[1, 3, 3, 0], end].concat()).is_err());
    // a node shorter than its kind
    assert!(DevicePath::parse(&[[1, 1, 4, 0], end].concat()).is_err());
}

#[test]
fn partition_tables_are_measured_as_they_are() {
    let bytes = evidence_file("eventlog/go-tpm-tools/ubuntu-2404-amd-sevsnp/eventlog.bin");
    let log = parsed(&bytes, false);
    let tables = explained(&log).partition_tables();
    let [Ok(Said::Measured(table))] = tables.as_slice() else {
        panic!("{tables:?}");
    };
    assert_eq!(table.partitions.len(), 4);
    // Linux's own type, and the EFI system partition's
    let kinds: Vec<String> = table
        .partitions
        .iter()
        .map(|p| p.kind.to_string())
        .collect();
    assert!(
        kinds.contains(&"0fc63daf-8483-4772-8e79-3d69d8477de4".into()),
        "{kinds:?}"
    );
    assert!(
        kinds.contains(&"c12a7328-f81f-11d2-ba4b-00a0c93ec93b".into()),
        "{kinds:?}"
    );
    assert!(table.partitions.iter().all(|p| p.blocks.0 <= p.blocks.1));

    let mut editor = Editor::open(&bytes);
    editor.first(5, event_type::EFI_GPT_EVENT).data[56] ^= 1;
    let bytes = editor.bytes();
    let tables = explained(&parsed(&bytes, false)).partition_tables();
    assert!(
        matches!(tables.as_slice(), [Ok(Said::Claimed(_))]),
        "{tables:?}"
    );
    assert!(tables[0].as_ref().unwrap().measured().is_none());
}

#[test]
fn partition_tables_within_bounds_only() {
    let bytes = evidence_file("eventlog/go-tpm-tools/ubuntu-2404-amd-sevsnp/eventlog.bin");
    let mut editor = Editor::open(&bytes);
    let good = editor.first(5, event_type::EFI_GPT_EVENT).data.clone();
    PartitionTable::parse(&good).unwrap();
    for length in 0..good.len() {
        assert!(PartitionTable::parse(&good[..length]).is_err(), "{length}");
    }
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        PartitionTable::parse(&bytes)
    };
    assert!(changed(0, 0).is_err(), "signature");
    assert!(changed(12, 0).is_err(), "size of the header");
    assert!(changed(84, 0).is_err(), "size of an entry");
    assert!(changed(92, 3).is_err(), "fewer partitions than follow");
    assert!(matches!(
        changed(92, 129),
        Err(ParseError::TooLarge {
            field: "NumberOfPartitions",
            bound: 128,
            ..
        })
    ));
    assert!(changed(99, 0x80).is_err(), "2^63 partitions");
}

#[test]
fn commands_of_grub_are_measured_without_their_prefix() {
    let bytes = evidence_file("eventlog/go-tpm-tools/cos-101-amd-sev/eventlog.bin");
    let log = parsed(&bytes, false);
    let events = explained(&log).loader_events();
    let commands: Vec<&Said<String>> = events
        .iter()
        .filter_map(|event| match event {
            LoaderEvent::GrubCommand(words) => Some(words),
            _ => None,
        })
        .collect();
    assert!(commands.len() > 10);
    assert!(commands.iter().all(|words| words.measured().is_some()));
    let line = events.iter().find_map(|event| match event {
        LoaderEvent::KernelCommandLine(line) => line.measured(),
        _ => None,
    });
    assert!(line.unwrap().starts_with("/syslinux/vmlinuz.A init="));
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            LoaderEvent::Named { claimed_name, .. } => Some(claimed_name.as_str()),
            _ => None,
        })
        .collect();
    assert!(
        names.contains(&"MokList") && names.contains(&"/syslinux/vmlinuz.A"),
        "{names:?}"
    );

    // a command that was not measured is a claim
    let mut editor = Editor::open(&bytes);
    let record = editor
        .records
        .iter_mut()
        .find(|record| record.data.starts_with(b"kernel_cmdline: "))
        .unwrap();
    let last = record.data.len() - 2;
    record.data[last] ^= 1;
    let bytes = editor.bytes();
    let events = explained(&parsed(&bytes, false)).loader_events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, LoaderEvent::KernelCommandLine(Said::Claimed(_))))
    );
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, LoaderEvent::KernelCommandLine(Said::Measured(_))))
    );
}

#[test]
fn sections_of_a_uki_are_names_and_contents() {
    let area = evidence_file("eventlog/ccel/trustee-gke/eventlog.bin");
    let log = parsed(&area, true);
    let events = explained(&log).loader_events();
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            LoaderEvent::SectionName(name) => name.measured().map(String::as_str),
            _ => None,
        })
        .collect();
    assert_eq!(
        names,
        [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
    );
    let contents: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            LoaderEvent::SectionContent { claimed_name, .. } => Some(claimed_name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(contents, names);
}

#[test]
fn the_kernels_own_measurements_are_digests() {
    let area = evidence_file("eventlog/ccel/trustee-ovmf/eventlog.bin");
    let log = parsed(&area, true);
    let events = explained(&log).loader_events();
    let [LoaderEvent::LoadOptions(line), LoaderEvent::Initrd(initrd)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert!(line.to_string().starts_with("4230f848"));
    assert!(initrd.to_string().starts_with("b15af928"));
}

#[test]
fn additions_to_the_command_line_are_text() {
    let bytes = evidence_file("eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin");
    let log = parsed(&bytes, false);
    let texts: Vec<LoaderEvent> = explained(&log)
        .loader_events()
        .into_iter()
        .filter(|event| matches!(event, LoaderEvent::Text(_)))
        .collect();
    let [LoaderEvent::Text(Said::Measured(text)), _] = texts.as_slice() else {
        panic!("{texts:?}");
    };
    assert!(text.starts_with(" console=ttyS0 console=tty0 "), "{text}");
}

#[test]
fn google_says_version_and_technology() {
    for (name, version, technology) in [
        ("cos-85-amd-sev", 1, Technology::Sev),
        ("cos-101-amd-sev", 1, Technology::Sev),
        ("rhel8-uefi", 1, Technology::None),
        ("ubuntu-2104-no-dbx", 1, Technology::None),
        ("ubuntu-2104-no-secure-boot", 1, Technology::None),
        ("ubuntu-2404-amd-sevsnp", 2, Technology::SevSnp),
        ("eventlogwithsp800155", 2, Technology::None),
        ("debian-10", 1, Technology::None),
    ] {
        let bytes = evidence_file(&format!("eventlog/go-tpm-tools/{name}/eventlog.bin"));
        let log = parsed(&bytes, false);
        let firmware = GoogleFirmware::of(&explained(&log)).unwrap();
        assert_eq!(
            firmware,
            GoogleFirmware {
                version,
                technology
            },
            "{name}"
        );
        firmware.demand(1, technology).unwrap();
        firmware.demand(version, technology).unwrap();
        assert_eq!(
            firmware.demand(version + 1, technology),
            Err(GoogleFirmwareError::TooOld {
                found: version,
                least: version + 1
            })
        );
        assert_eq!(
            firmware.demand(1, Technology::Tdx),
            Err(GoogleFirmwareError::OtherTechnology {
                found: technology,
                demanded: Technology::Tdx
            })
        );
    }
}

#[test]
fn the_firmware_of_others_is_not_googles() {
    for path in [
        "eventlog/keylime/secureboot/eventlog.bin",
        "eventlog/keylime/bios-measurements/eventlog.bin",
        "eventlog/go-tpm-tools/arch-linux-workstation/eventlog.bin",
        "eventlog/go-attestation/option-rom/eventlog.bin",
        "eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin",
    ] {
        let bytes = evidence_file(path);
        let log = parsed(&bytes, false);
        assert_eq!(
            GoogleFirmware::of(&explained(&log)),
            Err(GoogleFirmwareError::MissingVersion),
            "{path}"
        );
    }
    // MRTD stands for a TD's PCR 0, and no log explains it
    let area = evidence_file("eventlog/ccel/trustee-gke/eventlog.bin");
    let log = parsed(&area, true);
    assert_eq!(
        GoogleFirmware::of(&explained(&log)),
        Err(GoogleFirmwareError::NotExplained(Register::Mrtd))
    );
}

fn google(change: impl FnOnce(&mut Editor)) -> Result<GoogleFirmware, GoogleFirmwareError> {
    let path = "eventlog/go-tpm-tools/ubuntu-2404-amd-sevsnp/eventlog.bin";
    let mut editor = Editor::open(&evidence_file(path));
    change(&mut editor);
    let bytes = editor.bytes();
    let log = parsed(&bytes, false);
    GoogleFirmware::of(&explained(&log))
}

const GOOGLE_BANKS: [Bank; 3] = [Bank::Sha1, Bank::Sha256, Bank::Sha384];

#[test]
fn googles_words_count_only_as_they_were_measured() {
    for (kind, what) in [
        (event_type::S_CRTM_VERSION, "firmware version"),
        (event_type::NONHOST_INFO, "technology"),
    ] {
        assert_eq!(
            google(|log| log.first(0, kind).data[16] ^= 1),
            Err(GoogleFirmwareError::NotCovered(what))
        );
        assert_eq!(
            google(|log| {
                let at = log.position(0, kind);
                log.records.insert(at, log.records[at].clone());
            }),
            Err(GoogleFirmwareError::Twice(what))
        );
    }
    assert_eq!(
        google(|log| {
            let at = log.position(0, event_type::S_CRTM_VERSION);
            log.records.remove(at);
        }),
        Err(GoogleFirmwareError::MissingVersion)
    );
    assert_eq!(
        google(|log| {
            let at = log.position(0, event_type::NONHOST_INFO);
            log.records.remove(at);
        }),
        Err(GoogleFirmwareError::MissingTechnology)
    );
}

/// What runs later extends PCR 0 with words of its own, and calls the genuine ones something else.
#[test]
fn googles_words_behind_the_separator_do_not_count() {
    let forged = google(|log| {
        let kind = event_type::NONHOST_INFO;
        let genuine = log.first(0, kind);
        genuine.kind = event_type::IPL;
        let mut data = b"GCE NonHostInfo\0".to_vec();
        data.extend([3; 1]);
        data.extend([0; 15]);
        log.records.push(Raw::plain(0, kind, &data, &GOOGLE_BANKS));
    });
    assert_eq!(forged, Err(GoogleFirmwareError::MissingTechnology));
    // nor if the line calls itself something else
    let forged = google(|log| {
        let kind = event_type::NONHOST_INFO;
        log.first(0, kind).kind = event_type::IPL;
        log.first(0, event_type::SEPARATOR).kind = event_type::IPL;
        let mut data = b"GCE NonHostInfo\0".to_vec();
        data.extend([3; 1]);
        data.extend([0; 15]);
        log.records.push(Raw::plain(0, kind, &data, &GOOGLE_BANKS));
    });
    assert_eq!(forged, Err(GoogleFirmwareError::MissingTechnology));
}

#[test]
fn googles_words_have_one_form() {
    let with = |kind: u32, data: &[u8]| {
        google(|log| {
            let record = log.first(0, kind);
            record.data = data.to_vec();
            record.measure();
        })
    };
    let version = |text: &str| -> Vec<u8> {
        text.encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    for text in [
        "GCE Virtual Firmware v",
        "GCE Virtual Firmware v+2",
        "GCE Virtual Firmware v2 ",
        "GCE Virtual Firmware v4294967296",
        "gce Virtual Firmware v2",
    ] {
        assert_eq!(
            with(event_type::S_CRTM_VERSION, &version(text)),
            Err(GoogleFirmwareError::MissingVersion),
            "{text}"
        );
    }
    let large = with(
        event_type::S_CRTM_VERSION,
        &version("GCE Virtual Firmware v17"),
    )
    .unwrap();
    assert_eq!(large.version, 17);
    let info = |technology: u8, reserved: usize| {
        let mut data = b"GCE NonHostInfo\0".to_vec();
        data.push(technology);
        data.extend(vec![0; reserved]);
        with(event_type::NONHOST_INFO, &data)
    };
    for (number, technology) in [
        (0, Technology::None),
        (1, Technology::Sev),
        (2, Technology::SevEs),
        (3, Technology::Tdx),
        (4, Technology::SevSnp),
        (5, Technology::Unknown(5)),
    ] {
        assert_eq!(info(number, 15).unwrap().technology, technology);
    }
    for reserved in [0, 14, 16] {
        assert_eq!(
            info(4, reserved),
            Err(GoogleFirmwareError::MissingTechnology)
        );
    }
}

const TD: &str = "eventlog/ccel/trustee-gke/eventlog.bin";

fn td(change: impl FnOnce(&mut Editor)) -> Result<TdFirmware, TdFirmwareError> {
    let mut editor = Editor::open(&evidence_file(TD));
    change(&mut editor);
    let bytes = editor.bytes();
    let log = parsed(&bytes, true);
    TdFirmware::of(&explained(&log))
}

#[test]
fn a_td_measures_what_its_host_gave_it() {
    let firmware = td(|_| ()).unwrap();
    assert!(firmware.hand_off_block.to_string().starts_with("458994da"));
    let volume = firmware.configuration_volume;
    assert!(volume.digest.to_string().starts_with("7ed4f338"));
    assert_eq!(
        volume.claimed_name,
        "Fv(48DB5E17-707C-472D-91CD-1613E7EF51B0)"
    );
    assert_eq!(
        (volume.claimed_base, volume.claimed_length),
        (0xffe0_0000, 0x2_0000)
    );
    for path in [
        "eventlog/ccel/trustee-ovmf/eventlog.bin",
        "eventlog/ccel/trustee-grub/eventlog.bin",
        "tdx/attestation-rs/v4-b0c06f-live/ccel.bin",
        "tdx/go-tdx-guest/v4-gcp-cos-113/ccel.bin",
    ] {
        let area = evidence_file(path);
        TdFirmware::of(&explained(&parsed(&area, true))).unwrap();
    }
}

#[test]
fn a_td_says_each_of_it_once() {
    for (kind, what) in [
        (event_type::EFI_HANDOFF_TABLES2, "hand-off block"),
        (
            event_type::EFI_PLATFORM_FIRMWARE_BLOB2,
            "configuration volume",
        ),
    ] {
        let missing = td(|log| {
            let at = log.position(1, kind);
            log.records.remove(at);
        });
        assert_eq!(missing, Err(TdFirmwareError::Missing(what)));
        let twice = td(|log| {
            let at = log.position(1, kind);
            log.records.insert(at, log.records[at].clone());
        });
        assert_eq!(twice, Err(TdFirmwareError::Twice(what)));
    }
    // other tables are handed over by the same kind of event
    for change in [0_usize, 1] {
        let other = td(|log| log.first(1, event_type::EFI_HANDOFF_TABLES2).data[change] ^= 1);
        assert_eq!(other, Err(TdFirmwareError::Missing("hand-off block")));
    }
    let cut = td(|log| {
        log.first(1, event_type::EFI_PLATFORM_FIRMWARE_BLOB2)
            .data
            .pop();
    });
    assert!(matches!(cut, Err(TdFirmwareError::Malformed(_))));
    let bytes = evidence_file("eventlog/keylime/secureboot/eventlog.bin");
    assert_eq!(
        TdFirmware::of(&explained(&parsed(&bytes, false))),
        Err(TdFirmwareError::NotOfTd)
    );
    let area = evidence_file(TD);
    let log = parsed(&area, true).bank(Bank::Sha384).unwrap();
    let quoted = quote_of(&log);
    let rtmr1 = Register::Rtmr(Rtmr::Rtmr1);
    assert_eq!(
        TdFirmware::of(&log.explain(&quoted, &[rtmr1]).unwrap()),
        Err(TdFirmwareError::NotExplained(Register::Rtmr(Rtmr::Rtmr0)))
    );
}

#[test]
fn notes_about_reference_values_are_claims() {
    let bytes = evidence_file("eventlog/go-tpm-tools/eventlogwithsp800155/eventlog.bin");
    let log = parsed(&bytes, false);
    let manifests: Vec<_> = log.claimed_manifests().collect();
    assert_eq!(manifests.len(), 2);
    for manifest in &manifests {
        assert_eq!(manifest.platform_vendor, 11129);
        assert_eq!(manifest.platform_manufacturer, "Google, Inc.");
        assert_eq!(manifest.platform_model, "Google Compute Engine");
        assert_eq!(manifest.firmware_version, "2.7");
        assert_eq!(
            manifest.manifest.to_string(),
            "a00597d0-4c5e-4738-8032-6f958ca92fad"
        );
    }
    assert_eq!(manifests[0].locator_type, 3);
    assert_eq!(manifests[1].locator_type, 1);
    let uri = std::str::from_utf8(manifests[1].locator).unwrap();
    assert!(
        uri.starts_with("https://storage.googleapis.com/gce_tcb_integrity/"),
        "{uri}"
    );
    // a note that is cut off is no note, and the log is as good as before
    let mut editor = Editor::open(&bytes);
    editor.first(0, event_type::NO_ACTION).data.truncate(60);
    let bytes = editor.bytes();
    let cut = parsed(&bytes, false);
    assert_eq!(cut.claimed_manifests().count(), 1);
    assert_eq!(
        cut.bank(Bank::Sha256).unwrap().replay(),
        log.bank(Bank::Sha256).unwrap().replay()
    );
}

/// Where PCR 0 begins differs; a note can say so only before PCR 0 was extended, and only in a TPM's log.
#[test]
fn startup_locality_counts_once_and_early() {
    let path = "eventlog/keylime/bios-measurements/eventlog.bin";
    let bytes = evidence_file(path);
    let value = |bytes: &[u8]| parsed(bytes, false).bank(Bank::Sha256).unwrap().replay()[&pcr(0)];
    let mut editor = Editor::open(&bytes);
    let at = editor.position(0, event_type::NO_ACTION);
    let note = editor.records.remove(at);
    assert_eq!(note.data, b"StartupLocality\0\x03");
    let without = value(&editor.bytes());
    assert_ne!(without, value(&bytes));
    editor.records.push(note);
    assert_eq!(value(&editor.bytes()), without);
}

#[test]
fn variables_within_bounds_only() {
    let mut editor = Editor::open(&evidence_file("eventlog/keylime/secureboot/eventlog.bin"));
    let at = editor.variable("KEK");
    let good = std::mem::take(&mut editor.records[at].data);
    Variable::parse(&good).unwrap();
    for length in 0..good.len() {
        assert!(Variable::parse(&good[..length]).is_err(), "{length}");
    }
    assert!(Variable::parse(&[good.clone(), vec![0]].concat()).is_err());
    let with = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Variable::parse(&bytes).map(|variable| variable.name)
    };
    assert!(matches!(
        with(16, 257),
        Err(ParseError::TooLarge {
            field: "UnicodeNameLength",
            bound: 256,
            ..
        })
    ));
    assert!(matches!(
        with(24, u64::MAX),
        Err(ParseError::TooLarge {
            field: "VariableDataLength",
            ..
        })
    ));
    // half of a surrogate pair
    let mut bytes = good.clone();
    bytes[32..34].copy_from_slice(&0xd800_u16.to_le_bytes());
    assert!(Variable::parse(&bytes).is_err());
}

#[test]
fn signature_lists_within_bounds_only() {
    let list = |kind: [u8; 16], size: u32, header: u32, signature: u32, rest: &[u8]| {
        let mut bytes = kind.to_vec();
        for word in [size, header, signature] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(rest);
        bytes
    };
    let kind = [7; 16];
    let entry = [1; 17];
    let parse = |bytes: &[u8]| SignatureDatabase::parse(bytes).map(|d| d.signatures().len());
    assert_eq!(parse(&[]), Ok(0));
    assert_eq!(parse(&list(kind, 28, 0, 17, &[])), Ok(0));
    assert_eq!(parse(&list(kind, 28 + 17, 0, 17, &entry)), Ok(1));
    assert_eq!(parse(&list(kind, 28 + 3 + 34, 3, 17, &[1; 37])), Ok(2));
    for (what, bytes) in [
        (
            "a signature without content",
            list(kind, 28 + 16, 0, 16, &[1; 16]),
        ),
        ("no size", list(kind, 28, 0, 0, &[])),
        ("not a whole number", list(kind, 28 + 18, 0, 17, &[1; 18])),
        ("smaller than its head", list(kind, 27, 0, 17, &[])),
        ("a header beyond the list", list(kind, 28, 17, 17, &[1; 17])),
        (
            "larger than the variable",
            list(kind, 28 + 34, 0, 17, &entry),
        ),
        ("2^32-1", list(kind, u32::MAX, 0, 17, &entry)),
        ("a header of 2^32-1", list(kind, 45, u32::MAX, 17, &entry)),
        ("signatures of 2^32-1", list(kind, 45, 0, u32::MAX, &entry)),
        ("a byte too many", list(kind, 28 + 17, 0, 17, &[1; 18])),
    ] {
        assert!(SignatureDatabase::parse(&bytes).is_err(), "{what}");
    }
    let many = |count: u32| list(kind, 28 + 17 * count, 0, 17, &vec![1; 17 * count as usize]);
    assert_eq!(parse(&many(4096)), Ok(4096));
    assert!(matches!(
        parse(&many(4097)),
        Err(ParseError::TooLarge {
            field: "number of signatures",
            ..
        })
    ));
    assert_eq!(parse(&list(kind, 28, 0, 17, &[]).repeat(1024)), Ok(0));
    assert!(matches!(
        parse(&list(kind, 28, 0, 17, &[]).repeat(1025)),
        Err(ParseError::TooLarge {
            field: "number of signature lists",
            ..
        })
    ));
}

#[test]
fn a_revoked_certificate_is_its_digest_and_a_time() {
    // EFI_CERT_X509_SHA256_GUID
    let kind = hex::decode("92a4d23bc0967940b420fcf98ef103ed").unwrap();
    let list = |length: usize| {
        let mut bytes = kind.clone();
        for word in [28 + 16 + length, 0, 16 + length] {
            bytes.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        bytes.extend([1; 16]);
        bytes.extend([2; 32]);
        bytes.extend(vec![3; length - 32]);
        bytes
    };
    let bytes = list(48);
    let database = SignatureDatabase::parse(&bytes).unwrap();
    let [signature] = database.signatures() else {
        panic!("{database:?}");
    };
    assert_eq!(
        signature.kind,
        SignatureKind::CertificateSha256 {
            digest: &[2; 32],
            revoked_at: &[3; 16],
        }
    );
    for length in [33, 47, 49] {
        let bytes = list(length);
        let database = SignatureDatabase::parse(&bytes).unwrap();
        assert!(matches!(
            database.signatures()[0].kind,
            SignatureKind::Other { .. }
        ));
    }
}

/// The kinds of entries that real lists have.
#[test]
fn signature_lists_of_real_machines_have_known_kinds() {
    let mut certificates = 0;
    let mut images = 0;
    for (path, is_td) in crate::log_files::LOGS {
        let bytes = evidence_file(path);
        if path.contains("short-no-action") {
            continue;
        }
        let mut editor = Editor::open(&bytes);
        drop(parsed(&bytes, is_td));
        for name in ["PK", "KEK", "db", "dbx"] {
            let at = editor.variable(name);
            let data = std::mem::take(&mut editor.records[at].data);
            let variable = Variable::parse(&data).unwrap();
            for signature in SignatureDatabase::parse(variable.data)
                .unwrap()
                .signatures()
            {
                match signature.kind {
                    SignatureKind::Certificate(der) => {
                        assert_eq!(der[0], 0x30, "{path}, {name}");
                        certificates += 1;
                    }
                    SignatureKind::Sha256(_) => images += 1,
                    SignatureKind::CertificateSha256 { .. } => {}
                    SignatureKind::Other { kind, .. } => panic!("{path}, {name}: {kind}"),
                }
            }
            editor.records[at].data = data;
        }
    }
    assert!(
        certificates > 100 && images > 1000,
        "{certificates}, {images}"
    );
}

#[test]
fn a_legacy_log_has_sha1_only() {
    let bytes = evidence_file("eventlog/go-attestation/option-rom/eventlog.bin");
    let log = parsed(&bytes, false);
    assert_eq!(log.form(), Form::Legacy);
    assert_eq!(log.banks(), [Bank::Sha1]);
    assert!(log.bank(Bank::Sha256).is_err());
}
