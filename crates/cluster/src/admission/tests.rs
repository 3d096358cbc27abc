use proptest::prelude::*;

use super::*;

const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

fn name(number: u8) -> NodeName {
    NodeName::new(format!("worker-{number}")).unwrap()
}

fn disk(number: u8) -> DiskUuid {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
        .parse()
        .unwrap()
}

fn request(number: u8) -> JoinRequest {
    JoinRequest {
        name: name(number),
        role: Role::Worker,
        disk_uuid: disk(number),
        node_ip: Ipv4Addr::new(10, 42, 2, number),
        wireguard_public_key: WireGuardPublicKey::new([number; 32]),
    }
}

fn machine(number: u8) -> Proven {
    Proven {
        variant: "qemu-vtpm".to_owned(),
        key_id: hex::encode([number; 32]),
        measurements: BTreeMap::from([(4, "00".repeat(32))]),
        reset_count: 7,
    }
}

fn ask(request: &JoinRequest, proven: &Proven, records: &[Record]) -> Result<AdmittedNode, Denial> {
    admit(request, proven, records, &AddressPlan::default(), NOW)
}

fn record(number: u8, standing: Standing) -> Record {
    let admitted = ask(&request(number), &machine(number), &[]).unwrap();
    let plan = AddressPlan::default().node(u16::from(number)).unwrap();
    Record {
        identity: NodeIdentity {
            index: plan.index,
            mesh_ip: plan.mesh_ip,
            pod_cidr: plan.pod_cidr,
            ..admitted.identity
        },
        standing,
    }
}

#[test]
fn a_new_machine_gets_the_next_place() {
    let records = [record(1, Standing::Joined), record(4, Standing::Pending)];
    let admitted = ask(&request(7), &machine(7), &records).unwrap();
    assert_eq!(admitted.write(), Write::Create);
    let identity = admitted.identity();
    assert_eq!(identity.index, 5, "above the highest, not in a gap");
    assert_eq!(identity.mesh_ip, Ipv4Addr::new(10, 45, 0, 5));
    assert_eq!(identity.pod_cidr.to_string(), "10.244.5.0/24");
    assert_eq!(identity.admitted_at, "1970-01-01T00:00:00Z");
    assert_eq!(identity.attestation_key_id, machine(7).key_id());
}

#[test]
fn a_gap_is_used_when_the_top_is_reached_and_a_full_cluster_refuses() {
    let records: Vec<Record> = (2..=255)
        .map(|number| record(number, Standing::Joined))
        .collect();
    let newcomer = JoinRequest {
        node_ip: Ipv4Addr::new(192, 168, 0, 9),
        ..request(1)
    };
    assert_eq!(
        ask(&newcomer, &machine(1), &records)
            .unwrap()
            .identity()
            .index,
        1
    );
    let full: Vec<Record> = (1..=255)
        .map(|number| record(number, Standing::Joined))
        .collect();
    let other = JoinRequest {
        name: NodeName::new("another").unwrap(),
        disk_uuid: "10000000-0000-4000-8000-000000000000".parse().unwrap(),
        wireguard_public_key: WireGuardPublicKey::new([0xaa; 32].map(|b: u8| b ^ 0x55 ^ 0x01)),
        ..newcomer
    };
    let proven = Proven {
        key_id: "ff".repeat(31) + "01",
        ..machine(1)
    };
    assert!(matches!(ask(&other, &proven, &full), Err(Denial::Full(_))));
}

#[test]
fn what_another_node_has_is_refused_and_named() {
    let records = [record(1, Standing::Joined)];
    let new = request(2);
    let cases = [
        (
            JoinRequest {
                name: name(1),
                ..new.clone()
            },
            machine(2),
            Unique::Name,
        ),
        (
            JoinRequest {
                disk_uuid: disk(1),
                ..new.clone()
            },
            machine(2),
            Unique::Disk,
        ),
        (new.clone(), machine(1), Unique::AttestationKey),
        (
            JoinRequest {
                wireguard_public_key: request(1).wireguard_public_key,
                ..new.clone()
            },
            machine(2),
            Unique::WireGuardKey,
        ),
        (
            JoinRequest {
                node_ip: request(1).node_ip,
                ..new
            },
            machine(2),
            Unique::Address,
        ),
    ];
    for (request, proven, what) in cases {
        assert_eq!(
            ask(&request, &proven, &records).unwrap_err(),
            Denial::Taken {
                what,
                other: name(1)
            }
        );
    }
}

