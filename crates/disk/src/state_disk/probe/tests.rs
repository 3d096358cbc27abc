//! What a device is taken for, on files in the place of devices.

use std::fs::OpenOptions;
use std::io::Write as _;

use tempfile::NamedTempFile;

use super::*;

const REAL: &[u8; HEADERS_SIZE] =
    include_bytes!("../../../testdata/debian13-cryptsetup-2.7.5.luks2");

fn device(start: &[u8], size: u64) -> NamedTempFile {
    let mut device = NamedTempFile::new().unwrap();
    device.write_all(start).unwrap();
    device.as_file().set_len(size).unwrap();
    device
}

fn header(initialized: bool) -> Vec<u8> {
    VerifiedHeader::parse(Kind::StateDisk, REAL)
        .unwrap()
        .with_token(initialized)
        .encode()
}

#[test]
fn an_empty_disk_is_new() {
    let device = device(&[], MINIMUM_SIZE);
    assert!(matches!(
        probe(device.path()),
        Ok(Found::New(NewDisk::NoHeader))
    ));
}

/// Whatever else is on the disk, it is the machine's own: only a LUKS header stops it from being formatted.
#[test]
fn a_disk_with_other_data_is_new() {
    let device = device(b"\x55\xaa\x53\xef another file system", MINIMUM_SIZE);
    assert!(matches!(
        probe(device.path()),
        Ok(Found::New(NewDisk::NoHeader))
    ));
}

#[test]
fn an_uninitialised_disk_is_new() {
    for start in [header(false), REAL.to_vec()] {
        let device = device(&start, MINIMUM_SIZE);
        assert!(matches!(
            probe(device.path()),
            Ok(Found::New(NewDisk::NotInitialized))
        ));
    }
}

#[test]
fn an_initialised_disk_is_found_with_its_keyslot() {
    let device = device(&header(true), MINIMUM_SIZE);
    let keyslot = vec![0x5a; 385_024];
    let file = OpenOptions::new().write(true).open(device.path()).unwrap();
    file.write_all_at(&keyslot, 32768).unwrap();
    let Found::Initialized(disk) = probe(device.path()).unwrap() else {
        panic!("not found")
    };
    assert_eq!(
        disk.uuid(),
        uuid::uuid!("4ae66293-57aa-4821-b99c-ebc598a6e5a8")
    );
    assert_eq!(disk.keyslot, keyslot);
    assert_eq!(
        format!("{disk:?}"),
        "InitializedDisk(4ae66293-57aa-4821-b99c-ebc598a6e5a8)"
    );
}

/// A header that is there and not accepted is an error, never a new disk: neither what a host made of it, nor a first copy that
/// is gone while the second is there, nor LUKS1.
#[test]
fn a_refused_header_is_never_a_new_disk() {
    let mut flipped = header(true);
    flipped[5000] ^= 1;
    let mut second_only = header(true);
    second_only[..512].fill(0);
    let mut luks1 = header(true);
    luks1[7] = 1;
    for (start, field) in [
        (flipped, "primary.checksum"),
        (second_only, "primary.magic"),
        (luks1, "primary.version"),
    ] {
        let device = device(&start, MINIMUM_SIZE);
        let error = probe(device.path()).unwrap_err();
        let ProbeError::Header { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(source.field(), field);
    }
}

#[test]
fn a_small_disk_is_refused() {
    let device = device(&[], MINIMUM_SIZE - 1);
    let error = probe(device.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("has 268435455 bytes, a state disk needs 268435456"),
        "{error}"
    );
}

#[test]
fn a_missing_disk_is_named() {
    let error = probe(Path::new("/no/such/disk")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /no/such/disk");
}
