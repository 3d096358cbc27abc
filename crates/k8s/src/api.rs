//! Helpers for the Kubernetes API: a client, readiness, manifests, and below: tokens, certificate requests, records.
//!
//! Decides nothing but who gets a kubelet certificate (`csr`, a pure function over the records).

use std::{collections::HashMap, net::SocketAddrV4, path::Path, time::Duration};

use http::StatusCode;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{self, Scope},
};

use crate::files::SecretText;

pub mod csr;
pub mod records;
pub mod tokens;

/// Who owns the fields we set.
pub const FIELD_MANAGER: &str = "constellation";
/// Where our objects are.
pub const NAMESPACE: &str = "kube-system";
const POLL: Duration = Duration::from_millis(250);
/// How long one question about readiness may take.
const READY_ANSWER: Duration = Duration::from_secs(20);

/// Why the API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A kubeconfig that cannot be used.
    #[error("read the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// A client that cannot be made.
    #[error("make an API client")]
    Client(#[source] Box<kube::Error>),
    /// A request that failed.
    #[error("{operation}")]
    Request {
        /// What was asked for.
        operation: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// Time is up.
    #[error("the API server is not ready after {waited:?}: {last}")]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// The last answer.
        last: String,
    },
    /// A manifest that is not one.
    #[error("document {number} of the manifest cannot be read")]
    Manifest {
        /// Which document, from 1.
        number: usize,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// YAML that is not YAML.
    #[error("the manifest is not YAML: {0}")]
    Yaml(String),
    /// A document without kind or name.
    #[error("document {0} of the manifest has no kind, API version or name")]
    Nameless(usize),
    /// A kind that this API does not have.
    #[error("the API has no kind {0}")]
    UnknownKind(String),
    /// The system's random numbers failed.
    #[error("no random numbers for a bootstrap token")]
    Random,
    /// A record that cannot be used.
    #[error(transparent)]
    Record(#[from] crate::identities::RecordError),
    /// Data of ours that cannot be written as JSON.
    #[error("encode {what}")]
    Encode {
        /// Which data.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl ApiError {
    /// The HTTP status that the API refused with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
                _ => None,
            },
            _ => None,
        }
    }
}

pub(crate) fn request(operation: impl Into<String>) -> impl FnOnce(kube::Error) -> ApiError {
    let operation = operation.into();
    move |source| ApiError::Request {
        operation,
        source: Box::new(source),
    }
}

/// A client by a kubeconfig file. Certificates it names are read now: make a new client after they were renewed.
pub async fn client(kubeconfig: &Path) -> Result<Client, ApiError> {
    from_kubeconfig(Kubeconfig::read_from(kubeconfig).map_err(ApiError::Kubeconfig)?).await
}

/// A client of the API server at this address, by a kubeconfig file that names another one of the same cluster.
pub async fn client_of(kubeconfig: &Path, server: SocketAddrV4) -> Result<Client, ApiError> {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(ApiError::Kubeconfig)?;
    for named in &mut kubeconfig.clusters {
        if let Some(cluster) = &mut named.cluster {
            cluster.server = Some(format!("https://{server}"));
        }
    }
    from_kubeconfig(kubeconfig).await
}

/// A client by the text of a kubeconfig.
pub async fn client_from(kubeconfig: &SecretText) -> Result<Client, ApiError> {
    from_kubeconfig(Kubeconfig::from_yaml(kubeconfig.expose()).map_err(ApiError::Kubeconfig)?).await
}

async fn from_kubeconfig(kubeconfig: Kubeconfig) -> Result<Client, ApiError> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(ApiError::Kubeconfig)?;
    // the cluster's addresses are never behind a proxy of the environment
    config.proxy_url = None;
    // a machine without hardware virtualisation takes its time for a handshake
    config.connect_timeout = Some(Duration::from_secs(30));
    Client::try_from(config).map_err(|error| ApiError::Client(Box::new(error)))
}