#[test]
fn a_machine_that_lost_its_ticket_gets_the_same_record_again() {
    let records = [record(1, Standing::Joined), record(2, Standing::Pending)];
    let again = ask(&request(2), &machine(2), &records).unwrap();
    assert_eq!(again.write(), Write::Keep);
    assert_eq!(again.identity(), &records[1].identity);
}

/// Two services chose one place, and one of them stopped before it looked again.
#[test]
fn a_pending_record_moves_out_of_a_place_that_another_node_has() {
    let pending = record(3, Standing::Pending);
    let mut other = record(4, Standing::Joined);
    other.identity = NodeIdentity {
        index: pending.identity.index,
        mesh_ip: pending.identity.mesh_ip,
        pod_cidr: pending.identity.pod_cidr,
        ..other.identity
    };
    let moved = ask(&request(3), &machine(3), &[pending, other]).unwrap();
    assert_eq!(moved.write(), Write::Replace);
    assert_eq!(moved.identity().index, 4);
}

#[test]
fn a_machine_interrupted_on_its_way_in_keeps_its_place_with_a_new_disk() {
    let records = [record(1, Standing::Joined), record(2, Standing::Pending)];
    let afresh = JoinRequest {
        disk_uuid: disk(9),
        wireguard_public_key: WireGuardPublicKey::new([9; 32]),
        ..request(2)
    };
    let again = ask(&afresh, &machine(2), &records).unwrap();
    assert_eq!(again.write(), Write::Replace);
    assert_eq!(again.identity().index, 2);
    assert_eq!(again.identity().disk_uuid, disk(9));
}

fn in_boot(reset_count: u32) -> Proven {
    Proven {
        reset_count,
        ..machine(2)
    }
}

fn pending_since(reset_count: Option<u32>) -> Record {
    let mut record = record(2, Standing::Pending);
    record.identity.reset_count = reset_count;
    record
}

#[test]
fn a_request_of_an_earlier_boot_is_refused() {
    let asked = |recorded, now| ask(&request(2), &in_boot(now), &[pending_since(recorded)]);
    // a constant of the key's may be added to all counts
    for constant in [0, u32::MAX - 8, 1 << 31] {
        let count = |resets: u32| constant.wrapping_add(resets);
        for earlier in [0, 8] {
            assert_eq!(
                asked(Some(count(9)), count(earlier)).unwrap_err(),
                Denial::EarlierBoot {
                    name: name(2),
                    recorded: count(9),
                    asked: count(earlier)
                }
            );
        }
        let same = asked(Some(count(9)), count(9)).unwrap();
        assert_eq!(same.write(), Write::Keep, "a boot may ask again");
        let later = asked(Some(count(9)), count(10)).unwrap();
        assert_eq!(later.write(), Write::Replace);
        assert_eq!(later.identity().reset_count, Some(count(10)));
    }
    // of an earlier release
    let first = asked(None, 0).unwrap();
    assert_eq!(first.identity().reset_count, Some(0));
}

/// Between the boot of its join and that of its rejoin the host gave the machine another disk, and kept its request back.
#[test]
fn a_node_that_came_back_is_not_taken_by_a_request_of_before() {
    let records = [pending_since(Some(3))];
    let back = recognise(disk(2), &in_boot(5), &records).unwrap();
    assert_eq!(back.write(), Write::Replace);
    let records = [Record {
        identity: back.identity().clone(),
        standing: Standing::Pending,
    }];
    let between = JoinRequest {
        disk_uuid: disk(9),
        ..request(2)
    };
    let late = ask(&between, &in_boot(4), &records);
    assert!(matches!(late, Err(Denial::EarlierBoot { .. })), "{late:?}");

    // nothing to write: the same boot, an earlier one, a node that nobody can take any more
    for count in [5, 4] {
        let again = recognise(disk(2), &in_boot(count), &records).unwrap();
        assert_eq!(again.write(), Write::Keep);
        assert_eq!(again.identity().reset_count, Some(5));
    }
    let joined = [Record {
        standing: Standing::Joined,
        ..pending_since(Some(3))
    }];
    let back = recognise(disk(2), &in_boot(5), &joined).unwrap();
    assert_eq!(back.write(), Write::Keep);
}

