//! Recovery of machines that wait for their disk's key: finds them, demands evidence, and gives each its own key.
//!
//! An address may lead to one machine or, by a load balancer, to several: it is connected to again until nobody new waits behind it
//! for a while. Machines are told apart by the disk that they wait for. What a machine says of itself is believed because it proved to
//! run what the config accepts, and it gets the key of the disk that it names, once: the master secret goes to nobody.

mod report;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use attest::{ClusterIdDigest, ClusterMark, Policy, Verified};
use channel::{Client, Verifier};
use cluster::DiskUuid;
use cluster::recovery::{ClusterKeys, Waiting};
use cluster::state::ClusterValues;
use proto::recover::api_client::ApiClient;
use proto::recover::{DescribeRequest, RecoverRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::failure::Failure;
use crate::output::Terminal;
use crate::text::{chain, printable};
use crate::vendors::Vendors;

pub(crate) use report::{Ended, Endpoint, Machine, Outcome, Report};

/// Port of recovery.
pub(crate) const PORT: u16 = 9999;
/// Between two connections to one address.
const RETRY: Duration = Duration::from_secs(1);
/// How long a machine may take to say which disk waits.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a machine may take to try a key; others may be before this one.
const ATTEMPT: Duration = Duration::from_secs(90);
/// Different machines behind one address that are not what they must be; each could have a new text at each visit, to keep us here.
const REFUSALS: usize = 16;
/// How long machines that have too much to do are asked again, whatever the user's patience is.
const BUSY: Duration = Duration::from_secs(600);
/// How long somebody who only wants to know waits for a machine.
const GLANCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 4 * 1024;

/// One run.
pub(crate) struct Recovery<'a> {
    client: Client,
    keys: ClusterKeys<'a>,
    terminal: &'a Terminal,
    /// The control planes that there are, if anybody knows.
    expected: Option<usize>,
    /// How long to look on after the last machine that was found.
    patience: Duration,
    found: Mutex<BTreeMap<DiskUuid, Machine>>,
}

/// What one connection came to.
enum Visit {
    /// Something new: a machine was recovered, or is known to be refused.
    News,
    /// Nothing new.
    Nothing(Ended),
    /// There is a machine, and others are before us.
    Busy(String),
}

impl<'a> Recovery<'a> {
    /// Of the cluster in the state file.
    pub(crate) fn new(
        policy: &Policy,
        keys: ClusterKeys<'a>,
        values: &ClusterValues,
        expected: Option<usize>,
        patience: Duration,
        terminal: &'a Terminal,
    ) -> Self {
        // one that bears this cluster's mark has its key already; it is no failure of its evidence, and is given nothing
        let cluster = ClusterIdDigest::of(values.cluster_id.as_bytes());
        let mark = ClusterMark::NotJoinedOrCluster(cluster);
        Self {
            client: Client::admin(
                Verifier::new(Arc::new(policy.clone()), mark).with_endorsements(Vendors::default()),
            ),
            keys,
            terminal,
            expected,
            patience,
            found: Mutex::default(),
        }
    }

    /// Looks behind every address until nobody new waits there.
    pub(crate) async fn run(&self, addresses: &[String]) -> Report {
        let all = addresses.iter().map(|address| self.follow(address));
        let endpoints = futures::future::join_all(all).await;
        let machines = self.found().values().cloned().collect();
        Report {
            endpoints,
            machines,
            expected: self.expected,
        }
    }

