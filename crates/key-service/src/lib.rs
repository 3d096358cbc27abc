//! Gives data keys to the programs that the closed table `keys::access` names, and to nobody else.
//!
//! A caller connects over TLS to a certificate of the cluster's CA and shows its service account's token for the audience
//! [`AUDIENCE`]; the API server says whose it is; the table says what it may have; every answer and refusal is an audit event.
//! This service keeps no key and wraps none: it derives from the master secret, which only it has mounted.
//! Design: `docs/life-of-a-key.md`.

mod caller;
mod disks;
mod secret;
mod service;
mod tls;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use proto::kms::api_server::ApiServer;
use tokio::net::TcpListener;

/// The audience that a caller's token must be for.
pub const AUDIENCE: &str = "key-service";

/// Every message of this protocol is tiny.
const MESSAGE_MAX: usize = 1024;

/// Arguments of the key service.
#[derive(Debug, clap::Parser)]
#[command(version, about)]
pub struct Arguments {
    /// Address of the API.
    #[arg(long, default_value = "0.0.0.0:9000")]
    pub listen: SocketAddr,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:9001")]
    pub operations: SocketAddr,
    /// Directory with the files `mastersecret` and `salt`.
    #[arg(long, default_value = "/var/config")]
    pub secret: PathBuf,
    /// Directory with the files `tls.crt` and `tls.key`; read again when they change.
    #[arg(long, default_value = "/var/run/key-service")]
    pub tls: PathBuf,
    /// A kubeconfig, where the service does not run as a pod.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// Builds every part in dependency order and serves until it is asked to stop.
///
/// # Errors
/// When a part cannot be built: a wrong master secret, no certificate, a taken port.
pub async fn run(arguments: Arguments, context: runtime::Context) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("bind {}", arguments.listen))?;
    runtime::serve_operations(arguments.operations, &context).await?;

    let root = secret::Root::read(&arguments.secret)?;
    let certificate = tls::Certificate::load(&arguments.tls)?;
    certificate
        .clone()
        .keep_fresh(context.health.condition("server certificate"));
    let client = match &arguments.kubeconfig {
        Some(path) => k8s::api::client(path).await?,
        None => kube::Client::try_from(kube::Config::incluster()?)?,
    };

    let callers = caller::Callers::new(client.clone());
    let disks = disks::StateDisks::new(client);
    let service = service::KeyService::new(Arc::new(root), callers, disks, &context.metrics);

    let shutdown = context.shutdown.clone();
    let incoming = tls::incoming(listener, certificate, shutdown.clone())?;
    tracing::info!(address = %arguments.listen, "serving");
    tonic::transport::Server::builder()
        .timeout(Duration::from_secs(15))
        .concurrency_limit_per_connection(16)
        .max_concurrent_streams(16)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        // A connection's place is not for ever: callers make new ones by themselves.
        .max_connection_age(Duration::from_secs(300))
        .max_connection_age_grace(Duration::from_secs(20))
        .http2_max_header_list_size(32 * 1024)
        .add_service(ApiServer::new(service).max_decoding_message_size(MESSAGE_MAX))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
        .context("serve the API")
}
