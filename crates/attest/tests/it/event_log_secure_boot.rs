//! What a log shows of Secure Boot: real machines, and one named lie at a time.

use attest::event_log::{
    Authority, Bank, DmaProtection, Form, Register, Rtmr, SecureBoot, SecureBootError,
    SecureBootState, SignatureDatabase, SignatureKind, event_type,
};

use crate::log_files::{Editor, LOGS, Raw, best_bank, evidence_file, parsed, quote_of, registers};

/// State, entries of PK, KEK, db and dbx, authorities that are measured and that are not; or the error.
#[derive(Debug, PartialEq, Eq)]
struct Shown(SecureBootState, [usize; 4], [usize; 2]);

fn shown(log: &[u8], is_td: bool, bank: Option<Bank>) -> Result<Shown, SecureBootError> {
    let log = parsed(log, is_td);
    let bank = log.bank(bank.unwrap_or_else(|| best_bank(&log))).unwrap();
    let quoted = quote_of(&bank);
    let registers = registers(bank.form());
    let explained = bank.explain(&quoted, &registers).unwrap();
    let secure_boot = SecureBoot::of(&explained)?;
    let count = |database: &SignatureDatabase<'_>| database.signatures().len();
    let measured = secure_boot
        .authorities
        .iter()
        .filter(|authority| matches!(authority, Authority::Measured(_)))
        .count();
    Ok(Shown(
        secure_boot.state,
        [
            count(&secure_boot.platform_key),
            count(&secure_boot.key_exchange_keys),
            count(&secure_boot.allowed),
            count(&secure_boot.forbidden),
        ],
        [measured, secure_boot.authorities.len() - measured],
    ))
}

/// Counted by another reader of the same bytes.
#[test]
fn real_machines_show_their_secure_boot() {
    use SecureBootState::{Disabled, Enabled};
    let td = |rtmr| Err(SecureBootError::DuplicateSeparator(Register::Rtmr(rtmr)));
    let no_exit = |state| Err(SecureBootError::MissingExitBootServices { state });
    let cos = Shown(Enabled, [1, 1, 1, 4], [1, 2]);
    let expected = [
        // injected into RTMR0 by its authors
        td(Rtmr::Rtmr0),
        Ok(Shown(Disabled, [1, 1, 2, 186], [0, 0])),
        // older OVMF draws its second line in RTMR0 instead of RTMR1, so a line of its own cannot be told from another's
        td(Rtmr::Rtmr0),
        td(Rtmr::Rtmr0),
        no_exit(Disabled),
        Ok(Shown(Enabled, [1, 2, 3, 78], [2, 0])),
        no_exit(Disabled),
        no_exit(Disabled),
        Ok(Shown(Enabled, [1, 1, 1, 4], [3, 0])),
        Ok(Shown(Enabled, [1, 1, 1, 4], [1, 2])),
        no_exit(Enabled),
        Ok(Shown(Enabled, [1, 1, 1, 4], [4, 0])),
        Ok(Shown(Enabled, [1, 1, 2, 186], [2, 0])),
        Ok(Shown(Disabled, [1, 1, 2, 0], [1, 0])),
        Ok(Shown(Disabled, [1, 1, 2, 186], [1, 0])),
        Ok(Shown(Disabled, [1, 1, 2, 371], [1, 0])),
        Ok(Shown(Disabled, [1, 2, 5, 454], [1, 0])),
        no_exit(Disabled),
        Ok(Shown(Enabled, [1, 3, 4, 371], [3, 0])),
        no_exit(Enabled),
        Ok(Shown(Disabled, [0, 0, 0, 0], [0, 0])),
        Ok(cos),
        Ok(Shown(Disabled, [0, 0, 0, 0], [0, 0])),
        Ok(Shown(Disabled, [0, 0, 0, 0], [0, 0])),
        td(Rtmr::Rtmr0),
        Ok(Shown(Disabled, [1, 1, 1, 4], [2, 0])),
    ];
    for ((path, is_td), expected) in LOGS.into_iter().zip(expected) {
        if path.contains("short-no-action") {
            continue;
        }
        let bytes = evidence_file(path);
        assert_eq!(shown(&bytes, is_td, None), expected, "{path}");
        // every bank shows the same
        for bank in parsed(&bytes, is_td).banks() {
            assert_eq!(
                shown(&bytes, is_td, Some(*bank)),
                expected,
                "{path}, {bank}"
            );
        }
    }
}

