//! Whom a rebooted machine believes, and what it does with the key it gets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::ClusterMark;
use channel::Verifier;
use cluster::metadata::{Endpoint, MetadataError};
use cluster::{InstanceMetadata, Metadata, NodeName, Role};
use disk::{ProgramError, StateDiskError};
use keys::DiskKey;
use node::disk_mapper::unlock::{Unlock, UnlockError};
use node::join_services::JoinServices;
use proto::join::{
    IssueJoinTicketRequest, IssueJoinTicketResponse, IssueRejoinTicketRequest,
    IssueRejoinTicketResponse,
    api_server::{Api, ApiServer},
};
use testkit::boot::Image;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use super::machine::{Machine, cluster_id};

const DISK: &str = "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54";
const KEY: u8 = 1;
const TOKEN: &str = "abcdef.0123456789abcdef";
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 42, 2, 10));
/// Where nobody listens, and where the test's join services do.
const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A provider that names these control planes, and this machine among them.
struct Names(Vec<IpAddr>);

fn refused<T>() -> Result<T, MetadataError> {
    Err(MetadataError::Refused {
        what: "this",
        reason: "not asked for here".to_owned(),
    })
}

#[async_trait::async_trait]
impl Metadata for Names {
    async fn this_instance(&self) -> Result<InstanceMetadata, MetadataError> {
        refused()
    }

    async fn list(&self) -> Result<Vec<InstanceMetadata>, MetadataError> {
        let instance = |(index, vpc_ip): (usize, &IpAddr)| InstanceMetadata {
            name: NodeName::new(format!("control-plane-{index}")).unwrap(),
            provider_id: String::new(),
            role: Role::ControlPlane,
            vpc_ip: *vpc_ip,
            secondary_ip_range: None,
        };
        Ok(self.0.iter().enumerate().map(instance).collect())
    }

    async fn init_secret_hash(&self) -> Result<String, MetadataError> {
        refused()
    }

    async fn endpoint(&self) -> Result<Endpoint, MetadataError> {
        refused()
    }
}

/// Gives everyone who gets that far the same ticket, and counts them.
#[derive(Clone)]
struct Tickets {
    ticket: IssueRejoinTicketResponse,
    asked: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl Api for Tickets {
    async fn issue_join_ticket(
        &self,
        _request: Request<IssueJoinTicketRequest>,
    ) -> Result<Response<IssueJoinTicketResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn issue_rejoin_ticket(
        &self,
        request: Request<IssueRejoinTicketRequest>,
    ) -> Result<Response<IssueRejoinTicketResponse>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.into_inner().disk_uuid, DISK);
        Ok(Response::new(self.ticket.clone()))
    }
}

pub(super) fn ticket(cluster: u8, key: u8) -> IssueRejoinTicketResponse {
    IssueRejoinTicketResponse {
        state_disk_key: vec![key; 32],
        measurement_secret: vec![cluster; 32],
        measurement_salt: vec![cluster; 32],
        bootstrap_token: TOKEN.to_owned(),
    }
}

pub(super) struct JoinService {
    machine: Machine,
    asked: Arc<AtomicU32>,
}

