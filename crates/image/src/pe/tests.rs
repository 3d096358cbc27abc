use proptest::prelude::*;

use super::*;
use crate::uki::tests::{STUB_SECTIONS, stub};

#[test]
fn reads_sections_and_their_content() {
    let stub = stub();
    let pe = Pe::parse(&stub).unwrap();
    let names: Vec<_> = pe
        .sections()
        .iter()
        .map(|section| section.name.as_str())
        .collect();
    assert_eq!(names, STUB_SECTIONS.map(|(name, _)| name));
    for (name, content) in STUB_SECTIONS {
        assert_eq!(pe.section(name), Ok(Some(content)), "{name}");
    }
    assert_eq!(pe.section(".none"), Ok(None));
    assert!(!pe.is_signed());
}

#[test]
fn authenticode_leaves_out_checksum_and_certificates_only() {
    let stub = stub();
    let digest = Pe::parse(&stub).unwrap().authenticode();
    let layout = Pe::parse(&stub).unwrap().layout();
    let (checksum, entry) = (layout.optional + 64, layout.optional + 144);

    let mut changed = stub.clone();
    changed[checksum] ^= 1;
    assert_eq!(
        Pe::parse(&changed).unwrap().authenticode(),
        digest,
        "the checksum is not hashed"
    );

    let mut signed = stub.clone();
    signed.extend_from_slice(b"certificates");
    let at = u32::try_from(stub.len()).unwrap().to_le_bytes();
    signed[entry..entry + 4].copy_from_slice(&at);
    signed[entry + 4..entry + 8].copy_from_slice(&12_u32.to_le_bytes());
    let signed = Pe::parse(&signed).unwrap();
    assert!(signed.is_signed());
    assert_eq!(
        signed.authenticode(),
        digest,
        "a signature does not change what is signed"
    );

    for at in (0..stub.len())
        .filter(|at| !(checksum..checksum + 4).contains(at) && !(entry..entry + 8).contains(at))
    {
        let mut changed = stub.clone();
        changed[at] ^= 0x40;
        if let Ok(pe) = Pe::parse(&changed) {
            assert_ne!(pe.authenticode(), digest, "byte {at} is hashed");
        }
    }
}

#[test]
fn refuses_what_two_readers_could_understand_in_two_ways() {
    let good = stub();
    let layout = Pe::parse(&good).unwrap().layout();
    let edit = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        Pe::parse(&bad).map(drop)
    };
    let first_section = layout.section_table;
    let cases: [(&str, Result<(), PeError>, PeError); 9] = [
        ("DOS magic", edit(0, b"ZM"), PeError::Signature("MZ")),
        (
            "PE offset",
            edit(0x3c, &u32::MAX.to_le_bytes()),
            PeError::Truncated("COFF header"),
        ),
        (
            "PE magic",
            edit(layout.section_count - 6, b"NE"),
            PeError::Signature("PE"),
        ),
        (
            "32 bit",
            edit(layout.optional, &0x10b_u16.to_le_bytes()),
            PeError::NotPe32Plus(0x10b),
        ),
        (
            "sections",
            edit(layout.section_count, &97_u16.to_le_bytes()),
            PeError::TooManySections(97),
        ),
        (
            "table end",
            edit(layout.section_count, &96_u16.to_le_bytes()),
            PeError::Truncated("section table"),
        ),
        (
            "outside",
            edit(first_section + 20, &0x7fff_0000_u32.to_le_bytes()),
            PeError::SectionRange(".text".into()),
        ),
        (
            "in headers",
            edit(first_section + 20, &8_u32.to_le_bytes()),
            PeError::SectionRange(".text".into()),
        ),
        (
            "certificates",
            edit(layout.optional + 148, &8_u32.to_le_bytes()),
            PeError::CertificateTable,
        ),
    ];
    for (name, got, expected) in cases {
        assert_eq!(got, Err(expected), "{name}");
    }
    // The second section over the first one.
    let first: [u8; 4] = good[first_section + 20..first_section + 24]
        .try_into()
        .unwrap();
    let overlap = edit(first_section + 60, &first);
    assert_eq!(
        overlap,
        Err(PeError::SectionOverlap(".text".into(), ".sbat".into()))
    );
    // Two sections of one name.
    let mut twice = good.clone();
    twice[first_section + 40..first_section + 48].copy_from_slice(b".text\0\0\0");
    assert_eq!(
        Pe::parse(&twice).unwrap().section(".text"),
        Err(PeError::SectionTwice(".text".into()))
    );
    // Content that would be padded in memory.
    let mut padded = good.clone();
    padded[first_section + 8..first_section + 12].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    assert_eq!(
        Pe::parse(&padded).unwrap().section(".text"),
        Err(PeError::SectionPadded(".text".into()))
    );
}

#[test]
fn every_shorter_file_is_refused() {
    let stub = stub();
    for len in 0..stub.len() {
        assert!(
            Pe::parse(&stub[..len]).is_err(),
            "{len} bytes of {}",
            stub.len()
        );
    }
}

proptest! {
    #[test]
    fn never_panics(at in 0..2048_usize, value: u8, second in 0..2048_usize, other: u8) {
        let mut bytes = stub();
        let len = bytes.len();
        bytes[at % len] = value;
        bytes[second % len] = other;
        if let Ok(pe) = Pe::parse(&bytes) {
            prop_assert_eq!(pe.authenticode(), pe.authenticode());
            for section in pe.sections() {
                drop(pe.section(&section.name));
            }
        }
    }

    #[test]
    fn never_panics_on_noise(bytes: Vec<u8>) {
        prop_assert!(Pe::parse(&bytes).is_err());
    }
}
