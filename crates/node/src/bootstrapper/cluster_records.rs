//! What the first node writes into its new cluster: roles, the node's own record, the master secret, the facts for
//! those who join, the manifests of the cluster's services. Everything that does not depend on the order is measured with this program.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::identity::NodeIdentity;
use cluster::join_config::{CONFIG_MAP, ClusterFacts, JoinConfig};
use cluster::{NodeName, Role};
use k8s::api::{ApiError, Applier, NAMESPACE, records};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::order::Order;
use super::steps::StepError;

/// The cluster's own services.
pub const SERVICES: [&str; 3] = [
    include_str!("../../../../deploy/key-service.yaml"),
    include_str!("../../../../deploy/join-service.yaml"),
    include_str!("../../../../deploy/verification-service.yaml"),
];

/// The original's secret, mounted by the key service only.
const MASTER_SECRET: &str = "constellation-mastersecret";

/// How long errors of the API are put up with.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long the API server may take to make its own namespace.
const NAMESPACE_DEADLINE: Duration = Duration::from_secs(120);

/// What goes into a new cluster.
pub struct ClusterRecords<'a> {
    /// What the administrator ordered.
    pub order: &'a Order,
    /// The first node.
    pub identity: NodeIdentity,
}

/// Does something with the API that may be repeated, until it is done or can not be done.
///
/// A young API server answers some requests with an error until its controllers have looked around once (addresses of
/// services are the known case), and one that is restarted answers nothing for a while. A node that gave up on that would have to
/// start anew.
pub async fn patiently<F>(work: impl Fn() -> F) -> Result<(), StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match work().await {
            Err(StepError::Api(error))
                if passes(&error) && tokio::time::Instant::now() < deadline =>
            {
                tracing::warn!(error = %runtime::chain(&error), "tried again in a moment");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

/// Whether an error of the API may be gone in a moment: no answer, or one that says that it is the server's fault.
fn passes(error: &ApiError) -> bool {
    match error.status() {
        Some(status) => status.is_server_error() || status.as_u16() == 429,
        None => matches!(error, ApiError::Request { .. } | ApiError::UnknownKind(_)),
    }
}

impl ClusterRecords<'_> {
    /// Writes all of it. May be repeated.
    pub async fn write(&self, client: &Client) -> Result<(), StepError> {
        wait_for_namespace(client).await?;
        let applier = Applier::new(client.clone());
        applier
            .manifest(k8s::addons::ROLES)
            .await
            .map_err(StepError::Api)?;
        self.write_master_secret(client).await?;
        let backup_key = keys::BackupKey::derive(&self.order.master_secret, &self.order.salt);
        records::put_backup_key_verifier(client, &backup_key.verifier())
            .await
            .map_err(StepError::Api)?;
        let list = records::put_components(client, &self.order.components, self.order.version)
            .await
            .map_err(StepError::Api)?;
        self.write_join_config(client, list).await?;
        records::put_node_identity(client, &self.identity)
            .await
            .map_err(StepError::Api)
    }

    async fn write_master_secret(&self, client: &Client) -> Result<(), StepError> {
        let bytes = |bytes: &[u8]| ByteString(bytes.to_vec());
        let secret = Secret {
            metadata: metadata(MASTER_SECRET),
            immutable: Some(true),
            data: Some(BTreeMap::from([
                (
                    "mastersecret".to_owned(),
                    bytes(self.order.master_secret.expose_bytes()),
                ),
                ("salt".to_owned(), bytes(self.order.salt.expose_bytes())),
            ])),
            ..Secret::default()
        };
        let api: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        match api.create(&PostParams::default(), &secret).await {
            // immutable, and made by this same init a moment ago: the store was empty
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created
                .map(drop)
                .map_err(|source| failed("write the master secret", source)),
        }
    }

    async fn write_join_config(
        &self,
        client: &Client,
        components: String,
    ) -> Result<(), StepError> {
        let mirror = self
            .order
            .component_mirror
            .as_ref()
            .map(ToString::to_string);
        let config = JoinConfig {
            attestation_config: self.order.policy.to_json(),
            measurement_salt: *self.order.measurement_salt.as_bytes(),
            cluster: ClusterFacts {
                name: self.order.cluster_name.clone(),
                components_config_map: components,
                component_mirror: mirror.unwrap_or_default(),
                network: self.order.networks,
                api_sans: self.order.api_sans.clone(),
            },
        };
        let (data, binary_data) = config.to_maps().map_err(StepError::JoinConfig)?;
        let map = ConfigMap {
            metadata: metadata(CONFIG_MAP),
            data: Some(data),
            binary_data: Some(
                binary_data
                    .into_iter()
                    .map(|(key, bytes)| (key, ByteString(bytes)))
                    .collect(),
            ),
            ..ConfigMap::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let params = PatchParams::apply(k8s::api::FIELD_MANAGER).force();
        api.patch(CONFIG_MAP, &params, &Patch::Apply(&map))
            .await
            .map(drop)
            .map_err(|source| failed("write the join configuration", source))
    }
}

/// The API server makes its own namespace a moment after it says that it is ready.
async fn wait_for_namespace(client: &Client) -> Result<(), StepError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let deadline = tokio::time::Instant::now() + NAMESPACE_DEADLINE;
    loop {
        let found = namespaces
            .get_opt(NAMESPACE)
            .await
            .map_err(|source| failed("look for the namespace of the system", source))?;
        if found.is_some() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(StepError::Order("the namespace of the system"));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Labels the node with its role as soon as kubelet has registered it; a kubelet may not do so for itself.
pub async fn label_when_registered(
    client: &Client,
    name: &NodeName,
    role: Role,
    deadline: Duration,
) -> Result<(), StepError> {
    let deadline = tokio::time::Instant::now() + deadline;
    loop {
        match records::label_node(client, name, role).await {
            Ok(()) => return Ok(()),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(StepError::Api(error));
            }
            Err(error) => {
                tracing::debug!(error = %runtime::chain(&error), "the node is not registered yet")
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        ..ObjectMeta::default()
    }
}

fn failed(operation: &str, source: kube::Error) -> StepError {
    StepError::Api(ApiError::Request {
        operation: operation.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    fn answer(code: u16) -> StepError {
        let status = kube::core::Status::failure("a test's", "Test").with_code(code);
        failed("ask", kube::Error::Api(status.boxed()))
    }

    #[test]
    fn the_manifests_of_the_services_parse() {
        for manifest in SERVICES {
            assert!(!k8s::api::documents(manifest).unwrap().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_the_servers_fault_is_tried_again_and_nothing_else() {
        for (code, asked) in [(500, 3), (503, 3), (429, 3), (403, 1), (422, 1), (409, 1)] {
            let count = AtomicU16::new(0);
            let result = patiently(|| async {
                match count.fetch_add(1, Ordering::Relaxed) {
                    0 | 1 => Err(answer(code)),
                    _ => Ok(()),
                }
            })
            .await;
            assert_eq!(count.load(Ordering::Relaxed), asked, "{code}");
            assert_eq!(result.is_ok(), asked == 3, "{code}");
        }
        let count = AtomicU16::new(0);
        patiently(|| async {
            count.fetch_add(1, Ordering::Relaxed);
            Err(answer(500))
        })
        .await
        .unwrap_err();
        assert!(count.load(Ordering::Relaxed) > 100, "patience ends");
    }
}
