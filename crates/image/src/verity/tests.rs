use super::*;

/// Made by `veritysetup format` 2.6.1 over the same bytes: 300 blocks, so there are two levels.
#[test]
fn agrees_with_veritysetup() {
    let data: Vec<u8> = (0..300_u32)
        .flat_map(|block| [u8::try_from(block % 256).unwrap(); BLOCK])
        .collect();
    let tree = build(&data, *b"constellation-vt", &[0x5a; 32]);
    assert_eq!(
        hex::encode(tree.root_hash),
        "2f94970663562df60d2ad33c3dc99ad7ee6e093ffcdf2a40490281488ceec45d"
    );
    assert_eq!(
        hex::encode(aws_lc_rs::digest::digest(&SHA256, &tree.bytes)),
        "9b687a83a296ee21660bd681d7541135288706e7f91645e70a008451ee879df6"
    );
    assert_eq!(tree.bytes.len(), BLOCK * (1 + 1 + 3));
}

#[test]
fn every_byte_counts() {
    let mut data = vec![0; 2 * BLOCK];
    let before = build(&data, [0; 16], &[0; 32]).root_hash;
    data[2 * BLOCK - 1] = 1;
    assert_ne!(build(&data, [0; 16], &[0; 32]).root_hash, before);
    data[2 * BLOCK - 1] = 0;
    assert_ne!(
        build(&data, [0; 16], &[1; 32]).root_hash,
        before,
        "the salt is part of every digest"
    );
}
