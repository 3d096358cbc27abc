//! `verify.API` of a machine that is no member yet, so that one that may not join can still be examined from outside. Stops before
//! kubelet starts: from then on the verification service has the port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::{Binding, Issue};
use proto::verify::{GetAttestationRequest, GetAttestationResponse, api_server};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Port of the verification service.
pub const PORT: u16 = 30081;

/// Requests are a nonce.
const MAX_REQUEST: usize = 1024;

/// At once.
const CONNECTIONS: usize = 16;
const CONNECTIONS_PER_SOURCE: usize = 4;

/// How long open connections get when the server stops.
const DRAIN: Duration = Duration::from_secs(3);

/// A running server.
pub struct VerifyServer {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl VerifyServer {
    /// Serves evidence of `issuer` on an address.
    pub async fn start(address: SocketAddr, issuer: Arc<dyn Issue>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let service = api_server::ApiServer::new(Evidence {
            issuer,
            queue: Arc::new(Semaphore::new(1)),
        })
        .max_decoding_message_size(MAX_REQUEST);
        let listener = runtime::BoundedListener::new(listener, CONNECTIONS, CONNECTIONS_PER_SOURCE);
        let server = runtime::public_grpc()
            .concurrency_limit_per_connection(2)
            .max_concurrent_streams(2)
            .add_service(service)
            .serve_with_incoming_shutdown(listener.into_incoming(), stopped);
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::warn!(error = %runtime::chain(&error), "the verification server stopped");
            }
        });
        Ok(Self {
            stop,
            task: Mutex::new(Some(task)),
        })
    }

    /// Stops, and returns when the port is free.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(mut task) = self.task.lock().await.take()
            && tokio::time::timeout(DRAIN, &mut task).await.is_err()
        {
            task.abort();
            // an aborted task ends with an error that says so
            let _aborted = task.await;
        }
    }
}

struct Evidence {
    issuer: Arc<dyn Issue>,
    queue: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl api_server::Api for Evidence {
    async fn get_attestation(
        &self,
        request: Request<GetAttestationRequest>,
    ) -> Result<Response<GetAttestationResponse>, Status> {
        let nonce = request
            .get_ref()
            .parse_nonce()
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let turn = Arc::clone(&self.queue)
            .acquire_owned()
            .await
            .map_err(|_| Status::unavailable("stopping"))?;
        let issuer = Arc::clone(&self.issuer);
        // The TPM makes a statement to its end, also for a caller that hung up, and has one turn at a time.
        let issued = tokio::task::spawn_blocking(move || {
            let issued = issuer.issue(&Binding::for_verification(&nonce));
            drop(turn);
            issued
        });
        let evidence = issued
            .await
            .map_err(|_| Status::internal("the TPM did not answer"))?
            .map_err(|error| {
                tracing::error!(error = %runtime::chain(&error), "no evidence");
                Status::internal("the TPM did not answer")
            })?;
        Ok(Response::new(GetAttestationResponse::from(&evidence)))
    }
}
