//! The log of a machine with PCRs of SHA-256, and logs that no machine writes.

use attest::event_log::{EventLog, MAX_LOG, event_type};
use attest::tpm::ParseError;
use attest::{Component, Digest, PcrIndex, PcrValues};
use testkit::boot::{Image, record};

use crate::log_files::evidence_file;

fn pcr(number: u32) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

/// What needs PCRs of SHA-256 takes no other log, however good.
#[test]
fn logs_without_sha256_are_refused() {
    for name in [
        "eventlog/go-tpm-tools/debian-10",
        "eventlog/go-attestation/option-rom",
        "eventlog/ccel/trustee-ovmf",
    ] {
        let bytes = evidence_file(&format!("{name}/eventlog.bin"));
        assert!(EventLog::parse(&bytes).is_err(), "{name}");
    }
}

/// A UKI started by systemd-boot: the parts get their names from a log that firmware, systemd-stub and Linux wrote.
#[test]
fn parts_of_a_real_boot_get_their_names() {
    let bytes = evidence_file("eventlog/tpm2-tools/sd-boot-fedora37/eventlog.bin");
    let log = EventLog::parse(&bytes).unwrap();
    let mut pcrs = log.replay();
    // no section of the UKI was measured in that boot, of which no policy can be made
    pcrs.set(pcr(11), Digest::of(b"sections"));
    let policy =
        attest::Policy::from_own_measurements(attest::Variant::QemuVtpm, &pcrs, &bytes).unwrap();
    let named = |number: u32| -> Vec<Component> {
        policy
            .components()
            .iter()
            .filter(|part| part.pcr == pcr(number))
            .map(|part| part.name)
            .collect()
    };
    assert_eq!(named(4), [Component::BootAttempt, Component::Separator]);
    assert_eq!(named(9), [Component::Initrd]);
    // the host's addition to the command line, which systemd-stub measured twice
    assert_eq!(named(12), [Component::Additions, Component::Additions]);
}

#[test]
fn startup_locality_is_where_pcr_0_begins() {
    let image = Image::default();
    let log = image.event_log();
    let first = 4 + 4 + 20 + 4 + 33;
    let locality = no_action(0, b"StartupLocality\0\x03");
    let with = [&log[..first], &locality, &log[first..]].concat();
    let parsed = EventLog::parse(&with).unwrap();
    assert_eq!(parsed.unexplained(&image.pcrs()), [pcr(0)]);
    let mut value = [0; 32];
    value[31] = 3;
    let mut expected = PcrValues::at_reset();
    expected.set(pcr(0), Digest::from_bytes(value));
    for measured in image
        .boot()
        .iter()
        .filter(|measured| measured.pcr == pcr(0))
    {
        expected.extend(pcr(0), &measured.digest);
    }
    assert_eq!(parsed.replay().get(pcr(0)), expected.get(pcr(0)));

    // what another register was extended with before does not matter
    let mut elsewhere = no_action(7, &[0; 4]);
    elsewhere[4..8].copy_from_slice(&event_type::SEPARATOR.to_le_bytes());
    let with = [&log[..first], &elsewhere, &locality, &log[first..]].concat();
    let replayed = EventLog::parse(&with).unwrap().replay();
    assert_eq!(replayed.get(pcr(0)), expected.get(pcr(0)));

    // after PCR 0 was extended it is too late
    let late = [log.clone(), locality].concat();
    assert_eq!(
        EventLog::parse(&late).unwrap().unexplained(&image.pcrs()),
        []
    );
}

/// An informative record extends nothing, whatever PCR it names.
#[test]
fn no_action_extends_nothing() {
    let image = Image::default();
    for number in [4, 23, 0xffff_ffff] {
        let log = [image.event_log(), no_action(number, b"SP800-155 Event\0")].concat();
        assert_eq!(
            EventLog::parse(&log).unwrap().replay(),
            image.pcrs(),
            "{number}"
        );
    }
}

fn no_action(pcr: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = pcr.to_le_bytes().to_vec();
    bytes.extend(event_type::NO_ACTION.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0x000b_u16.to_le_bytes());
    bytes.extend([0; 32]);
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut log = Image::default().event_log();
    log[at..at + bytes.len()].copy_from_slice(bytes);
    log
}

