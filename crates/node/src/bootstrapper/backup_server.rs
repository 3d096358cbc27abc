//! `backup.API`: a control plane makes backups of its cluster, for whoever has the key of its backups; a machine that belongs to no
//! cluster takes the backup that one is to be made of, from whoever has the init secret.
//!
//! Served over the attested channel: the node proves what it runs and which cluster it belongs to before the caller sends the key. The node
//! knows the key by its hash, which init left in a Secret of the cluster, and seals the backup with it: what leaves the node
//! nobody can read who could not ask for it. One backup at a time, and a caller that stops reading is left.
//! Design: docs/adr/a-backup-comes-over-the-attested-channel.md.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use channel::tonic::incoming;
use channel::{Limits, Peer, Unproved};
use futures::Stream;
use jiff::Timestamp;
use k8s::control_plane::Node;
use keys::backup::BackupKeyVerifier;
use keys::{BackupKey, ClusterId};
use proto::backup::{CreateRequest, Piece, UploadRequest, UploadResponse, api_server};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::init_server::InitServer;
use super::machine::MeasuredMachine;
use crate::console::Console;

/// Largest message: a piece of an upload.
pub const MAX_MESSAGE: usize = 1 << 20;

/// How long a caller may take to read the next piece.
const READ: Duration = Duration::from_secs(60);

/// How long a whole backup may take.
const DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// Between two tries to get the port, which the init server has for a while.
const PORT_PAUSE: Duration = Duration::from_secs(5);

/// A connection that is silent is asked whether somebody is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a request may take to its first answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Whom strangers can keep waiting: only each other, and not for long. Who has shown the key may stay as long as a backup may take.
const LIMITS: Limits = Limits {
    handshakes: 16,
    handshakes_per_source: 4,
    connections: 32,
    connections_per_source: 8,
    age: Duration::from_secs(120),
};

/// The member that this machine is, once it is one.
pub type Membered = Arc<OnceLock<Member>>;

/// A control plane of a cluster.
pub struct Member {
    /// Its Kubernetes.
    pub node: Node,
    /// What proves which cluster it belongs to.
    pub machine: MeasuredMachine,
    /// Who may have a backup. The Secret never changes.
    verifier: OnceCell<BackupKeyVerifier>,
    turn: Arc<Semaphore>,
    console: Console,
}

/// The service.
pub struct BackupServer {
    init: Option<Arc<InitServer>>,
    member: Membered,
}

impl Member {
    /// This node.
    pub fn new(node: Node, machine: MeasuredMachine, console: Console) -> Self {
        Self {
            node,
            machine,
            verifier: OnceCell::new(),
            turn: Arc::new(Semaphore::new(1)),
            console,
        }
    }

    async fn verifier(&self) -> Result<&BackupKeyVerifier, Status> {
        self.verifier
            .get_or_try_init(|| async {
                let kubeconfig = self.node.paths().node_agent_kubeconfig();
                let read = async {
                    let client = k8s::api::client(&kubeconfig).await?;
                    k8s::api::records::backup_key_verifier(&client).await
                };
                match read.await {
                    Ok(Some(verifier)) => Ok(verifier),
                    Ok(None) => Err(Status::failed_precondition(
                        "this cluster was made by a release that knew no backups",
                    )),
                    Err(error) => {
                        tracing::warn!(error = %runtime::chain(&error), "who may have a backup");
                        Err(Status::unavailable("the Kubernetes API does not answer"))
                    }
                }
            })
            .await
    }

    /// Checks who asks and for what. What it gives is the only way to a backup.
    async fn admit(&self, request: CreateRequest) -> Result<Admitted, Status> {
        let key = BackupKey::from_vec(request.key)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let cluster_id = ClusterId::from_slice(&request.cluster_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !self.verifier().await?.accepts(&key) {
            self.console
                .say("a backup was refused: the key is not that of this cluster");
            return Err(Status::permission_denied(
                "the backup key is not that of this cluster",
            ));
        }
        let pcr15 = self.machine.pcr15().await.map_err(|error| {
            tracing::error!(error = %runtime::chain(&error), "no mark");
            Status::internal("the TPM did not answer")
        })?;
        if pcr15 != cluster_id.pcr15() {
            return Err(Status::failed_precondition(
                "this node belongs to another cluster",
            ));
        }
        let turn = Arc::clone(&self.turn)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("another backup is under way"))?;
        Ok(Admitted {
            key,
            cluster_id,
            turn,
        })
    }
}

