//! Looks for the cluster that this machine belongs to, and asks its join service for a ticket.
//!
//! Both sides prove themselves: this node wants a join service that booted from the same measurements as itself and belongs to a
//! cluster. Where to ask comes from the metadata service, which can only deny service. What happens when is decided by
//! [`cluster::join`]; this file does the talking, and says on the console what it waits for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use attest::{ClusterIdDigest, PcrIndex};
use channel::{Client, Verifier};
use cluster::admission::JoinRequest;
use cluster::boot_lock::BootLock;
use cluster::join::{
    AwaitingLock, CheckedTicket, Round, Searching, TICKET_DEADLINE, Taken, Ticket, TicketError,
};
use cluster::plan::AwaitingMark;
use cluster::{DiskUuid, InstanceMetadata, Metadata, Role};
use proto::join::{IssueJoinTicketRequest, api_client::ApiClient};

use super::machine::{MachineError, MeasuredMachine};
use crate::console::Console;

/// Port of the join service.
pub const JOIN_SERVICE_PORT: u16 = 30090;

/// Largest ticket that is read.
const MAX_TICKET: usize = 1024 * 1024;

/// A machine that looks for its cluster.
pub struct JoinClient {
    /// What it runs.
    pub machine: MeasuredMachine,
    /// Where it hears of others.
    pub metadata: Arc<dyn Metadata>,
    /// Who it is, as the host says.
    pub instance: InstanceMetadata,
    /// Its address on the network between the machines.
    pub node_ip: Ipv4Addr,
    /// Its state disk.
    pub disk_uuid: DiskUuid,
    /// Its key in the mesh.
    pub mesh_key: cluster::identity::WireGuardPublicKey,
    /// Port of the join service, [`JOIN_SERVICE_PORT`].
    pub port: u16,
    /// The lock that init may take first.
    pub lock: Arc<BootLock>,
    /// The person in front of the machine.
    pub console: Console,
}

/// No ticket from this control plane.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("reading this machine's own measurements")]
    Own(#[source] MachineError),
    #[error("opening an attested channel")]
    Channel(#[source] channel::Error),
    #[error("the join service refused")]
    Refused(#[source] tonic::Status),
    #[error("the ticket can not be used")]
    Ticket(#[source] TicketError),
    #[error("the ticket can not be read")]
    Field(#[source] proto::FieldError),
    #[error("the ticket is for another cluster than the one that the join service is a member of")]
    AnotherCluster,
    #[error("no answer within {} s", TICKET_DEADLINE.as_secs())]
    Deadline,
}

impl JoinClient {
    /// Asks until there is a ticket, and takes the lock with it.
    pub async fn run(self) -> Result<(AwaitingMark, CheckedTicket), Taken> {
        let mut searching = Searching::new();
        let waiting = self.search(&mut searching).await;
        waiting.take(&self.lock)
    }

    async fn search(&self, searching: &mut Searching) -> AwaitingLock {
        loop {
            let control_planes = self.control_planes().await;
            let mut round =
                std::mem::take(searching).found(&control_planes, self.instance.vpc_ip, jitter());
            loop {
                match round {
                    Round::Ask(address, next) => match self.ask(address).await {
                        Ok(ticket) => {
                            self.console
                                .say(format_args!("{address} admitted this machine"));
                            return next.received(ticket);
                        }
                        Err(error) => {
                            self.say_why(address, &error);
                            round = next.refused(jitter());
                        }
                    },
                    Round::Wait(time, next) => {
                        tokio::time::sleep(time).await;
                        *searching = next;
                        break;
                    }
                }
            }
        }
    }

    async fn control_planes(&self) -> Vec<IpAddr> {
        match self.metadata.list().await {
            Ok(instances) => {
                let control_planes: Vec<IpAddr> = instances
                    .iter()
                    .filter(|instance| {
                        instance.role == Role::ControlPlane
                            && instance.vpc_ip != self.instance.vpc_ip
                    })
                    .map(|instance| instance.vpc_ip)
                    .collect();
                match (self.instance.role, control_planes.is_empty()) {
                    (Role::Worker, false) => return control_planes,
                    (Role::Worker, true) => {
                        self.console.say_once("waiting for a control plane: the provider names none yet");
                    }
                    (Role::ControlPlane, true) => self
                        .console
                        .say_once("waiting for init: run `constellation apply` on the administrator's machine"),
                    (Role::ControlPlane, false) => self.console.say_once(
                        "waiting for init; joining as a further control plane is not built yet, so the others are not asked",
                    ),
                }
                Vec::new()
            }
            Err(error) => {
                self.console.say_once(format_args!(
                    "waiting for the provider: {}",
                    runtime::chain(&error)
                ));
                Vec::new()
            }
        }
    }

    fn say_why(&self, address: IpAddr, error: &AskError) {
        // a refusal is a tree for a person; anything else is most likely a control plane that does not run yet
        let refusal = match error {
            AskError::Channel(error) => error.refusal(),
            _ => None,
        };
        match refusal {
            Some(refusal) => self.console.say_once(format_args!(
                "the join service on {address} is not what this machine runs, so it gets nothing from here:\n{refusal}"
            )),
            None => self.console.say_once(format_args!("waiting for the join service on {address}: {}", runtime::chain(error))),
        }
    }

    async fn ask(&self, address: IpAddr) -> Result<CheckedTicket, AskError> {
        tokio::time::timeout(TICKET_DEADLINE, self.ask_without_deadline(address))
            .await
            .map_err(|_| AskError::Deadline)?
    }

    async fn ask_without_deadline(&self, address: IpAddr) -> Result<CheckedTicket, AskError> {
        let own = self.machine.own_policy().await.map_err(AskError::Own)?;
        let client = Client::joining_node(self.machine.issuer(), Verifier::same_as_self(own));
        let (channel, join_service) =
            channel::tonic::connect(&client, SocketAddr::new(address, self.port))
                .await
                .map_err(AskError::Channel)?;
        let request = JoinRequest {
            name: self.instance.name.clone(),
            role: self.instance.role,
            disk_uuid: self.disk_uuid,
            node_ip: self.node_ip,
            wireguard_public_key: self.mesh_key,
        };
        let response = ApiClient::new(channel)
            .max_decoding_message_size(MAX_TICKET)
            .issue_join_ticket(IssueJoinTicketRequest::from(&request))
            .await
            .map_err(AskError::Refused)?;
        let ticket = Ticket::try_from(response.into_inner()).map_err(AskError::Field)?;
        let ticket = ticket.check().map_err(AskError::Ticket)?;
        // Which cluster the service is a member of is proved by its mark; the ticket has to be for that one.
        let mark = ClusterIdDigest::of(ticket.cluster_id.as_bytes()).pcr();
        if join_service
            .verified()
            .measurements()
            .get(PcrIndex::CLUSTER_MARK)
            != mark
        {
            return Err(AskError::AnotherCluster);
        }
        Ok(ticket)
    }
}

/// Random enough to keep nodes apart.
fn jitter() -> u16 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u16::from_be_bytes(bytes),
        // without random numbers the handshake fails anyway
        Err(_) => 0,
    }
}
