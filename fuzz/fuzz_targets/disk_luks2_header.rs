//! The header of a state disk, which the host writes: the bytes as they are, and as the JSON of a header whose checksums are right.
#![cfg_attr(fuzzing, no_main)]

use aws_lc_rs::digest::{SHA256, digest};
use disk::luks2::{HEADERS_SIZE, Kind, VerifiedHeader};

const REAL: &[u8; HEADERS_SIZE] =
    include_bytes!("../../crates/disk/testdata/debian13-cryptsetup-2.7.5.luks2");
const BINARY_SIZE: usize = 4096;

fuzz::fuzz_target!(|bytes: &[u8]| {
    parse(bytes);
    let mut sealed = *REAL;
    for copy in sealed.chunks_mut(HEADERS_SIZE / 2) {
        let (binary, json) = copy.split_at_mut(BINARY_SIZE);
        let length = bytes.len().min(json.len());
        json.fill(0);
        json[..length].copy_from_slice(&bytes[..length]);
        binary[448..512].fill(0);
        let sum = digest(&SHA256, copy);
        copy[448..480].copy_from_slice(sum.as_ref());
    }
    parse(&sealed);
});

/// What is accepted is written anew, and says the same.
fn parse(bytes: &[u8]) {
    for kind in [Kind::StateDisk, Kind::Volume] {
        if let Ok(header) = VerifiedHeader::parse(kind, bytes) {
            assert_eq!(VerifiedHeader::parse(kind, &header.encode()), Ok(header));
        }
    }
}