impl JoinService {
    /// On a machine that booted `image` and bears the mark of a cluster, if any.
    pub(super) async fn start(
        image: Image,
        mark: Option<u8>,
        ip: [u8; 4],
        port: u16,
        ticket: IssueRejoinTicketResponse,
    ) -> (Self, u16) {
        let machine = Machine::boot(image);
        if let Some(cluster) = mark {
            let id = cluster_id(cluster);
            machine.measured.extend_mark(&id).await.unwrap();
        }
        let listener = TcpListener::bind((IpAddr::from(ip), port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let admits = Verifier::new(Arc::new(Image::default().policy()), ClusterMark::NotJoined);
        let channel = channel::Server::join_service(machine.measured.issuer(), admits).unwrap();
        let asked = Arc::default();
        let service = Tickets {
            ticket,
            asked: Arc::clone(&asked),
        };
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(ApiServer::new(service))
                .serve_with_incoming(channel::tonic::incoming(listener, channel)),
        );
        (Self { machine, asked }, port)
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// As a provider that names these control planes leads to them.
pub(super) fn join_services(
    machine: &Machine,
    port: u16,
    control_planes: Vec<IpAddr>,
) -> JoinServices {
    JoinServices {
        machine: machine.measured.clone(),
        metadata: Arc::new(Names(control_planes)),
        own: OWN,
        port,
        console: machine.console(),
    }
}

fn rejoin(machine: &Machine, port: u16, control_planes: Vec<IpAddr>) -> Unlock {
    let services = join_services(machine, port, control_planes);
    Unlock {
        machine: machine.measured.clone(),
        console: machine.console(),
        disk_uuid: DISK.parse().unwrap(),
        join_services: Box::pin(std::future::ready(services)),
        recovery: None,
    }
}

/// A disk that one key opens; remembers which were tried.
#[derive(Clone, Default)]
struct LockedDisk(Arc<Mutex<Vec<u8>>>);

impl LockedDisk {
    fn open(&self, key: &DiskKey) -> Result<(), StateDiskError> {
        let first = key.expose_bytes()[0];
        self.0.lock().unwrap().push(first);
        if first == KEY {
            return Ok(());
        }
        Err(StateDiskError::Program {
            what: "open the state disk",
            source: ProgramError::WrongKey,
        })
    }

    fn tried(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// Runs a machine that must get nothing, until its console says these words.
async fn gets_nothing(machine: &Machine, port: u16, words: &str) {
    let disk = LockedDisk::default();
    let said = async {
        while !machine.heard.text().contains(words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = rejoin(machine, port, vec![[127, 0, 0, 1].into()]).run(|key| disk.open(key)) => panic!("opened"),
        said = tokio::time::timeout(Duration::from_secs(60), said) => {
            assert!(said.is_ok(), "never said {words:?} but {:?}", machine.heard.text());
        }
    }
    assert!(disk.tried().is_empty(), "a key reached the disk");
    assert_eq!(machine.pcr15().await, [0; 32]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebooted_machine_opens_its_disk_and_bears_its_clusters_mark() {
    let ([one, two], image) = ([[127, 0, 0, 1], [127, 0, 0, 3]], Image::default);
    // one gives another disk's key, a second address is silent, the third is right
    let (wrong, port) = JoinService::start(image(), Some(9), one, 0, ticket(9, 7)).await;
    let (right, _) = JoinService::start(image(), Some(9), two, port, ticket(9, KEY)).await;
    let machine = Machine::boot(image());
    let disk = LockedDisk::default();
    let control_planes = vec![OWN, one.into(), SILENT, two.into()];
    let rejoined = rejoin(&machine, port, control_planes)
        .run(|key| disk.open(key))
        .await
        .unwrap();
    let ((), token) = rejoined.into_parts();
    assert_eq!(token.unwrap().expose_text(), TOKEN);
    assert_eq!(machine.pcr15().await, cluster_id(9).pcr15());
    assert_eq!(disk.tried().last(), Some(&KEY));
    assert_eq!(right.asked(), 1);
    // whichever was first, a key for another disk is said and leads on
    if wrong.asked() > 0 {
        let heard = machine.heard.text();
        assert!(
            heard.contains("does not open the state disk, which stays as it is"),
            "{heard}"
        );
    }
    assert_eq!(wrong.machine.pcr15().await, cluster_id(9).pcr15());

    // the program once more in the same boot: the mark is there, and it does not begin
    let again = rejoin(&machine, port, vec![two.into()]).run(|key| disk.open(key));
    assert!(matches!(again.await, Err(UnlockError::AlreadyMarked(_))));
    assert_eq!(right.asked(), 1);
    assert_eq!(machine.pcr15().await, cluster_id(9).pcr15());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejoin_service_on_another_image_is_not_even_asked() {
    let changed = Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    };
    let local = [127, 0, 0, 1];
    let (service, port) = JoinService::start(changed, Some(9), local, 0, ticket(9, KEY)).await;
    let machine = Machine::boot(Image::default());
    gets_nothing(&machine, port, "is not what this machine runs").await;
    assert_eq!(service.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejoin_service_without_a_mark_is_not_even_asked() {
    let local = [127, 0, 0, 1];
    let (service, port) =
        JoinService::start(Image::default(), None, local, 0, ticket(9, KEY)).await;
    let machine = Machine::boot(Image::default());
    gets_nothing(&machine, port, "is not what this machine runs").await;
    assert_eq!(service.asked(), 0);
}

/// A member of one cluster that hands out the ticket of another: its key does not even reach the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejoin_ticket_for_another_cluster_opens_nothing() {
    let local = [127, 0, 0, 1];
    let (_service, port) =
        JoinService::start(Image::default(), Some(9), local, 0, ticket(8, KEY)).await;
    let machine = Machine::boot(Image::default());
    gets_nothing(&machine, port, "the ticket is for another cluster").await;
}
