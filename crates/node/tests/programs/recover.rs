//! Recovery of a machine that waits: the real server over the attested channel, a real TPM (swtpm), a real LUKS2 header (`cryptsetup`,
//! which tries the key without the device mapper). Who calls is the code that the CLI calls with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use attest::{ClusterIdDigest, ClusterMark};
use channel::{Client, Verifier};
use cluster::recovery::{ClusterKeys, Waiting};
use cluster::rejoin::Rejoined;
use cluster::state::ClusterValues;
use cluster::{DiskUuid, NodeName};
use disk::{ProgramError, StateDiskError};
use keys::{ClusterId, DiskKey, MasterSecretFile, MeasurementSalt, MeasurementSecret};
use node::disk_mapper::recovery::RecoveryServer;
use node::disk_mapper::unlock::{Unlock, UnlockError};
use proto::recover::api_client::ApiClient;
use proto::recover::{DescribeRequest, RecoverRequest};
use testkit::boot::Image;
use testkit::luks::LuksDisk;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::machine::{Machine, cluster_id};
use super::rejoin::{JoinService, join_services, ticket};

/// A cluster as its administrator knows it.
struct Admin {
    master: MasterSecretFile,
    values: ClusterValues,
}

impl Admin {
    fn new() -> Self {
        let master = MasterSecretFile::generate().unwrap();
        let secret = MeasurementSecret::derive(&master.master_secret, &master.salt);
        let measurement_salt = MeasurementSalt::generate().unwrap();
        let values = ClusterValues {
            cluster_id: ClusterId::derive(&secret, &measurement_salt),
            owner_id: String::new(),
            measurement_salt,
        };
        Self { master, values }
    }

    fn keys(&self, disk: DiskUuid) -> RecoverRequest {
        let keys = ClusterKeys::new(&self.master, &self.values).unwrap();
        keys.for_disk(disk).into()
    }

    fn client(&self) -> Client {
        let cluster = ClusterIdDigest::of(self.values.cluster_id.as_bytes());
        Client::admin(Verifier::new(
            Arc::new(Image::default().policy()),
            ClusterMark::NotJoinedOrCluster(cluster),
        ))
    }

    async fn connect(&self, address: SocketAddr) -> Result<ApiClient<Channel>, channel::Error> {
        let connected = channel::tonic::connect(&self.client(), address).await;
        connected.map(|(channel, _)| ApiClient::new(channel))
    }

    /// As the CLI does: asks which disk waits, and gives its key.
    async fn recover(&self, address: SocketAddr) -> Result<(), Status> {
        let mut api = self
            .connect(address)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let described = api.describe(DescribeRequest {}).await?.into_inner();
        let waiting = Waiting::try_from(described).unwrap();
        api.recover(self.keys(waiting.disk_uuid)).await.map(drop)
    }
}

/// A node's disk.
#[derive(Clone)]
struct Disk {
    uuid: DiskUuid,
    luks: LuksDisk,
}

impl Disk {
    /// Of a node of this administrator's cluster.
    fn of(admin: &Admin) -> Self {
        Self::named(admin, "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54")
    }

    fn named(admin: &Admin, uuid: &str) -> Self {
        let uuid: DiskUuid = uuid.parse().unwrap();
        let MasterSecretFile {
            master_secret,
            salt,
        } = &admin.master;
        let key = DiskKey::derive(master_secret, salt, uuid.uuid());
        let luks = LuksDisk::format(&uuid.to_string(), key.expose_bytes()).unwrap();
        Self { uuid, luks }
    }

    fn open(&self, key: &DiskKey) -> Result<(), StateDiskError> {
        if self.luks.opens_with(key.expose_bytes()).unwrap() {
            return Ok(());
        }
        Err(StateDiskError::Program {
            what: "open the state disk",
            source: ProgramError::WrongKey,
        })
    }

    fn tried(&self) -> u32 {
        self.luks.tried()
    }
}