/// Who has shown the key, and has the turn.
struct Admitted {
    key: BackupKey,
    cluster_id: ClusterId,
    turn: OwnedSemaphorePermit,
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, Status>> + Send>>;

/// Makes the backup, as long as somebody reads it.
fn pieces(node: Node, admitted: Admitted) -> Pieces {
    let (answer, answers) = mpsc::channel(2);
    tokio::spawn(async move {
        let (sink, mut made) = mpsc::channel::<Vec<u8>>(2);
        let Admitted {
            key,
            cluster_id,
            turn,
        } = admitted;
        let making = async move {
            k8s::backup::create(&node, &key, &cluster_id, Timestamp::now(), &sink).await
        };
        let passing = async {
            while let Some(data) = made.recv().await {
                let passed = tokio::time::timeout(READ, answer.send(Ok(Piece { data }))).await;
                if !matches!(passed, Ok(Ok(()))) {
                    // what is made after this has nobody to go to, and ends
                    made.close();
                    return;
                }
            }
        };
        let made = tokio::time::timeout(DEADLINE, async { tokio::join!(making, passing).0 }).await;
        drop(turn);
        let failed = match made {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(error = %runtime::chain(&error), "no backup");
                Status::internal(runtime::chain(&error).to_string())
            }
            Err(_) => Status::deadline_exceeded("the backup takes too long"),
        };
        // whoever is gone needs no reason
        let _gone = tokio::time::timeout(READ, answer.send(Err(failed))).await;
    });
    Box::pin(ReceiverStream::new(answers))
}

impl BackupServer {
    /// For a machine that is no member yet, beside its init server.
    pub fn beside(init: Arc<InitServer>, member: Membered) -> Self {
        Self {
            init: Some(init),
            member,
        }
    }

    /// For a member.
    pub fn of(member: Membered) -> Self {
        Self { init: None, member }
    }
}

#[async_trait::async_trait]
impl api_server::Api for BackupServer {
    type CreateStream = Pieces;

    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<Self::CreateStream>, Status> {
        let member = self.member.get().ok_or_else(|| {
            Status::failed_precondition("this machine is no control plane of a cluster yet")
        })?;
        let peer = request.extensions().get::<Peer<Unproved>>().cloned();
        let admitted = member.admit(request.into_inner()).await?;
        if let Some(peer) = peer {
            peer.may_stay(DEADLINE);
        }
        member
            .console
            .say("the administrator makes a backup of this cluster");
        Ok(Response::new(pieces(member.node.clone(), admitted)))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let init = self.init.as_ref().ok_or_else(|| {
            Status::failed_precondition("this machine belongs to a cluster already")
        })?;
        init.upload(request).await.map(Response::new)
    }
}

/// Serves backups until the end, as soon as the port is free.
pub async fn serve(port: u16, member: Membered, console: &Console) {
    let Some(machine) = member.get().map(|member| member.machine.clone()) else {
        return;
    };
    let listener = loop {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::debug!(error = %runtime::chain(&error), port, "waiting for the port");
                tokio::time::sleep(PORT_PAUSE).await;
            }
        }
    };
    let channel = match channel::Server::node(machine.issuer()) {
        Ok(channel) => channel.with_limits(LIMITS),
        Err(error) => {
            console.complain("no backups can be made from this node", &error);
            return;
        }
    };
    let service =
        api_server::ApiServer::new(BackupServer::of(member)).max_decoding_message_size(MAX_MESSAGE);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .concurrency_limit_per_connection(2)
        .max_concurrent_streams(2)
        .timeout(ANSWER)
        .add_service(service)
        .serve_with_incoming(incoming(listener, channel))
        .await;
    if let Err(error) = served {
        console.complain("the backup server stopped", &error);
    }
}
