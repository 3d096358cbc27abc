//! `status`: the cluster as its API shows it, and what of it is missing.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::arguments::{Format, OutputArguments};
use crate::failure::Failure;
use crate::kubernetes;
use crate::output;
use crate::workspace::Workspace;

pub(crate) async fn run(workspace: &Workspace, arguments: &OutputArguments) -> Result<(), Failure> {
    let config = workspace.config()?;
    let state = workspace.state()?;
    let cluster_id = state
        .cluster_values
        .as_ref()
        .map(|values| values.cluster_id.to_string());
    let client = kubernetes::client(&workspace.kubeconfig_path()).await?;
    let unanswered = |error| {
        Failure::cluster("the API server does not answer")
            .because(error)
            .hint("`constellation mini status` shows whether its machine runs")
    };
    let version = kubernetes::version(&client).await.map_err(unanswered)?;
    let nodes = kubernetes::nodes(&client).await.map_err(unanswered)?;
    let services = kubernetes::services(&client).await.map_err(unanswered)?;
    let ready = nodes.iter().filter(|node| node.ready).count();
    match arguments.output {
        Format::Json => output::json(&json!({
            "clusterID": cluster_id,
            "targetVersions": { "image": config.image, "kubernetes": config.kubernetes_version },
            "apiServerVersion": version,
            "nodes": nodes,
            "services": services,
        })),
        Format::Table => {
            let mut table = table(["NODE", "ROLE", "READY", "KUBELET", "MESSAGE"]);
            for node in &nodes {
                let (ready, message) = if node.ready {
                    ("yes", String::new())
                } else {
                    ("no", crate::text::printable(&node.message))
                };
                let version = &node.kubelet_version;
                table.add_row([&node.name, node.role.as_str(), ready, version, &message]);
            }
            let mut own = self::table(["SERVICE", "READY", "MESSAGE"]);
            for service in &services {
                let ready = format!("{}/{}", service.ready, service.desired);
                own.add_row([service.name, &ready, service.message]);
            }
            output::data(&format!(
                "Cluster:         {}\nTarget versions: image {}, Kubernetes {}\nAPI server:      {version}\nNodes:           {ready} of {} Ready\n\n{table}\n\n{own}\n",
                cluster_id.as_deref().unwrap_or("-"),
                config.image,
                config.kubernetes_version,
                nodes.len(),
            ))
        }
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}
