//! Which API servers are ready: each is asked for `/readyz`, over TLS with the credentials that the node has anyhow.
//!
//! An API server accepts connections also when its etcd is gone, and answers with errors then. Anonymous requests say nothing about
//! it: they are refused, on old versions for `/readyz` as well.
//!
//! What is not known counts as ready: a node has no credentials before it is a member, and whether a connection comes about says all
//! there is then. If none is ready, any that connects is better than none: the answer says nothing of certificates that have
//! ended, on either side, and a program may want what an API server can do without etcd.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s::api::Unready;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Servers;

/// Between two questions to one that is ready. Every node asks every API server, so what a cluster asks grows with both.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two questions to one that is not: an API server waits two seconds for its etcd, so [`FAILURES`] of them and [`INTERVAL`] are
/// over before a kubelet has missed more than two renewals of its lease.
const AGAIN: Duration = Duration::from_secs(3);
/// How long an answer may take. One that is late says that the API server is busy: to give up early would cost it another handshake for
/// each question, and to leave it would cost it one for each connection, all at once and when it can bear them least.
const ANSWER: Duration = Duration::from_secs(30);
/// Failures in a row until an API server is not ready: connections end by it.
const FAILURES: u32 = 2;
/// When the credentials are read again: they are renewed hours before they end.
const REREAD: Duration = Duration::from_secs(10 * 60);

/// Whether the servers that were asked are ready.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(watch::Sender<BTreeMap<SocketAddrV4, bool>>);

impl Health {
    /// Whether it was asked and is not ready.
    pub(super) fn is_unready(&self, server: SocketAddrV4) -> bool {
        self.0.borrow().get(&server) == Some(&false)
    }

    /// Waits until this server is not ready and another one is: what is connected is better off there.
    pub(super) async fn better_elsewhere(&self, server: SocketAddrV4) {
        let mut known = self.0.subscribe();
        let better = known.wait_for(|ready| {
            ready.get(&server) == Some(&false) && ready.values().any(|ready| *ready)
        });
        if better.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One that does not accept a connection is not known to be ready until it is asked again: what was connected elsewhere for want of
    /// it has to stay there.
    pub(super) fn doubt(&self, server: SocketAddrV4) {
        self.0.send_if_modified(|known| {
            known.get(&server) == Some(&true) && known.remove(&server).is_some()
        });
    }

    /// Takes what is known now; nothing if nobody can be asked.
    pub(super) fn set(&self, server: SocketAddrV4, ready: Option<bool>) {
        self.0.send_if_modified(|known| {
            let before = match ready {
                Some(ready) => known.insert(server, ready),
                None => known.remove(&server),
            };
            if before != ready && ready.is_some() {
                tracing::info!(%server, ready, "an API server");
            }
            before != ready
        });
    }

    /// Asks the servers, as they are listed, for as long as it is waited for.
    pub(super) async fn follow(self, mut servers: watch::Receiver<Servers>) {
        loop {
            let listed = servers.borrow_and_update().clone();
            let all: Vec<SocketAddrV4> = listed.all().collect();
            self.0.send_if_modified(|known| {
                let before = known.len();
                known.retain(|server, _| all.contains(server));
                known.len() != before
            });
            let mut asking = JoinSet::new();
            if let Some(kubeconfig) = listed.kubeconfig {
                for server in all {
                    asking.spawn(ask_again(self.clone(), server, kubeconfig.clone()));
                }
            }
            if servers.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn ask_again(health: Health, server: SocketAddrV4, kubeconfig: PathBuf) {
    let mut asker = None;
    let mut failures = 0;
    loop {
        let mut next = INTERVAL;
        match ask(&mut asker, server, &kubeconfig).await {
            Some(Ok(())) => {
                failures = 0;
                health.set(server, Some(true));
            }
            Some(Err(unready)) => {
                // on a new connection next time, with new credentials; who answers keeps the one that there is
                if matches!(unready, Unready::Silent(_)) {
                    asker = None;
                }
                failures += 1;
                tracing::debug!(%server, %unready, failures, "an API server is not ready");
                if failures >= FAILURES {
                    health.set(server, Some(false));
                }
                next = AGAIN;
            }
            None => {
                health.set(server, None);
                next = AGAIN;
            }
        }
        tokio::time::sleep(next).await;
    }
}

/// Asks once; nothing if there are no credentials to ask with.
async fn ask(
    asker: &mut Option<(Client, Instant)>,
    server: SocketAddrV4,
    kubeconfig: &Path,
) -> Option<Result<(), Unready>> {
    let client = match asker {
        Some((client, since)) if since.elapsed() < REREAD => client.clone(),
        _ => {
            let client = match k8s::api::client_of(kubeconfig, server).await {
                Ok(client) => client,
                Err(error) => {
                    tracing::debug!(error = %runtime::chain(&error), "API servers are not asked");
                    return None;
                }
            };
            *asker = Some((client.clone(), Instant::now()));
            client
        }
    };
    let answer = timeout(ANSWER, k8s::api::readiness(&client)).await;
    Some(answer.unwrap_or_else(|_| Err(Unready::Silent("no answer in time".to_owned()))))
}
