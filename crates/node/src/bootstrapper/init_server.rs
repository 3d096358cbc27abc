//! `init.API`: makes this machine the first node of a cluster, for whoever has the init secret.
//!
//! Served over the attested channel: this node proves what it runs, the caller proves nothing but the secret, inside. What is
//! decided is decided by [`cluster::init`]; this file does the talking. A connection that breaks stops nothing: the init runs on
//! its own, and the same request, sent again, reads its log from the beginning.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use channel::{Peer, Unproved};
use cluster::boot_lock::BootLock;
use cluster::init::{Admission, Admitted, AwaitingLock, Refused, RequestId, SecretHash};
use cluster::plan::AwaitingMark;
use futures::Stream;
use keys::ClusterId;
use proto::backup::{UploadRequest, UploadResponse};
use proto::init::init_response::Kind;
use proto::init::{
    InitFailure, InitRequest, InitResponse, InitSuccess, Log as LogChunk, Progress, api_server,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use super::order::Order;
use super::restore::Restores;
use crate::console::Console;
use crate::progress::{Event, Log};

/// Size of the pieces in which a journal is sent, as the original's.
const JOURNAL_CHUNK: usize = 1024;

/// Largest request: a list of components and a policy.
pub const MAX_REQUEST: usize = 1024 * 1024;

/// How old a connection becomes that has shown the init secret: as long as an init and its way back, or an upload, may take.
pub const TRUSTED_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// How long whoever uploads may take to show the init secret.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);

/// Runs an init whose lock is taken. It must add the last event to the log.
pub type Begin = Arc<dyn Fn(Begun) + Send + Sync>;

/// An init that nothing can refuse any more.
pub struct Begun {
    /// What was ordered.
    pub order: Order,
    /// The machine, with its lock taken.
    pub awaiting: AwaitingMark,
    /// Where to say what happens.
    pub log: Arc<Log>,
}

/// The service.
pub struct InitServer {
    lock: Arc<BootLock>,
    hash: SecretHash,
    // held over the comparison of a secret: a caller can not keep more than one processor busy
    admission: Mutex<Admission>,
    log: OnceLock<Arc<Log>>,
    node_ip: Ipv4Addr,
    begin: Begin,
    console: Console,
    restores: Restores,
}

impl InitServer {
    /// A server that has begun nothing, of a machine with this address on the network between the machines.
    pub fn new(
        lock: Arc<BootLock>,
        hash: SecretHash,
        node_ip: Ipv4Addr,
        begin: Begin,
        console: Console,
        restores: Restores,
    ) -> Self {
        Self {
            lock,
            hash,
            admission: Mutex::new(Admission::new()),
            log: OnceLock::new(),
            node_ip,
            begin,
            console,
            restores,
        }
    }

    /// Takes a backup that a cluster is to be made of, from whoever has the init secret.
    pub async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<UploadResponse, Status> {
        let peer = peer(&request);
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(FIRST_MESSAGE, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("nothing came"))??
            .unwrap_or_default();
        let secret = Zeroizing::new(first.init_secret);
        {
            let admission = self.admission.lock().await;
            tokio::task::block_in_place(|| admission.may_bring(&self.lock, &self.hash, &secret))
                .map_err(refuse)?;
        }
        stays(peer.as_ref());
        self.console
            .say("the administrator uploads a backup to make a cluster of");
        self.restores.store(messages).await
    }

    /// Decides on a request, and begins it if it is the one.
    async fn receive(&self, request: Request<InitRequest>) -> Result<Arc<Log>, Status> {
        let peer = peer(&request);
        let request = request.into_inner();
        let id = RequestId::from_wire(&request.request_id).map_err(refuse)?;
        let mut admission = self.admission.lock().await;
        // bcrypt takes its time, on a thread that nobody else needs
        let admitted = tokio::task::block_in_place(|| {
            admission.receive(&self.lock, id, &self.hash, &request.init_secret)
        });
        let admitted = admitted.map_err(refuse)?;
        stays(peer.as_ref());
        match admitted {
            Admitted::Reattach => {
                self.console
                    .say("the administrator came back to a running init");
                self.log
                    .get()
                    .cloned()
                    .ok_or_else(|| refuse(Refused::Taken))
            }
            Admitted::New(next) => {
                let restore = request.restore_sha256.clone();
                let mut order = Order::from_wire(request, self.node_ip).map_err(|error| {
                    Status::invalid_argument(runtime::chain(&error).to_string())
                })?;
                if !restore.is_empty() {
                    let opened = self.restores.take(&restore, &order).await;
                    order.restore = Some(opened.map_err(|error| {
                        Status::invalid_argument(runtime::chain(&error).to_string())
                    })?);
                }
                let waiting = next.derived(order.cluster_id.clone());
                self.start(&mut admission, waiting, order).map_err(refuse)
            }
        }
    }

    fn start(
        &self,
        admission: &mut Admission,
        waiting: AwaitingLock,
        order: Order,
    ) -> Result<Arc<Log>, Refused> {
        let awaiting = admission.begin(&self.lock, waiting)?;
        let log = Arc::clone(self.log.get_or_init(|| Arc::new(Log::begin())));
        self.console.say(format_args!(
            "init: this machine becomes the first node of {}",
            order.cluster_name
        ));
        (self.begin)(Begun {
            order,
            awaiting,
            log: Arc::clone(&log),
        });
        Ok(log)
    }
}

fn peer<T>(request: &Request<T>) -> Option<Peer<Unproved>> {
    request.extensions().get().cloned()
}

/// Whoever has the init secret is no stranger.
fn stays(peer: Option<&Peer<Unproved>>) {
    if let Some(peer) = peer {
        peer.may_stay(TRUSTED_AGE);
    }
}

fn refuse(refused: Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::WrongSecret => Status::permission_denied(text),
        Refused::Taken => Status::failed_precondition(text),
        Refused::MalformedRequestId => Status::invalid_argument(text),
        Refused::MalformedHash => Status::unavailable(text),
    }
}

