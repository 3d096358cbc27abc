//! The program of a booted node: waits for an init or finds a cluster to join, makes the machine a member, and from then on keeps
//! its mesh and its certificates.
//!
//! What a start may do is decided by [`cluster::boot_lock::at_start`] from PCR 15: a machine that a cluster has in this boot never
//! inits or joins again. Design: `cluster.md`; facts 7.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloud::qemu::client::{ClusterInterface, QemuMetadata, SetUpError};
use cluster::boot_lock::{AtStart, BootLock, at_start};
use cluster::init::{Refused, SecretHash};
use cluster::join::Taken;
use cluster::network::API_PROXY_PORT;
use cluster::node_state::{NodeState, NodeStateError};
use cluster::plan::Failed;
use cluster::{Metadata, Role};
use k8s::files::FileError;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::join_services::{JOIN_SERVICE_PORT, JoinServices};
use crate::membership::{Membership, MembershipError};
use crate::mesh::MeshError;
use crate::network::{Manager, NetworkError};
use crate::provider::insist;
use crate::state_disk::{NodeDisk, NodeDiskError};
use crate::{agent, mesh, network, systemd};
use backup_server::{Member, Membered};
use candidate::Candidate;
use drive::DriveError;
use init_server::{Begun, InitServer};
use join_client::JoinClient;
use machine::{MachineError, MeasuredMachine};
use restore::Restores;
use start_anew::start_anew;
use steps::StepError;
use verify_server::VerifyServer;

pub mod backup_server;
mod candidate;
pub mod cluster_records;
mod control_plane;
pub mod drive;
pub mod init_port;
pub mod init_server;
pub mod init_steps;
pub mod join_client;
pub mod join_steps;
pub mod machine;
pub mod node_steps;
pub mod order;
pub mod restore;
mod resume;
pub mod services;
pub mod start_anew;
pub mod steps;
pub mod verify_server;

/// Port of the init server.
const INIT_PORT: u16 = 9000;

/// How long an administrator may come back to a finished init.
const REATTACH: Duration = Duration::from_secs(15 * 60);

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
    /// What a member runs.
    #[error("starting what runs on this node")]
    Resume(#[source] StepError),
    /// After the steps.
    #[error("finishing")]
    Finish(#[source] StepError),
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
    let _proxy = host
        .api_servers
        .listen()
        .await
        .map_err(|source| BootstrapperError::Listen {
            port: API_PROXY_PORT,
            source,
        })?;
    let mark = machine.mark().await.map_err(BootstrapperError::Machine)?;
    let disk = NodeDisk::load(&host.paths).map_err(BootstrapperError::Disk)?;
    let member = Membered::default();
    let membership = match at_start(mark, recorded(&host)?, disk.next_boot().await) {
        AtStart::Resume(state) => {
            host.console.say(format_args!(
                "this machine is the node {} of its cluster",
                state.node_name()
            ));
            let membership =
                Membership::read(&host.paths).map_err(BootstrapperError::Membership)?;
            resume::resume(&host, &membership).await?;
            membership
        }
        AtStart::Reset(failed) => {
            host.console.say("this machine was on its way into a cluster when its bootstrapper stopped; it starts anew");
            return start_anew(&host, &disk, failed, systemd::reboot)
                .await
                .map_err(BootstrapperError::Reboot);
        }
        AtStart::WaitForCluster => {
            let found = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                found = become_member(&host, &machine, &disk, &member) => found,
            };
            match found {
                Ok(membership) => membership,
                Err(Stopped::Before(error)) => return Err(error),
                Err(Stopped::After(failed, error)) => {
                    host.console
                        .complain("this machine can not become a member", &error);
                    return start_anew(&host, &disk, failed, systemd::reboot)
                        .await
                        .map_err(BootstrapperError::Reboot);
                }
            }
        }
    };
    let control_plane = async {
        if membership.role == Role::ControlPlane {
            control_plane::bring_up(&host, &membership).await;
            tokio::join!(
                control_plane::stay_up(&host, &membership),
                serve_backups(&host, machine, &membership, member),
            );
        }
    };
    let agent = agent::run(&host, &membership, &shutdown);
    tokio::pin!(agent);
    tokio::select! {
        () = &mut agent => {}
        () = control_plane => agent.await,
    }
    Ok(())
}

