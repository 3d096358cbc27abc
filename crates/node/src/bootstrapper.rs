//! The program of a booted node: waits for an init or finds a cluster to join, makes the machine a member, and from then on keeps
//! its mesh and its certificates.
//!
//! What a start may do is decided by [`cluster::boot_lock::at_start`] from PCR 15: a machine that a cluster has in this boot never
//! inits or joins again. Design: `cluster.md`; facts 7.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cloud::qemu::client::{ClusterInterface, QemuMetadata, SetUpError};
use cluster::boot_lock::{AtStart, BootLock, at_start};
use cluster::init::{Refused, SecretHash};
use cluster::join::{CheckedTicket, JOIN_DEADLINE};
use cluster::metadata::MetadataError;
use cluster::node_state::{NodeState, NodeStateError};
use cluster::plan::{AwaitingMark, REBOOT_AFTER};
use cluster::{InstanceMetadata, Metadata, Role};
use k8s::files::FileError;
use proto::init::api_server::ApiServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::membership::{Membership, MembershipError};
use crate::mesh::MeshError;
use crate::network::NetworkError;
use crate::progress::{Event, Log};
use crate::state_disk::{NodeDisk, NodeDiskError};
use crate::{agent, mesh, network, systemd};
use drive::{DriveError, drive};
use init_server::{Begun, InitServer, MAX_REQUEST, wire_cluster_id};
use init_steps::InitSteps;
use join_client::{JOIN_SERVICE_PORT, JoinClient};
use join_steps::JoinSteps;
use machine::{MachineError, MeasuredMachine};
use node_steps::NodeSteps;
use steps::StepError;
use verify_server::VerifyServer;

pub mod cluster_records;
pub mod drive;
pub mod init_server;
pub mod init_steps;
pub mod join_client;
pub mod join_steps;
pub mod machine;
pub mod node_steps;
pub mod order;
pub mod steps;
pub mod verify_server;

/// Port of the init server.
const INIT_PORT: u16 = 9000;

/// How long an administrator may come back to a finished init.
const REATTACH: Duration = Duration::from_secs(15 * 60);

/// Pause between two questions to a metadata service that does not answer.
const METADATA_PAUSE: Duration = Duration::from_secs(2);

/// Lines of the journal that a failed init sends to the administrator.
const JOURNAL_LINES: u32 = 3000;

