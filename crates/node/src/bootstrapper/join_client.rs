//! Looks for the cluster that this machine belongs to, and asks its join service for a ticket.
//!
//! What happens when is decided by [`cluster::rounds`] and [`cluster::join`]; the talking is [`JoinServices`]'; this file says on
//! the console what the machine waits for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cluster::admission::JoinRequest;
use cluster::boot_lock::BootLock;
use cluster::join::{AwaitingLock, CheckedTicket, Taken, Ticket, TicketError};
use cluster::plan::AwaitingMark;
use cluster::rounds::{AnotherCluster, Round, Searching};
use cluster::{DiskUuid, InstanceMetadata, Role};
use k8s::control_plane::{Shared, SharedError};
use k8s::files::SecretText;
use proto::join::IssueJoinTicketRequest;
use zeroize::Zeroizing;

use crate::join_services::{AskError, JoinServices, jitter};

/// A machine that looks for its cluster.
pub struct JoinClient {
    /// Where it asks.
    pub services: JoinServices,
    /// Who it is, as the host says.
    pub instance: InstanceMetadata,
    /// Its address on the network between the machines.
    pub node_ip: Ipv4Addr,
    /// Its state disk.
    pub disk_uuid: DiskUuid,
    /// Its key in the mesh.
    pub mesh_key: cluster::identity::WireGuardPublicKey,
    /// The lock that init may take first.
    pub lock: Arc<BootLock>,
}

/// A ticket that this machine can not use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Ticket(TicketError),
    #[error("a field of it can not be read")]
    Field(#[source] proto::FieldError),
    #[error(transparent)]
    AnotherCluster(AnotherCluster),
    #[error("its control plane files")]
    Shared(#[source] SharedError),
}

/// A ticket of which everything is checked.
struct Usable {
    ticket: CheckedTicket,
    shared: Option<Shared>,
}

impl JoinClient {
    /// Asks until there is a ticket, and takes the lock with it.
    pub async fn run(self) -> Result<(AwaitingMark, CheckedTicket, Option<Shared>), Taken> {
        let Usable { ticket, shared } = self.search().await;
        let (mark, ticket) = AwaitingLock::new(ticket).take(&self.lock)?;
        Ok((mark, ticket, shared))
    }

    async fn search(&self) -> Usable {
        let mut searching = Searching::new();
        loop {
            let control_planes = self.control_planes().await;
            let mut round = searching.found(&control_planes, self.instance.vpc_ip, jitter());
            searching = loop {
                match round {
                    Round::Ask(address, next) => match self.ask(address).await {
                        Ok(usable) => {
                            self.services
                                .console
                                .say(format_args!("{address} admitted this machine"));
                            return usable;
                        }
                        Err(error) => {
                            self.services.say_why(address, &error);
                            round = next.refused(jitter());
                        }
                    },
                    Round::Wait(time, next) => {
                        tokio::time::sleep(time).await;
                        break next;
                    }
                }
            };
        }
    }

    async fn control_planes(&self) -> Vec<IpAddr> {
        let Some(control_planes) = self.services.control_planes().await else {
            return Vec::new();
        };
        let console = &self.services.console;
        match (self.instance.role, control_planes.is_empty()) {
            (Role::Worker, false) => {}
            (Role::Worker, true) => {
                console.say_once("waiting for a control plane: the provider names none yet");
            }
            (Role::ControlPlane, true) => console.say_once(
                "waiting for init: run `constellation apply` on the administrator's machine",
            ),
            (Role::ControlPlane, false) => console.say_once(
                "waiting for init (`constellation apply`) or for another control plane, whichever is first",
            ),
        }
        control_planes
    }

    async fn ask(&self, address: IpAddr) -> Result<Usable, AskError<Unusable>> {
        let request = JoinRequest {
            name: self.instance.name.clone(),
            role: self.instance.role,
            disk_uuid: self.disk_uuid,
            node_ip: self.node_ip,
            wireguard_public_key: self.mesh_key,
        };
        self.services
            .ask(address, async |mut service| {
                let response = service
                    .api
                    .issue_join_ticket(IssueJoinTicketRequest::from(&request))
                    .await
                    .map_err(AskError::Refused)?;
                let ticket = Ticket::try_from(response.into_inner())
                    .map_err(|error| AskError::Ticket(Unusable::Field(error)))?
                    .check(request.role)
                    .map_err(|error| AskError::Ticket(Unusable::Ticket(error)))?;
                service
                    .mark
                    .check(&ticket.cluster_id)
                    .map_err(|error| AskError::Ticket(Unusable::AnotherCluster(error)))?;
                usable(ticket).map_err(|error| AskError::Ticket(Unusable::Shared(error)))
            })
            .await
    }
}

/// Parses what only a control plane gets, so that a ticket that can not work is found out before anything has changed.
fn usable(mut ticket: CheckedTicket) -> Result<Usable, SharedError> {
    let files = std::mem::take(&mut ticket.control_plane_files);
    let shared = match ticket.role {
        Role::ControlPlane => {
            let text = |mut text: Zeroizing<String>| SecretText::new(std::mem::take(&mut *text));
            let files = files.into_iter().map(|file| (file.name, text(file.text)));
            Some(Shared::from_files(files)?)
        }
        Role::Worker => None,
    };
    Ok(Usable { ticket, shared })
}
