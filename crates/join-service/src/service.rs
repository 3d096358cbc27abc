//! The API: what a machine proved, what it asks for, the records, a decision, a ticket. One audit event for every request.

use std::net::SocketAddr;

use channel::tonic::proved;
use cluster::admission::{JoinRequest, Proven, Record, recognise};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use proto::join::{
    IssueJoinTicketRequest, IssueJoinTicketResponse, IssueRejoinTicketRequest,
    IssueRejoinTicketResponse, api_server::Api,
};
use tonic::{Request, Response, Status};

use crate::{
    admission::Admission,
    config::Config,
    events::{Events, Reason},
    records::Records,
    refusal::Refusal,
    ticket::Maker,
};

/// What the requester says is cut to this in logs.
const SHOWN_MAX: usize = 64;

pub(crate) struct JoinService {
    config: Config,
    records: Records,
    maker: Maker,
    events: Events,
    requests: Family<Labels, Counter>,
    admission: Admission,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    request: &'static str,
    verdict: &'static str,
}

/// Who asks, for logs and audit events.
struct Requester {
    proven: Proven,
    peer: Option<SocketAddr>,
    node: String,
    disk: String,
}

impl JoinService {
    pub(crate) fn new(
        config: Config,
        records: Records,
        admission: Admission,
        maker: Maker,
        events: Events,
        metrics: &runtime::Metrics,
    ) -> Self {
        let requests = Family::default();
        metrics.register(
            "join_requests",
            "Requests of attested machines by verdict",
            requests.clone(),
        );
        Self {
            config,
            records,
            maker,
            events,
            requests,
            admission,
        }
    }

    async fn join(
        &self,
        wire: &IssueJoinTicketRequest,
        proven: &Proven,
    ) -> Result<IssueJoinTicketResponse, Refusal> {
        let request = JoinRequest::try_from(wire).map_err(Refusal::Malformed)?;
        let config = self.config.now();
        let now = jiff::Timestamp::now();
        let admitted = self.admission.admit(request, proven.clone(), now).await?;
        self.maker.join(&admitted, &config, now).await
    }

    async fn rejoin(
        &self,
        wire: &IssueRejoinTicketRequest,
        proven: &Proven,
    ) -> Result<IssueRejoinTicketResponse, Refusal> {
        let disk = wire.parse_disk().map_err(Refusal::Malformed)?;
        let stored = self.records.list().await?;
        let records: Vec<Record> = stored.iter().map(|stored| stored.record.clone()).collect();
        let recognised = recognise(disk, proven, &records).map_err(Refusal::Unrecognised)?;
        let name = &recognised.identity().name;
        let stored = stored.into_iter().find(|stored| stored.name() == name);
        let stored = match stored {
            Some(stored) => Some(self.records.note_boot(&recognised, stored).await?),
            None => None,
        };
        let now = jiff::Timestamp::now();
        self.maker
            .rejoin(&recognised, stored.as_ref(), &self.config.now(), now)
            .await
    }

    fn record_verdict(
        &self,
        request: &'static str,
        requester: &Requester,
        denied: Reason,
        refusal: Option<&Refusal>,
    ) {
        let verdict = refusal.map_or("granted", Refusal::word);
        self.requests
            .get_or_create(&Labels { request, verdict })
            .inc();
        let reason = refusal.map(|refusal| runtime::chain(refusal).to_string());
        let Requester {
            proven,
            peer,
            node,
            disk,
        } = requester;
        let (peer, machine) = (peer.map(|peer| peer.to_string()), proven.key_id());
        tracing::info!(target: runtime::AUDIT, event = request, verdict, node, disk, peer, machine, reason);
        match (refusal, reason) {
            (Some(refusal), Some(reason)) => {
                tracing::warn!(request, node, disk, peer, machine, reason, "no ticket");
                if refusal.is_denial() {
                    self.events.publish(
                        denied,
                        format!("{request} of {node}: {reason} (machine {machine})"),
                    );
                }
            }
            _ => tracing::info!(request, node, disk, peer, machine, "ticket issued"),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[tonic::async_trait]
impl Api for JoinService {
    async fn issue_join_ticket(
        &self,
        request: Request<IssueJoinTicketRequest>,
    ) -> Result<Response<IssueJoinTicketResponse>, Status> {
        let peer = proved(&request)?;
        let (proven, peer) = (Proven::from(&**peer.verified()), peer.address());
        let wire = request.into_inner();
        let outcome = self.join(&wire, &proven).await;
        let requester = Requester {
            proven,
            peer,
            node: shown(&wire.node_name),
            disk: shown(&wire.disk_uuid),
        };
        self.record_verdict(
            "join-ticket",
            &requester,
            Reason::JoinDenied,
            outcome.as_ref().err(),
        );
        outcome
            .map(Response::new)
            .map_err(|refusal| refusal.status())
    }

    async fn issue_rejoin_ticket(
        &self,
        request: Request<IssueRejoinTicketRequest>,
    ) -> Result<Response<IssueRejoinTicketResponse>, Status> {
        let peer = proved(&request)?;
        let (proven, peer) = (Proven::from(&**peer.verified()), peer.address());
        let wire = request.into_inner();
        let outcome = self.rejoin(&wire, &proven).await;
        let requester = Requester {
            proven,
            peer,
            node: String::new(),
            disk: shown(&wire.disk_uuid),
        };
        self.record_verdict(
            "rejoin-ticket",
            &requester,
            Reason::RejoinDenied,
            outcome.as_ref().err(),
        );
        outcome
            .map(Response::new)
            .map_err(|refusal| refusal.status())
    }
}
