//! What the CLI asks the cluster's API: is it there, which nodes, are they Ready.

use std::path::Path;

use cluster::Role;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde::Serialize;

use crate::failure::Failure;
use crate::text::address;
use crate::workspace::{self, Workspace};

/// Port of the API server.
pub(crate) const PORT: u16 = 6443;

/// A node as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub name: String,
    pub role: Role,
    pub ready: bool,
    pub kubelet_version: String,
    pub message: String,
}

/// Writes the kubeconfig from the init, so that it leads to the endpoint the admin uses.
pub(crate) fn save_kubeconfig(
    workspace: &Workspace,
    kubeconfig: &[u8],
    endpoint: &str,
) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(kubeconfig);
    let failed = |error| Failure::cluster("the node's answer holds no kubeconfig").because(error);
    let mut config = Kubeconfig::from_yaml(&text).map_err(failed)?;
    for named in &mut config.clusters {
        if let Some(cluster) = &mut named.cluster {
            cluster.server = Some(format!("https://{}", address(endpoint, PORT)));
        }
    }
    // JSON is YAML
    let mut text = serde_json::to_string_pretty(&config)
        .map_err(|error| Failure::internal("write the kubeconfig").because(error))?;
    text.push('\n');
    workspace::replace(&workspace.kubeconfig_path(), text.as_bytes(), 0o600)
}

/// A client by the workspace's kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client, Failure> {
    if !kubeconfig.is_file() {
        return Err(
            Failure::config(format!("there is no {}", kubeconfig.display())).hint(
                "`constellation mini up` or `constellation apply` makes a cluster and writes it",
            ),
        );
    }
    k8s::api::client(kubeconfig)
        .await
        .map_err(|error| Failure::config(format!("use {}", kubeconfig.display())).because(error))
}

/// The nodes, control planes first.
pub(crate) async fn nodes(client: &Client) -> Result<Vec<NodeStatus>, kube::Error> {
    let list = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let mut nodes: Vec<_> = list.items.iter().map(status).collect();
    nodes.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    Ok(nodes)
}

fn status(node: &Node) -> NodeStatus {
    let labels = node.metadata.labels.as_ref();
    let is_control_plane = labels.is_some_and(|labels| {
        labels.contains_key("node-role.kubernetes.io/control-plane")
            || labels.contains_key("node-role.kubernetes.io/master")
    });
    let status = node.status.as_ref();
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| {
            conditions
                .iter()
                .find(|condition| condition.type_ == "Ready")
        });
    NodeStatus {
        name: node.metadata.name.clone().unwrap_or_default(),
        role: if is_control_plane {
            Role::ControlPlane
        } else {
            Role::Worker
        },
        ready: ready.is_some_and(|condition| condition.status == "True"),
        kubelet_version: status
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.kubelet_version.clone())
            .unwrap_or_default(),
        message: ready
            .and_then(|condition| condition.message.clone())
            .unwrap_or_default(),
    }
}

/// A service of the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    pub name: &'static str,
    /// Pods that are ready, of those there should be.
    pub ready: i32,
    pub desired: i32,
    /// What its absence means; empty when it is there.
    pub message: &'static str,
}

/// The services that every node or every control plane runs.
const ON_NODES: [&str; 3] = ["join-service", "key-service", "verification-service"];
const DNS: &str = "coredns";

/// The cluster's own services, and its DNS.
pub(crate) async fn services(client: &Client) -> Result<Vec<ServiceStatus>, kube::Error> {
    let daemons = Api::<DaemonSet>::namespaced(client.clone(), k8s::api::NAMESPACE);
    let mut services = Vec::new();
    for name in ON_NODES {
        let status = daemons
            .get_opt(name)
            .await?
            .map(|daemon| daemon.status.unwrap_or_default());
        services.push(ServiceStatus {
            name,
            ready: status.as_ref().map_or(0, |status| status.number_ready),
            desired: status
                .as_ref()
                .map_or(0, |status| status.desired_number_scheduled),
            message: status.map_or("was not applied: the cluster's init did not end", |_| ""),
        });
    }
    let deployments = Api::<Deployment>::namespaced(client.clone(), k8s::api::NAMESPACE);
    let dns = deployments.get_opt(DNS).await?;
    let status = dns.as_ref().and_then(|dns| dns.status.as_ref());
    services.push(ServiceStatus {
        name: DNS,
        ready: status.and_then(|status| status.ready_replicas).unwrap_or(0),
        desired: dns.as_ref().and_then(|dns| dns.spec.replicas).unwrap_or(0),
        message: dns.map_or(
            "no image of it among the components: names of services do not resolve",
            |_| "",
        ),
    });
    Ok(services)
}

/// The API server's own version.
pub(crate) async fn version(client: &Client) -> Result<String, kube::Error> {
    Ok(client.apiserver_version().await?.git_version)
}
