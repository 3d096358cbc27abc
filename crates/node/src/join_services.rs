//! The join services of a cluster as a machine meets them that wants a ticket: where they are, how they prove themselves, what to
//! say when one gives nothing. Join and rejoin share it.
//!
//! Both sides prove themselves: this machine wants a service that booted from the same measurements as itself and belongs to a
//! cluster. Where to ask comes from the metadata service, which can only deny service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use channel::{Client, Verifier};
use cluster::rounds::{ProvedMark, TICKET_DEADLINE};
use cluster::{Metadata, Role};
use proto::join::api_client::ApiClient;
use tonic::transport::Channel;

use crate::bootstrapper::machine::{MachineError, MeasuredMachine};
use crate::console::Console;

/// Port of the join service.
pub const JOIN_SERVICE_PORT: u16 = 30090;

/// Largest ticket that is read.
const MAX_TICKET: usize = 1024 * 1024;

/// Where a machine asks for tickets.
pub struct JoinServices {
    /// What it runs.
    pub machine: MeasuredMachine,
    /// Where it hears of others.
    pub metadata: Arc<dyn Metadata>,
    /// Its own address, at which it does not ask.
    pub own: IpAddr,
    /// Port of the join service, [`JOIN_SERVICE_PORT`].
    pub port: u16,
    /// The person in front of the machine.
    pub console: Console,
}

/// A join service that proved what it runs and of which cluster it is.
pub struct Reached {
    /// To ask it.
    pub api: ApiClient<Channel>,
    /// Its PCR 15.
    pub mark: ProvedMark,
}

/// No ticket from this control plane.
#[derive(Debug, thiserror::Error)]
pub enum AskError<T: std::error::Error + 'static> {
    /// The TPM.
    #[error("reading this machine's own measurements")]
    Own(#[source] MachineError),
    /// It could not be reached, or one of the two was refused.
    #[error("opening an attested channel")]
    Channel(#[source] channel::Error),
    /// It gives no ticket.
    #[error("the join service refused")]
    Refused(#[source] tonic::Status),
    /// It gives one that can not be used.
    #[error("the ticket can not be used")]
    Ticket(#[source] T),
    /// It takes too long.
    #[error("no answer within {} s", TICKET_DEADLINE.as_secs())]
    Deadline,
}

impl JoinServices {
    /// The control planes that the provider names, without this machine; `None` when it does not answer.
    pub async fn control_planes(&self) -> Option<Vec<IpAddr>> {
        match self.metadata.list().await {
            Ok(instances) => Some(
                instances
                    .iter()
                    .filter(|instance| {
                        instance.role == Role::ControlPlane && instance.vpc_ip != self.own
                    })
                    .map(|instance| instance.vpc_ip)
                    .collect(),
            ),
            Err(error) => {
                self.console.say_once(format_args!(
                    "waiting for the provider: {}",
                    runtime::chain(&error)
                ));
                None
            }
        }
    }

    /// Opens the attested channel to a join service and asks it, all within one deadline.
    pub async fn ask<A, T>(
        &self,
        address: IpAddr,
        ask: impl AsyncFnOnce(Reached) -> Result<A, AskError<T>>,
    ) -> Result<A, AskError<T>>
    where
        T: std::error::Error + 'static,
    {
        let asked = async { ask(self.reach(address).await?).await };
        tokio::time::timeout(TICKET_DEADLINE, asked)
            .await
            .map_err(|_| AskError::Deadline)?
    }

    async fn reach<T>(&self, address: IpAddr) -> Result<Reached, AskError<T>>
    where
        T: std::error::Error + 'static,
    {
        let own = self.machine.own_policy().await.map_err(AskError::Own)?;
        let client = Client::joining_node(self.machine.issuer(), Verifier::same_as_self(own));
        let (channel, join_service) =
            channel::tonic::connect(&client, SocketAddr::new(address, self.port))
                .await
                .map_err(AskError::Channel)?;
        Ok(Reached {
            api: ApiClient::new(channel).max_decoding_message_size(MAX_TICKET),
            mark: ProvedMark::from(&**join_service.verified()),
        })
    }

    /// Says why there is no ticket. A refusal is a tree for a person; anything else is most likely a control plane that does not
    /// run yet.
    pub fn say_why<T>(&self, address: IpAddr, error: &AskError<T>)
    where
        T: std::error::Error + 'static,
    {
        let refusal = match error {
            AskError::Channel(error) => error.refusal(),
            _ => None,
        };
        match refusal {
            Some(refusal) => self.console.say_once(format_args!(
                "the join service on {address} is not what this machine runs, so it gets nothing from here:\n{refusal}"
            )),
            None => self.console.say_once(format_args!(
                "waiting for the join service on {address}: {}",
                runtime::chain(error)
            )),
        }
    }
}

/// Random enough to keep nodes apart.
pub fn jitter() -> u16 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u16::from_be_bytes(bytes),
        // without random numbers the handshake fails anyway
        Err(_) => 0,
    }
}
