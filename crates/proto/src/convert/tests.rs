use std::error::Error as _;

use attest::Variant;
use cluster::catalogue::{MAX_COMPONENTS, Sha256};

use super::*;

fn component() -> Component {
    Component {
        name: "kubelet".to_owned(),
        url: "https://dl.k8s.io/v1.20.2/bin/linux/amd64/kubelet".to_owned(),
        hash: Sha256::of(b"kubelet"),
        install_path: "/run/state/bin/kubelet".to_owned(),
        mode: 0o755,
        extract: false,
        import: false,
    }
}

fn request() -> JoinRequest {
    JoinRequest {
        name: NodeName::new("worker-0").unwrap(),
        role: Role::Worker,
        disk_uuid: "0a1b2c3d-0000-4000-8000-00000000000f".parse().unwrap(),
        node_ip: Ipv4Addr::new(10, 42, 2, 10),
        wireguard_public_key: WireGuardPublicKey::try_from(&[7; 32][..]).unwrap(),
    }
}

#[test]
fn a_component_round_trips_field_by_field() {
    let archive = Component {
        name: "images.tar".to_owned(),
        mode: 0o644,
        import: true,
        install_path: "/run/state/images/images.tar".to_owned(),
        ..component()
    };
    for component in [
        component(),
        archive,
        Component {
            extract: true,
            ..component()
        },
    ] {
        let wire = components::Component::from(&component);
        assert_eq!(Component::try_from(wire).unwrap(), component);
    }
    let list = components::Component::list(&[component()]);
    assert_eq!(
        components::Component::parse_list(list).unwrap(),
        Components::new(vec![component()]).unwrap()
    );
}

#[test]
fn a_list_of_components_is_checked() {
    let wire = components::Component::from(&component());
    type Edit = fn(&mut components::Component);
    let edits: [Edit; 6] = [
        |wire| wire.hash = wire.hash.replace("sha256:", "md5:"),
        |wire| wire.hash.truncate(20),
        |wire| wire.install_path = "/etc/passwd".to_owned(),
        |wire| wire.install_path = "/run/state/bin/../../../etc/passwd".to_owned(),
        |wire| wire.mode = 0o4755,
        |wire| wire.name = "a/b".to_owned(),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut wire = wire.clone();
        edit(&mut wire);
        let error = components::Component::parse_list(vec![wire]).unwrap_err();
        assert!(
            matches!(error, FieldError::Components(_)),
            "{number}: {error:?}"
        );
        assert!(error.source().is_some());
    }
    let many = vec![wire; MAX_COMPONENTS + 1];
    assert!(matches!(
        components::Component::parse_list(many),
        Err(FieldError::Components(_))
    ));
}

#[test]
fn a_join_request_round_trips() {
    for role in [Role::Worker, Role::ControlPlane] {
        let request = JoinRequest { role, ..request() };
        let wire = IssueJoinTicketRequest::from(&request);
        assert_eq!(JoinRequest::try_from(&wire).unwrap(), request);
    }
}

#[test]
fn a_join_request_is_checked_field_by_field() {
    type Edit = fn(&mut IssueJoinTicketRequest);
    let edits: [(&str, Edit); 9] = [
        ("node_name", |wire| wire.node_name.clear()),
        ("node_name", |wire| wire.node_name = "../etc".to_owned()),
        ("node_name", |wire| wire.node_name = "a".repeat(1000)),
        ("disk_uuid", |wire| wire.disk_uuid.clear()),
        ("disk_uuid", |wire| wire.disk_uuid.make_ascii_uppercase()),
        ("node_ip", |wire| wire.node_ip = "fe80::1".to_owned()),
        ("node_ip", |wire| wire.node_ip = "10.42.2".to_owned()),
        ("wireguard_public_key", |wire| {
            wire.wireguard_public_key.truncate(31)
        }),
        ("wireguard_public_key", |wire| {
            wire.wireguard_public_key.push(0)
        }),
    ];
    for (field, edit) in edits {
        let mut wire = IssueJoinTicketRequest::from(&request());
        edit(&mut wire);
        let error = JoinRequest::try_from(&wire).unwrap_err();
        assert!(error.to_string().starts_with(field), "{field}: {error}");
    }
    let rejoin = IssueRejoinTicketRequest {
        disk_uuid: "not a uuid".to_owned(),
    };
    assert!(matches!(rejoin.parse_disk(), Err(FieldError::DiskUuid(_))));
    let rejoin = IssueRejoinTicketRequest {
        disk_uuid: request().disk_uuid.to_string(),
    };
    assert_eq!(rejoin.parse_disk().unwrap(), request().disk_uuid);
}

#[test]
fn what_a_waiting_machine_says_round_trips_and_is_checked() {
    for node_name in [None, Some(NodeName::new("control-plane-0").unwrap())] {
        let waiting = recovery::Waiting {
            disk_uuid: request().disk_uuid,
            node_name,
        };
        let wire = DescribeResponse::from(&waiting);
        assert_eq!(recovery::Waiting::try_from(wire).unwrap(), waiting);
    }
    let wire = |disk_uuid: &str, node_name: &str| DescribeResponse {
        disk_uuid: disk_uuid.to_owned(),
        node_name: node_name.to_owned(),
    };
    let disk = request().disk_uuid.to_string();
    assert!(matches!(
        recovery::Waiting::try_from(wire("x", "")),
        Err(FieldError::DiskUuid(_))
    ));
    assert!(matches!(
        recovery::Waiting::try_from(wire(&disk, "\u{1b}[2J")),
        Err(FieldError::NodeName(_))
    ));
}

