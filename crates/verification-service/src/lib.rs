//! Hands out evidence of the node it runs on, over a nonce of whoever asks.
//!
//! The statement proves itself: it is signed by the machine's TPM and bound to the nonce, so the way it travels needs no
//! protection, and this service holds no secret. It appraises nothing: that is the caller's, with its own policy.
//! What it must do is to stay cheap: a TPM does one thing at a time, and the node needs it too, so requests are
//! queued up to a bound and paced. Design: `docs/attestation.md`; formats as the original's.

mod evidence;
mod grpc;
mod web;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use proto::verify::api_server::ApiServer;
use tokio::net::TcpListener;

use evidence::Evidences;
use tee::{TpmAddress, TpmIssuer};

/// A request is a nonce.
const MESSAGE_MAX: usize = 1024;
/// Of each API.
const CONNECTIONS: usize = 64;
const CONNECTIONS_PER_SOURCE: usize = 16;

/// Arguments of the verification service.
#[derive(Debug, clap::Parser)]
#[command(version, about)]
pub struct Arguments {
    /// Address of the gRPC API.
    #[arg(long, default_value = "0.0.0.0:30081")]
    pub grpc: SocketAddr,
    /// Address of the HTTP API.
    #[arg(long, default_value = "0.0.0.0:30080")]
    pub http: SocketAddr,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:10281")]
    pub operations: SocketAddr,
    /// A swtpm socket instead of this machine's TPM.
    #[arg(long, requires = "event_log")]
    pub swtpm: Option<PathBuf>,
    /// The boot event log that belongs to the swtpm.
    #[arg(long, requires = "swtpm")]
    pub event_log: Option<PathBuf>,
}

/// Builds every part in dependency order and serves until it is asked to stop.
///
/// # Errors
/// When a port is taken. A TPM that fails makes the service not ready instead: it may come back.
pub async fn run(arguments: Arguments, context: runtime::Context) -> anyhow::Result<()> {
    let grpc = TcpListener::bind(arguments.grpc)
        .await
        .with_context(|| format!("bind {}", arguments.grpc))?;
    let http = TcpListener::bind(arguments.http)
        .await
        .with_context(|| format!("bind {}", arguments.http))?;
    runtime::serve_operations(arguments.operations, &context).await?;

    let issuer = match (arguments.swtpm, arguments.event_log) {
        (Some(socket), Some(event_log)) => TpmIssuer::new(TpmAddress::Unix(socket), event_log),
        _ => TpmIssuer::of_this_machine(),
    };
    let evidences = Evidences::new(Arc::new(issuer), &context);

    tokio::spawn(web::serve(
        bounded(http),
        evidences.clone(),
        context.shutdown.clone(),
    ));
    tracing::info!(grpc = %arguments.grpc, http = %arguments.http, "serving");
    runtime::public_grpc()
        .concurrency_limit_per_connection(4)
        .max_concurrent_streams(4)
        .add_service(
            ApiServer::new(grpc::Verification::new(evidences))
                .max_decoding_message_size(MESSAGE_MAX),
        )
        .serve_with_incoming_shutdown(
            bounded(grpc).into_incoming(),
            context.shutdown.cancelled_owned(),
        )
        .await
        .context("serve the API")
}

fn bounded(listener: TcpListener) -> runtime::BoundedListener {
    runtime::BoundedListener::new(listener, CONNECTIONS, CONNECTIONS_PER_SOURCE)
}