#[test]
fn a_record_of_an_earlier_release_is_read() {
    let identity = pending_since(None).identity;
    let json = serde_json::to_string(&identity).unwrap();
    assert!(!json.contains("resetCount"), "{json}");
    assert_eq!(
        serde_json::from_str::<NodeIdentity>(&json).unwrap(),
        identity
    );
    let identity = pending_since(Some(3)).identity;
    let json = serde_json::to_string(&identity).unwrap();
    assert!(json.contains("\"resetCount\":3"), "{json}");
    assert_eq!(
        serde_json::from_str::<NodeIdentity>(&json).unwrap(),
        identity
    );
}

#[test]
fn a_joined_node_is_never_admitted_again_not_even_with_a_wiped_disk() {
    let records = [record(2, Standing::Joined)];
    for request in [
        request(2),
        JoinRequest {
            disk_uuid: disk(9),
            ..request(2)
        },
    ] {
        assert_eq!(
            ask(&request, &machine(2), &records).unwrap_err(),
            Denial::AlreadyJoined(name(2))
        );
    }
}

#[test]
fn a_role_is_recorded_once() {
    let records = [record(2, Standing::Pending)];
    let upwards = JoinRequest {
        role: Role::ControlPlane,
        ..request(2)
    };
    assert_eq!(
        ask(&upwards, &machine(2), &records).unwrap_err(),
        Denial::RoleFixed {
            name: name(2),
            recorded: Role::Worker,
            asked: Role::ControlPlane
        }
    );
}

#[test]
fn another_variant_is_another_machine() {
    let records = [record(2, Standing::Pending)];
    let other = Proven {
        variant: "sev-snp".to_owned(),
        ..machine(2)
    };
    assert_eq!(
        ask(&request(2), &other, &records).unwrap_err(),
        Denial::Taken {
            what: Unique::Name,
            other: name(2)
        }
    );
    assert!(recognise(disk(2), &other, &records).is_err());
}

#[test]
fn addresses_that_nobody_may_have_are_refused() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
    ] {
        let address = address.parse().unwrap();
        let bad = JoinRequest {
            node_ip: address,
            ..request(2)
        };
        assert_eq!(
            ask(&bad, &machine(2), &[]).unwrap_err(),
            Denial::NotAMachine(address)
        );
    }
    for address in ["10.45.0.1", "10.244.3.4", "10.96.0.1"] {
        let bad = JoinRequest {
            node_ip: address.parse().unwrap(),
            ..request(2)
        };
        assert!(
            matches!(
                ask(&bad, &machine(2), &[]),
                Err(Denial::InsideCluster { .. })
            ),
            "{address}"
        );
    }
    let zero = JoinRequest {
        wireguard_public_key: WireGuardPublicKey::new([0; 32]),
        ..request(2)
    };
    assert_eq!(ask(&zero, &machine(2), &[]).unwrap_err(), Denial::ZeroKey);
}

#[test]
fn a_name_that_stands_in_another_certificate_is_refused() {
    for reserved in ["kubernetes", "key-service", "localhost"] {
        let name = NodeName::new(reserved).unwrap();
        let bad = JoinRequest {
            name: name.clone(),
            ..request(2)
        };
        assert_eq!(
            ask(&bad, &machine(2), &[]).unwrap_err(),
            Denial::ReservedName(name)
        );
    }
}

#[test]
fn a_node_gets_its_own_disk_again_and_no_other() {
    let records = [record(1, Standing::Joined), record(2, Standing::Pending)];
    assert_eq!(
        recognise(disk(1), &machine(1), &records)
            .unwrap()
            .identity()
            .name,
        name(1)
    );
    assert_eq!(
        recognise(disk(2), &machine(2), &records)
            .unwrap()
            .identity()
            .name,
        name(2)
    );
    assert_eq!(
        recognise(disk(1), &machine(2), &records).unwrap_err(),
        Unrecognised::OtherMachine {
            disk: disk(1),
            node: name(1)
        }
    );
    assert_eq!(
        recognise(disk(3), &machine(1), &records).unwrap_err(),
        Unrecognised::UnknownDisk(disk(3))
    );
}

