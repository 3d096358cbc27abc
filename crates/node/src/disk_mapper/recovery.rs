//! Serves recovery while the machine waits for its disk's key: an administrator asks which disk waits, and gives its key.
//!
//! Every machine that waits serves it, whatever the infrastructure says about its role, and before the infrastructure has said
//! anything (`docs/adr/whoever-waits-serves-recovery.md`). Anybody may connect, so nothing here may keep an administrator out: connections
//! that give no keys end after seconds, others after a minute or two, and for each of them this machine's TPM had to make a statement, so
//! that they do not come faster than they go; keys are tried one after the other: those of one source in the order in which they came, one source after the
//! other. So a key is tried after at most as many others as a source has connections, and there are sources.
//! Whose key opens the disk is decided by the disk. The one who tries keys is [`super::unlock`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use attest::Issue;
use channel::{Limits, Unproved};
use cluster::recovery::{Offer, Request as Keys, Waiting};
use cluster::{DiskUuid, NodeName};
use proto::recover::api_server::{Api, ApiServer};
use proto::recover::{DescribeRequest, DescribeResponse, RecoverRequest, RecoverResponse};
use runtime::Source;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Port of recovery.
pub const RECOVERY_PORT: u16 = 9999;

/// Handshakes make the TPM work, which software emulation makes slow: no more at once than it does within the channel's deadline.
/// Finished connections cost memory only, and one that does nothing ends after [`AGE`]: there is room for all that a TPM can make
/// statements for in that time, also a fast one in software. One that is never finished makes room.
const LIMITS: Limits = Limits {
    handshakes: 16,
    handshakes_per_source: 8,
    connections: 2048,
    connections_per_source: 1024,
    age: AGE,
};
/// Sources are forgotten when there are more than so many and nobody waits for them.
const SOURCES: usize = 1024;

/// A connection ends after the first of the two if it gives no keys, and after their sum whatever it does.
const AGE: Duration = Duration::from_secs(15);
const GRACE: Duration = Duration::from_secs(90);
const MAX_REQUEST: usize = 4 * 1024;
const MAX_HEADERS: u32 = 8 * 1024;
/// How long the answer to the key that opened the disk may take on its way: somebody may hold his connection open.
const FAREWELL: Duration = Duration::from_secs(5);

/// Keys that somebody gave, to be tried on the disk.
pub struct Offered {
    /// The keys.
    pub offer: Offer,
    /// Where they came from.
    pub from: IpAddr,
    answer: oneshot::Sender<Result<(), Refused>>,
    // the next of this source comes when these were tried
    _turn: OwnedSemaphorePermit,
}

/// Why a machine was not recovered, for whoever gave the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is another disk's key, or another cluster's.
    #[error(
        "the key does not open this machine's state disk; nothing was changed, and the machine waits on"
    )]
    WrongKey,
    /// The disk did not open, and that says nothing about the key.
    #[error(
        "the state disk could not be opened ({0}); nothing was changed, and the machine waits on"
    )]
    NotOpened(String),
    /// The disk is open, and the machine can not be marked: it starts again.
    #[error(
        "the disk was opened, but the machine could not be marked ({0}); it restarts and can be recovered then"
    )]
    NotMarked(String),
}

impl Offered {
    /// Whether anybody still waits for the answer.
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Splits the keys from the one who waits for the answer.
    pub fn into_parts(self) -> (Offer, Giver) {
        let giver = Giver {
            from: self.from,
            answer: self.answer,
        };
        (self.offer, giver)
    }
}

/// Who gave a key, and waits to hear what became of it.
pub struct Giver {
    /// Where he is.
    pub from: IpAddr,
    answer: oneshot::Sender<Result<(), Refused>>,
}

impl Giver {
    /// Tells him.
    pub fn tell(self, outcome: Result<(), Refused>) {
        // he may be gone
        let _gone = self.answer.send(outcome);
    }
}