/// The bootstrapper can not do its work.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapperError {
    /// The TPM.
    #[error("reading the cluster mark")]
    Machine(#[source] MachineError),
    /// The node state file.
    #[error("reading the node state file")]
    NodeState(#[source] NodeStateError),
    /// A file.
    #[error("reading what is recorded on the state disk")]
    File(#[source] FileError),
    /// The state disk.
    #[error("using the state disk")]
    Disk(#[source] NodeDiskError),
    /// The provider.
    #[error("setting up the provider's client")]
    Provider(#[source] SetUpError),
    /// The interface between the machines.
    #[error("setting up the network between the machines")]
    Network(#[source] NetworkError),
    /// The mesh's key.
    #[error("setting up the mesh")]
    Mesh(#[source] MeshError),
    /// A server's port.
    #[error("listening on port {port}")]
    Listen {
        /// Which.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The attested channel.
    #[error("setting up the attested channel")]
    Channel(#[source] channel::SetupError),
    /// The init secret's hash.
    #[error("reading the init secret's hash")]
    Hash(#[source] Refused),
    /// The membership.
    #[error("using the node's membership")]
    Membership(#[source] MembershipError),
    /// A step.
    #[error("becoming a member")]
    Drive(#[source] DriveError),
    /// After the steps.
    #[error("finishing")]
    Finish(#[source] StepError),
    /// It takes too long.
    #[error("not a member after {} minutes", JOIN_DEADLINE.as_secs() / 60)]
    Deadline,
    /// The address of a machine is not what this version can use.
    #[error("the provider gave this machine the address {0}; only IPv4 is supported")]
    Address(IpAddr),
    /// The service manager.
    #[error("rebooting")]
    Reboot(#[source] systemd::SystemdError),
}

/// Runs until the machine stops.
pub async fn run(
    host: Host,
    machine: MeasuredMachine,
    shutdown: CancellationToken,
) -> Result<(), BootstrapperError> {
    let mark = machine.mark().await.map_err(BootstrapperError::Machine)?;
    let membership = match at_start(mark, recorded(&host)?) {
        AtStart::Resume(state) => {
            host.console.say(format_args!(
                "this machine is the node {} of its cluster",
                state.node_name()
            ));
            Membership::read(&host.paths).map_err(BootstrapperError::Membership)?
        }
        AtStart::Reset => {
            host.console.say("this machine was on its way into a cluster when its bootstrapper stopped; it starts anew");
            return start_anew(&host).await;
        }
        AtStart::WaitForCluster => match become_member(&host, &machine, &shutdown).await {
            Ok(Some(membership)) => membership,
            Ok(None) => return Ok(()),
            Err(Stopped::Before(error)) => return Err(error),
            Err(Stopped::After(error)) => {
                host.console
                    .complain("this machine can not become a member", &error);
                return start_anew(&host).await;
            }
        },
    };
    agent::run(&host, &membership, &shutdown).await;
    Ok(())
}

fn recorded(host: &Host) -> Result<Option<NodeState>, BootstrapperError> {
    let path = host.paths.node_state();
    match std::fs::read(&path) {
        Ok(json) => NodeState::from_json(&json)
            .map(Some)
            .map_err(BootstrapperError::NodeState),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BootstrapperError::File(FileError {
            operation: "read",
            path,
            source,
        })),
    }
}

/// Takes the header off the state disk, so that the next boot makes a new one, and reboots. Leaves time to read why.
async fn start_anew(host: &Host) -> Result<(), BootstrapperError> {
    host.console.say(format_args!(
        "the state disk is reset and the machine reboots in {} s",
        REBOOT_AFTER.as_secs()
    ));
    match NodeDisk::load(&host.paths) {
        Ok(disk) => {
            if let Err(error) = disk.reset().await {
                host.console.complain("resetting the state disk", &error);
            }
        }
        Err(error) => host.console.complain("resetting the state disk", &error),
    }
    tokio::time::sleep(REBOOT_AFTER).await;
    systemd::reboot().await.map_err(BootstrapperError::Reboot)
}

/// Where a machine stopped on its way into a cluster.
enum Stopped {
    /// Before the lock: the service manager starts the bootstrapper again.
    Before(BootstrapperError),
    /// After it: the machine starts anew.
    After(BootstrapperError),
}

impl From<BootstrapperError> for Stopped {
    fn from(error: BootstrapperError) -> Self {
        Self::Before(error)
    }
}

/// What both ways into a cluster need.
#[derive(Clone)]
struct Candidate {
    host: Host,
    machine: MeasuredMachine,
    instance: InstanceMetadata,
    node_ip: Ipv4Addr,
    disk: NodeDisk,
    verify: Arc<VerifyServer>,
    lock: Arc<BootLock>,
}

/// Waits for an init or finds a cluster, whichever is first. `None` when the program is asked to stop before.
async fn become_member(
    host: &Host,
    machine: &MeasuredMachine,
    shutdown: &CancellationToken,
) -> Result<Option<Membership>, Stopped> {
    let disk = NodeDisk::load(&host.paths).map_err(BootstrapperError::Disk)?;
    let mesh_key = mesh::ensure_key(&host.paths)
        .map_err(BootstrapperError::Mesh)?
        .public();
    let interface = ClusterInterface::find().map_err(BootstrapperError::Provider)?;
    let metadata: Arc<dyn Metadata> =
        Arc::new(QemuMetadata::of_this_machine().map_err(BootstrapperError::Provider)?);
    let instance = insist(host, || metadata.this_instance()).await;
    let IpAddr::V4(node_ip) = instance.vpc_ip else {
        return Err(BootstrapperError::Address(instance.vpc_ip).into());
    };
    network::configure(&host.paths, &interface, instance.vpc_ip)
        .await
        .map_err(BootstrapperError::Network)?;
    host.console.say(format_args!(
        "this machine is {} ({}) at {node_ip}",
        instance.name, instance.role
    ));

    let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listen = |port| move |source| BootstrapperError::Listen { port, source };
    let verify = VerifyServer::start(everywhere(verify_server::PORT), machine.issuer())
        .await
        .map_err(listen(verify_server::PORT))?;
    let candidate = Candidate {
        host: host.clone(),
        machine: machine.clone(),
        instance: instance.clone(),
        node_ip,
        disk: disk.clone(),
        verify: Arc::new(verify),
        lock: Arc::new(BootLock::new()),
    };

    let (founded, mut founding) = mpsc::channel(1);
    let joining = shutdown.child_token();
    if instance.role == Role::ControlPlane {
        let hash = insist(host, || metadata.init_secret_hash()).await;
        let hash = SecretHash::parse(&hash).map_err(BootstrapperError::Hash)?;
        let listener = TcpListener::bind(everywhere(INIT_PORT))
            .await
            .map_err(listen(INIT_PORT))?;
        serve_init(
            &candidate,
            hash,
            listener,
            joining.clone(),
            founded,
            shutdown.clone(),
        )?;
    }
    let client = JoinClient {
        machine: machine.clone(),
        metadata,
        instance,
        node_ip,
        disk_uuid: disk.uuid(),
        mesh_key,
        port: JOIN_SERVICE_PORT,
        lock: Arc::clone(&candidate.lock),
        console: host.console.clone(),
    };
    tokio::select! {
        () = shutdown.cancelled() => return Ok(None),
        // the init server cancels this only with the lock in hand
        () = joining.cancelled() => {}
        ticket = client.run() => if let Ok((awaiting, ticket)) = ticket {
            let member = tokio::time::timeout(JOIN_DEADLINE, join(&candidate, awaiting, ticket)).await;
            return member.unwrap_or(Err(BootstrapperError::Deadline)).map(Some).map_err(Stopped::After);
        }
    }
    match founding.recv().await {
        Some(founded) => founded.map(Some).map_err(Stopped::After),
        None => Ok(None),
    }
}

/// Asks the provider until it answers.
async fn insist<T, F>(host: &Host, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, MetadataError>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                host.console.say_once(format_args!(
                    "waiting for the provider: {}",
                    runtime::chain(&error)
                ));
                tokio::time::sleep(METADATA_PAUSE).await;
            }
        }
    }
}

/// Founded is sent once an init has come to its end.
fn serve_init(
    candidate: &Candidate,
    hash: SecretHash,
    listener: TcpListener,
    joining: CancellationToken,
    founded: mpsc::Sender<Result<Membership, BootstrapperError>>,
    shutdown: CancellationToken,
) -> Result<(), BootstrapperError> {
    let channel =
        channel::Server::node(candidate.machine.issuer()).map_err(BootstrapperError::Channel)?;
    let stop = shutdown.child_token();
    let begin: init_server::Begin = {
        let (candidate, stop) = (candidate.clone(), stop.clone());
        Arc::new(move |begun: Begun| {
            let (candidate, founded, stop) = (candidate.clone(), founded.clone(), stop.clone());
            tokio::spawn(async move {
                let log = Arc::clone(&begun.log);
                let result = found(&candidate, begun).await;
                if let Err(error) = &result {
                    let error = runtime::chain(error).to_string();
                    let journal = systemd::journal(JOURNAL_LINES).await.unwrap_or_default();
                    log.add(Event::Failure { error, journal });
                }
                // nobody listens only if the program is asked to stop
                let _stopping = founded.send(result).await;
                tokio::time::sleep(REATTACH).await;
                stop.cancel();
            });
        })
    };
    let service = InitServer::new(
        Arc::clone(&candidate.lock),
        hash,
        joining,
        begin,
        candidate.host.console.clone(),
    );
    let server = tonic::transport::Server::builder()
        .add_service(ApiServer::new(service).max_decoding_message_size(MAX_REQUEST))
        .serve_with_incoming_shutdown(
            channel::tonic::incoming(listener, channel),
            stop.cancelled_owned(),
        );
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(error = %runtime::chain(&error), "the init server stopped");
        }
    });
    Ok(())
}

/// Makes this machine the first node of a new cluster.
async fn found(candidate: &Candidate, begun: Begun) -> Result<Membership, BootstrapperError> {
    let Begun {
        order,
        awaiting,
        log,
    } = begun;
    let first = order
        .networks
        .node(1)
        .map_err(MembershipError::Index)
        .map_err(BootstrapperError::Membership)?;
    let membership = Membership {
        cluster_name: order.cluster_name.clone(),
        version: order.version,
        node_name: candidate.instance.name.clone(),
        role: Role::ControlPlane,
        networks: order.networks,
        index: first.index,
        node_ip: candidate.node_ip,
        api_endpoint: std::net::SocketAddrV4::new(first.mesh_ip, cluster::network::API_PORT),
        provider_id: Some(candidate.instance.provider_id.clone()),
        api_sans: order.api_sans.clone(),
    };
    let cluster_id = order.cluster_id.clone();
    let steps = Arc::new(InitSteps {
        node: candidate.node_steps(&membership, &log)?,
        order,
        machine: candidate.machine.clone(),
        pki: OnceLock::new(),
        client: OnceLock::new(),
    });
    drive(
        &candidate.machine,
        &cluster_id,
        awaiting,
        steps.clone(),
        &log,
    )
    .await
    .map_err(BootstrapperError::Drive)?;
    let kubeconfig = steps
        .admin_kubeconfig()
        .map_err(BootstrapperError::Finish)?;
    log.add(Event::Success {
        kubeconfig: kubeconfig.expose().as_bytes().to_vec(),
        cluster_id: wire_cluster_id(&cluster_id),
    });
    let seconds = log.elapsed().as_secs();
    candidate.host.console.say(format_args!(
        "the cluster {} is there, after {seconds} s",
        membership.cluster_name
    ));
    Ok(membership)
}

/// Makes this machine a further node of a cluster.
async fn join(
    candidate: &Candidate,
    awaiting: AwaitingMark,
    ticket: CheckedTicket,
) -> Result<Membership, BootstrapperError> {
    let log = Arc::new(Log::begin());
    let membership = Membership {
        cluster_name: ticket.cluster_name.clone(),
        version: ticket.kubernetes_version,
        node_name: candidate.instance.name.clone(),
        role: Role::Worker,
        networks: ticket.networks,
        index: ticket.addresses.index,
        node_ip: candidate.node_ip,
        api_endpoint: ticket.api_server,
        provider_id: Some(candidate.instance.provider_id.clone()),
        api_sans: Vec::new(),
    };
    candidate
        .host
        .console
        .say(format_args!("joining the cluster {}", ticket.cluster_name));
    let cluster_id = ticket.cluster_id.clone();
    let steps = Arc::new(JoinSteps {
        node: candidate.node_steps(&membership, &log)?,
        ticket,
    });
    drive(&candidate.machine, &cluster_id, awaiting, steps, &log)
        .await
        .map_err(BootstrapperError::Drive)?;
    let seconds = log.elapsed().as_secs();
    candidate.host.console.say(format_args!(
        "this machine is a node of {} after {seconds} s",
        membership.cluster_name
    ));
    Ok(membership)
}

impl Candidate {
    fn node_steps(
        &self,
        membership: &Membership,
        log: &Arc<Log>,
    ) -> Result<NodeSteps, BootstrapperError> {
        Ok(NodeSteps {
            host: self.host.clone(),
            node: membership.node().map_err(BootstrapperError::Membership)?,
            membership: membership.clone(),
            disk: self.disk.clone(),
            verify: Arc::clone(&self.verify),
            log: Arc::clone(log),
            units: tokio::sync::Mutex::new(()),
        })
    }
}
