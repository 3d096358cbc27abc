//! The init of a cluster: over the attested channel to the first node, resumed when the connection breaks.
//!
//! Before anything is sent the node proves that it booted what the config accepts and belongs to no cluster, or to this
//! one when an earlier attempt had begun. What it answers is believed only because of that proof.

mod record;
mod refusal;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attest::{ClusterIdDigest, ClusterMark, Policy};
use channel::{Client, Verifier};
use cluster::catalogue::Components;
use cluster::config::Config;
use cluster::network::DEFAULT_POD_CIDR;
use cluster::plan::Step;
use cluster::state::{ClusterValues, Infrastructure};
use keys::{ClusterId, MasterSecretFile, MeasurementSalt, MeasurementSecret};
use proto::init::init_response::Kind;
use proto::init::{InitRequest, InitResponse, api_client::ApiClient};
use serde::Serialize;

use self::record::Record;
use self::refusal::{is_busy, is_connection, refused, untrusted};
use crate::backup::{self, Restore, Uploaded};
use crate::failure::Failure;
use crate::output::Terminal;
use crate::text::{address, chain, printable};
use crate::vendors::Vendors;
use crate::workspace::{self, Workspace};

/// Port of the bootstrapper.
pub(crate) const PORT: u16 = 9000;
/// How long the whole init may take.
const DEADLINE: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(2);
/// For so long a machine that is not reached is most likely one that still boots.
const NORMAL: Duration = Duration::from_secs(30);
/// The most of a failed node's log that is kept.
const MAX_LOG: usize = 16 << 20;

/// Everything an init needs.
pub(crate) struct Init<'a> {
    pub workspace: &'a Workspace,
    pub config: &'a Config,
    pub infrastructure: &'a Infrastructure,
    pub components: &'a Components,
    /// Base URL from which nodes fetch the components; empty: each from its own URL.
    pub mirror: String,
    /// The backup that the cluster is made of, if it is not new.
    pub restore: Option<&'a Restore>,
}

/// What an init gave.
pub(crate) struct Initialised {
    pub cluster_values: ClusterValues,
    pub kubeconfig: Vec<u8>,
    /// The node's own account of its phases.
    pub progress: Vec<Progress>,
    /// When the node was reached.
    pub reached: Instant,
}

/// One phase as the node told it.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    pub phase: String,
    pub detail: String,
    pub elapsed_ms: u64,
    /// When this program heard of it.
    #[serde(skip)]
    pub heard: Instant,
}

impl Progress {
    /// Whether the API server has given its first answer.
    pub(crate) fn is_api_ready(&self) -> bool {
        self.phase == Step::ApiServer.title() && self.detail == "done"
    }
}

/// Why the node is not reached, told to whoever waits: at once where progress is shown, and for good when it lasts.
struct Trouble<'a> {
    terminal: &'a Terminal,
    address: &'a str,
    begun: Instant,
    last: String,
    noted: BTreeSet<String>,
}

impl<'a> Trouble<'a> {
    fn new(terminal: &'a Terminal, address: &'a str) -> Self {
        Self {
            terminal,
            address,
            begun: Instant::now(),
            last: String::new(),
            noted: BTreeSet::new(),
        }
    }

    fn tell(&mut self, reason: String) {
        let address = self.address;
        if self.last != reason {
            self.terminal.progress(format_args!("{address}: {reason}"));
        }
        if self.begun.elapsed() >= NORMAL && self.noted.insert(reason.clone()) {
            self.terminal.note(format_args!(
                "{address} is not reached: {reason}; trying on"
            ));
        }
        self.last = reason;
    }
}

/// How a stream of answers ended without success.
enum Ended {
    /// The connection broke; the init goes on without us.
    Broken(String),
    Failed(Failure),
}