#[test]
fn a_platform_key_is_a_certificate() {
    let bytes = evidence_file("eventlog/keylime/secureboot/eventlog.bin");
    let log = parsed(&bytes, false).bank(Bank::Sha256).unwrap();
    let quoted = quote_of(&log);
    let explained = log.explain(&quoted, &registers(Form::CryptoAgile)).unwrap();
    let secure_boot = SecureBoot::of(&explained).unwrap();
    let der = secure_boot.platform_key.certificates().next().unwrap();
    assert_eq!(der[..2], [0x30, 0x82]);
    assert_eq!(
        der.len(),
        4 + usize::from(u16::from_be_bytes([der[2], der[3]]))
    );
    assert!(
        secure_boot
            .forbidden
            .signatures()
            .iter()
            .all(|entry| matches!(entry.kind, SignatureKind::Sha256(_)))
    );
    let names: Vec<&str> = secure_boot
        .authorities
        .iter()
        .map(|authority| match authority {
            Authority::Measured(variable) => variable.name.as_str(),
            Authority::Unverified(_) => "?",
        })
        .collect();
    assert_eq!(names, ["db", "SbatLevel", "vendor_db"]);
}

const PATH: &str = "eventlog/keylime/secureboot/eventlog.bin";
const BANKS: [Bank; 1] = [Bank::Sha256];
const CONFIG: u32 = event_type::EFI_VARIABLE_DRIVER_CONFIG;

/// The log of a machine with Secure Boot on, changed, and quoted as it is then.
fn with(change: impl FnOnce(&mut Editor)) -> Result<Shown, SecureBootError> {
    let mut editor = Editor::open(&evidence_file(PATH));
    change(&mut editor);
    shown(&editor.bytes(), false, None)
}

fn pcr(number: u32) -> Register {
    Register::Pcr(attest::PcrIndex::new(number).unwrap())
}

#[test]
fn an_unchanged_log_shows_that_secure_boot_is_on() {
    assert_eq!(
        with(|_| ()),
        Ok(Shown(SecureBootState::Enabled, [1, 3, 4, 371], [3, 0]))
    );
}

#[test]
fn a_second_separator_is_refused_whatever_it_calls_itself() {
    for number in 0..=7 {
        for kind in [
            event_type::SEPARATOR,
            event_type::IPL,
            event_type::EFI_VARIABLE_AUTHORITY,
            CONFIG,
        ] {
            for line in [[0; 4], [0xff; 4]] {
                let refused = with(|log| {
                    let mut separator = Raw::plain(number, kind, &line, &BANKS);
                    if kind != event_type::SEPARATOR {
                        separator.data = b"something else".to_vec();
                    }
                    log.records.push(separator);
                });
                assert_eq!(
                    refused,
                    Err(SecureBootError::DuplicateSeparator(pcr(number))),
                    "{kind:#x}"
                );
            }
        }
    }
    // operating systems draw lines of their own, in registers of their own
    assert!(
        with(|log| {
            for _ in 0..2 {
                log.records
                    .push(Raw::plain(12, event_type::SEPARATOR, &[0; 4], &BANKS));
            }
        })
        .is_ok()
    );
}

/// The attack: Secure Boot was off, and what ran then measured a second set of variables and a line behind the first.
#[test]
fn variables_measured_by_what_ran_later_are_not_firmwares() {
    let forge = |log: &mut Editor| {
        let state = log.variable("SecureBoot");
        let line = log.position(7, event_type::SEPARATOR);
        let forged: Vec<Raw> = log.records[state..=line]
            .iter()
            .filter(|record| record.index == 7)
            .cloned()
            .collect();
        *log.records[state].data.last_mut().unwrap() = 0;
        log.records[state].measure();
        log.records.extend(forged);
    };
    assert_eq!(
        with(forge),
        Err(SecureBootError::DuplicateSeparator(pcr(7)))
    );
    // and calls the genuine ones something else, so that only its own are left
    assert_eq!(
        with(|log| {
            forge(log);
            let line = log.position(7, event_type::SEPARATOR);
            for record in &mut log.records[..=line] {
                if record.index == 7 {
                    record.kind = event_type::IPL;
                    record.data = b"nothing of interest".to_vec();
                }
            }
        }),
        Err(SecureBootError::DuplicateSeparator(pcr(7)))
    );
    // or draws no line of its own
    assert_eq!(
        with(|log| {
            forge(log);
            log.records.pop();
        }),
        Err(SecureBootError::LateVariable("SecureBoot"))
    );
}

