//! Approves certificate requests of recorded nodes' kubelets, and of nobody else's.
//!
//! Whether a request may be approved is `k8s::api::csr::decide`, a pure function. This module feeds it the records and ends tokens:
//! when a node asks for something with its own certificate, its token is deleted and its record says that it has joined, and only
//! then is the request approved. Until then the token is good for further requests of the same node, because kubelet makes a new key
//! and a new request at each attempt, and may stop before it has fetched what was signed. A crash between two of these steps is
//! made good when the request, which is still open, is decided again.
//!
//! Which certificates a node was issued is noted on its record (`records::Certificates`): the request before it is approved, its
//! certificate as soon as it is signed. Signed requests are deleted by Kubernetes an hour later.

mod pages;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use cluster::identity::KUBELET_USER_PREFIX;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s::api::{
    ApiError,
    csr::{
        Approval, CLIENT_SIGNER, CertificateId, CredentialId, Decision, Facts, Known, Purpose,
        SERVING_SIGNER, decide,
    },
    tokens,
};
use k8s_openapi::{
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::PostParams,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use self::pages::{PAGE, Pages, Shares, fields};
use crate::{
    events::{Events, Reason},
    records::{Awaited, Records, RecordsError, Stored},
    spawn_vital,
};

/// How long a request that could not be settled waits at most.
const TICK: Duration = Duration::from_secs(15);
/// How long the list of requests, or one request, may take. A connection that the API server's machine has forgotten answers never.
const DEADLINE: Duration = Duration::from_secs(60);
/// Changes that one round is for at most.
const CHANGES: usize = 1024;

#[derive(Debug, thiserror::Error)]
enum ApproverError {
    #[error("list certificate requests")]
    List(#[source] kube::Error),
    #[error("read the request {0}, which was approved")]
    Approved(String, #[source] kube::Error),
    #[error("read or write the node records")]
    Records(#[source] RecordsError),
    #[error("conclude the request")]
    Conclude(#[source] kube::Error),
    #[error("delete the token of a node that has its certificate")]
    Token(#[source] ApiError),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    decision: &'static str,
}

struct Approver {
    client: Client,
    requests: Api<CertificateSigningRequest>,
    records: Records,
    events: Events,
    decisions: Family<Labels, Counter>,
}

/// Settles requests in the background until the process is asked to stop.
pub(crate) fn start(client: Client, records: Records, events: Events, context: &runtime::Context) {
    let decisions = Family::default();
    context.metrics.register(
        "join_certificate_requests",
        "Certificate requests of kubelets by decision",
        decisions.clone(),
    );
    let approver = Approver {
        requests: Api::all(client.clone()),
        client,
        records,
        events,
        decisions,
    };
    let condition = context.health.condition("certificate-requests");
    spawn_vital(context.shutdown.clone(), async move {
        approver.run(&condition).await;
    });
}

impl Approver {
    async fn run(&self, condition: &runtime::Condition) {
        let mut changes = self.changes();
        loop {
            match self.settle().await {
                Ok(()) => condition.met(),
                Err(error) => {
                    let error = runtime::chain(&error).to_string();
                    tracing::warn!(error, "certificate requests cannot be settled");
                    condition.missing(error);
                }
            }
            tokio::select! {
                // An interrupted watch is only slower: the tick comes.
                changes = changes.next() => for error in changes.into_iter().flatten().filter_map(Result::err) {
                    tracing::debug!(error = %runtime::chain(&error), "watching certificate requests was interrupted");
                },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// That something changed, and not what: one round is for all that have changed since the last.
    fn changes(&self) -> BoxStream<'_, Vec<Result<(), watcher::Error>>> {
        let requests: Api<PartialObjectMeta<CertificateSigningRequest>> =
            Api::all(self.client.clone());
        let of = |signer| {
            let config = watcher::Config::default()
                .fields(&fields(signer))
                .page_size(PAGE);
            watcher(requests.clone(), config)
                .default_backoff()
                .applied_objects()
                .map(|change| change.map(drop))
                .boxed()
        };
        stream::select(of(CLIENT_SIGNER), of(SERVING_SIGNER))
            .ready_chunks(CHANGES)
            .boxed()
    }

    /// Decides about the open requests, of each requestor about its share. One that fails stays open for the next time, and holds up no
    /// other.
    async fn settle(&self) -> Result<(), ApproverError> {
        let mut shares = Shares::new(self.issued().await);
        let client = self.settle_for(CLIENT_SIGNER, &mut shares).await;
        let serving = self.settle_for(SERVING_SIGNER, &mut shares).await;
        let certificates = self.look_for_certificates().await;
        client.and(serving).and(certificates)
    }

    /// The certificates of each node on record, by its kubelet's user. Without the records none is known, and every name has one share.
    async fn issued(&self) -> HashMap<String, Vec<CertificateId>> {
        let listed = tokio::time::timeout(DEADLINE, self.records.list()).await;
        let of_node = |stored: Stored| {
            let user = format!("{KUBELET_USER_PREFIX}{}", stored.name());
            (user, stored.certificates.issued().to_vec())
        };
        match listed {
            Ok(Ok(records)) => records.into_iter().map(of_node).collect(),
            Ok(Err(_)) | Err(_) => HashMap::new(),
        }
    }

    async fn settle_for(&self, signer: &str, shares: &mut Shares) -> Result<(), ApproverError> {
        let mut pages = Pages::of(&self.requests, signer);
        loop {
            let page = tokio::time::timeout(DEADLINE, pages.read())
                .await
                .map_err(|_| ApproverError::Late)?
                .map_err(ApproverError::List)?;
            let Some(page) = page else {
                return Ok(());
            };
            for request in page.into_iter().filter(is_open) {
                if !shares.take(&request.spec) {
                    continue;
                }
                let name = request.name_any();
                let settled = tokio::time::timeout(DEADLINE, self.settle_one(request)).await;
                if let Err(error) = settled.unwrap_or(Err(ApproverError::Late)) {
                    let error = runtime::chain(&error).to_string();
                    tracing::warn!(request = name, error, "a certificate request is left open");
                }
            }
        }
    }

    /// Takes down what was signed. A record that fails is looked at the next time.
    async fn look_for_certificates(&self) -> Result<(), ApproverError> {
        let records = tokio::time::timeout(DEADLINE, self.records.list())
            .await
            .map_err(|_| ApproverError::Late)?
            .map_err(ApproverError::Records)?;
        for stored in &records {
            let learned = tokio::time::timeout(DEADLINE, self.learn(stored)).await;
            if let Err(error) = learned.unwrap_or(Err(ApproverError::Late)) {
                let error = runtime::chain(&error).to_string();
                tracing::warn!(node = %stored.name(), error, "which certificates it was issued is not taken down yet");
            }
        }
        Ok(())
    }

    async fn settle_one(&self, request: CertificateSigningRequest) -> Result<(), ApproverError> {
        // Read anew for each, since one request ends what another may rest on.
        let mut records = self.records.list().await.map_err(ApproverError::Records)?;
        // A kubelet uses its certificate at once.
        let user = request.spec.username.as_deref().unwrap_or_default();
        if let Some(requestor) = user.strip_prefix(KUBELET_USER_PREFIX)
            && let Some(stored) = records
                .iter_mut()
                .find(|stored| stored.name().as_str() == requestor)
        {
            *stored = self.learn(stored).await?;
        }
        self.decide(request, &records).await
    }

    /// Looks whether what was approved for a node has been signed.
    async fn learn(&self, stored: &Stored) -> Result<Stored, ApproverError> {
        let mut certificates = stored.certificates.clone();
        for awaited in stored.certificates.awaited() {
            let found = self
                .requests
                .get_opt(&awaited.name)
                .await
                .map_err(|error| ApproverError::Approved(awaited.name.clone(), error))?
                .filter(|request| request.uid().as_ref() == Some(&awaited.uid));
            match found.as_ref().map(outcome) {
                Some(Outcome::Open) => {}
                Some(Outcome::Signed(certificate)) => {
                    certificates.conclude(awaited, Some(certificate));
                }
                Some(Outcome::Refused) => certificates.conclude(awaited, None),
                None => {
                    tracing::warn!(node = %stored.name(), request = awaited.name, "a request was deleted before its certificate was taken down");
                    certificates.conclude(awaited, None);
                }
            }
        }
        self.records
            .set_certificates(stored, &certificates, false)
            .await
            .map_err(ApproverError::Records)
    }

    async fn decide(
        &self,
        request: CertificateSigningRequest,
        records: &[Stored],
    ) -> Result<(), ApproverError> {
        let decision = decide(&request.spec, &facts(&request, records));
        let name = request.name_any();
        match &decision {
            Decision::NotOurs => return Ok(()),
            Decision::Approve(approval) => {
                let record = records
                    .iter()
                    .find(|stored| stored.name() == &approval.node);
                if let Some(record) = record {
                    self.note(&request, approval, record).await?;
                }
                self.conclude(
                    request,
                    "Approved",
                    "RecordedNode",
                    format!("{:?} of {}", approval.purpose, approval.node),
                )
                .await?;
                tracing::info!(target: runtime::AUDIT, event = "certificate", verdict = "approved", request = name, node = %approval.node, purpose = ?approval.purpose);
                self.decisions
                    .get_or_create(&Labels {
                        decision: "approved",
                    })
                    .inc();
            }
            Decision::Deny(denial) => {
                let user = request.spec.username.clone().unwrap_or_default();
                self.conclude(request, "Denied", "NotARecordedNode", denial.to_string())
                    .await?;
                tracing::info!(target: runtime::AUDIT, event = "certificate", verdict = "denied", request = name, user, reason = %denial);
                tracing::warn!(request = name, user, reason = %denial, "certificate request denied");
                self.events.publish(
                    Reason::CertificateDenied,
                    format!("{name} of {user}: {denial}"),
                );
                self.decisions
                    .get_or_create(&Labels { decision: "denied" })
                    .inc();
            }
        }
        Ok(())
    }

    /// Takes down what an approval means for the node. With a certificate of its own it has joined, and what only a node without one has
    /// ends: the secret goes first, since the record names it for as long as it may be there.
    async fn note(
        &self,
        request: &CertificateSigningRequest,
        approval: &Approval,
        stored: &Stored,
    ) -> Result<(), ApproverError> {
        let mut certificates = stored.certificates.clone();
        let (seen, client) = match approval.purpose {
            Purpose::FirstClient => (false, true),
            Purpose::ClientRenewal => (true, true),
            Purpose::Serving => (true, false),
        };
        if seen {
            if let Some(id) = stored.token_id() {
                tokens::delete(&self.client, id)
                    .await
                    .map_err(ApproverError::Token)?;
            }
            if let Some(credential) = CredentialId::of(&request.spec) {
                certificates.seen(&credential);
            }
        }
        if client {
            certificates.expect(Awaited {
                name: request.name_any(),
                uid: request.uid().unwrap_or_default(),
            });
        }
        self.records
            .set_certificates(stored, &certificates, seen)
            .await
            .map(drop)
            .map_err(ApproverError::Records)
    }

    async fn conclude(
        &self,
        mut request: CertificateSigningRequest,
        kind: &str,
        reason: &str,
        message: String,
    ) -> Result<(), ApproverError> {
        let name = request.name_any();
        request
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default()
            .push(CertificateSigningRequestCondition {
                type_: kind.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_update_time: Some(Time(jiff::Timestamp::now())),
                ..CertificateSigningRequestCondition::default()
            });
        match self
            .requests
            .replace_subresource("approval", &name, &PostParams::default(), &request)
            .await
        {
            Ok(_) => Ok(()),
            // Another control plane's service was faster, or the request is gone.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(())
            }
            Err(error) => Err(ApproverError::Conclude(error)),
        }
    }
}

fn is_open(request: &CertificateSigningRequest) -> bool {
    request
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_none_or(Vec::is_empty)
}

/// What became of a request that was approved.
enum Outcome {
    Open,
    Signed(CertificateId),
    Refused,
}

fn outcome(request: &CertificateSigningRequest) -> Outcome {
    let Some(status) = &request.status else {
        return Outcome::Open;
    };
    let certificate = status.certificate.as_ref();
    if let Some(certificate) = certificate.and_then(|text| CertificateId::of_first(&text.0)) {
        return Outcome::Signed(certificate);
    }
    let conditions = status.conditions.iter().flatten();
    let mut refusals = conditions.filter(|one| matches!(one.type_.as_str(), "Denied" | "Failed"));
    match refusals.next() {
        Some(_) => Outcome::Refused,
        None => Outcome::Open,
    }
}

/// The token that a request was made with.
fn token_id(request: &CertificateSigningRequest) -> Option<&str> {
    request
        .spec
        .username
        .as_deref()?
        .strip_prefix(tokens::USER_PREFIX)
}

/// What the decision about this one request may rest on: the records, and the node whose token it was made with, if that token
/// is still the record's.
fn facts(request: &CertificateSigningRequest, records: &[Stored]) -> Facts {
    let owner = token_id(request).and_then(|token| {
        let owner = records
            .iter()
            .find(|stored| stored.token_id() == Some(token))?;
        Some((token.to_owned(), owner.name().clone()))
    });
    let known = |stored: &Stored| Known {
        identity: stored.record.identity.clone(),
        standing: stored.record.standing,
        certificates: stored.certificates.issued().to_vec(),
    };
    Facts {
        nodes: records
            .iter()
            .map(|stored| (stored.name().clone(), known(stored)))
            .collect(),
        tokens: BTreeMap::from_iter(owner),
    }
}

#[cfg(test)]
mod tests;
