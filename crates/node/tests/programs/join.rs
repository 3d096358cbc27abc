//! Whom a joining node believes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use attest::ClusterMark;
use channel::Verifier;
use cluster::boot_lock::BootLock;
use cluster::identity::WireGuardPublicKey;
use cluster::metadata::{Endpoint, MetadataError};
use cluster::{InstanceMetadata, Metadata, NodeName, Role};
use node::bootstrapper::join_client::JoinClient;
use node::join_services::JoinServices;
use proto::components::Component;
use proto::join::{
    IssueJoinTicketRequest, IssueJoinTicketResponse, IssueRejoinTicketRequest,
    IssueRejoinTicketResponse, WireguardPeer,
    api_server::{Api, ApiServer},
};
use testkit::boot::Image;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use super::machine::{Machine, cluster_id};

const JOIN_SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A provider with one control plane, where the test's join service listens.
struct OneControlPlane;

fn instance(name: &str, role: Role, vpc_ip: IpAddr) -> InstanceMetadata {
    InstanceMetadata {
        name: NodeName::new(name).unwrap(),
        provider_id: format!("qemu:///hostname/{name}"),
        role,
        vpc_ip,
        secondary_ip_range: None,
    }
}

#[async_trait::async_trait]
impl Metadata for OneControlPlane {
    async fn this_instance(&self) -> Result<InstanceMetadata, MetadataError> {
        Ok(instance(
            "worker-0",
            Role::Worker,
            IpAddr::from([10, 42, 2, 10]),
        ))
    }

    async fn list(&self) -> Result<Vec<InstanceMetadata>, MetadataError> {
        Ok(vec![instance(
            "control-plane-0",
            Role::ControlPlane,
            JOIN_SERVICE,
        )])
    }

    async fn init_secret_hash(&self) -> Result<String, MetadataError> {
        Err(MetadataError::Refused {
            what: "the hash",
            reason: "not asked for here".to_owned(),
        })
    }

    async fn endpoint(&self) -> Result<Endpoint, MetadataError> {
        Err(MetadataError::Refused {
            what: "the endpoint",
            reason: "not asked for here".to_owned(),
        })
    }
}

/// Gives everyone the same ticket: who gets that far is the channel's matter, and what is in it the node's.
struct Tickets(IssueJoinTicketResponse);

#[tonic::async_trait]
impl Api for Tickets {
    async fn issue_join_ticket(
        &self,
        request: Request<IssueJoinTicketRequest>,
    ) -> Result<Response<IssueJoinTicketResponse>, Status> {
        let request = request.into_inner();
        assert!(!request.is_control_plane);
        assert_eq!(
            (request.node_name.as_str(), request.node_ip.as_str()),
            ("worker-0", "10.42.2.10")
        );
        Ok(Response::new(self.0.clone()))
    }

