use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn disk() -> Vec<u8> {
    let id = |byte| Guid([byte; 16]);
    let part = |kind, id, name, bytes| Content {
        kind,
        id,
        name,
        bytes,
    };
    build(
        id(9),
        &[
            part(ESP, id(1), "esp", &[1; 600]),
            part(ROOT, id(2), "root", &[2; MIB + 1]),
        ],
    )
}

#[test]
fn reads_what_it_wrote() {
    let disk = disk();
    let partitions = parse(&disk, disk.len() as u64).unwrap();
    let mib = MIB as u64;
    let expected = [
        Partition {
            kind: ESP,
            id: Guid([1; 16]),
            offset: mib,
            len: mib,
        },
        Partition {
            kind: ROOT,
            id: Guid([2; 16]),
            offset: 2 * mib,
            len: 2 * mib,
        },
    ];
    assert_eq!(partitions, expected);
    assert_eq!(
        disk.len(),
        5 * MIB,
        "a MiB in front for the table, one behind for its copy"
    );
    assert_eq!(disk[MIB..MIB + 600], [1; 600]);
}

#[test]
fn identifiers_are_mixed_endian_on_disk() {
    // UEFI 2.10, table 5.7: the EFI system partition.
    let on_disk = [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ];
    assert_eq!(ESP.to_disk(), on_disk);
    assert_eq!(Guid::from_disk(on_disk), ESP);
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn the_copy_at_the_end_is_a_table_too() {
    let disk = disk();
    let last = disk.len() - SECTOR;
    assert_eq!(disk[last..last + 8], *b"EFI PART");
    let mut header = disk[last..last + HEADER_LEN].to_vec();
    let checksum: [u8; 4] = header[16..20].try_into().unwrap();
    header[16..20].fill(0);
    assert_eq!(crc32(&header), u32::from_le_bytes(checksum));
}

#[test]
fn refuses_damage() {
    let good = disk();
    let len = good.len() as u64;
    let edit = |at: usize, byte: u8| {
        let mut bad = good[..64 * SECTOR].to_vec();
        bad[at] ^= byte;
        parse(&bad, len)
    };
    assert_eq!(edit(SECTOR, 1), Err(GptError::Signature));
    assert_eq!(edit(SECTOR + 80, 1), Err(GptError::Geometry));
    assert_eq!(edit(SECTOR + 40, 1), Err(GptError::Checksum("header")));
    assert_eq!(edit(2 * SECTOR + 32, 1), Err(GptError::Checksum("entries")));
    assert_eq!(parse(&good[..10 * SECTOR], len), Err(GptError::Truncated));
    assert_eq!(
        parse(&good, 3 * MIB as u64),
        Err(GptError::Range(1)),
        "the disk was cut"
    );
}

proptest! {
    #[test]
    fn never_panics(at in 0..20_000_usize, value: u8, len: u64) {
        static START: LazyLock<Vec<u8>> = LazyLock::new(|| disk()[..64 * SECTOR].to_vec());
        let mut bytes = START.clone();
        bytes[at] = value;
        drop(parse(&bytes, len));
    }
}
