//! Tickets that can not work.

use super::*;

fn ticket() -> Ticket {
    Ticket {
        state_disk_key: vec![1; 32],
        measurement_salt: vec![2; 32],
        measurement_secret: vec![3; 32],
        token: "abcdef.0123456789abcdef".to_owned(),
        cluster_name: "constellation".to_owned(),
        kubernetes_version: "v1.20.2".to_owned(),
        components: components(),
        component_mirror: "http://10.0.2.2:8080/components".to_owned(),
        ca_certificate: b"-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n".to_vec(),
        mesh_ip: "10.45.0.2".to_owned(),
        pod_cidr: "10.244.2.0/24".to_owned(),
        cluster_pod_cidr: "10.244.0.0/16".to_owned(),
        service_cidr: "10.96.0.0/12".to_owned(),
        peers: vec![peer(1, "10.45.0.1", "10.244.1.0/24")],
        control_plane_files: Vec::new(),
        api_sans: Vec::new(),
    }
}

fn components() -> Vec<Component> {
    let version = "v1.20.2".parse().unwrap();
    crate::catalogue::programs(Role::ControlPlane)
        .map(|program| {
            Component::program(
                program,
                version,
                crate::catalogue::Sha256::of(program.as_bytes()),
            )
        })
        .collect()
}

fn peer(key: u8, mesh_ip: &str, pod_cidr: &str) -> TicketPeer {
    TicketPeer {
        public_key: vec![key; 32],
        endpoint: "10.42.1.10:51820".to_owned(),
        mesh_ip: mesh_ip.to_owned(),
        pod_cidr: pod_cidr.to_owned(),
        node_name: "control-plane-0".to_owned(),
        is_control_plane: true,
    }
}

#[test]
fn a_good_ticket_passes_and_shows_no_secret() {
    let checked = ticket().check(Role::Worker).unwrap();
    assert_eq!(checked.addresses.mesh_ip, Ipv4Addr::new(10, 45, 0, 2));
    assert_eq!(
        checked.components.len(),
        2,
        "a worker installs no control plane"
    );
    assert_eq!(checked.peers[0].role, Role::ControlPlane);
    let shown = format!("{checked:?}");
    assert!(
        !shown.contains("0123456789abcdef") && shown.contains("abcdef.…"),
        "{shown}"
    );
}

#[test]
fn tickets_that_can_not_work_are_named() {
    type Spoil = fn(&mut Ticket);
    let table: &[(&str, Spoil)] = &[
        ("the ticket's keys are malformed", |ticket| {
            ticket.state_disk_key.truncate(31)
        }),
        ("the ticket's keys are malformed", |ticket| {
            ticket.measurement_secret.push(0)
        }),
        ("the ticket's keys are malformed", |ticket| {
            ticket.measurement_salt.clear()
        }),
        (
            "the ticket's bootstrap token has the wrong length",
            |ticket| ticket.token = "abcdef.0123\n".to_owned(),
        ),
        (
            "the ticket's cluster name is malformed: \"a b\"",
            |ticket| ticket.cluster_name = "a b".to_owned(),
        ),
        (
            "the ticket's kubernetes version is malformed: \"../v1\"",
            |ticket| ticket.kubernetes_version = "../v1".to_owned(),
        ),
        (
            "the ticket's kubernetes version can not be used",
            |ticket| ticket.kubernetes_version = "v1.19.0".to_owned(),
        ),
        ("the ticket's ca certificate is malformed: \"\"", |ticket| {
            ticket.ca_certificate.clear()
        }),
        (
            "the ticket's mesh address 10.42.1.1 is not inside 10.45.0.0/16",
            |ticket| ticket.mesh_ip = "10.42.1.1".to_owned(),
        ),
        (
            "the ticket's pod network 10.1.0.0/24 does not belong to the mesh address 10.45.0.2",
            |ticket| {
                ticket.pod_cidr = "10.1.0.0/24".to_owned();
            },
        ),
        (
            "the ticket's pod network 10.244.2.0/16 does not belong to the mesh address 10.45.0.2",
            |ticket| {
                ticket.pod_cidr = "10.244.2.0/16".to_owned();
            },
        ),
        ("the ticket's networks can not be used", |ticket| {
            ticket.service_cidr = "10.244.0.0/16".to_owned()
        }),
        ("the ticket's networks can not be used", |ticket| {
            ticket.mesh_ip = "10.45.255.255".to_owned()
        }),
        ("the ticket's components can not be used", |ticket| {
            ticket.components.clear()
        }),
        (
            "the ticket's component mirror is malformed: \"mirror\"",
            |ticket| ticket.component_mirror = "mirror".to_owned(),
        ),
        (
            "the ticket's peer endpoint 10.42.1.10:22 has another port than 51820",
            |ticket| {
                ticket.peers[0].endpoint = "10.42.1.10:22".to_owned();
            },
        ),
        (
            "the ticket's peer's public key has the wrong length",
            |ticket| ticket.peers[0].public_key.truncate(31),
        ),
        (
            "the ticket's peer's mesh address 10.46.0.1 is not inside 10.45.0.0/16",
            |ticket| {
                ticket.peers.push(peer(2, "10.46.0.1", "10.244.3.0/24"));
            },
        ),
        (
            "the ticket's pod network 0.0.0.0/0 does not belong to the mesh address 10.45.0.3",
            |ticket| {
                ticket.peers.push(peer(2, "10.45.0.3", "0.0.0.0/0"));
            },
        ),
        (
            "the ticket names two nodes with the same mesh address",
            |ticket| {
                ticket.peers.push(peer(2, "10.45.0.1", "10.244.1.0/24"));
            },
        ),
        (
            "the ticket names two nodes with the same mesh address",
            |ticket| {
                ticket.peers.push(peer(2, "10.45.0.2", "10.244.2.0/24"));
            },
        ),
        (
            "the ticket names two nodes with the same public key",
            |ticket| {
                ticket.peers.push(peer(1, "10.45.0.3", "10.244.3.0/24"));
            },
        ),
        ("none of the ticket's peers is a control plane", |ticket| {
            ticket.peers[0].is_control_plane = false;
        }),
        (
            "the ticket carries 2 control plane files, but this node asked to join as a worker",
            |ticket| {
                ticket.control_plane_files = for_a_control_plane().control_plane_files;
            },
        ),
    ];
    for (expected, spoil) in table {
        let mut ticket = ticket();
        spoil(&mut ticket);
        assert_eq!(
            ticket.check(Role::Worker).unwrap_err().to_string(),
            *expected
        );
    }
}

