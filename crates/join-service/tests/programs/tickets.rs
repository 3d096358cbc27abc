//! Machines that may join, and what they get; nodes that come back.

use cluster::{Role, join::Ticket, network::AddressPlan};
use k8s::{control_plane::Shared, files::SecretText};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, ResourceExt as _, api::ListParams};
use proto::join::{IssueJoinTicketRequest, IssueRejoinTicketRequest, api_client::ApiClient};
use testkit::{
    boot::Image,
    harness::{self, CONTROL_PLANE},
};
use tonic::Code;

use crate::service::{
    MEASUREMENT_SALT, Machine, Service, VECTOR_DISK, VECTOR_KEY, cluster_id, request, root,
};

#[tokio::test]
async fn a_measured_machine_gets_a_ticket_that_works() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let asked = IssueJoinTicketRequest {
        disk_uuid: VECTOR_DISK.to_owned(),
        ..request(10)
    };
    let ticket = service.join(&machine, asked).await.unwrap();

    // The disk's key is the original's vector; the rest is what a worker needs.
    assert_eq!(hex::encode(&ticket.state_disk_key), VECTOR_KEY);
    assert_eq!(ticket.measurement_salt, MEASUREMENT_SALT);
    assert!(ticket.wireguard_peers[0].is_control_plane);
    assert_eq!(
        (ticket.mesh_ip.as_str(), ticket.pod_cidr.as_str()),
        ("10.45.0.2", "10.244.2.0/24")
    );
    assert_eq!(ticket.kubernetes_version, "v1.20.2");
    assert!(
        ticket
            .kubernetes_components
            .iter()
            .any(|component| component.name == "kubelet")
    );
    assert_eq!(ticket.component_mirror, "http://10.0.2.2:8080/components");
    assert_eq!(
        ticket.ca_certificate,
        std::fs::read(service.cluster.pki().join("ca.crt")).unwrap()
    );
    assert!(ticket.discovery_token_ca_cert_hash.starts_with("sha256:"));
    assert!(ticket.control_plane_files.is_empty());
    let (secret, salt) = root();
    let ssh_ca = keys::SshCaSeed::derive(&secret, &salt).public_key_openssh();
    assert_eq!(ticket.authorized_ca_public_key, ssh_ca.into_bytes());
    let peers: Vec<_> = ticket
        .wireguard_peers
        .iter()
        .map(|peer| (peer.node_name.as_str(), peer.endpoint.as_str()))
        .collect();
    assert_eq!(peers, [(CONTROL_PLANE, "10.42.1.10:51820")]);

    // The node's own check of a ticket accepts it.
    let checked = Ticket::try_from(ticket.clone())
        .unwrap()
        .check(Role::Worker)
        .unwrap();
    assert_eq!(checked.cluster_id.as_bytes(), cluster_id().as_bytes());

    // The record was written, with the machine's own attestation key, and names the token.
    let workers = service.workers().await;
    assert_eq!(workers.len(), 1);
    let identity = workers[0].to_identity().unwrap();
    assert_eq!(identity.disk_uuid.to_string(), VECTOR_DISK);
    assert_eq!(
        identity.mesh_ip,
        AddressPlan::default().node(2).unwrap().mesh_ip
    );
    let token_id = ticket.token.split_once('.').unwrap().0;
    assert_eq!(
        workers[0].annotations()["constellation.edgeless.systems/bootstrap-token-id"],
        token_id
    );

    // Who got what is an audit event; no key is in the log or in the audit stream.
    let events = service.audit();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["event"], &events[0]["verdict"]),
        (&"join-ticket".into(), &"granted".into())
    );
    assert_eq!(events[0]["machine"], identity.attestation_key_id);
    let secrets = [
        VECTOR_KEY.to_owned(),
        ticket.token.clone(),
        hex::encode(&ticket.measurement_secret),
    ];
    let shown = format!("{}{events:?}", service.log());
    assert!(
        secrets.iter().all(|secret| !shown.contains(secret)),
        "{shown}"
    );

    let metrics = harness::get(service.operations, "/metrics").await.unwrap();
    assert!(
        metrics.contains(
            r#"constellation_join_requests_total{request="join-ticket",verdict="granted"} 1"#
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains("constellation_join_handshakes_in_flight 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_machine_that_lost_its_ticket_gets_its_place_again_and_no_second_one() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let first = service.join(&machine, request(10)).await.unwrap();
    let again = service.join(&machine, request(10)).await.unwrap();
    assert_eq!(first.mesh_ip, again.mesh_ip);
    assert_eq!(first.state_disk_key, again.state_disk_key);
    assert_ne!(first.token, again.token, "a token is for one ticket");
    let workers = service.workers().await;
    assert_eq!(workers.len(), 1);
    let bound = &workers[0].annotations()["constellation.edgeless.systems/bootstrap-token-id"];
    assert!(
        again.token.starts_with(bound.as_str()),
        "the record names the last token only"
    );

    // Under another name it would be a second node.
    let other = IssueJoinTicketRequest {
        node_name: "worker-11".to_owned(),
        ..request(10)
    };
    assert_eq!(
        service.join(&machine, other).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(service.workers().await.len(), 1);
}

#[tokio::test]
async fn what_another_node_has_is_refused_and_shows_as_an_event() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let (first, second) = (Machine::boot(&image), Machine::boot(&image));
    service.join(&first, request(10)).await.unwrap();
    let theirs = request(10);
    for stolen in [
        IssueJoinTicketRequest {
            node_name: theirs.node_name.clone(),
            ..request(11)
        },
        IssueJoinTicketRequest {
            disk_uuid: theirs.disk_uuid.clone(),
            ..request(11)
        },
        IssueJoinTicketRequest {
            node_ip: theirs.node_ip.clone(),
            ..request(11)
        },
        IssueJoinTicketRequest {
            wireguard_public_key: theirs.wireguard_public_key.clone(),
            ..request(11)
        },
        IssueJoinTicketRequest {
            node_name: CONTROL_PLANE.to_owned(),
            ..request(11)
        },
        IssueJoinTicketRequest {
            node_ip: "10.45.0.9".to_owned(),
            ..request(11)
        },
    ] {
        let status = service.join(&second, stolen).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(
            !status.message().contains("worker-10"),
            "the peer learns about another node: {status}"
        );
    }
    assert_eq!(service.workers().await.len(), 1);
    assert!(
        service
            .log()
            .contains("its state disk is recorded for the node worker-10")
    );

    let events = Api::<Event>::namespaced(service.cluster.agent().await.unwrap(), "kube-system");
    let event = service
        .eventually("the refusals are an event", || async {
            let event = events.get_opt("join-service.join-denied").await.unwrap()?;
            (event.count >= Some(1)).then_some(event)
        })
        .await;
    assert_eq!(event.reason.as_deref(), Some("JoinDenied"));
    assert!(
        events
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len()
            <= 2,
        "a flood of events"
    );
}

#[tokio::test]
async fn two_machines_that_ask_at_once_get_two_places() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machines: Vec<Machine> = (0..3).map(|_| Machine::boot(&image)).collect();
    let asked = machines
        .iter()
        .zip(10..)
        .map(|(machine, number)| service.join(machine, request(number)));
    let mut places: Vec<String> = futures::future::join_all(asked)
        .await
        .into_iter()
        .map(|ticket| ticket.unwrap().mesh_ip)
        .collect();
    places.sort();
    assert_eq!(places, ["10.45.0.2", "10.45.0.3", "10.45.0.4"]);
}

#[tokio::test]
async fn a_rebooted_node_gets_its_own_disk_and_no_other() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let (first, second) = (Machine::boot(&image), Machine::boot(&image));
    let ticket = service.join(&first, request(10)).await.unwrap();
    service.join(&second, request(11)).await.unwrap();

    let rejoin = async |machine: &Machine, disk: String| {
        let channel = service.connect(machine).await.unwrap();
        ApiClient::new(channel)
            .issue_rejoin_ticket(IssueRejoinTicketRequest { disk_uuid: disk })
            .await
    };
    let keys = rejoin(&first, request(10).disk_uuid)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(keys.state_disk_key, ticket.state_disk_key);
    assert_eq!(keys.measurement_secret, ticket.measurement_secret);
    assert_eq!(keys.measurement_salt, MEASUREMENT_SALT);
    for disk in [
        request(11).disk_uuid,
        request(12).disk_uuid,
        "00000000-0000-4000-8000-000000000001".to_owned(),
    ] {
        assert_eq!(
            rejoin(&first, disk).await.unwrap_err().code(),
            Code::PermissionDenied
        );
    }
    assert_eq!(
        rejoin(&first, "no disk".to_owned())
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
}

/// A control plane gets what those that are there share, and nothing of it is in a log. A worker of the same cluster gets none of it.
#[tokio::test]
async fn a_control_plane_gets_what_control_planes_share() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let asked = IssueJoinTicketRequest {
        node_name: "control-plane-1".to_owned(),
        node_ip: "10.42.1.11".to_owned(),
        is_control_plane: true,
        ..request(11)
    };
    let ticket = service.join(&machine, asked).await.unwrap();
    assert_eq!(ticket.apiserver_cert_sans, ["api.test"]);
    let checked = Ticket::try_from(ticket.clone())
        .unwrap()
        .check(Role::ControlPlane)
        .unwrap();
    let files = checked.control_plane_files.iter();
    let texts = files.map(|file| (file.name.clone(), SecretText::new(file.text.to_string())));
    let shared = Shared::from_files(texts).unwrap();
    let own = Shared::load(service.cluster.pki().parent().unwrap()).unwrap();
    let text = |shared: &Shared| -> Vec<(String, String)> {
        let files = shared.to_files().into_iter();
        files
            .map(|(name, text)| (name, text.expose().to_owned()))
            .collect()
    };
    assert_eq!(text(&shared), text(&own));
    let shown = format!("{}{:?}", service.log(), service.audit());
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");

    let worker = Machine::boot(&image);
    let ticket = service.join(&worker, request(12)).await.unwrap();
    assert!(ticket.control_plane_files.is_empty());
    let record = service.workers().await;
    let roles: Vec<_> = record
        .iter()
        .map(|record| record.to_identity().unwrap().role)
        .collect();
    assert_eq!(roles, [Role::ControlPlane, Role::Worker]);
}

/// What control planes share can not be read: no ticket, and the log names the file.
#[tokio::test]
async fn a_control_plane_without_the_shared_files_gets_no_ticket() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let key = service.cluster.pki().join("front-proxy-ca.key");
    std::fs::rename(&key, key.with_extension("gone")).unwrap();
    let asked = IssueJoinTicketRequest {
        is_control_plane: true,
        ..request(11)
    };
    let refused = service
        .join(&Machine::boot(&image), asked)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        service.log().contains("front-proxy-ca.key"),
        "{}",
        service.log()
    );
}