/// One step of a cluster's life, with few values so that they meet.
#[derive(Clone, Debug)]
enum Event {
    Ask {
        name: u8,
        disk: u8,
        key: u8,
        wireguard: u8,
        ip: u8,
        control_plane: bool,
    },
    Join(usize),
    Delete(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let few = || 1_u8..6;
    prop_oneof![
        6 => (few(), few(), few(), few(), few(), any::<bool>()).prop_map(
            |(name, disk, key, wireguard, ip, control_plane)| Event::Ask { name, disk, key, wireguard, ip, control_plane }
        ),
        2 => any::<usize>().prop_map(Event::Join),
        1 => any::<usize>().prop_map(Event::Delete),
    ]
}

fn ask_event(event: &Event, records: &[Record]) -> Option<Result<AdmittedNode, Denial>> {
    let Event::Ask {
        name: n,
        disk: d,
        key,
        wireguard,
        ip,
        control_plane,
    } = *event
    else {
        return None;
    };
    let role = if control_plane {
        Role::ControlPlane
    } else {
        Role::Worker
    };
    let request = JoinRequest {
        name: name(n),
        role,
        disk_uuid: disk(d),
        node_ip: Ipv4Addr::new(10, 42, 2, ip),
        wireguard_public_key: WireGuardPublicKey::new([wireguard; 32]),
    };
    Some(ask(&request, &machine(key), records))
}

proptest! {
    /// Whatever is asked in whatever order: records never share anything, a joined node's record never changes but by
    /// deletion, a repeated request changes nothing, and every key goes to one machine only.
    #[test]
    fn records_stay_apart(events in prop::collection::vec(event(), 1..60)) {
        let mut records: Vec<Record> = Vec::new();
        for event in &events {
            let before = records.clone();
            match event {
                Event::Join(which) if !records.is_empty() => {
                    let which = which % records.len();
                    records[which].standing = Standing::Joined;
                }
                Event::Delete(which) if !records.is_empty() => {
                    let which = which % records.len();
                    records.remove(which);
                }
                Event::Join(_) | Event::Delete(_) => {}
                Event::Ask { key, .. } => {
                    if let Some(Ok(admitted)) = ask_event(event, &records) {
                        let identity = admitted.identity().clone();
                        let machine = machine(*key);
                        prop_assert_eq!(&identity.attestation_key_id, machine.key_id());
                        let place = records.iter().position(|record| record.identity.name == identity.name);
                        match (admitted.write(), place) {
                            (Write::Create, None) => records.push(Record { identity, standing: Standing::Pending }),
                            (Write::Replace, Some(at)) => {
                                prop_assert_eq!(records[at].identity.index, identity.index);
                                prop_assert_eq!(records[at].identity.role, identity.role);
                                prop_assert_eq!(&records[at].identity.attestation_key_id, &identity.attestation_key_id);
                                records[at].identity = identity;
                            }
                            (Write::Keep, Some(at)) => prop_assert_eq!(&records[at].identity, &identity),
                            (write, place) => prop_assert!(false, "{:?} with a record at {:?}", write, place),
                        }
                        let again = ask_event(event, &records).unwrap().unwrap();
                        prop_assert_eq!(again.write(), Write::Keep);
                    } else {
                        prop_assert_eq!(&before, &records);
                    }
                }
            }
            for record in &records {
                prop_assert_eq!(conflict(&record.identity, &records), None);
            }
            if matches!(event, Event::Ask { .. }) {
                for record in before.iter().filter(|record| record.standing == Standing::Joined) {
                    prop_assert!(records.contains(record), "a joined node's record changed: {:?}", record);
                }
            }
        }
    }

    /// A disk's key goes to the machine on record for it, whoever else asks.
    #[test]
    fn no_machine_gets_another_ones_disk(disks in prop::collection::vec(1_u8..20, 1..8), asker in 1_u8..20, wanted in 1_u8..20) {
        let mut numbers = disks;
        numbers.sort_unstable();
        numbers.dedup();
        let records: Vec<Record> = numbers.iter().map(|number| record(*number, Standing::Joined)).collect();
        let recognised = recognise(disk(wanted), &machine(asker), &records);
        prop_assert_eq!(recognised.is_ok(), asker == wanted && numbers.contains(&wanted));
    }
}