#[test]
fn a_join_that_comes_late_gets_no_lock() {
    let lock = BootLock::new();
    let waiting = |ticket: Ticket| AwaitingLock::new(ticket.check(Role::Worker).unwrap());
    waiting(ticket()).take(&lock).unwrap();
    assert_eq!(waiting(ticket()).take(&lock).unwrap_err(), Taken);
}

fn for_a_control_plane() -> Ticket {
    let file = |name: &str, text: &str| ControlPlaneFile {
        name: name.to_owned(),
        text: Zeroizing::new(text.to_owned()),
    };
    let ticket = ticket();
    let authority = String::from_utf8(ticket.ca_certificate.clone()).unwrap();
    Ticket {
        control_plane_files: vec![file("pki/ca.crt", &authority), file("pki/ca.key", "secret")],
        api_sans: vec!["127.42.0.1".to_owned()],
        ..ticket
    }
}

#[test]
fn a_control_planes_ticket_has_its_files_and_shows_none() {
    let checked = for_a_control_plane().check(Role::ControlPlane).unwrap();
    assert_eq!(checked.role, Role::ControlPlane);
    assert_eq!(checked.control_plane_files.len(), 2);
    assert!(checked.components.len() > 2, "a control plane's programs");
    assert!(!format!("{checked:?}").contains("secret"));
}

#[test]
fn control_planes_tickets_that_can_not_work_are_named() {
    type Spoil = fn(&mut Ticket);
    let table: &[(&str, Spoil)] = &[
        (
            "the ticket carries no control plane files, but this node asked to join as a control plane",
            |ticket| ticket.control_plane_files.clear(),
        ),
        (
            "the ticket's ca certificate is not that of its control plane files",
            |ticket| ticket.control_plane_files[0].text.push(' '),
        ),
        (
            "the ticket's ca certificate is not that of its control plane files",
            |ticket| drop(ticket.control_plane_files.remove(0)),
        ),
        (
            "the ticket's control plane files has the wrong length",
            |ticket| {
                ticket.control_plane_files[1]
                    .text
                    .push_str(&"x".repeat(MAX_FILE))
            },
        ),
        (
            "the ticket's names of the API has the wrong length",
            |ticket| ticket.api_sans.push("x".repeat(MAX_SAN + 1)),
        ),
        (
            "the ticket's names of the API has the wrong length",
            |ticket| ticket.api_sans = vec![String::new(); MAX_SANS + 1],
        ),
    ];
    for (expected, spoil) in table {
        let mut ticket = for_a_control_plane();
        spoil(&mut ticket);
        let error = ticket.check(Role::ControlPlane).unwrap_err();
        assert_eq!(error.to_string(), *expected);
    }
}