impl Init<'_> {
    /// Runs the init to its end. `reached` is called once, when the node has proved itself.
    pub(crate) async fn run(
        &self,
        terminal: &Terminal,
        reached: impl Fn(),
    ) -> Result<Initialised, Failure> {
        let record =
            Record::read_or_begin(self.workspace, self.restore.map(|restore| restore.sha256))?;
        let secret = self.workspace.master_secret()?;
        let salt = MeasurementSalt::from_slice(&record.measurement_salt)
            .map_err(|error| Failure::internal("the measurement salt").because(error))?;
        let measurement_secret = MeasurementSecret::derive(&secret.master_secret, &secret.salt);
        let cluster_id = ClusterId::derive(&measurement_secret, &salt);
        let policy = Arc::new(self.config.attestation.policy.clone());
        let mark = ClusterMark::NotJoinedOrCluster(ClusterIdDigest::of(cluster_id.as_bytes()));
        let client = Client::admin(
            Verifier::new(Arc::clone(&policy), mark).with_endorsements(Vendors::default()),
        );
        let request = self.request(&record, &secret, &policy);
        let address = address(&self.infrastructure.cluster_endpoint, PORT);

        let begun = Instant::now();
        let mut first_reached: Option<Instant> = None;
        let mut progress: Vec<Progress> = Vec::new();
        let mut trouble = Trouble::new(terminal, &address);
        while begun.elapsed() < DEADLINE {
            let (channel, peer) = match channel::tonic::connect(&client, address.clone()).await {
                Ok(connected) => connected,
                Err(error) if error.is_transient() => {
                    trouble.tell(chain(&error));
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(untrusted(&address, error)),
            };
            if first_reached.is_none() {
                first_reached = Some(Instant::now());
                reached();
                let image = peer
                    .verified()
                    .image_name()
                    .unwrap_or("an accepted image")
                    .to_owned();
                terminal.debug(format_args!("{address} proved that it runs {image}"));
            }
            // anew on each connection: what broke the last one may have taken the upload with it
            if let Some(restore) = self.restore {
                terminal.progress("the backup is uploaded");
                let secret = self.infrastructure.init_secret.expose_bytes();
                match backup::upload(channel.clone(), secret, restore).await {
                    // where an init has begun it is the one of our record, which has this backup, or ours is refused
                    Ok(Uploaded::Whole | Uploaded::TooLate) => {}
                    Err(status) if is_connection(&status) || is_busy(&status) => {
                        trouble.tell(printable(status.message()));
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                    Err(status) => return Err(refused(&address, &status)),
                }
            }
            let mut api = ApiClient::new(channel);
            let stream = match api.init(request.clone()).await {
                Ok(answer) => answer.into_inner(),
                Err(status) if is_connection(&status) => {
                    trouble.tell(printable(status.message()));
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(status) => return Err(refused(&address, &status)),
            };
            match self.follow(stream, terminal, &mut progress).await {
                Ok(success) => {
                    let told = ClusterId::from_slice(&success.cluster_id).ok();
                    if told.as_ref() != Some(&cluster_id) {
                        return Err(Failure::trust("the node answered for another cluster than the one it was asked to make")
                            .hint("`constellation mini down` and begin anew"));
                    }
                    let owner_id = hex::encode(&success.owner_id);
                    return Ok(Initialised {
                        cluster_values: ClusterValues {
                            cluster_id,
                            owner_id,
                            measurement_salt: salt,
                        },
                        kubeconfig: success.kubeconfig,
                        progress,
                        reached: first_reached.unwrap_or(begun),
                    });
                }
                Err(Ended::Failed(failure)) => return Err(failure),
                Err(Ended::Broken(why)) => {
                    terminal.note(format_args!("the connection to {address} broke ({why}); the init goes on, connecting again"));
                    trouble.last = why;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        let failure = if first_reached.is_some() {
            Failure::cluster(format!(
                "the init did not end within {} minutes",
                DEADLINE.as_secs() / 60
            ))
        } else {
            Failure::infrastructure(format!(
                "{address} could not be reached within {} minutes",
                DEADLINE.as_secs() / 60
            ))
        };
        Err(if trouble.last.is_empty() {
            failure
        } else {
            failure.because(std::io::Error::other(trouble.last))
        })
    }

    /// Forgets the attempt, when its result is safe.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        workspace::remove(&self.workspace.init_record_path())
    }

    fn request(&self, record: &Record, secret: &MasterSecretFile, policy: &Policy) -> InitRequest {
        let Infrastructure {
            cluster_endpoint,
            in_cluster_endpoint,
            init_secret,
            api_server_cert_sans,
            ..
        } = self.infrastructure;
        let mut sans: Vec<String> = [
            Some(cluster_endpoint),
            Some(in_cluster_endpoint),
            self.config.custom_endpoint.as_ref(),
        ]
        .into_iter()
        .flatten()
        .chain(api_server_cert_sans)
        .cloned()
        .collect();
        sans.sort();
        sans.dedup();
        InitRequest {
            kms_uri: keys::uri::expose_cluster_kms(&secret.master_secret, &secret.salt).to_string(),
            storage_uri: keys::uri::NO_STORE.to_owned(),
            measurement_salt: record.measurement_salt.to_vec(),
            kubernetes_version: self.config.kubernetes_version.to_string(),
            kubernetes_components: self.components.as_slice().iter().map(Into::into).collect(),
            init_secret: init_secret.expose_bytes().to_vec(),
            cluster_name: self.config.name.to_string(),
            apiserver_cert_sans: sans,
            service_cidr: self.config.service_cidr.to_string(),
            pod_cidr: DEFAULT_POD_CIDR.to_string(),
            attestation_policy: policy.to_json().into_bytes(),
            component_mirror: self.mirror.clone(),
            request_id: record.request_id.to_vec(),
            restore_sha256: self
                .restore
                .map(|restore| restore.sha256.to_vec())
                .unwrap_or_default(),
        }
    }

    async fn follow(
        &self,
        mut stream: tonic::Streaming<InitResponse>,
        terminal: &Terminal,
        progress: &mut Vec<Progress>,
    ) -> Result<proto::init::InitSuccess, Ended> {
        // a resumed stream repeats everything from the beginning
        let known = progress.len();
        let mut seen = 0;
        let mut failed: Option<String> = None;
        let mut log: Vec<u8> = Vec::new();
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // a failure whose log was cut short is still that failure
                Err(_) if failed.is_some() => break,
                Err(status) if is_connection(&status) => {
                    return Err(Ended::Broken(printable(status.message())));
                }
                Err(status) => {
                    return Err(Ended::Failed(refused(
                        &self.infrastructure.cluster_endpoint,
                        &status,
                    )));
                }
            };
            match message.kind {
                Some(Kind::InitSuccess(success)) => return Ok(success),
                Some(Kind::InitFailure(failure)) => failed = Some(failure.error),
                Some(Kind::Log(chunk)) if log.len() < MAX_LOG => log.extend_from_slice(&chunk.log),
                Some(Kind::Progress(told)) => {
                    seen += 1;
                    if seen > known {
                        let proto::init::Progress {
                            phase,
                            detail,
                            elapsed_ms,
                        } = told;
                        let colon = if detail.is_empty() { "" } else { ": " };
                        terminal.progress(format_args!("{phase}{colon}{}", printable(&detail)));
                        progress.push(Progress {
                            phase,
                            detail,
                            elapsed_ms,
                            heard: Instant::now(),
                        });
                    }
                }
                Some(Kind::Log(_)) | None => {}
            }
        }
        let Some(error) = failed else {
            return Err(Ended::Broken("the node ended the answer".to_owned()));
        };
        let mut failure = Failure::cluster(format!("the init failed: {}", printable(&error)));
        let path = self.workspace.cluster_log_path();
        failure = match workspace::replace(&path, &log, 0o600) {
            Ok(()) => failure.hint(format!(
                "the node's log is in {}; a failed init can not be repeated on the same machine: `constellation mini down`, then `up`",
                path.display()
            )),
            Err(write) => failure.hint(format!("its log could not be written: {write}")),
        };
        Err(Ended::Failed(failure))
    }
}
