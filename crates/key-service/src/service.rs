//! The API: identify, authorise, derive, and one audit event for every answer and refusal.

use std::sync::Arc;

use keys::{
    KeyId, KeyIdError,
    access::{Caller, Denied, authorize},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use proto::kms::{GetDataKeyRequest, GetDataKeyResponse, api_server::Api};
use tonic::{Code, Request, Response, Status};

use crate::{
    caller::{CallerError, Callers, Identified},
    disks::{DisksError, StateDisks},
    secret::Root,
    tls::Peer,
};

/// Every key of the table has this length.
const KEY_LENGTH: u32 = 32;
/// The longest key id is a UUID; what is longer is cut in the audit event.
const SHOWN_MAX: usize = 64;

/// The service behind the API.
pub(crate) struct KeyService {
    root: Arc<Root>,
    callers: Arc<Callers>,
    disks: StateDisks,
    requests: Family<Labels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    caller: &'static str,
    verdict: &'static str,
}

/// Why there is no key. The peer learns the code of [`Refusal::status`], the log the rest.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the caller is not known")]
    Caller(#[source] CallerError),
    #[error("the key id is not one")]
    KeyId(#[source] KeyIdError),
    #[error("a key has {KEY_LENGTH} bytes, not {0}")]
    Length(u32),
    #[error("find out which disks are state disks")]
    Disks(#[source] DisksError),
    #[error("not in the table")]
    Denied(#[source] Denied),
}

impl Refusal {
    /// The one table from reasons to what the peer learns.
    fn status(&self) -> Status {
        let (code, text) = match self {
            Self::Caller(CallerError::Review(_)) | Self::Disks(_) => {
                (Code::Unavailable, "try again later")
            }
            Self::Caller(CallerError::Unknown(_)) | Self::Denied(_) => {
                (Code::PermissionDenied, "this key is not for this caller")
            }
            Self::Caller(_) => (
                Code::Unauthenticated,
                "a service account token for this service is needed",
            ),
            Self::KeyId(_) => (Code::InvalidArgument, "no such key id"),
            Self::Length(_) => (Code::InvalidArgument, "the length must be 32"),
        };
        Status::new(code, text)
    }

    fn verdict(&self) -> &'static str {
        match self {
            Self::Caller(CallerError::Review(_)) | Self::Disks(_) => "failed",
            Self::Caller(_) | Self::KeyId(_) | Self::Length(_) | Self::Denied(_) => "refused",
        }
    }
}

impl KeyService {
    pub(crate) fn new(
        root: Arc<Root>,
        callers: Arc<Callers>,
        disks: StateDisks,
        metrics: &runtime::Metrics,
    ) -> Self {
        let requests = Family::default();
        metrics.register(
            "key_requests",
            "Requests for data keys by caller and verdict",
            requests.clone(),
        );
        Self {
            root,
            callers,
            disks,
            requests,
        }
    }

    async fn answer(
        &self,
        identified: &Identified,
        request: &GetDataKeyRequest,
    ) -> Result<GetDataKeyResponse, Refusal> {
        let id = KeyId::parse(&request.data_key_id).map_err(Refusal::KeyId)?;
        if request.length != KEY_LENGTH {
            return Err(Refusal::Length(request.length));
        }
        // Only a CSI node's answer depends on the records, and then on what they are now.
        let state_disks = match (identified.caller, id) {
            (Caller::CsiNode, KeyId::Disk(_)) => self.disks.list().await.map_err(Refusal::Disks)?,
            _ => Vec::new(),
        };
        let permit = authorize(identified.caller, &id, |disk| state_disks.contains(&disk))
            .map_err(Refusal::Denied)?;
        let key = self.root.derive(permit);
        Ok(GetDataKeyResponse {
            data_key: key.expose_bytes().to_vec(),
        })
    }

    fn record(
        &self,
        identified: Option<&Identified>,
        peer: Option<Peer>,
        key_id: &str,
        refusal: Option<&Refusal>,
    ) {
        let verdict = refusal.map_or("granted", Refusal::verdict);
        let caller = identified.map_or("unknown", |identified| identified.caller.service_account());
        self.requests
            .get_or_create(&Labels { caller, verdict })
            .inc();
        let key_id: String = key_id.chars().take(SHOWN_MAX).collect();
        tracing::info!(
            target: runtime::AUDIT,
            event = "data-key",
            verdict,
            user = identified.map(|identified| identified.user.as_str()),
            pod = identified.and_then(|identified| identified.pod.as_deref()),
            peer = peer.map(|peer| peer.0.to_string()),
            key_id,
            reason = refusal.map(|refusal| runtime::chain(refusal).to_string()),
        );
    }
}

#[tonic::async_trait]
impl Api for KeyService {
    async fn get_data_key(
        &self,
        request: Request<GetDataKeyRequest>,
    ) -> Result<Response<GetDataKeyResponse>, Status> {
        let peer = request.extensions().get::<Peer>().copied();
        let header = request
            .metadata()
            .get("authorization")
            .map(|value| value.as_bytes().to_vec());
        let request = request.into_inner();
        let (identified, outcome) = match self.callers.identify(header.as_deref()).await {
            Ok(identified) => {
                let outcome = self.answer(&identified, &request).await;
                (Some(identified), outcome)
            }
            Err(error) => (None, Err(Refusal::Caller(error))),
        };
        self.record(
            identified.as_ref(),
            peer,
            &request.data_key_id,
            outcome.as_ref().err(),
        );
        outcome
            .map(Response::new)
            .map_err(|refusal| refusal.status())
    }
}
