//! The port that an administrator inits a machine at: Init, and the upload of a backup to make a cluster of.
//!
//! Anybody may connect. What a connection sends is in memory before the init secret in it can be looked at, so connections, requests on
//! each, and the age of one that has not shown the secret are bounded.

use std::sync::Arc;
use std::time::Duration;

use attest::Issue;
use channel::{Limits, SetupError};
use proto::{backup, init};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backup_server::{self, BackupServer, Membered};
use super::init_server::{InitServer, MAX_REQUEST};

/// How long a connection may be silent until it is asked whether somebody is there, and how long the answer may take. Minutes pass between
/// two lines of progress, and what is on the way forgets silent connections.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(60);

/// [`MAX_REQUEST`] for each of [`STREAMS`] of each connection is 256 MiB.
const LIMITS: Limits = Limits {
    handshakes: 16,
    handshakes_per_source: 8,
    connections: 128,
    connections_per_source: 32,
    age: Duration::from_secs(60),
};
const STREAMS: u32 = 2;

/// Serves until `stop`.
///
/// # Errors
/// When the attested channel can not be set up.
pub fn serve(
    listener: TcpListener,
    issuer: Arc<dyn Issue>,
    service: Arc<InitServer>,
    member: Membered,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, SetupError> {
    let channel = channel::Server::node(issuer)?.with_limits(LIMITS);
    let backups = BackupServer::beside(Arc::clone(&service), member);
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .max_concurrent_streams(STREAMS)
        .add_service(
            init::api_server::ApiServer::from_arc(service).max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(
            backup::api_server::ApiServer::new(backups)
                .max_decoding_message_size(backup_server::MAX_MESSAGE),
        )
        .serve_with_incoming_shutdown(
            channel::tonic::incoming(listener, channel),
            stop.cancelled_owned(),
        );
    Ok(tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(error = %runtime::chain(&error), "the init server stopped");
        }
    }))
}
