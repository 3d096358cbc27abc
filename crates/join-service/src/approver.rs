//! Approves certificate requests of recorded nodes' kubelets, and of nobody else's.
//!
//! Whether a request may be approved is `k8s::api::csr::decide`, a pure function. This module feeds it the records and keeps the
//! order that makes a token good for one request only: the record takes note of the request, then the request is approved. A
//! crash in between ends in the same approval and no other: the record names the request. The token itself is deleted when the
//! node makes its first request with the certificate it got: until then its kubelet fetches that certificate with the token, and
//! may have to ask again. A service that was restarted in between leaves it to the token's end, 15 minutes after the ticket.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cluster::NodeName;

use futures::StreamExt as _;
use k8s::api::{
    NAMESPACE,
    csr::{Decision, Facts, Purpose, decide},
    tokens,
};
use k8s_openapi::{
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use crate::{
    events::{Events, Reason},
    records::{Records, RecordsError, Stored},
};

/// How long a request that could not be settled waits at most.
const TICK: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
enum ApproverError {
    #[error("list certificate requests")]
    List(#[source] kube::Error),
    #[error("read or write the node records")]
    Records(#[source] RecordsError),
    #[error("settle the certificate request {0}")]
    Settle(String, #[source] kube::Error),
    #[error("delete the used token")]
    Token(#[source] kube::Error),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    decision: &'static str,
}

struct Approver {
    requests: Api<CertificateSigningRequest>,
    secrets: Api<Secret>,
    records: Records,
    events: Events,
    decisions: Family<Labels, Counter>,
    /// Tokens that were used, until their node is seen with its certificate.
    used_tokens: Mutex<BTreeMap<NodeName, String>>,
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
        secrets: Api::namespaced(client, NAMESPACE),
        records,
        events,
        decisions,
        used_tokens: Mutex::default(),
    };
    let shutdown = context.shutdown.clone();
    tokio::spawn(async move {
        let changes = watcher(approver.requests.clone(), watcher::Config::default())
            .default_backoff()
            .applied_objects();
        let mut changes = changes.boxed();
        loop {
            if let Err(error) = approver.settle().await {
                tracing::warn!(error = %runtime::chain(&error), "not every certificate request could be settled");
            }
            tokio::select! {
                // An interrupted watch is only slower: the tick comes.
                change = changes.next() => if let Some(Err(error)) = change {
                    tracing::debug!(error = %runtime::chain(&error), "watching certificate requests was interrupted");
                },
                () = tokio::time::sleep(TICK) => {}
                () = shutdown.cancelled() => return,
            }
        }
    });
}

impl Approver {
    /// Decides about every open request.
    async fn settle(&self) -> Result<(), ApproverError> {
        let all = self
            .requests
            .list(&ListParams::default())
            .await
            .map_err(ApproverError::List)?;
        let open: Vec<_> = all.items.into_iter().filter(is_open).collect();
        if open.is_empty() {
            return Ok(());
        }
        for request in open {
            // Read anew for each, since approving one changes what the next one may have.
            let records = self.records.list().await.map_err(ApproverError::Records)?;
            self.decide(request, &records).await?;
        }
        Ok(())
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
                let token = token_id(&request).map(str::to_owned);
                let record = records
                    .iter()
                    .find(|stored| stored.name() == &approval.node);
                if let (Purpose::FirstClient, Some(record)) = (approval.purpose, record) {
                    self.use_token(record, &request).await?;
                }
                self.conclude(
                    request,
                    "Approved",
                    "RecordedNode",
                    format!("{:?} of {}", approval.purpose, approval.node),
                )
                .await?;
                self.retire_token(approval.purpose, &approval.node, token)
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

    /// Takes note of the request in the record, unless it is there since before a crash.
    async fn use_token(
        &self,
        record: &Stored,
        request: &CertificateSigningRequest,
    ) -> Result<(), ApproverError> {
        let uid = request.uid().unwrap_or_default();
        if record.token_id().is_none() && record.certificate_request() == Some(uid.as_str()) {
            return Ok(());
        }
        self.records
            .use_token(record, &uid)
            .await
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
            Err(error) => Err(ApproverError::Settle(name, error)),
        }
    }

    /// Keeps a used token for its kubelet's sake, and deletes it once that has its certificate.
    async fn retire_token(
        &self,
        purpose: Purpose,
        node: &NodeName,
        token: Option<String>,
    ) -> Result<(), ApproverError> {
        let has_certificate = purpose != Purpose::FirstClient;
        let retired = {
            let mut used = self
                .used_tokens
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(token) = token {
                used.insert(node.clone(), token);
            }
            if has_certificate {
                used.remove(node)
            } else {
                None
            }
        };
        match retired {
            Some(token) => self.delete_token(&token).await,
            None => Ok(()),
        }
    }

    async fn delete_token(&self, id: &str) -> Result<(), ApproverError> {
        match self
            .secrets
            .delete(&format!("bootstrap-token-{id}"), &DeleteParams::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApproverError::Token(error)),
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

/// The token that a request was made with.
fn token_id(request: &CertificateSigningRequest) -> Option<&str> {
    request
        .spec
        .username
        .as_deref()?
        .strip_prefix(tokens::USER_PREFIX)
}

/// What the decision about this one request may rest on: the records, and the node whose token it was made with, if that token
/// is still the record's, or was used for this very request.
fn facts(request: &CertificateSigningRequest, records: &[Stored]) -> Facts {
    let token = token_id(request);
    let uid = request.uid();
    let owner = token.and_then(|token| {
        records.iter().find(|stored| {
            stored.token_id() == Some(token)
                || (uid.is_some()
                    && stored.token_id().is_none()
                    && stored.certificate_request() == uid.as_deref())
        })
    });
    Facts {
        identities: records
            .iter()
            .map(|stored| (stored.name().clone(), stored.record.identity.clone()))
            .collect(),
        tokens: token
            .zip(owner)
            .map(|(token, owner)| BTreeMap::from([(token.to_owned(), owner.name().clone())]))
            .unwrap_or_default(),
        used_tokens: std::collections::BTreeSet::new(),
    }
}