/// From here on backups of the cluster can be made from this node.
async fn serve_backups(
    host: &Host,
    machine: MeasuredMachine,
    membership: &Membership,
    member: Membered,
) {
    let node = match membership.node() {
        Ok(node) => node,
        Err(error) => {
            let console = &host.console;
            console.complain("no backups can be made from this node", &error);
            return;
        }
    };
    // the init server serves them as well, for as long as it has the port
    member.get_or_init(|| Member::new(node, machine, host.console.clone()));
    backup_server::serve(INIT_PORT, member, &host.console).await;
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

/// Where a machine stopped on its way into a cluster.
enum Stopped {
    /// Before the lock: the service manager starts the bootstrapper again.
    Before(BootstrapperError),
    /// After it: the machine starts anew.
    After(Failed, BootstrapperError),
}

impl From<BootstrapperError> for Stopped {
    fn from(error: BootstrapperError) -> Self {
        Self::Before(error)
    }
}

impl From<(Failed, BootstrapperError)> for Stopped {
    fn from((failed, error): (Failed, BootstrapperError)) -> Self {
        Self::After(failed, error)
    }
}

/// Waits for an init or finds a cluster, whichever is first.
async fn become_member(
    host: &Host,
    machine: &MeasuredMachine,
    disk: &NodeDisk,
    member: &Membered,
) -> Result<Membership, Stopped> {
    let mesh_key = mesh::ensure_key(&host.paths)
        .map_err(BootstrapperError::Mesh)?
        .public();
    let interface = ClusterInterface::find().map_err(BootstrapperError::Provider)?;
    let metadata: Arc<dyn Metadata> =
        Arc::new(QemuMetadata::of_this_machine().map_err(BootstrapperError::Provider)?);
    let instance = insist(&host.console, || metadata.this_instance()).await;
    let IpAddr::V4(node_ip) = instance.vpc_ip else {
        return Err(BootstrapperError::Address(instance.vpc_ip).into());
    };
    network::configure(&host.paths, Manager::Told, &interface, instance.vpc_ip)
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
    };
    let client = JoinClient {
        services: JoinServices {
            machine: machine.clone(),
            metadata: Arc::clone(&metadata),
            own: instance.vpc_ip,
            port: JOIN_SERVICE_PORT,
            console: host.console.clone(),
        },
        instance,
        node_ip,
        disk_uuid: disk.uuid(),
        mesh_key,
        lock: Arc::new(BootLock::new()),
    };

    let (begin, mut inits) = mpsc::channel(1);
    let stop = CancellationToken::new();
    match candidate.instance.role {
        Role::ControlPlane => {
            let hash = insist(&host.console, || metadata.init_secret_hash()).await;
            let hash = SecretHash::parse(&hash).map_err(BootstrapperError::Hash)?;
            let listener = TcpListener::bind(everywhere(INIT_PORT))
                .await
                .map_err(listen(INIT_PORT))?;
            let lock = Arc::clone(&client.lock);
            let member = Arc::clone(member);
            serve_init(
                &candidate,
                lock,
                hash,
                listener,
                begin,
                stop.clone(),
                member,
            )?;
        }
        // nobody can initialise a worker, so nothing is waited for below
        Role::Worker => drop(begin),
    }
    let ticket = async {
        match client.run().await {
            Ok(ticket) => ticket,
            // an init has the lock, and ends this
            Err(Taken) => std::future::pending().await,
        }
    };
    tokio::select! {
        Some(begun) = inits.recv() => {
            let founded = candidate.found(begun).await;
            tokio::spawn(async move {
                tokio::time::sleep(REATTACH).await;
                stop.cancel();
            });
            Ok(founded?)
        }
        (awaiting, ticket, shared) = ticket => {
            // nobody can init this machine any more, and whoever uploaded a backup has no use for it here
            stop.cancel();
            restore::discard(&restores(host));
            Ok(candidate.join(awaiting, ticket, shared).await?)
        }
    }
}

/// Where backups are put that a cluster is to be made of.
fn restores(host: &Host) -> PathBuf {
    host.paths.state.join("constellation")
}

/// An init that has the lock is sent to `begin`, once.
fn serve_init(
    candidate: &Candidate,
    lock: Arc<BootLock>,
    hash: SecretHash,
    listener: TcpListener,
    begin: mpsc::Sender<Begun>,
    stop: CancellationToken,
    member: Membered,
) -> Result<(), BootstrapperError> {
    let begin: init_server::Begin = Arc::new(move |begun: Begun| {
        // there is room for the one, and nobody listens only if the program is asked to stop
        let _stopping = begin.try_send(begun);
    });
    let restores = Restores::new(restores(&candidate.host));
    let service = Arc::new(InitServer::new(
        lock,
        hash,
        candidate.node_ip,
        begin,
        candidate.host.console.clone(),
        restores,
    ));
    init_port::serve(listener, candidate.machine.issuer(), service, member, stop)
        .map_err(BootstrapperError::Channel)?;
    Ok(())
}