    async fn follow(&self, address: &str) -> Endpoint {
        let begun = Instant::now();
        let mut quiet = Instant::now();
        let mut refusals: Vec<String> = Vec::new();
        let mut ended = Ended::NothingWaits;
        while quiet.elapsed() <= self.patience && !self.is_complete() {
            match self.visit(address).await {
                Ok(Visit::News) => {
                    quiet = Instant::now();
                    ended = Ended::NothingWaits;
                    continue;
                }
                Ok(Visit::Nothing(how)) => ended = how,
                Ok(Visit::Busy(why)) => {
                    self.terminal.progress(format_args!("{address}: {why}"));
                    if begun.elapsed() < BUSY {
                        quiet = Instant::now();
                    }
                    ended = Ended::Unreachable { reason: why };
                }
                Err(refusal) if refusals.len() == REFUSALS || refusals.contains(&refusal) => {}
                Err(refusal) => {
                    self.terminal
                        .line(format_args!("{address}: NOT TRUSTED, and was sent nothing"));
                    refusals.push(refusal);
                    quiet = Instant::now();
                }
            }
            tokio::time::sleep(RETRY).await;
        }
        Endpoint {
            address: address.to_owned(),
            ended,
            refusals,
        }
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<DiskUuid, Machine>> {
        // every change is one insert
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_complete(&self) -> bool {
        let recovered = self
            .found()
            .values()
            .filter(|machine| machine.outcome == Outcome::Recovered)
            .count();
        self.expected.is_some_and(|expected| recovered >= expected)
    }

    /// One connection. A machine that is not what it must be is an error, as text: it was sent nothing.
    async fn visit(&self, address: &str) -> Result<Visit, String> {
        let (channel, peer) = match channel::tonic::connect(&self.client, address.to_owned()).await
        {
            Ok(connected) => connected,
            Err(error) if error.is_transient() => {
                self.terminal
                    .debug(format_args!("{address}: {}", chain(&error)));
                return Ok(Visit::Nothing(not_there(&error)));
            }
            Err(error) => {
                return Err(match error.refusal() {
                    Some(refusal) => refusal.to_string(),
                    None => chain(&error),
                });
            }
        };
        let verified = peer.verified();
        if verified.has_joined() {
            return Ok(Visit::Nothing(Ended::NothingWaits));
        }
        let mut api = ApiClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let described = tokio::time::timeout(ANSWER, api.describe(DescribeRequest {})).await;
        let waiting = match described.unwrap_or_else(|_| Err(late(ANSWER))) {
            Ok(answer) => Waiting::try_from(answer.into_inner()).map_err(|error| chain(&error))?,
            Err(status) => {
                let reason = printable(status.message());
                return Ok(Visit::Nothing(match status.code() {
                    Code::FailedPrecondition => Ended::NothingWaits,
                    // it is there, it waits, and others hold its connections
                    _ if ended_on_the_way(&status) => return Ok(Visit::Busy(reason)),
                    _ => Ended::Unreachable { reason },
                }));
            }
        };
        Ok(self.give(address, &mut api, verified, waiting).await)
    }

    async fn give(
        &self,
        address: &str,
        api: &mut ApiClient<Channel>,
        verified: &Verified,
        waiting: Waiting,
    ) -> Visit {
        let Some(machine) = self.claim(address, verified, &waiting) else {
            return Visit::Nothing(Ended::NothingWaits);
        };
        let request = RecoverRequest::from(self.keys.for_disk(waiting.disk_uuid));
        let answered = tokio::time::timeout(ATTEMPT, api.recover(request)).await;
        let outcome = match answered.unwrap_or_else(|_| Err(late(ATTEMPT))) {
            Ok(_) => Outcome::Recovered,
            Err(status) => match outcome(&status) {
                Some(outcome) => outcome,
                None => {
                    // not tried: whoever comes next may try
                    self.found().remove(&waiting.disk_uuid);
                    return Visit::Busy(printable(status.message()));
                }
            },
        };
        let machine = Machine { outcome, ..machine };
        self.terminal.line(&machine);
        self.found().insert(waiting.disk_uuid, machine);
        Visit::News
    }

    /// A disk is given its key by one connection at a time, and never a second time in one run, unless it is not known whether the first
    /// arrived.
    fn claim(&self, address: &str, verified: &Verified, waiting: &Waiting) -> Option<Machine> {
        let mut found = self.found();
        let attestation_key = verified.ak_id();
        if let Some(known) = found.get_mut(&waiting.disk_uuid) {
            let another = known.attestation_key != attestation_key;
            if another && known.twin.is_none() {
                self.terminal.line(format_args!(
                    "{address}: ANOTHER MACHINE waits for the key of the disk {} and was given nothing",
                    waiting.disk_uuid
                ));
                known.twin = Some(address.to_owned());
            }
            if another || !matches!(known.outcome, Outcome::Unconfirmed { .. }) {
                return None;
            }
        }
        let machine = Machine {
            disk: waiting.disk_uuid,
            name: waiting.node_name.as_ref().map(ToString::to_string),
            address: address.to_owned(),
            attestation_key,
            outcome: Outcome::Underway,
            twin: None,
        };
        found.insert(waiting.disk_uuid, machine.clone());
        Some(machine)
    }
}

/// Whether a machine that is what it must be waits for its disk's key. For people: one that is slow to answer counts as one that does not.
pub(crate) async fn is_waiting(policy: &Policy, address: &str) -> bool {
    let verifier = Verifier::new(Arc::new(policy.clone()), ClusterMark::NotJoined)
        .with_endorsements(Vendors::within(GLANCE / 2));
    let client = Client::admin(verifier).with_deadline(GLANCE);
    let asked = async {
        let (channel, _) = channel::tonic::connect(&client, address.to_owned())
            .await
            .ok()?;
        let mut api = ApiClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        api.describe(DescribeRequest {}).await.ok()
    };
    tokio::time::timeout(2 * GLANCE, asked)
        .await
        .is_ok_and(|described| described.is_some())
}

/// Whether no answer of the machine's came, but the end of its connection.
fn ended_on_the_way(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn late(deadline: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} s", deadline.as_secs()))
}

/// Why there is no machine to speak to. Whoever closes a connection at once is there, and serves no recovery, or a proxy for it.
fn not_there(error: &channel::Error) -> Ended {
    let kind = match error {
        channel::Error::Connect { source, .. } | channel::Error::Handshake(source) => source.kind(),
        _ => io::ErrorKind::Other,
    };
    match kind {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Ended::NothingWaits,
        _ => Ended::Unreachable {
            reason: chain(error),
        },
    }
}

/// What a machine made of its key; nothing, if it did not try.
fn outcome(status: &Status) -> Option<Outcome> {
    let reason = printable(status.message());
    Some(match status.code() {
        Code::ResourceExhausted => return None,
        Code::PermissionDenied => Outcome::WrongKey { reason },
        Code::FailedPrecondition => Outcome::Meanwhile,
        Code::Aborted | Code::InvalidArgument | Code::Unimplemented => Outcome::Failed { reason },
        _ => Outcome::Unconfirmed { reason },
    })
}

/// The keys of the cluster in a workspace.
pub(crate) fn keys<'a>(
    master: &'a keys::MasterSecretFile,
    values: &ClusterValues,
) -> Result<ClusterKeys<'a>, Failure> {
    ClusterKeys::new(master, values).map_err(|error| {
        Failure::config("constellation-mastersecret.json does not fit constellation-state.yaml")
            .because(error)
            .hint("take both files from the workspace that made the cluster; nothing was sent to any machine")
    })
}
