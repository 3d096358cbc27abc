//! The table once more as data, and properties over every caller, key and set of state disks.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const DISK: Uuid = uuid::uuid!("4ae66293-57aa-4821-b99c-ebc598a6e5a8");

#[test]
fn the_table() {
    let keys = [
        KeyId::MeasurementSecret,
        KeyId::Disk(DISK),
        KeyId::SshCa,
        KeyId::S3Proxy,
        KeyId::EtcdBackup,
    ];
    for (caller, state_disk, expected) in [
        (Caller::JoinService, true, [true, true, true, false, false]),
        (Caller::JoinService, false, [true, true, true, false, false]),
        (Caller::CsiNode, true, [false, false, false, false, false]),
        (Caller::CsiNode, false, [false, true, false, false, false]),
        (Caller::S3Proxy, true, [false, false, false, true, false]),
        (Caller::S3Proxy, false, [false, false, false, true, false]),
    ] {
        let permitted = keys.map(|id| authorize(caller, &id, |_| state_disk).is_ok());
        assert_eq!(permitted, expected, "{caller}, state disk: {state_disk}");
    }
}

#[test]
fn refusals_say_who_and_what() {
    assert_eq!(
        authorize(Caller::CsiNode, &KeyId::MeasurementSecret, |_| false)
            .unwrap_err()
            .to_string(),
        "csi-node may not have the key measurementSecret"
    );
    assert_eq!(
        authorize(Caller::CsiNode, &KeyId::Disk(DISK), |_| true)
            .unwrap_err()
            .to_string(),
        "csi-node may not have the key of a state disk (4ae66293-57aa-4821-b99c-ebc598a6e5a8)"
    );
}

#[test]
fn only_service_accounts_of_kube_system_are_callers() {
    assert_eq!(
        Caller::from_user_name("system:serviceaccount:kube-system:join-service"),
        Some(Caller::JoinService)
    );
    for user in [
        "",
        "join-service",
        "system:serviceaccount:default:join-service",
        "system:serviceaccount:kube-system:join-service2",
        "system:serviceaccount:kube-system:default",
        "system:serviceaccount:kube-system:",
        "system:serviceaccount:kube-system:key-service",
        "system:serviceaccount:kube-system:x:join-service",
        "system:node:join-service",
        "system:admin",
    ] {
        assert_eq!(Caller::from_user_name(user), None, "{user}");
    }
}

fn any_key_id() -> impl Strategy<Value = KeyId> {
    prop_oneof![
        Just(KeyId::MeasurementSecret),
        Just(KeyId::SshCa),
        Just(KeyId::S3Proxy),
        Just(KeyId::EtcdBackup),
        (0_u128..8).prop_map(|bits| KeyId::Disk(Uuid::from_u128(bits))),
    ]
}

proptest! {
    /// Whatever a request is, a permit is for the key that was asked for and for no other.
    #[test]
    fn a_permit_is_for_the_key_asked_for(
        caller in prop::sample::select(Caller::ALL.to_vec()),
        id in any_key_id(),
        state_disks in prop::collection::btree_set(0_u128..8, 0..8),
    ) {
        let is_state_disk = |disk: Uuid| state_disks.contains(&disk.as_u128());
        if let Ok(permit) = authorize(caller, &id, is_state_disk) {
            prop_assert_eq!(permit.id(), id);
        }
    }

    /// No two callers but the join service and a CSI node share a key, and those two share no state disk's.
    #[test]
    fn rows_do_not_overlap(
        id in any_key_id(),
        state_disks in prop::collection::btree_set(0_u128..8, 0..8),
    ) {
        let is_state_disk = |disk: Uuid| state_disks.contains(&disk.as_u128());
        let allowed: BTreeSet<&str> = Caller::ALL
            .into_iter()
            .filter(|caller| authorize(*caller, &id, is_state_disk).is_ok())
            .map(Caller::service_account)
            .collect();
        match id {
            KeyId::Disk(disk) if !is_state_disk(disk) => {
                prop_assert_eq!(allowed, BTreeSet::from(["join-service", "csi-node"]));
            }
            KeyId::MeasurementSecret | KeyId::Disk(_) | KeyId::SshCa => {
                prop_assert_eq!(allowed, BTreeSet::from(["join-service"]));
            }
            KeyId::S3Proxy => prop_assert_eq!(allowed, BTreeSet::from(["s3proxy"])),
            KeyId::EtcdBackup => prop_assert_eq!(allowed, BTreeSet::new()),
        }
    }
}

#[test]
fn a_permit_derives_its_key() {
    let secret = MasterSecret::from_vec(vec![1; 32]).unwrap();
    let salt = Salt::from_vec(vec![2; 32]).unwrap();
    let permit = authorize(Caller::JoinService, &KeyId::Disk(DISK), |_| true).unwrap();
    let key = permit.derive(&secret, &salt).into_disk_key().unwrap();
    assert_eq!(key, crate::DiskKey::derive(&secret, &salt, DISK));
}
