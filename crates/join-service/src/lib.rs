//! Admits attested machines to the cluster and issues their tickets; gives a node its own disk's key again after a reboot.
//!
//! A machine connects over the attested channel, where both sides prove what they run (`channel`); what it asks for is decided
//! by `cluster::admission` over the records of the nodes there are; the record is written before the ticket is made; the
//! keys come from the key service, which this service calls with its own token. Afterwards it approves the node's certificates
//! (`approver`). It keeps no state of its own: what it knows is in the API. Design: `docs/life-of-a-join.md`.

mod admission;
mod approver;
mod config;
mod events;
mod handshakes;
mod key_client;
mod records;
mod refusal;
mod service;
mod ticket;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use attest::ClusterMark;
use channel::{Server, Verifier};
use proto::join::api_server::ApiServer;
use tee::{TpmAddress, TpmIssuer};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A request is a few short fields.
const MESSAGE_MAX: usize = 16 * 1024;

/// Arguments of the join service.
#[derive(Debug, clap::Parser)]
#[command(version, about)]
pub struct Arguments {
    /// Address of the API, over the attested channel.
    #[arg(long, default_value = "0.0.0.0:30090")]
    pub listen: SocketAddr,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:10290")]
    pub operations: SocketAddr,
    /// Address of the key service.
    #[arg(long)]
    pub key_service: SocketAddr,
    /// File with this service's token for the key service; read for each call, since it is rotated.
    #[arg(long)]
    pub key_service_token: PathBuf,
    /// File with the certificate of the cluster's CA.
    #[arg(long)]
    pub cluster_ca: PathBuf,
    /// Directory of this control plane's Kubernetes: authorities with their keys, and the key of secrets in etcd. Read when another control
    /// plane was admitted.
    #[arg(long, default_value = "/etc/kubernetes")]
    pub kubernetes: PathBuf,
    /// A kubeconfig, where the service does not run as a pod.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
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
/// When a part cannot be built: no API access, no cluster CA, a taken port.
pub async fn run(arguments: Arguments, context: runtime::Context) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("bind {}", arguments.listen))?;
    runtime::serve_operations(arguments.operations, &context).await?;

    let client = match &arguments.kubeconfig {
        Some(path) => k8s::api::client(path).await?,
        None => kube::Client::try_from(kube::Config::incluster()?)?,
    };
    let issuer = match (arguments.swtpm, arguments.event_log) {
        (Some(socket), Some(event_log)) => TpmIssuer::new(TpmAddress::Unix(socket), event_log),
        _ => TpmIssuer::of_this_machine(),
    };
    let authority = ticket::Authority::read(&arguments.cluster_ca)?;
    let keys = key_client::Keys::new(
        arguments.key_service,
        arguments.key_service_token,
        &arguments.cluster_ca,
    )?;
    let records = records::Records::new(client.clone());
    let events = events::Events::start(client.clone(), &context);

    // Nothing is accepted before there is a policy: the listener's queue holds early callers.
    let condition = context.health.condition("join-config");
    let Some(config) = config::Config::watch(client.clone(), condition, &context.shutdown).await
    else {
        return Ok(());
    };
    approver::start(client.clone(), records.clone(), events.clone(), &context);

    let verifier = Verifier::new(config.policy_source(), ClusterMark::NotJoined);
    let server =
        Server::join_service(Arc::new(issuer), verifier).context("set up the attested channel")?;
    let observer = handshakes::observer(&context.metrics, events.clone());
    let incoming = channel::tonic::incoming_observed(listener, server, observer);

    let admission =
        admission::Admission::start(records.clone(), config.clone(), context.shutdown.clone());
    let maker = ticket::Maker::new(
        client,
        keys,
        records.clone(),
        authority,
        arguments.kubernetes,
    );
    let service =
        service::JoinService::new(config, records, admission, maker, events, &context.metrics);
    tracing::info!(address = %arguments.listen, "serving");
    tonic::transport::Server::builder()
        .timeout(Duration::from_secs(45))
        .concurrency_limit_per_connection(2)
        .max_concurrent_streams(2)
        .http2_keepalive_interval(Some(Duration::from_secs(15)))
        .http2_max_header_list_size(16 * 1024)
        .add_service(ApiServer::new(service).max_decoding_message_size(MESSAGE_MAX))
        .serve_with_incoming_shutdown(incoming, context.shutdown.cancelled_owned())
        .await
        .context("serve the API")
}

/// Starts a task without which the process is of no use: however it ends, by a panic too, the process ends with it.
pub(crate) fn spawn_vital(
    shutdown: CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let end = shutdown.clone().drop_guard();
    tokio::spawn(async move {
        let _end = end;
        shutdown.run_until_cancelled(work).await;
    })
}
