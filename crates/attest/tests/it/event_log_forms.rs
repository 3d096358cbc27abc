//! The frame of an event log: what it must begin with, and what its records must not be.

use attest::event_log::{EventLog, Log, event_type};
use testkit::boot::Image;

use crate::log_files::evidence_file;

const MAX_EVENTS: usize = 2048;
const CCEL: &str = "eventlog/ccel/trustee-ovmf/eventlog.bin";
/// Where the first record has its data: a register, a type, a digest of SHA-1 and a length stand before it.
const SPEC_ID: usize = 4 + 4 + 20 + 4;

#[test]
fn a_log_of_a_trust_domain_begins_as_one() {
    let area = evidence_file(CCEL);
    let with = |at: usize, bytes: &[u8]| {
        let mut area = area.clone();
        area[at..at + bytes.len()].copy_from_slice(bytes);
        Log::parse_ccel(&area).is_ok()
    };
    assert!(Log::parse_ccel(&area).is_ok());
    let register = u32::from_le_bytes(area[..4].try_into().unwrap());
    assert!(with(0, &register.to_le_bytes()));
    assert!(with(0, &u32::MAX.to_le_bytes()));
    // no register of a trust domain
    for register in [5_u32, 17, 0x8000_0000] {
        assert!(!with(0, &register.to_le_bytes()), "{register}");
    }
    for kind in [event_type::SEPARATOR, event_type::EFI_ACTION, 0] {
        assert!(!with(4, &kind.to_le_bytes()), "{kind:#x}");
    }
    // each letter of "Spec ID Event03"
    for at in 0..16 {
        assert!(!with(SPEC_ID + at, &[area[SPEC_ID + at] ^ 1]), "{at}");
    }
}

/// The registers of a trust domain are of SHA-384: a log without it accounts for none.
#[test]
fn a_log_without_sha384_is_no_log_of_a_trust_domain() {
    let log = Image::default().event_log();
    assert!(EventLog::parse(&log).is_ok());
    let mut area = log;
    area[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Log::parse(&area).is_ok());
    assert!(Log::parse_ccel(&area).is_err());
}

fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0; 4]);
    spec.extend([0, 2, 0, 2]);
    spec.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
    for (id, size) in algorithms {
        spec.extend(id.to_le_bytes());
        spec.extend(size.to_le_bytes());
    }
    spec.push(0);
    let mut bytes = 0_u32.to_le_bytes().to_vec();
    bytes.extend(event_type::NO_ACTION.to_le_bytes());
    bytes.extend([0; 20]);
    bytes.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    bytes.extend(spec);
    bytes
}

fn event(digests: &[(u16, usize)]) -> Vec<u8> {
    let mut bytes = 4_u32.to_le_bytes().to_vec();
    bytes.extend(event_type::SEPARATOR.to_le_bytes());
    bytes.extend(u32::try_from(digests.len()).unwrap().to_le_bytes());
    for (id, size) in digests {
        bytes.extend(id.to_le_bytes());
        bytes.extend(vec![7; *size]);
    }
    bytes.extend(0_u32.to_le_bytes());
    bytes
}

const SHA256: (u16, u16) = (0x000b, 32);
const SHA384: (u16, u16) = (0x000c, 48);

#[test]
fn a_record_has_one_digest_of_a_bank() {
    let parse = |digests: &[(u16, usize)]| {
        let log = [header(&[SHA256, SHA384]), event(digests)].concat();
        Log::parse(&log).is_ok()
    };
    let (short, long) = ((0x000b, 32), (0x000c, 48));
    for digests in [&[short][..], &[long], &[short, long], &[long, short]] {
        assert!(parse(digests), "{digests:x?}");
    }
    for digests in [
        &[][..],
        &[short, short],
        &[long, long],
        &[short, (0x000d, 64)],
        &[(0x0004, 20)],
    ] {
        assert!(!parse(digests), "{digests:x?}");
    }
}

#[test]
fn records_have_a_bound() {
    let agile = |count: usize| {
        let mut log = header(&[SHA256]);
        // the shortest record; a log of so many is below the bound in bytes
        log.extend(event(&[(0x000b, 32)]).repeat(count));
        Log::parse(&log).is_ok()
    };
    assert!(agile(MAX_EVENTS - 1) && agile(MAX_EVENTS));
    assert!(!agile(MAX_EVENTS + 1) && !agile(MAX_EVENTS + 2));

    // the old form has no header
    let legacy = |count: usize| {
        let mut record = 4_u32.to_le_bytes().to_vec();
        record.extend(event_type::SEPARATOR.to_le_bytes());
        record.extend([7; 20]);
        record.extend(0_u32.to_le_bytes());
        Log::parse(&record.repeat(count)).is_ok()
    };
    assert!(legacy(1) && legacy(MAX_EVENTS));
    assert!(!legacy(0) && !legacy(MAX_EVENTS + 1));
}
