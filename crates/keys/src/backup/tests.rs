//! What is written is read, and whatever is done to a file is refused by its name.

use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> BackupKey {
    BackupKey::from_slice(&[byte; 32]).unwrap()
}

fn header(cluster: u8) -> Header {
    Header {
        cluster_id: ClusterId::from_slice(&[cluster; 32]).unwrap(),
        begun: 1_795_000_000,
        revision: 4711,
        etcd_version: "3.5.16".to_owned(),
    }
}

/// Header and parts of a file with these contents.
fn file(key: &BackupKey, contents: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut sealer, head) = Sealer::begin(key, &header(1)).unwrap();
    let (last, before) = contents.split_last().unwrap();
    let mut pieces = vec![head];
    for content in before {
        pieces.push(sealer.part(content).unwrap());
    }
    pieces.push(sealer.last(last));
    pieces
}

fn open(key: BackupKey, bytes: &[u8], step: usize) -> Result<(Header, Vec<u8>), BackupError> {
    let mut opener = Opener::new(key);
    let mut all = Vec::new();
    for piece in bytes.chunks(step) {
        opener.push(piece, |part| all.extend_from_slice(&part))?;
        assert!(opener.buffer.len() < FRAME + PART + TAG);
    }
    Ok((opener.finish()?, all))
}

const THREE: [&[u8]; 3] = [b"one", b"two", b"three"];

#[test]
fn a_verifier_accepts_its_own_key() {
    let verifier = BackupKeyVerifier::from_bytes(*key(1).verifier().as_bytes());
    assert!(verifier.accepts(&key(1)));
    assert!(!verifier.accepts(&key(2)));
}

#[test]
fn another_key_is_refused_and_so_is_another_cluster() {
    let bytes = file(&key(1), &THREE).concat();
    assert_eq!(open(key(2), &bytes, 7), Err(BackupError::WrongKey));
    let (found, content) = open(key(1), &bytes, 7).unwrap();
    assert_eq!((found.clone(), content), (header(1), THREE.concat()));
    found.expect_cluster(&header(1).cluster_id).unwrap();
    assert!(matches!(
        found.expect_cluster(&header(2).cluster_id),
        Err(BackupError::OtherCluster { .. })
    ));
}

#[test]
fn parts_that_are_left_out_doubled_or_exchanged_are_refused() {
    let pieces = file(&key(1), &THREE);
    let with = |order: &[usize]| {
        let bytes: Vec<u8> = order.iter().flat_map(|at| pieces[*at].clone()).collect();
        open(key(1), &bytes, 1000).unwrap_err()
    };
    let order = |expected, found| BackupError::Order { expected, found };
    assert_eq!(with(&[0, 2, 3]), order(0, 1));
    assert_eq!(with(&[0, 1, 1, 2, 3]), order(1, 0));
    assert_eq!(with(&[0, 2, 1, 3]), order(0, 1));
    assert_eq!(with(&[0, 1, 2]), BackupError::Cut);
    assert_eq!(with(&[0]), BackupError::Cut);
    assert_eq!(with(&[0, 1, 2, 3, 3]), BackupError::Trailing);
    assert_eq!(with(&[1, 2, 3]), BackupError::NotABackup);
    // the numbers made right, the parts are still not those
    let mut renumbered = pieces.clone();
    renumbered[2][..4].copy_from_slice(&0_u32.to_be_bytes());
    let bytes = [&renumbered[0][..], &renumbered[2], &renumbered[3]].concat();
    assert_eq!(open(key(1), &bytes, 1000), Err(BackupError::Changed(0)));
    // the second made the last
    renumbered = pieces.clone();
    renumbered[2][4] |= 0x80;
    let bytes = renumbered[..3].concat();
    assert_eq!(open(key(1), &bytes, 1000), Err(BackupError::Changed(1)));
}

#[test]
fn parts_of_another_backup_of_the_same_content_are_refused() {
    let (one, other) = (file(&key(1), &THREE), file(&key(1), &THREE));
    let bytes = [&one[0][..], &one[1], &other[2], &one[3]].concat();
    assert_eq!(open(key(1), &bytes, 1000), Err(BackupError::Changed(1)));
}

#[test]
fn a_file_cut_anywhere_is_refused_as_cut() {
    let bytes = file(&key(1), &THREE).concat();
    assert_eq!(open(key(1), &[], 1), Err(BackupError::NotABackup));
    for length in 1..bytes.len() {
        assert_eq!(
            open(key(1), &bytes[..length], 13),
            Err(BackupError::Cut),
            "{length}"
        );
    }
    assert_eq!(open(key(1), b"CSTX", 1), Err(BackupError::NotABackup));
}

#[test]
fn any_flipped_bit_is_refused() {
    let pieces = file(&key(1), &THREE);
    let bytes = pieces.concat();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let error = open(key(1), &changed, 1000).unwrap_err();
            let fits = match at {
                0..8 => error == BackupError::NotABackup,
                8..10 => matches!(error, BackupError::Version(_)),
                10..26 => error == BackupError::WrongKey,
                // a longer or shorter header
                106 => matches!(error, BackupError::Header | BackupError::Cut),
                _ if at < pieces[0].len() => error == BackupError::Header,
                _ => matches!(
                    error,
                    BackupError::Order { .. } | BackupError::Changed(_) | BackupError::Cut
                ),
            };
            assert!(fits, "byte {at} bit {bit}: {error:?}");
        }
    }
}

#[test]
fn a_version_of_etcd_that_is_none_is_not_written() {
    for version in ["", "3.5\n", "ü", &"3".repeat(33)] {
        let header = Header {
            etcd_version: version.to_owned(),
            ..header(1)
        };
        assert!(Sealer::begin(&key(1), &header).is_err(), "{version:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_in_any_pieces(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..6),
        full in any::<bool>(),
        step in 1..5000_usize,
    ) {
        let mut contents = contents;
        if full {
            contents[0] = vec![7; PART];
        }
        let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let bytes = file(&key(3), &slices).concat();
        let (found, content) = open(key(3), &bytes, step).unwrap();
        prop_assert_eq!(found, header(1));
        prop_assert_eq!(content, contents.concat());
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in any::<bool>()) {
        let mut file = if magic { file(&key(3), &THREE)[0].clone() } else { Vec::new() };
        file.extend(bytes);
        prop_assert!(open(key(3), &file, 17).is_err());
    }
}