#[test]
fn logs_that_no_machine_writes_are_refused() {
    const SPEC_ID: usize = 32;
    const FIRST: usize = SPEC_ID + 33;
    let log = Image::default().event_log();
    let one = record(Image::default().boot().last().unwrap());
    let mut short = Image::default().boot().pop().unwrap();
    short.description.clear();
    let short = record(&short);
    let with = |more: Vec<u8>| [log.clone(), more].concat();
    let digests = |count: u32, ids: &[u16]| {
        let mut bytes = [
            0_u32.to_le_bytes(),
            1_u32.to_le_bytes(),
            count.to_le_bytes(),
        ]
        .concat();
        for id in ids {
            bytes.extend(id.to_le_bytes());
            bytes.extend([0; 32]);
        }
        bytes.extend([0; 4]);
        bytes
    };
    let algorithms = |count: u32, pairs: &[(u16, u16)]| {
        let mut spec = log[SPEC_ID..SPEC_ID + 24].to_vec();
        spec.extend(count.to_le_bytes());
        for (id, size) in pairs {
            spec.extend(id.to_le_bytes());
            spec.extend(size.to_le_bytes());
        }
        spec.push(0);
        let mut bytes = log[..SPEC_ID - 4].to_vec();
        bytes.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
        bytes.extend(spec);
        bytes.extend(&log[FIRST..]);
        bytes
    };
    EventLog::parse(&algorithms(1, &[(0x000b, 32)])).expect("the helper makes a good log");
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("cut off in the first record", log[..40].to_vec()),
        ("cut off in a record", log[..log.len() - 1].to_vec()),
        (
            "first event is a measurement",
            changed(4, &8_u32.to_le_bytes()),
        ),
        ("first event elsewhere", changed(0, &7_u32.to_le_bytes())),
        ("another signature", changed(SPEC_ID, b"Spec ID Event02\0")),
        (
            "first event larger than the log",
            changed(SPEC_ID - 4, &0xffff_ffff_u32.to_le_bytes()),
        ),
        (
            "first event cuts its algorithms off",
            changed(SPEC_ID - 4, &20_u32.to_le_bytes()),
        ),
        (
            "vendor information beyond the event",
            changed(FIRST - 1, &[255]),
        ),
        (
            "2^32-1 algorithms",
            algorithms(0xffff_ffff, &[(0x000b, 32)]),
        ),
        (
            "nine algorithms",
            algorithms(
                9,
                &[
                    (0, 1),
                    (1, 1),
                    (2, 1),
                    (3, 1),
                    (4, 1),
                    (5, 1),
                    (6, 1),
                    (7, 1),
                    (8, 1),
                ],
            ),
        ),
        ("no algorithm", algorithms(0, &[])),
        (
            "an algorithm twice",
            algorithms(2, &[(0x000b, 32), (0x000b, 32)]),
        ),
        ("a short SHA-256", algorithms(1, &[(0x000b, 20)])),
        (
            "a digest of 65 bytes",
            algorithms(2, &[(0x000b, 32), (0x0099, 65)]),
        ),
        (
            "an event larger than the log",
            with({
                let mut r = one.clone();
                let at = 8 + 4 + 2 + 32;
                r[at..at + 4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
                r
            }),
        ),
        (
            "PCR 24",
            with({
                let mut r = one.clone();
                r[0] = 24;
                r
            }),
        ),
        ("2^32-1 digests", with(digests(0xffff_ffff, &[0x000b]))),
        ("no digest", with(digests(0, &[]))),
        ("a digest twice", with(digests(2, &[0x000b, 0x000b]))),
        (
            "a digest of an unknown algorithm",
            with(digests(1, &[0x000c])),
        ),
        ("zeros after the end", with(vec![0; 7])),
        ("ones after the end", with(vec![0xff; 64])),
        ("more events than any machine has", with(short.repeat(2100))),
        ("longer than any", vec![0; MAX_LOG + 1]),
    ];
    for (what, bytes) in rows {
        assert!(EventLog::parse(&bytes).is_err(), "{what}");
    }
    assert!(matches!(
        EventLog::parse(&with(short.repeat(2100))),
        Err(ParseError::TooLarge {
            field: "number of events",
            ..
        })
    ));
}