type Ended = Result<Rejoined<()>, UnlockError>;

/// Lets a machine wait for its disk's key; where nothing else is said, nobody but an administrator can give it.
async fn wait(
    machine: &Machine,
    disk: &Disk,
    join: Option<(u16, Vec<IpAddr>)>,
) -> (SocketAddr, JoinHandle<Ended>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let name = Arc::new(std::sync::OnceLock::new());
    name.set(NodeName::new("control-plane-0").unwrap()).unwrap();
    let recovery = RecoveryServer::serve(listener, machine.measured.issuer(), disk.uuid, name);
    let unlock = Unlock {
        machine: machine.measured.clone(),
        console: machine.console(),
        disk_uuid: disk.uuid,
        join_services: match join {
            Some((port, planes)) => {
                Box::pin(std::future::ready(join_services(machine, port, planes)))
            }
            // a provider that never answers
            None => Box::pin(std::future::pending()),
        },
        recovery: Some(recovery.unwrap()),
    };
    let disk = disk.clone();
    let waiting = tokio::spawn(async move { unlock.run(|key| disk.open(key)).await });
    (address, waiting)
}

async fn end(waiting: JoinHandle<Ended>) -> Ended {
    let ended = tokio::time::timeout(Duration::from_secs(120), waiting).await;
    ended.expect("the machine waits on").unwrap()
}

