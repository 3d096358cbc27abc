//! What the CLI asks the cluster's API: is it there, which nodes, are they Ready.

use std::path::Path;

use cluster::Role;
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

/// The API server's own version.
pub(crate) async fn version(client: &Client) -> Result<String, kube::Error> {
    Ok(client.apiserver_version().await?.git_version)
}
