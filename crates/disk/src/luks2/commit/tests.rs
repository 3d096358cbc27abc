//! Every step cut at every sector, in any order of its sectors: the disk is new or whole, never refused.

use proptest::prelude::*;

use super::*;
use crate::luks2::{DATA_OFFSET, HEADERS_SIZE, Kind};

const REAL: &[u8; HEADERS_SIZE] =
    include_bytes!("../../../testdata/debian13-cryptsetup-2.7.5.luks2");

#[derive(Debug, PartialEq)]
enum Seen {
    NoHeader,
    NotInitialized,
    Initialized { secondary_is_blank: bool },
}

fn look(disk: &[u8]) -> Seen {
    let headers = &disk[..HEADERS_SIZE];
    if !VerifiedHeader::is_present(headers) {
        return Seen::NoHeader;
    }
    let header = VerifiedHeader::parse(Kind::StateDisk, headers).unwrap();
    if header.is_initialized() {
        Seen::Initialized {
            secondary_is_blank: header.secondary_is_blank(),
        }
    } else {
        Seen::NotInitialized
    }
}

fn real() -> VerifiedHeader {
    VerifiedHeader::parse(Kind::StateDisk, REAL).unwrap()
}

fn keyslot() -> Vec<u8> {
    vec![0xa5; 385_024]
}

/// The sectors that a step writes: place and bytes.
fn sectors(step: &Step) -> Vec<(usize, Vec<u8>)> {
    let mut sectors = Vec::new();
    for write in &step.writes {
        let start = usize::try_from(write.offset).unwrap();
        for (index, bytes) in write.bytes.chunks(SECTOR).enumerate() {
            sectors.push((start + index * SECTOR, bytes.to_vec()));
        }
    }
    sectors
}

fn put(disk: &mut [u8], (at, bytes): &(usize, Vec<u8>)) {
    disk[*at..at + bytes.len()].copy_from_slice(bytes);
}

fn disk_of(start: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(DATA_OFFSET).unwrap()];
    disk[..start.len()].copy_from_slice(start);
    disk
}

#[test]
fn creating_ends_in_a_whole_header_and_each_step_is_one_state() {
    let header = real().with_token(true);
    let mut disk = disk_of(&[]);
    let expected = [
        ("keyslot", Seen::NoHeader),
        ("text", Seen::NoHeader),
        (
            "primary",
            Seen::Initialized {
                secondary_is_blank: true,
            },
        ),
        (
            "secondary",
            Seen::Initialized {
                secondary_is_blank: false,
            },
        ),
    ];
    for (step, (name, seen)) in create(&header, &keyslot()).iter().zip(expected) {
        sectors(step)
            .iter()
            .for_each(|sector| put(&mut disk, sector));
        assert_eq!((step.name, look(&disk)), (name, seen));
    }
    assert_eq!(disk[..HEADERS_SIZE], header.encode());
    assert_eq!(disk[HEADERS_SIZE..HEADERS_SIZE + 385_024], keyslot());
}

/// The steps that make a header visible are one sector each: a device writes it whole or not at all.
#[test]
fn what_makes_a_header_visible_is_one_sector() {
    let [_, _, primary, secondary] = create(&real(), &keyslot());
    let [first, second] = erase();
    for step in [primary, secondary, first, second] {
        assert_eq!(sectors(&step).len(), 1, "{}", step.name);
    }
}

#[test]
fn a_header_without_its_second_copy_is_completed() {
    let header = real().with_token(true);
    let mut disk = disk_of(&header.encode());
    disk[COPY_SIZE..COPY_SIZE + SECTOR].fill(0);
    assert_eq!(
        look(&disk),
        Seen::Initialized {
            secondary_is_blank: true
        }
    );
    let found = VerifiedHeader::parse(Kind::StateDisk, &disk).unwrap();
    sectors(&complete(&found))
        .iter()
        .for_each(|sector| put(&mut disk, sector));
    assert_eq!(disk[..HEADERS_SIZE], header.encode());
}

#[test]
fn erasing_an_uninitialised_header_is_a_new_disk_at_every_moment() {
    let mut disk = disk_of(&real().with_token(false).encode());
    assert_eq!(look(&disk), Seen::NotInitialized);
    for (step, seen) in erase().iter().zip([Seen::NotInitialized, Seen::NoHeader]) {
        sectors(step)
            .iter()
            .for_each(|sector| put(&mut disk, sector));
        assert_eq!(look(&disk), seen, "{}", step.name);
    }
}

/// The same through a real file, as `set_key` does it.
#[test]
fn applied_to_a_file() {
    let header = real().with_token(true);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    std::fs::write(&path, disk_of(REAL)).unwrap();
    let device = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for step in erase() {
        apply(&device, &step).unwrap();
    }
    assert_eq!(look(&std::fs::read(&path).unwrap()), Seen::NoHeader);
    for step in create(&header, &keyslot()) {
        apply(&device, &step).unwrap();
    }
    assert_eq!(
        look(&std::fs::read(&path).unwrap()),
        Seen::Initialized {
            secondary_is_blank: false
        }
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Power is lost in some step of creating; of that step, any of its sectors are on the disk.
    #[test]
    fn creating_cut_anywhere(step in 0..4_usize, lost in prop::collection::vec(any::<bool>(), 800)) {
        let header = real().with_token(true);
        let steps = create(&header, &keyslot());
        let mut disk = disk_of(&[]);
        steps[..step].iter().flat_map(sectors).for_each(|sector| put(&mut disk, &sector));
        let mut complete = true;
        for (sector, lost) in sectors(&steps[step]).iter().zip(lost) {
            if lost { complete = false } else { put(&mut disk, sector) }
        }
        let expected = match (step, complete) {
            (0 | 1, _) | (2, false) => Seen::NoHeader,
            (2, true) | (_, false) => Seen::Initialized { secondary_is_blank: true },
            (_, true) => Seen::Initialized { secondary_is_blank: false },
        };
        prop_assert_eq!(look(&disk), expected);
    }
}