fn garbage(byte: u8) -> RecoverRequest {
    RecoverRequest {
        state_disk_key: vec![byte; 32],
        measurement_secret: vec![byte; 32],
        measurement_salt: vec![byte; 32],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_opens_the_disk_of_a_machine_that_nobody_else_can_help() {
    let (admin, stranger) = (Admin::new(), Admin::new());
    let machine = Machine::boot(Image::default());
    let disk = Disk::of(&admin);
    let (address, waiting) = wait(&machine, &disk, None).await;

    let mut api = admin.connect(address).await.unwrap();
    let described = api.describe(DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(described.disk_uuid, disk.uuid.to_string());
    assert_eq!(described.node_name, "control-plane-0");

    // another cluster's secrets, and keys that are none
    let wrong = stranger.recover(address).await.unwrap_err();
    assert_eq!(wrong.code(), Code::PermissionDenied, "{wrong}");
    assert!(wrong.message().contains("waits on"), "{wrong}");
    let short = RecoverRequest {
        state_disk_key: vec![1; 31],
        ..garbage(1)
    };
    let malformed = api.recover(short).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument, "{malformed}");
    assert_eq!(disk.tried(), 1);
    assert_eq!(
        machine.pcr15().await,
        [0; 32],
        "a wrong key marked the machine"
    );

    // the connection from before is as good as another; the answer says that the mark is there
    api.recover(admin.keys(disk.uuid)).await.unwrap();
    let marked = admin.values.cluster_id.pcr15();
    assert_eq!(machine.pcr15().await, marked);
    let ((), None) = end(waiting).await.unwrap().into_parts() else {
        panic!("a token from nowhere");
    };
    assert_eq!((disk.tried(), machine.pcr15().await), (2, marked));
    // the same again finds nobody
    let again = admin.recover(address).await.unwrap_err();
    assert_eq!(again.code(), Code::Unavailable, "{again}");
    let heard = machine.heard.text();
    assert!(
        heard.contains("does not open the state disk, which stays as it is"),
        "{heard}"
    );
    assert!(heard.contains("gave the key of the state disk"), "{heard}");
}

/// The host swapped the disks of two nodes. The key of the disk that the machine had before opens nothing, which its giver hears; a key goes
/// with its disk, in whatever genuine machine that is: recovery has no records of machines.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_disk_that_a_machine_had_before_opens_no_other() {
    let admin = Admin::new();
    let before = Disk::of(&admin);
    let swapped = Disk::named(&admin, "9d1f7c02-55aa-4c1b-8a39-6f6de00b7a11");
    let machine = Machine::boot(Image::default());
    let (address, waiting) = wait(&machine, &swapped, None).await;
    let mut api = admin.connect(address).await.unwrap();
    let refused = api.recover(admin.keys(before.uuid)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("waits on"), "{refused}");
    assert_eq!(swapped.tried(), 1);
    assert_eq!(machine.pcr15().await, [0; 32]);
    let described = api.describe(DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(described.disk_uuid, swapped.uuid.to_string());
    api.recover(admin.keys(swapped.uuid)).await.unwrap();
    let ((), _) = end(waiting).await.unwrap().into_parts();
    assert_eq!(machine.pcr15().await, admin.values.cluster_id.pcr15());
}

/// A join service that gives the right ticket, and an administrator who gives the right key, at the same time and over and over.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_join_service_and_an_administrator_the_first_opens_the_disk_once() {
    let admin = Admin::new();
    let disk = Disk::of(&admin);
    let given = admin.keys(disk.uuid);
    let local = [127, 0, 0, 1];
    let mut ticket = ticket(9, 1);
    ticket.state_disk_key.clone_from(&given.state_disk_key);
    let (_service, port) = JoinService::start(Image::default(), Some(9), local, 0, ticket).await;
    for round in 0..4 {
        let machine = Machine::boot(Image::default());
        let (address, waiting) = wait(&machine, &disk, Some((port, vec![local.into()]))).await;
        tokio::time::sleep(Duration::from_millis(round * 40)).await;
        let recovered = admin.recover(address).await;
        let ((), _) = end(waiting).await.unwrap().into_parts();
        let mark = machine.pcr15().await;
        // marked once, and by the one who gave the key
        match recovered {
            Ok(()) => assert_eq!(mark, admin.values.cluster_id.pcr15()),
            Err(_) => assert_eq!(mark, cluster_id(9).pcr15()),
        }
    }
    assert_eq!(disk.tried(), 4, "a key was tried on an open disk");
}

/// Keys that open nothing, over as many connections as strangers get, connections that are held, and sockets that say nothing: from the
/// administrator's own address and from another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strangers_do_not_keep_an_administrator_out() {
    let admin = Admin::new();
    let machine = Machine::boot(Image::default());
    let disk = Disk::of(&admin);
    let (address, waiting) = wait(&machine, &disk, None).await;
    let mut strangers = Vec::new();
    for source in [[127, 0, 0, 1], [127, 0, 0, 9]] {
        for number in 0..24 {
            let client = admin.client();
            strangers.push(tokio::spawn(async move {
                let (mut held, mut held_open) = (Vec::new(), Vec::new());
                loop {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind(SocketAddr::from((source, 0))).unwrap();
                    let Ok(stream) = socket.connect(address).await else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    match number % 3 {
                        // says nothing
                        0 => {
                            held.push(stream);
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        // holds a connection over which it asks nothing
                        1 => {
                            if let Ok(attested) = client.connect(stream).await {
                                held_open.push(attested);
                            }
                        }
                        _ => {
                            let Ok(attested) = client.connect(stream).await else {
                                continue;
                            };
                            let Ok((channel, _)) = channel::tonic::channel(attested).await else {
                                continue;
                            };
                            let mut api = ApiClient::new(channel);
                            let refused = |status: Status| status.code() == Code::PermissionDenied;
                            while api.recover(garbage(number)).await.is_err_and(refused) {}
                        }
                    }
                }
            }));
        }
    }
    tokio::time::timeout(Duration::from_secs(20), async {
        while disk.tried() < 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the flood arrives");
    assert_eq!(machine.pcr15().await, [0; 32]);

    // as the CLI: whoever is turned away comes again
    let recovered = async {
        while let Err(status) = admin.recover(address).await {
            // not an answer of the machine's: the connection ended, before or after the call
            let ended = std::error::Error::source(&status).is_some();
            assert!(status.code() == Code::Unavailable || ended, "{status}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), recovered)
        .await
        .expect("the administrator is kept out");
    let ((), _) = end(waiting).await.unwrap().into_parts();
    assert_eq!(machine.pcr15().await, admin.values.cluster_id.pcr15());
    strangers.iter().for_each(JoinHandle::abort);
}

/// Everything that an administrator's connection sent, sent again to the machine in its next boot.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_recovery_recovers_nothing() {
    let admin = Admin::new();
    let disk = Disk::of(&admin);
    let machine = Machine::boot(Image::default());
    let (address, waiting) = wait(&machine, &disk, None).await;
    let recorder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let by_the_recorder = recorder.local_addr().unwrap();
    let recorded = tokio::spawn(async move {
        let (from, _) = recorder.accept().await.unwrap();
        let (mut read, mut back) = from.into_split();
        let (mut answers, mut to) = TcpStream::connect(address).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = read.read(&mut piece).await {
            all.extend_from_slice(&piece[..length]);
            if to.write_all(&piece[..length]).await.is_err() {
                break;
            }
        }
        all
    });
    admin.recover(by_the_recorder).await.unwrap();
    let ((), _) = end(waiting).await.unwrap().into_parts();
    let recorded = recorded.await.unwrap();
    assert!(recorded.len() > 500, "{}", recorded.len());

    let rebooted = Machine::boot(Image::default());
    let tried = disk.tried();
    let (address, waiting) = wait(&rebooted, &disk, None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&recorded).await.unwrap();
    let mut answer = Vec::new();
    let closed = stream.read_to_end(&mut answer);
    let _end = tokio::time::timeout(Duration::from_secs(40), closed)
        .await
        .expect("closed");
    assert_eq!(disk.tried(), tried);
    assert_eq!(rebooted.pcr15().await, [0; 32]);
    // and the machine still listens to the administrator
    admin.recover(address).await.unwrap();
    let ((), _) = end(waiting).await.unwrap().into_parts();
}

/// A node that takes the recovery port for a join service, and somebody who speaks plain HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_administrators_program_reaches_no_disk() {
    let admin = Admin::new();
    let disk = Disk::of(&admin);
    let machine = Machine::boot(Image::default());
    let (address, waiting) = wait(&machine, &disk, None).await;
    let node = Machine::boot(Image::default());
    let own = node.measured.own_policy().await.unwrap();
    let joining = Client::joining_node(node.measured.issuer(), Verifier::same_as_self(own));
    joining.dial(address).await.unwrap_err();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _end = plain.read_to_end(&mut answer).await;
    assert_eq!(disk.tried(), 0);
    assert_eq!(machine.pcr15().await, [0; 32]);
    waiting.abort();
}

/// A machine that runs something else has a server as good as any; the CLI's code sends it nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_other_measurements_is_sent_no_key() {
    let admin = Admin::new();
    let disk = Disk::of(&admin);
    let changed = Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    };
    let machine = Machine::boot(changed);
    let (address, waiting) = wait(&machine, &disk, None).await;
    let error = admin.connect(address).await.unwrap_err();
    assert!(error.refusal().is_some(), "{error}");
    assert_eq!(disk.tried(), 0);
    waiting.abort();
}

/// Something else gets into the register between the key and the mark: the disk is not used, and the giver hears it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_can_not_be_marked_tells_its_giver() {
    let admin = Admin::new();
    let machine = Machine::boot(Image::default());
    let disk = Disk::of(&admin);
    let (address, waiting) = wait(&machine, &disk, None).await;
    let mut api = admin.connect(address).await.unwrap();
    machine.measured.extend_mark(&cluster_id(7)).await.unwrap();
    let told = api.recover(admin.keys(disk.uuid)).await.unwrap_err();
    assert_eq!(told.code(), Code::Aborted, "{told}");
    assert!(told.message().contains("could not be marked"), "{told}");
    assert!(matches!(
        end(waiting).await,
        Err(UnlockError::ForeignMark(_))
    ));
}