/// Waits until the API server says that it is ready.
pub async fn wait_ready(client: &Client, deadline: Duration) -> Result<(), ApiError> {
    let begun = tokio::time::Instant::now();
    loop {
        let last = match ready(client).await {
            Ok(()) => return Ok(()),
            Err(last) => last,
        };
        if begun.elapsed() >= deadline {
            return Err(ApiError::NotReady {
                waited: deadline,
                last,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks once; the error says what is missing.
pub async fn ready(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(READY_ANSWER, readiness(client)).await {
        Err(_) => Err("no answer in time".to_owned()),
        Ok(answer) => answer.map_err(|unready| unready.to_string()),
    }
}

/// Why an API server is not known to be ready.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// It says so itself, with the checks that failed.
    #[error("{0}")]
    Says(String),
    /// It does not answer, or not to who asks.
    #[error("{0}")]
    Silent(String),
}

/// As [`ready`], and waits for the answer as long as the caller does.
pub async fn readiness(client: &Client) -> Result<(), Unready> {
    let request = http::Request::get("/readyz?verbose")
        .body(Vec::new())
        .map_err(|error| Unready::Silent(error.to_string()))?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            Err(Unready::Silent(status.message.clone()))
        }
        Err(kube::Error::Api(status)) => Err(Unready::Says(failed_checks(&status.message))),
        Err(error) => Err(Unready::Silent(chain(&error))),
    }
}

/// The lines of a health answer that say what failed.
fn failed_checks(answer: &str) -> String {
    let failed: Vec<_> = answer
        .lines()
        .filter(|line| line.starts_with("[-]"))
        .collect();
    if failed.is_empty() {
        answer.trim().chars().take(300).collect()
    } else {
        failed.join(", ")
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Splits a YAML manifest into its objects.
pub fn documents(manifest: &str) -> Result<Vec<DynamicObject>, ApiError> {
    let values: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(manifest).map_err(|error| ApiError::Yaml(error.to_string()))?;
    values
        .into_iter()
        .enumerate()
        .filter(|(_, value)| !value.is_null())
        .map(|(index, value)| object(index + 1, value))
        .collect()
}

fn object(number: usize, value: serde_json::Value) -> Result<DynamicObject, ApiError> {
    let object: DynamicObject =
        serde_json::from_value(value).map_err(|source| ApiError::Manifest { number, source })?;
    if object.types.is_none() || object.metadata.name.is_none() {
        return Err(ApiError::Nameless(number));
    }
    Ok(object)
}

/// Applies objects by server-side apply; asks for each kind once.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    kinds: std::sync::Arc<tokio::sync::Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>>,
}

impl Applier {
    /// Applies as `client`'s user.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kinds: std::sync::Arc::default(),
        }
    }

    /// Applies every object of a YAML manifest, in its order.
    pub async fn manifest(&self, manifest: &str) -> Result<(), ApiError> {
        for object in documents(manifest)? {
            self.object(&object).await?;
        }
        Ok(())
    }

    /// Applies JSON documents, such as objects made in code.
    pub async fn values(&self, values: Vec<serde_json::Value>) -> Result<(), ApiError> {
        for (index, value) in values.into_iter().enumerate() {
            self.object(&object(index + 1, value)?).await?;
        }
        Ok(())
    }

    /// Applies one object. Fields that someone else took over become ours again.
    pub async fn object(&self, object: &DynamicObject) -> Result<(), ApiError> {
        let (Some(types), Some(name)) = (&object.types, &object.metadata.name) else {
            return Err(ApiError::Nameless(1));
        };
        let kind = GroupVersionKind::try_from(types)
            .map_err(|_| ApiError::UnknownKind(types.kind.clone()))?;
        let (resource, scope) = self.kind(kind).await?;
        let api: Api<DynamicObject> = match scope {
            Scope::Namespaced => Api::namespaced_with(
                self.client.clone(),
                object.metadata.namespace.as_deref().unwrap_or("default"),
                &resource,
            ),
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(name, &params, &Patch::Apply(object))
            .await
            .map_err(request(format!("apply {} {name}", types.kind)))?;
        Ok(())
    }

    async fn kind(&self, kind: GroupVersionKind) -> Result<(ApiResource, Scope), ApiError> {
        if let Some(known) = self.kinds.lock().await.get(&kind) {
            return Ok(known.clone());
        }
        let unknown =
            || ApiError::UnknownKind(format!("{}/{} {}", kind.group, kind.version, kind.kind));
        match discovery::pinned_kind(&self.client, &kind).await {
            Ok((resource, capabilities)) => {
                let found = (resource, capabilities.scope);
                self.kinds.lock().await.insert(kind, found.clone());
                Ok(found)
            }
            Err(kube::Error::Discovery(_)) => Err(unknown()),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(unknown()),
            Err(source) => Err(request(format!("look up kind {}", kind.kind))(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_error_names_the_document() {
        assert_eq!(documents("").unwrap().len(), 0);
        let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
        assert_eq!(
            documents(&format!("# comment\n---\n{good}---\n{good}---\n"))
                .unwrap()
                .len(),
            2
        );
        let nameless = format!("{good}---\napiVersion: v1\nkind: Namespace\n");
        assert!(matches!(documents(&nameless), Err(ApiError::Nameless(2))));
        assert!(matches!(documents("{"), Err(ApiError::Yaml(_))));
        assert!(matches!(
            documents("- 1"),
            Err(ApiError::Manifest { number: 1, .. })
        ));
    }

    /// Who says that it is not ready has answered; who does not know us, or says nothing, has not.
    #[tokio::test]
    async fn what_is_not_ready_says_so_or_is_silent() {
        let answer = async |code: u16, text: &'static str| {
            let service =
                tower::service_fn(move |_: http::Request<kube::client::Body>| async move {
                    let body = kube::client::Body::from(text.as_bytes().to_vec());
                    let answer = http::Response::builder().status(code).body(body);
                    Ok::<_, std::convert::Infallible>(answer.unwrap())
                });
            readiness(&Client::new(service, "default")).await
        };
        assert_eq!(answer(200, "ok").await, Ok(()));
        assert_eq!(
            answer(500, "[+]ping ok\n[-]etcd failed: reason withheld\n").await,
            Err(Unready::Says("[-]etcd failed: reason withheld".to_owned()))
        );
        for stranger in [401, 403] {
            let unready = answer(stranger, "no").await.unwrap_err();
            assert!(
                matches!(unready, Unready::Silent(_)),
                "{stranger}: {unready}"
            );
        }
        let service = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("cut off"))
        });
        let cut = readiness(&Client::new(service, "default"))
            .await
            .unwrap_err();
        assert!(matches!(cut, Unready::Silent(_)), "{cut}");
    }

    #[test]
    fn the_reason_for_not_being_ready_is_what_failed() {
        let answer =
            "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nhealthz check failed\n";
        assert_eq!(failed_checks(answer), "[-]etcd failed: reason withheld");
        assert_eq!(failed_checks(" plain \n"), "plain");
    }
}
