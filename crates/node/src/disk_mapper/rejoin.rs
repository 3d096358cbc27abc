//! Asks a join service of the node's cluster for its disk's key.

use std::net::IpAddr;

use cluster::DiskUuid;
use cluster::rejoin::{CheckedTicket, Ticket, TicketError};
use proto::join::IssueRejoinTicketRequest;

use crate::join_services::{AskError, JoinServices};

/// A machine that wants the key of its disk.
pub struct Rejoin {
    /// Where it asks.
    pub services: JoinServices,
    /// Its disk.
    pub disk_uuid: DiskUuid,
}

impl Rejoin {
    /// Asks one of them. What it gives is for the cluster that it proved to be a member of.
    pub async fn ask(&self, address: IpAddr) -> Result<CheckedTicket, AskError<TicketError>> {
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