    async fn issue_rejoin_ticket(
        &self,
        _request: Request<IssueRejoinTicketRequest>,
    ) -> Result<Response<IssueRejoinTicketResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

fn ticket() -> IssueJoinTicketResponse {
    let component = |name: &str| Component {
        name: name.to_owned(),
        url: format!("https://dl.k8s.io/v1.20.2/bin/linux/amd64/{name}"),
        hash: format!("sha256:{}", "00".repeat(32)),
        install_path: format!("/run/state/bin/{name}"),
        mode: 0o755,
        ..Component::default()
    };
    IssueJoinTicketResponse {
        state_disk_key: vec![1; 32],
        measurement_salt: vec![9; 32],
        measurement_secret: vec![9; 32],
        token: "abcdef.0123456789abcdef".to_owned(),
        kubernetes_version: "v1.20.2".to_owned(),
        kubernetes_components: cluster::catalogue::programs(Role::ControlPlane)
            .map(component)
            .collect(),
        ca_certificate: b"-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n".to_vec(),
        cluster_name: "mini".to_owned(),
        mesh_ip: "10.45.0.2".to_owned(),
        pod_cidr: "10.244.2.0/24".to_owned(),
        wireguard_peers: vec![WireguardPeer {
            public_key: vec![3; 32],
            endpoint: "10.42.1.10:51820".to_owned(),
            mesh_ip: "10.45.0.1".to_owned(),
            pod_cidr: "10.244.1.0/24".to_owned(),
            node_name: "control-plane-0".to_owned(),
            is_control_plane: true,
        }],
        service_cidr: "10.96.0.0/12".to_owned(),
        cluster_pod_cidr: "10.244.0.0/16".to_owned(),
        ..IssueJoinTicketResponse::default()
    }
}

/// A join service on a machine; returns its port.
async fn join_service(machine: &Machine, ticket: IssueJoinTicketResponse) -> u16 {
    let listener = TcpListener::bind((JOIN_SERVICE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let admits = Verifier::new(Arc::new(Image::default().policy()), ClusterMark::NotJoined);
    let channel = channel::Server::join_service(machine.measured.issuer(), admits).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ApiServer::new(Tickets(ticket)))
            .serve_with_incoming(channel::tonic::incoming(listener, channel)),
    );
    port
}

fn client(machine: &Machine, port: u16, lock: &Arc<BootLock>) -> JoinClient {
    let own = IpAddr::from([10, 42, 2, 10]);
    JoinClient {
        services: JoinServices {
            machine: machine.measured.clone(),
            metadata: Arc::new(OneControlPlane),
            own,
            port,
            console: machine.console(),
        },
        instance: instance("worker-0", Role::Worker, own),
        node_ip: Ipv4Addr::new(10, 42, 2, 10),
        disk_uuid: "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54".parse().unwrap(),
        mesh_key: WireGuardPublicKey::new([4; 32]),
        lock: Arc::clone(lock),
    }
}

async fn marked(image: Image) -> Machine {
    let machine = Machine::boot(image);
    machine.measured.extend_mark(&cluster_id(9)).await.unwrap();
    machine
}

/// Runs a client that must get nothing, until its console says these words.
async fn refused(joiner: &Machine, port: u16, words: &str) {
    let lock = Arc::new(BootLock::new());
    let said = async {
        while !joiner.heard.text().contains(words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = client(joiner, port, &lock).run() => panic!("got a ticket"),
        said = tokio::time::timeout(Duration::from_secs(60), said) => {
            assert!(said.is_ok(), "never said {words:?} but {:?}", joiner.heard.text());
        }
    }
    assert!(!lock.is_taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_the_ticket_of_a_machine_that_runs_what_it_runs() {
    let (control_plane, joiner) = (
        marked(Image::default()).await,
        Machine::boot(Image::default()),
    );
    let port = join_service(&control_plane, ticket()).await;
    let lock = Arc::new(BootLock::new());
    let (_awaiting_mark, ticket, shared) = client(&joiner, port, &lock).run().await.unwrap();
    assert!(lock.is_taken());
    assert_eq!(ticket.cluster_id, cluster_id(9));
    assert!(shared.is_none(), "a worker has nothing of a control plane");
    assert_eq!(
        joiner.pcr15().await,
        [0; 32],
        "the mark comes after the ticket"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_service_on_another_image_gets_a_tree_and_gives_nothing() {
    let changed = Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    };
    let (control_plane, joiner) = (marked(changed).await, Machine::boot(Image::default()));
    let port = join_service(&control_plane, ticket()).await;
    refused(&joiner, port, "is not what this machine runs").await;
    assert!(
        joiner.heard.text().contains("initrd"),
        "{}",
        joiner.heard.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_service_that_belongs_to_no_cluster_gives_nothing() {
    let (control_plane, joiner) = (
        Machine::boot(Image::default()),
        Machine::boot(Image::default()),
    );
    let port = join_service(&control_plane, ticket()).await;
    refused(&joiner, port, "is not what this machine runs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_joined_gets_nothing() {
    let control_plane = marked(Image::default()).await;
    let port = join_service(&control_plane, ticket()).await;
    let joined = marked(Image::default()).await;
    refused(&joined, port, "waiting for the join service").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_can_not_work_changes_nothing() {
    let (control_plane, joiner) = (
        marked(Image::default()).await,
        Machine::boot(Image::default()),
    );
    let spoiled = IssueJoinTicketResponse {
        state_disk_key: vec![1; 16],
        ..ticket()
    };
    let port = join_service(&control_plane, spoiled).await;
    refused(
        &joiner,
        port,
        "the ticket can not be used: the ticket's keys are malformed",
    )
    .await;
    assert_eq!(joiner.pcr15().await, [0; 32]);
}

/// A service that hands out the ticket of a cluster that it is no member of.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_for_another_cluster_changes_nothing() {
    let (control_plane, joiner) = (
        marked(Image::default()).await,
        Machine::boot(Image::default()),
    );
    let other = IssueJoinTicketResponse {
        measurement_secret: vec![8; 32],
        ..ticket()
    };
    let port = join_service(&control_plane, other).await;
    refused(&joiner, port, "the ticket is for another cluster").await;
    assert_eq!(joiner.pcr15().await, [0; 32]);
}
