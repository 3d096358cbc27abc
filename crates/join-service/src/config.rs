//! The ConfigMap `join-config` as an immutable snapshot that is swapped whole when the ConfigMap changes.
//!
//! A change that does not parse leaves the last good snapshot in force and makes the service not ready: a typo must neither
//! open the cluster nor close it at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use attest::{Policy, PolicyError};
use channel::PolicySource;
use cluster::join_config::{self, ClusterFacts, JoinConfig, JoinConfigError};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What holds for the next machine that connects.
pub(crate) struct Snapshot {
    pub(crate) policy: Arc<Policy>,
    pub(crate) measurement_salt: [u8; 32],
    pub(crate) cluster: ClusterFacts,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("read the ConfigMap")]
    Content(#[source] JoinConfigError),
    #[error("read the attestation policy in it")]
    Policy(#[source] PolicyError),
}

impl Snapshot {
    fn read(map: ConfigMap) -> Result<Self, ConfigError> {
        let binary: BTreeMap<_, _> = map
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect();
        let config = JoinConfig::parse(&map.data.unwrap_or_default(), &binary)
            .map_err(ConfigError::Content)?;
        let policy =
            Policy::from_json(config.attestation_config.as_bytes()).map_err(ConfigError::Policy)?;
        Ok(Self {
            policy: Arc::new(policy),
            measurement_salt: config.measurement_salt,
            cluster: config.cluster,
        })
    }
}

/// The current snapshot; clones see the same one.
#[derive(Clone)]
pub(crate) struct Config(watch::Receiver<Arc<Snapshot>>);

impl Config {
    /// Waits for the first good ConfigMap and follows it from then on. Nothing when the process is asked to stop before.
    pub(crate) async fn watch(
        client: Client,
        condition: runtime::Condition,
        shutdown: &CancellationToken,
    ) -> Option<Self> {
        let api = Api::<ConfigMap>::namespaced(client, k8s::api::NAMESPACE);
        let mut snapshots = snapshots(api, condition);
        let first = tokio::select! {
            first = snapshots.next() => first?,
            () = shutdown.cancelled() => return None,
        };
        let (sender, receiver) = watch::channel(Arc::new(first));
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = snapshots.next() => next,
                    () = shutdown.cancelled() => return,
                };
                let Some(next) = next else { return };
                tracing::info!("join-config changed; it holds from the next handshake on");
                sender.send_replace(Arc::new(next));
            }
        });
        Some(Self(receiver))
    }

    /// What holds now.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        self.0.borrow().clone()
    }

    /// The policy that holds now, for the attested channel.
    pub(crate) fn policy_source(&self) -> impl PolicySource {
        let config = self.clone();
        move || config.now().policy.clone()
    }
}

/// The good states of the ConfigMap; the others go to the log and to readiness.
fn snapshots(api: Api<ConfigMap>, condition: runtime::Condition) -> BoxStream<'static, Snapshot> {
    watcher::watch_object(api, join_config::CONFIG_MAP)
        .default_backoff()
        .filter_map(move |change| {
            let condition = condition.clone();
            async move {
                let problem = match change {
                    Ok(Some(map)) => match Snapshot::read(map) {
                        Ok(snapshot) => {
                            condition.met();
                            return Some(snapshot);
                        }
                        Err(error) => runtime::chain(&error).to_string(),
                    },
                    Ok(None) => "it does not exist".to_owned(),
                    Err(error) => {
                        // The last state still holds: this says nothing about the ConfigMap.
                        tracing::warn!(error = %runtime::chain(&error), "watching join-config was interrupted");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        return None;
                    }
                };
                tracing::error!(problem, "join-config cannot be used; what held before still holds");
                condition.missing(problem);
                None
            }
        })
        .boxed()
}