#[test]
fn a_missing_separator_is_refused() {
    assert_eq!(
        with(|log| {
            let line = log.position(7, event_type::SEPARATOR);
            log.records.remove(line);
        }),
        Err(SecureBootError::MissingSeparator(pcr(7)))
    );
}

#[test]
fn a_separator_of_an_error_is_refused() {
    assert_eq!(
        with(|log| {
            let line = log.first(4, event_type::SEPARATOR);
            line.data = vec![1, 0, 0, 0];
            line.measure();
        }),
        Err(SecureBootError::ErrorSeparator(pcr(4)))
    );
}

#[test]
fn a_variable_that_was_not_measured_as_written_is_refused() {
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        assert_eq!(
            with(|log| {
                let at = log.variable(name);
                *log.records[at].data.last_mut().unwrap() ^= 1;
            }),
            Err(SecureBootError::NotCovered),
            "{name}"
        );
    }
}

#[test]
fn a_variable_that_is_none_is_refused() {
    assert!(matches!(
        with(|log| {
            let at = log.variable("dbx");
            log.records[at].data.push(0);
            log.records[at].measure();
        }),
        Err(SecureBootError::Malformed(_))
    ));
}

#[test]
fn signature_lists_that_do_not_add_up_are_refused() {
    for (name, at) in [("PK", 16), ("KEK", 20), ("db", 24), ("dbx", 16)] {
        let refused = with(|log| {
            let record = log.variable(name);
            let record = &mut log.records[record];
            record.data[32 + name.len() * 2 + at] ^= 1;
            record.measure();
        });
        assert!(
            matches!(&refused, Err(SecureBootError::Lists { variable, .. }) if *variable == name),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn a_variable_measured_twice_is_refused() {
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        assert_eq!(
            with(|log| {
                let at = log.variable(name);
                log.records.insert(at, log.records[at].clone());
            }),
            Err(SecureBootError::DuplicateVariable(name))
        );
    }
}

#[test]
fn a_variable_that_is_missing_is_refused() {
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        assert_eq!(
            with(|log| {
                let at = log.variable(name);
                log.records.remove(at);
            }),
            Err(SecureBootError::MissingVariable(name))
        );
    }
}

/// The same name of another vendor is another variable.
#[test]
fn a_variable_of_another_vendor_does_not_count() {
    assert_eq!(
        with(|log| {
            let at = log.variable("SecureBoot");
            log.records[at].data[0] ^= 1;
            log.records[at].measure();
        }),
        Err(SecureBootError::MissingVariable("SecureBoot"))
    );
}

#[test]
fn a_variable_measured_late_is_refused() {
    for name in ["SecureBoot", "PK", "KEK", "db", "dbx"] {
        assert_eq!(
            with(|log| {
                let at = log.variable(name);
                let late = log.records[at].clone();
                log.records.push(late);
            }),
            Err(SecureBootError::LateVariable(name))
        );
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    let with_state = |state: &[u8]| {
        with(|log| {
            let at = log.variable("SecureBoot");
            let record = &mut log.records[at];
            record.data.pop();
            record.data.extend(state);
            record.data[24] = u8::try_from(state.len()).unwrap();
            record.measure();
        })
    };
    assert_eq!(with_state(&[2]), Err(SecureBootError::State));
    assert_eq!(with_state(&[1, 0]), Err(SecureBootError::State));
    assert_eq!(with_state(&[0]).unwrap().0, SecureBootState::Disabled);
    assert_eq!(with_state(&[]).unwrap().0, SecureBootState::Disabled);
    assert_eq!(with_state(&[1]).unwrap().0, SecureBootState::Enabled);
}

#[test]
fn secure_boot_without_a_platform_key_is_refused() {
    assert_eq!(
        with(|log| {
            let at = log.variable("PK");
            let record = &mut log.records[at];
            record.data.truncate(32 + 4);
            record.data[24..32].fill(0);
            record.measure();
        }),
        Err(SecureBootError::NoPlatformKey)
    );
}

#[test]
fn firmware_in_debug_mode_is_refused_whatever_the_event_calls_itself() {
    for kind in [event_type::EFI_ACTION, event_type::IPL] {
        assert_eq!(
            with(|log| {
                let mut action = Raw::plain(7, kind, b"UEFI Debug Mode", &BANKS);
                if kind == event_type::IPL {
                    action.data = b"something else".to_vec();
                }
                log.records.push(action);
            }),
            Err(SecureBootError::DebugMode)
        );
    }
}

/// It shows the state nevertheless.
const NO_EXIT: Result<Shown, SecureBootError> = Err(SecureBootError::MissingExitBootServices {
    state: SecureBootState::Enabled,
});

/// A log that was cut before firmware ended, and its registers quoted as they are then.
#[test]
fn a_log_without_the_end_of_boot_services_is_refused() {
    let remove = |text: &'static [u8]| with(|log| log.records.retain(|record| record.data != text));
    for text in [
        b"Exit Boot Services Invocation".as_slice(),
        b"Exit Boot Services Returned with Success",
    ] {
        assert_eq!(remove(text), NO_EXIT);
    }
    let with_last = |change: &dyn Fn(&mut Raw)| {
        with(|log| {
            let mut records = log.records.iter_mut();
            let last =
                records.rfind(|record| record.data.starts_with(b"Exit Boot Services Returned"));
            change(last.unwrap());
        })
    };
    // neither does another action, or another kind of event that says the same
    for (text, kind) in [
        (
            &b"Exit Boot Services Returned with Failure"[..],
            event_type::EFI_ACTION,
        ),
        (b"Exit Boot Services Returned with Success", event_type::IPL),
    ] {
        assert_eq!(
            with_last(&|last| *last = Raw::plain(5, kind, text, &BANKS)),
            NO_EXIT
        );
    }
    // words that were not measured do not count
    assert_eq!(with_last(&|last| last.digests[0].1[0] ^= 1), NO_EXIT);
}

/// Both registers must have been compared with a quote.
#[test]
fn registers_that_nobody_compared_show_nothing() {
    let bytes = evidence_file(PATH);
    let log = parsed(&bytes, false).bank(Bank::Sha256).unwrap();
    let quoted = quote_of(&log);
    for (compared, missing) in [(vec![pcr(5)], pcr(7)), (vec![pcr(7)], pcr(5))] {
        let explained = log.clone().explain(&quoted, &compared).unwrap();
        assert_eq!(
            SecureBoot::of(&explained),
            Err(SecureBootError::NotExplained(missing))
        );
        assert!(
            explained
                .events()
                .all(|event| event.register == compared[0])
        );
    }
}

#[test]
fn firmware_says_when_devices_could_reach_memory() {
    let bytes = evidence_file("eventlog/intel-ita/bios-measurements/eventlog.bin");
    let log = parsed(&bytes, false).bank(Bank::Sha256).unwrap();
    let quoted = quote_of(&log);
    let explained = log.explain(&quoted, &registers(Form::CryptoAgile)).unwrap();
    let secure_boot = SecureBoot::of(&explained).unwrap();
    assert_eq!(secure_boot.dma_protection, DmaProtection::Disabled);
    let bytes = evidence_file(PATH);
    let log = parsed(&bytes, false).bank(Bank::Sha256).unwrap();
    let quoted = quote_of(&log);
    let explained = log.explain(&quoted, &registers(Form::CryptoAgile)).unwrap();
    let secure_boot = SecureBoot::of(&explained).unwrap();
    assert_eq!(secure_boot.dma_protection, DmaProtection::Unmentioned);
}
