//! The original's vectors, and one chain through the whole table.

use super::*;
use crate::{ClusterId, MeasurementSalt};

fn bytes(range: core::ops::RangeInclusive<u8>) -> Vec<u8> {
    range.collect()
}

fn master(secret: Vec<u8>, salt: Vec<u8>) -> (MasterSecret, Salt) {
    (
        MasterSecret::from_vec(secret).unwrap(),
        Salt::from_vec(salt).unwrap(),
    )
}

/// The four vectors that the original ships (secret, salt, info, key).
#[test]
fn vectors_of_the_original() {
    for (secret, salt, id, key) in [
        (
            bytes(0x00..=0x1f),
            bytes(0x20..=0x3f),
            "clusterID",
            "128c164378fe8767f998fbdfe4b4d6463ec5ae1b664ea5999bc27417607ae9b6",
        ),
        (
            bytes(0x40..=0x5f),
            bytes(0x60..=0x7f),
            "measurementSecret",
            "4790578891f3fe6cc22cb661ecdc1b7e33121b1287546a52ba33a9136719c213",
        ),
        (
            vec![0; 32],
            vec![0; 32],
            "00000000-0000-0000-0000-000000000000",
            "2b5c829f691bfd4232f8aac464bccc07e605c7c8e82cbca09837e86d0b6d0665",
        ),
        (
            vec![0xff; 32],
            vec![0xff; 32],
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "1484aa39d3415e906e07940ff215d8b1eee705d3027dba93306af4abff4f70be",
        ),
    ] {
        assert_eq!(
            hex::encode(hkdf_sha256(&secret, &salt, id).expose()),
            key,
            "{id}"
        );
        // The same through the public functions, where the id is a row of the table.
        if let Ok(id) = KeyId::parse(id) {
            let (secret, salt) = master(secret, salt);
            assert_eq!(
                hex::encode(derive(&secret, &salt, &id).expose_bytes()),
                key,
                "{id}"
            );
        }
    }
}

#[test]
fn cluster_id_vector_of_the_original() {
    let secret = MeasurementSecret::from_vec(bytes(0x00..=0x1f)).unwrap();
    let salt = MeasurementSalt::from_slice(&bytes(0x20..=0x3f)).unwrap();
    assert_eq!(
        ClusterId::derive(&secret, &salt).to_string(),
        "128c164378fe8767f998fbdfe4b4d6463ec5ae1b664ea5999bc27417607ae9b6"
    );
}

/// From the master secret to PCR 15, through every row.
#[test]
fn chained_vector() {
    let (secret, salt) = master(bytes(0x00..=0x1f), bytes(0x20..=0x3f));
    let measurement_salt = MeasurementSalt::from_slice(&bytes(0x40..=0x5f)).unwrap();
    let disk = uuid::uuid!("4ae66293-57aa-4821-b99c-ebc598a6e5a8");

    let measurement_secret = MeasurementSecret::derive(&secret, &salt);
    assert_eq!(
        hex::encode(measurement_secret.expose_bytes()),
        "ea7fedd14f5a29b1b8545592fc20bfdae06918e4ff447b1a0b8e4f3356005bda"
    );
    let cluster_id = ClusterId::derive(&measurement_secret, &measurement_salt);
    assert_eq!(
        cluster_id.to_string(),
        "e7fd5a0e36fb56d69807aa36e68aee24438c1bf8766780b6106150f35b7aacba"
    );
    assert_eq!(
        hex::encode(cluster_id.pcr15()),
        "f75516d57d358d6acd9c5e6e5c74b910ca7da9ddbc7935d0707c9b71656b968d"
    );
    assert_eq!(
        hex::encode(DiskKey::derive(&secret, &salt, disk).expose_bytes()),
        "966d60e0137c44f9a3d1af757ad3462a1302e028135bd75b7f2b31a66d57c941"
    );
    assert_eq!(
        hex::encode(SshCaSeed::derive(&secret, &salt).expose_bytes()),
        "94fa4debe744205b8655eb8f46e1b8f32a1d204d4a4c7ec6d43fd1745bdc88a4"
    );
    assert_eq!(
        hex::encode(derive(&secret, &salt, &KeyId::S3Proxy).expose_bytes()),
        "abb6abad69c0ca6f216e518cdb681185377706f78993b556d088ee7e311cd08a"
    );
    assert_eq!(
        hex::encode(BackupKey::derive(&secret, &salt).expose_bytes()),
        "99f8ee1d918a16f9de2fbf9212ff1adfbba75e07267fcf656192db5b18b0a268"
    );
}

#[test]
fn a_key_becomes_no_other_role() {
    let (secret, salt) = master(vec![1; 32], vec![2; 32]);
    let disk = KeyId::Disk(uuid::Uuid::nil());
    assert!(derive(&secret, &salt, &disk).into_disk_key().is_ok());
    for id in [
        KeyId::MeasurementSecret,
        KeyId::SshCa,
        KeyId::S3Proxy,
        KeyId::EtcdBackup,
    ] {
        let error = derive(&secret, &salt, &id).into_disk_key().unwrap_err();
        assert_eq!(error.to_string(), format!("the key {id} is not a disk key"));
    }
}

#[test]
fn debug_names_the_key_and_shows_no_byte() {
    let (secret, salt) = master(vec![1; 32], vec![2; 32]);
    let key = derive(&secret, &salt, &KeyId::SshCa);
    assert_eq!(format!("{key:?}"), "DataKey(ca_emergency_ssh, redacted)");
}