#[test]
fn a_ticket_keeps_every_field() {
    let peer = WireguardPeer {
        public_key: vec![1; 32],
        endpoint: "10.42.1.10:51820".to_owned(),
        mesh_ip: "10.45.0.1".to_owned(),
        pod_cidr: "10.244.1.0/24".to_owned(),
        node_name: "control-plane-0".to_owned(),
        is_control_plane: true,
    };
    let wire = IssueJoinTicketResponse {
        state_disk_key: vec![1; 32],
        measurement_salt: vec![2; 32],
        measurement_secret: vec![3; 32],
        token: "abcdef.0123456789abcdef".to_owned(),
        cluster_name: "mini".to_owned(),
        kubernetes_version: "v1.20.2".to_owned(),
        kubernetes_components: vec![components::Component::from(&component())],
        component_mirror: "http://10.0.2.2:8080/components".to_owned(),
        ca_certificate: b"pem".to_vec(),
        mesh_ip: "10.45.0.2".to_owned(),
        pod_cidr: "10.244.2.0/24".to_owned(),
        service_cidr: "10.96.0.0/12".to_owned(),
        cluster_pod_cidr: "10.244.0.0/16".to_owned(),
        wireguard_peers: vec![peer],
        control_plane_files: vec![join::ControlPlaneFile {
            name: "pki/ca.crt".to_owned(),
            data: b"pem".to_vec(),
        }],
        apiserver_cert_sans: vec!["127.42.0.1".to_owned()],
        ..Default::default()
    };
    let ticket = Ticket::try_from(wire.clone()).unwrap();
    assert_eq!(ticket.state_disk_key, [1; 32]);
    assert_eq!(ticket.measurement_salt, [2; 32]);
    assert_eq!(ticket.measurement_secret, [3; 32]);
    assert_eq!(ticket.token, wire.token);
    assert_eq!(ticket.cluster_name, wire.cluster_name);
    assert_eq!(ticket.kubernetes_version, wire.kubernetes_version);
    assert_eq!(ticket.components, [component()]);
    assert_eq!(ticket.component_mirror, wire.component_mirror);
    assert_eq!(ticket.ca_certificate, wire.ca_certificate);
    assert_eq!(
        [&ticket.mesh_ip, &ticket.pod_cidr],
        ["10.45.0.2", "10.244.2.0/24"]
    );
    assert_eq!(
        [&ticket.service_cidr, &ticket.cluster_pod_cidr],
        ["10.96.0.0/12", "10.244.0.0/16"]
    );
    let [file] = ticket.control_plane_files.as_slice() else {
        panic!("one file")
    };
    assert_eq!(
        (file.name.as_str(), file.text.as_str()),
        ("pki/ca.crt", "pem")
    );
    assert_eq!(ticket.api_sans, wire.apiserver_cert_sans);
    let [peer] = ticket.peers.as_slice() else {
        panic!("one peer")
    };
    assert_eq!(peer.public_key, [1; 32]);
    assert_eq!(
        [&peer.endpoint, &peer.mesh_ip],
        ["10.42.1.10:51820", "10.45.0.1"]
    );
    assert_eq!(
        [&peer.pod_cidr, &peer.node_name],
        ["10.244.1.0/24", "control-plane-0"]
    );

    let crowd = vec![WireguardPeer::default(); MAX_PEERS + 1];
    let crowded = IssueJoinTicketResponse {
        wireguard_peers: crowd,
        ..wire
    };
    assert!(matches!(
        Ticket::try_from(crowded),
        Err(FieldError::TooManyPeers(_))
    ));
}

#[test]
fn a_statement_round_trips_and_is_checked() {
    let evidence = Evidence::new(Variant::QemuVtpm, b"{}".to_vec()).unwrap();
    let wire = GetAttestationResponse::from(&evidence);
    assert_eq!(Evidence::try_from(wire.clone()).unwrap(), evidence);
    let unknown = GetAttestationResponse {
        variant: "sev-snp".to_owned(),
        ..wire.clone()
    };
    assert!(matches!(
        Evidence::try_from(unknown),
        Err(FieldError::Variant(_))
    ));
    for length in [0, attest::MAX_EVIDENCE + 1] {
        let other = GetAttestationResponse {
            attestation: vec![0; length],
            ..wire.clone()
        };
        assert!(matches!(
            Evidence::try_from(other),
            Err(FieldError::Evidence(_))
        ));
    }
    for length in [0, 31, 33, 64] {
        let request = GetAttestationRequest {
            nonce: vec![1; length],
        };
        assert!(matches!(request.parse_nonce(), Err(FieldError::Nonce(found)) if found == length));
    }
    assert_eq!(
        GetAttestationRequest { nonce: vec![1; 32] }
            .parse_nonce()
            .unwrap(),
        [1; 32]
    );
}
