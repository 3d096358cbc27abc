use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

#[test]
fn finds_the_file_it_wrote() {
    for len in [1, 511, 512, 513, 100_000] {
        let uki: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let partition = build(&uki).unwrap();
        let (offset, found) = find_uki(&partition).unwrap();
        assert_eq!(found, len);
        assert_eq!(partition[offset..offset + len], uki);
    }
}

#[test]
fn has_as_many_clusters_as_fat32_needs() {
    let partition = build(b"x").unwrap();
    let sectors = usize::try_from(u32_at(&partition, 32).unwrap()).unwrap();
    let fat = usize::try_from(u32_at(&partition, 36).unwrap()).unwrap();
    let clusters = sectors - RESERVED - 2 * fat;
    assert!(clusters >= MIN_CLUSTERS, "{clusters}");
    assert!(
        fat * SECTOR >= (clusters + 2) * 4,
        "an entry for each cluster"
    );
    assert_eq!(partition.len(), sectors * SECTOR);
    assert_eq!(
        partition[..SECTOR],
        partition[6 * SECTOR..7 * SECTOR],
        "copy of the boot sector"
    );
}

#[test]
fn refuses_what_it_did_not_write() {
    let good = build(&[7; 2000]).unwrap();
    assert_eq!(find_uki(&[]), Err(FatError::Format));
    assert_eq!(find_uki(&good[..100_000]), Err(FatError::NotFound));
    let mut renamed = good.clone();
    let name = renamed
        .windows(11)
        .position(|window| window == b"BOOTX64 EFI")
        .unwrap();
    renamed[name] = b'X';
    assert_eq!(find_uki(&renamed), Err(FatError::NotFound));
    let mut longer = good.clone();
    longer[name + 31] = 0xff;
    assert_eq!(find_uki(&longer), Err(FatError::Fragmented));
    let mut pieces = good.clone();
    pieces[RESERVED * SECTOR + 5 * 4] = 9;
    assert_eq!(find_uki(&pieces), Err(FatError::Fragmented));
}

proptest! {
    #[test]
    fn never_panics(at in 0..512_usize, value: u8, second in 0..512_usize, other: u8) {
        // Tables, directories and the file; what follows is free.
        static START: LazyLock<Vec<u8>> = LazyLock::new(|| build(&[7; 2000]).unwrap()[..560 * 1024].to_vec());
        let mut bytes = START.clone();
        bytes[at] = value;
        bytes[second] = other;
        drop(find_uki(&bytes));
    }
}
