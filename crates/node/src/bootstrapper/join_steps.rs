//! The steps of a node with a ticket. A control plane takes one more than a worker; its etcd and API server come after them
//! (`super::control_plane`).

use std::sync::Arc;

use cluster::join::CheckedTicket;
use cluster::plan::{Flow, Marked, Step};
use jiff::Timestamp;
use k8s::control_plane::{Service, Shared};
use k8s::files::{self, SecretText};
use k8s::pki::Pki;

use super::drive::Steps;
use super::node_steps::NodeSteps;
use super::steps::StepError;

/// A node on its way in.
pub struct JoinSteps {
    /// What every node does.
    pub node: NodeSteps,
    /// What the join service gave it.
    pub ticket: CheckedTicket,
    /// What all control planes share, on a control plane.
    pub shared: Option<Shared>,
}

#[async_trait::async_trait]
impl Steps for JoinSteps {
    async fn perform(&self, step: Step, marked: &Marked) -> Result<(), StepError> {
        let (node, ticket) = (&self.node, &self.ticket);
        match step {
            Step::NodeState => {
                let flow = Flow::join(ticket.role);
                node.record(flow, ticket.measurement_salt.as_bytes())
            }
            Step::Pki => self.make_certificates(),
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
            Step::Etcd
            | Step::ApiServerComponent
            | Step::ApiServer
            | Step::Controllers
            | Step::ClusterRecords
            | Step::OwnServices => Err(StepError::NotMine),
        }
    }
}

impl JoinSteps {
    fn make_certificates(&self) -> Result<(), StepError> {
        let shared = self.shared.as_ref();
        let shared = shared.ok_or(StepError::Order("what control planes share"))?;
        let node = &self.node.node;
        shared.write(node.paths()).map_err(StepError::File)?;
        let names = node.names(self.node.membership.node_ip, self.ticket.api_sans.clone());
        let pki = Pki::open(names, &node.paths().pki()).map_err(StepError::Pki)?;
        pki.renew(Timestamp::now()).map_err(StepError::Pki)?;
        // the agent asks with a control plane's credentials from the start, although the API server here comes later
        files::write_all(&node.files(Service::ApiServer, &self.ticket.ca_certificate))
            .map(drop)
            .map_err(StepError::File)
    }
}