#[async_trait::async_trait]
impl api_server::Api for InitServer {
    type InitStream = Pin<Box<dyn Stream<Item = Result<InitResponse, Status>> + Send>>;

    async fn init(
        &self,
        request: Request<InitRequest>,
    ) -> Result<Response<Self::InitStream>, Status> {
        match self.receive(request).await {
            Ok(log) => Ok(Response::new(Box::pin(replay(log)))),
            Err(status) => {
                self.console
                    .say(format_args!("an init was refused: {}", status.message()));
                Err(status)
            }
        }
    }
}

/// All events of a log, as they are sent.
fn replay(log: Arc<Log>) -> impl Stream<Item = Result<InitResponse, Status>> {
    use futures::StreamExt;
    futures::stream::unfold((log, 0), |(log, place)| async move {
        let event = log.at(place).await?;
        Some((event, (log, place + 1)))
    })
    .flat_map(|event| futures::stream::iter(responses(event)))
    .map(|kind| Ok(InitResponse { kind: Some(kind) }))
}

fn responses(event: Event) -> Vec<Kind> {
    match event {
        Event::Progress {
            phase,
            detail,
            elapsed,
        } => {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            vec![Kind::Progress(Progress {
                phase,
                detail,
                elapsed_ms,
            })]
        }
        Event::Success {
            kubeconfig,
            cluster_id,
        } => {
            vec![Kind::InitSuccess(InitSuccess {
                kubeconfig,
                cluster_id,
                ..InitSuccess::default()
            })]
        }
        Event::Failure { error, journal } => {
            let chunks = journal.chunks(JOURNAL_CHUNK).map(|chunk| {
                Kind::Log(LogChunk {
                    log: chunk.to_vec(),
                })
            });
            std::iter::once(Kind::InitFailure(InitFailure { error }))
                .chain(chunks)
                .collect()
        }
    }
}

/// The wire form of a cluster's ID.
pub fn wire_cluster_id(cluster_id: &ClusterId) -> Vec<u8> {
    cluster_id.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_comes_before_its_journal() {
        let kinds = responses(Event::Failure {
            error: "no".to_owned(),
            journal: vec![b'x'; 2500],
        });
        assert!(matches!(kinds.first(), Some(Kind::InitFailure(_))));
        let sizes: Vec<usize> = kinds
            .iter()
            .filter_map(|kind| match kind {
                Kind::Log(chunk) => Some(chunk.log.len()),
                _ => None,
            })
            .collect();
        assert_eq!(sizes, [1024, 1024, 452]);
    }
}
