//! Asks the join services of the node's cluster for its disk's key, opens the disk, and marks the machine.
//!
//! What happens when is decided by [`cluster::rejoin`]. There is no end to the asking: a disk that no key opens stays as it is, and
//! the console says what the machine waits for.

use std::net::IpAddr;
use std::time::Duration;

use cluster::DiskUuid;
use cluster::rejoin::{
    AlreadyMarked, AwaitingMark, CheckedTicket, ForeignMark, Locked, Next, Rejoined, Ticket,
    TicketError,
};
use disk::StateDiskError;
use keys::DiskKey;
use proto::join::IssueRejoinTicketRequest;

use crate::bootstrapper::machine::MachineError;
use crate::join_services::{AskError, JoinServices, jitter};

/// A machine that wants the key of its disk.
pub struct Rejoin {
    /// Where it asks.
    pub services: JoinServices,
    /// Its disk.
    pub disk_uuid: DiskUuid,
}

/// The machine can not be marked in this boot. Its disk was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RejoinError {
    /// The TPM.
    #[error("using this machine's TPM")]
    Machine(#[source] MachineError),
    /// The register was not zero at the start.
    #[error("asking for the state disk's key")]
    AlreadyMarked(#[source] AlreadyMarked),
    /// The register holds something else.
    #[error("marking this machine as a member of the cluster")]
    ForeignMark(#[source] ForeignMark),
}

impl Rejoin {
    /// Asks until `open` has opened the disk, and marks the machine. `open` must change nothing on a disk that a key does not open.
    pub async fn run<D>(
        self,
        open: impl FnMut(&DiskKey) -> Result<D, StateDiskError>,
    ) -> Result<Rejoined<D>, RejoinError> {
        let machine = self.services.machine.clone();
        let pcr15 = machine.pcr15().await.map_err(RejoinError::Machine)?;
        let locked = Locked::begin(&pcr15).map_err(RejoinError::AlreadyMarked)?;
        let opened = self.open(locked, open).await;
        let pcr15 = machine
            .extend_mark(opened.cluster_id())
            .await
            .map_err(RejoinError::Machine)?;
        opened.read_back(&pcr15).map_err(RejoinError::ForeignMark)
    }

    async fn open<D>(
        &self,
        locked: Locked,
        mut open: impl FnMut(&DiskKey) -> Result<D, StateDiskError>,
    ) -> AwaitingMark<D> {
        let console = &self.services.console;
        let mut next = Next::Wait(Duration::ZERO, locked);
        loop {
            next = match next {
                Next::Wait(time, locked) => {
                    tokio::time::sleep(time).await;
                    locked.found(&self.control_planes().await, self.services.own, jitter())
                }
                Next::Ask(address, asking) => match self.ask(address).await {
                    Ok(ticket) => {
                        let opening = asking.received(ticket);
                        match open(opening.key()) {
                            Ok(disk) => {
                                console
                                    .say(format_args!("{address} gave the key of the state disk"));
                                return opening.opened(disk);
                            }
                            Err(error) => {
                                console.say_once(format_args!(
                                    "the key from {address} does not open the state disk, which stays as it is: {}",
                                    runtime::chain(&error)
                                ));
                                opening.not_opened(jitter())
                            }
                        }
                    }
                    Err(error) => {
                        self.services.say_why(address, &error);
                        asking.refused(jitter())
                    }
                },
            };
        }
    }

    async fn control_planes(&self) -> Vec<IpAddr> {
        let control_planes = self.services.control_planes().await;
        if control_planes.as_ref().is_some_and(Vec::is_empty) {
            self.services.console.say_once(
                "waiting for another control plane that gives this machine its disk's key: the provider names none",
            );
        }
        control_planes.unwrap_or_default()
    }

    async fn ask(&self, address: IpAddr) -> Result<CheckedTicket, AskError<TicketError>> {
        let request = IssueRejoinTicketRequest {
            disk_uuid: self.disk_uuid.to_string(),
        };
        self.services
            .ask(address, async |mut service| {
                let response = service
                    .api
                    .issue_rejoin_ticket(request)
                    .await
                    .map_err(AskError::Refused)?;
                Ticket::from(response.into_inner())
                    .check(service.mark)
                    .map_err(AskError::Ticket)
            })
            .await
    }
}