/// The server of a machine that waits.
pub struct RecoveryServer {
    offers: mpsc::Receiver<Offered>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Recovery can not be served.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The port.
    #[error("listening on port {RECOVERY_PORT}")]
    Listen(#[source] std::io::Error),
    /// The attested channel.
    #[error("setting up the attested channel")]
    Channel(#[source] channel::SetupError),
}

impl RecoveryServer {
    /// Listens on every address that this machine has or gets. `name` is what the infrastructure calls it, as soon as it does.
    pub async fn listen(
        issuer: Arc<dyn Issue>,
        disk_uuid: DiskUuid,
        name: Arc<OnceLock<NodeName>>,
    ) -> Result<Self, RecoveryError> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, RECOVERY_PORT))
            .await
            .map_err(RecoveryError::Listen)?;
        Self::serve(listener, issuer, disk_uuid, name)
    }

    /// Serves on a port that is there.
    pub fn serve(
        listener: TcpListener,
        issuer: Arc<dyn Issue>,
        disk_uuid: DiskUuid,
        name: Arc<OnceLock<NodeName>>,
    ) -> Result<Self, RecoveryError> {
        let channel = channel::Server::node(issuer)
            .map_err(RecoveryError::Channel)?
            .with_limits(LIMITS);
        let (sender, offers) = mpsc::channel(1);
        let service = Recovery {
            disk_uuid,
            name,
            offers: sender,
            turns: Turns::default(),
        };
        let stop = CancellationToken::new();
        let serving = tonic::transport::Server::builder()
            .timeout(GRACE)
            .max_concurrent_streams(1)
            .http2_max_header_list_size(MAX_HEADERS)
            .add_service(ApiServer::new(service).max_decoding_message_size(MAX_REQUEST))
            .serve_with_incoming_shutdown(
                channel::tonic::incoming(listener, channel),
                stop.clone().cancelled_owned(),
            );
        Ok(Self {
            offers,
            stop,
            serving: tokio::spawn(serving),
        })
    }

    /// The next keys to be tried.
    pub async fn next(&mut self) -> Offered {
        match self.offers.recv().await {
            Some(offered) => offered,
            // the server ended; the join services are left
            None => std::future::pending().await,
        }
    }

    /// Takes no more keys, lets the last answer reach its giver, and ends.
    pub async fn end(mut self) {
        self.offers.close();
        // whoever is in the queue is told that the machine has its key
        while self.offers.try_recv().is_ok() {}
        self.stop.cancel();
        let ended = tokio::time::timeout(FAREWELL, &mut self.serving).await;
        if ended.is_err() {
            tracing::info!("somebody holds a connection to the recovery server open; it is closed");
        }
    }
}

impl Drop for RecoveryServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Recovery {
    disk_uuid: DiskUuid,
    name: Arc<OnceLock<NodeName>>,
    offers: mpsc::Sender<Offered>,
    turns: Turns,
}

/// Whose turn it is among those of one source.
#[derive(Default)]
struct Turns(Mutex<HashMap<Source, Arc<Semaphore>>>);

impl Turns {
    /// Waits until it is one's turn, in the order of those who came.
    async fn take(&self, source: Source) -> OwnedSemaphorePermit {
        let turn = {
            // every change is one insert or one removal of what nobody has
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() > SOURCES {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(
                turns
                    .entry(source)
                    .or_insert_with(|| Arc::new(Semaphore::new(1))),
            )
        };
        turn.acquire_owned()
            .await
            .expect("nobody closes this semaphore")
    }
}

fn over() -> Status {
    Status::failed_precondition("this machine does not wait any more: somebody gave it its key")
}

impl From<&Refused> for Status {
    fn from(refused: &Refused) -> Self {
        let text = refused.to_string();
        match refused {
            Refused::WrongKey => Self::permission_denied(text),
            Refused::NotOpened(_) | Refused::NotMarked(_) => Self::aborted(text),
        }
    }
}

#[async_trait::async_trait]
impl Api for Recovery {
    async fn describe(
        &self,
        _request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        if self.offers.is_closed() {
            return Err(over());
        }
        let waiting = Waiting {
            disk_uuid: self.disk_uuid,
            node_name: self.name.get().cloned(),
        };
        Ok(Response::new(DescribeResponse::from(&waiting)))
    }

    async fn recover(
        &self,
        request: Request<RecoverRequest>,
    ) -> Result<Response<RecoverResponse>, Status> {
        let from = channel::tonic::address::<_, Unproved>(&request)
            .ok_or_else(|| Status::unauthenticated("not over the attested channel"))?;
        // as long as they may wait for their turn
        channel::tonic::may_stay::<_, Unproved>(&request, AGE + GRACE);
        let offer = Keys::from(request.into_inner())
            .check()
            .map_err(|error| Status::invalid_argument(runtime::chain(&error).to_string()))?;
        let turn = self.turns.take(from.into()).await;
        let (answer, answered) = oneshot::channel();
        let offered = Offered {
            offer,
            from: from.ip(),
            answer,
            _turn: turn,
        };
        self.offers.send(offered).await.map_err(|_| over())?;
        match answered.await {
            Ok(Ok(())) => Ok(Response::new(RecoverResponse {})),
            Ok(Err(refused)) => Err(Status::from(&refused)),
            Err(_) => Err(over()),
        }
    }
}
