//! The steps of a worker with a ticket.

use std::sync::Arc;

use cluster::join::CheckedTicket;
use cluster::plan::{Flow, Marked, Step};
use k8s::control_plane::Service;
use k8s::files::SecretText;

use super::drive::Steps;
use super::node_steps::NodeSteps;
use super::steps::StepError;

/// A worker on its way in.
pub struct JoinSteps {
    /// What every node does.
    pub node: NodeSteps,
    /// What the join service gave it.
    pub ticket: CheckedTicket,
}

#[async_trait::async_trait]
impl Steps for JoinSteps {
    async fn perform(&self, step: Step, marked: &Marked) -> Result<(), StepError> {
        let (node, ticket) = (&self.node, &self.ticket);
        match step {
            Step::NodeState => node.record(Flow::JoinAsWorker, ticket.measurement_salt.as_bytes()),
            Step::Mesh => node.mesh(&ticket.peers).await,
            Step::Components => {
                let mirror = ticket
                    .component_mirror
                    .as_ref()
                    .map(|mirror| mirror.as_str());
                node.install(&ticket.components, mirror).await
            }
            Step::Images => node.import_service_images().await,
            Step::ComponentImages => node.import_component_images(&ticket.components).await,
            Step::PodNetwork => node.pod_network(),
            Step::Kubelet => {
                let token = SecretText::new(ticket.token.expose_text().to_owned());
                let bootstrap = node.node.kubelet_bootstrap(&ticket.ca_certificate, &token);
                bootstrap.write().map_err(StepError::File)?;
                node.start_kubelet(&ticket.ca_certificate).await
            }
            Step::KubeProxy => {
                node.start(&[Service::KubeProxy], &ticket.ca_certificate)
                    .await
            }
            Step::DiskKey => node.finish(marked, Arc::clone(&ticket.disk_key)).await,
            Step::Pki
            | Step::Etcd
            | Step::ApiServerComponent
            | Step::ApiServer
            | Step::Controllers
            | Step::ClusterRecords
            | Step::OwnServices => Err(StepError::NotMine),
        }
    }
}
