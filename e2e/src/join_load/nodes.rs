//! Machines that join, each with a key, a disk and a source address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use attest::{Policy, Variant};
use channel::{Client, Verifier};
use proto::join::api_client::ApiClient;
use proto::join::{IssueJoinTicketRequest, IssueJoinTicketResponse};
use testkit::boot::Image;
use testkit::tee::SoftTpm;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a machine waits after an attempt in vain; less than a real node's, so that waiting shows as little as it can.
const PAUSE: Duration = Duration::from_secs(1);
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(900);

/// A ticket and what it took.
pub struct Joined {
    /// The name that was asked for.
    pub name: String,
    /// The ticket.
    pub ticket: IssueJoinTicketResponse,
    /// From the first connection to the ticket.
    pub took: Duration,
    /// Attempts in vain before.
    pub in_vain: u32,
}

/// Lets `count` machines that booted `image` join at once.
///
/// # Errors
/// When not all of them have a ticket in time; the text has the last reason.
pub async fn join_all(address: SocketAddr, image: &Image, count: u16) -> Result<Vec<Joined>> {
    // made before the clock runs: keys are the machines' own business
    let machines: Vec<_> = (1..=count)
        .map(|number| Machine::new(image, number))
        .collect::<Result<_>>()?;
    let mut joining: JoinSet<_> = machines
        .into_iter()
        .map(|machine| async move {
            let mut last = None;
            let joined = timeout(LIMIT, machine.join(address, &mut last)).await;
            joined.map_err(|_| last.unwrap_or_else(|| anyhow::anyhow!("no answer")))
        })
        .collect();
    let mut all = Vec::new();
    while let Some(joined) = joining.join_next().await {
        all.push(joined?.context("a machine has no ticket")?);
    }
    Ok(all)
}

struct Machine {
    client: Client,
    source: SocketAddr,
    request: IssueJoinTicketRequest,
}

impl Machine {
    fn new(image: &Image, number: u16) -> Result<Self> {
        let tpm = SoftTpm::boot(image);
        let own = Policy::from_own_measurements(Variant::QemuVtpm, &tpm.pcrs(), tpm.event_log())?;
        let [high, low] = number.to_be_bytes();
        let mut key = [0xff; 32];
        key[..2].copy_from_slice(&[high, low]);
        Ok(Self {
            client: Client::joining_node(Arc::new(tpm), Verifier::same_as_self(own)),
            // the bounds per source are not what is measured
            source: (Ipv4Addr::new(127, 1, high, low), 0).into(),
            request: IssueJoinTicketRequest {
                disk_uuid: format!("00000000-0000-4000-8000-00000001{number:04x}"),
                node_name: format!("worker-{number}"),
                node_ip: Ipv4Addr::new(172, 16, high, low).to_string(),
                wireguard_public_key: key.to_vec(),
                ..IssueJoinTicketRequest::default()
            },
        })
    }

    /// Asks until there is a ticket, as a node does; `last` has why there is none yet.
    async fn join(&self, address: SocketAddr, last: &mut Option<anyhow::Error>) -> Joined {
        let begun = Instant::now();
        let mut in_vain = 0;
        loop {
            match self.ask(address).await {
                Ok(ticket) => {
                    return Joined {
                        name: self.request.node_name.clone(),
                        ticket,
                        took: begun.elapsed(),
                        in_vain,
                    };
                }
                Err(error) => *last = Some(error),
            }
            in_vain += 1;
            sleep(PAUSE).await;
        }
    }

    async fn ask(&self, address: SocketAddr) -> Result<IssueJoinTicketResponse> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(self.source)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let attested = self.client.connect(stream).await?;
        let (channel, _) = channel::tonic::channel(attested).await?;
        let answer = ApiClient::new(channel)
            .issue_join_ticket(self.request.clone())
            .await?;
        Ok(answer.into_inner())
    }
}
