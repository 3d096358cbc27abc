//! A machine that may still become a node, and both ways to it once it has the lock.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use cluster::join::CheckedTicket;
use cluster::plan::{AwaitingMark, Failed};
use cluster::{InstanceMetadata, Role};

use k8s::control_plane::Shared;

use super::BootstrapperError;
use super::drive::drive;
use super::init_server::{Begun, wire_cluster_id};
use super::init_steps::InitSteps;
use super::join_steps::JoinSteps;
use super::machine::MeasuredMachine;
use super::node_steps::NodeSteps;
use super::order::Order;
use super::services::Services;
use super::verify_server::VerifyServer;
use crate::host::Host;
use crate::membership::{Membership, MembershipError};
use crate::progress::{Event, Log};
use crate::state_disk::NodeDisk;
use crate::systemd;

/// Lines of the journal that a failed init sends to the administrator.
const JOURNAL_LINES: u32 = 3000;

/// What both ways into a cluster need.
pub(super) struct Candidate {
    pub(super) host: Host,
    pub(super) machine: MeasuredMachine,
    pub(super) instance: InstanceMetadata,
    pub(super) node_ip: Ipv4Addr,
    pub(super) disk: NodeDisk,
    pub(super) verify: Arc<VerifyServer>,
}

impl Candidate {
    /// Makes this machine the first node of a new cluster. Whichever way it ends, the log says so last.
    pub(super) async fn found(
        &self,
        begun: Begun,
    ) -> Result<Membership, (Failed, BootstrapperError)> {
        let log = Arc::clone(&begun.log);
        let founded = self.make_first_node(begun).await;
        if let Err((_, error)) = &founded {
            let error = runtime::chain(error).to_string();
            let journal = systemd::journal(JOURNAL_LINES).await.unwrap_or_default();
            log.add(Event::Failure { error, journal });
        }
        founded
    }

    async fn make_first_node(
        &self,
        begun: Begun,
    ) -> Result<Membership, (Failed, BootstrapperError)> {
        let Begun {
            order,
            awaiting,
            log,
        } = begun;
        let cluster_id = order.cluster_id.clone();
        let steps = match self.init_steps(order, &log) {
            Ok(steps) => Arc::new(steps),
            Err(error) => return Err((awaiting.failed(), error)),
        };
        let complete = drive(&self.machine, &cluster_id, awaiting, steps.clone(), &log)
            .await
            .map_err(|(failed, error)| (failed, BootstrapperError::Drive(error)))?;
        let kubeconfig = match steps.admin_kubeconfig() {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => return Err((complete.failed(), BootstrapperError::Finish(error))),
        };
        log.add(Event::Success {
            kubeconfig: kubeconfig.expose().as_bytes().to_vec(),
            cluster_id: wire_cluster_id(&cluster_id),
        });
        let membership = steps.node.membership.clone();
        self.host.console.say(format_args!(
            "the cluster {} is there, after {} s",
            membership.cluster_name,
            log.elapsed().as_secs()
        ));
        Ok(membership)
    }

    fn init_steps(&self, order: Order, log: &Arc<Log>) -> Result<InitSteps, BootstrapperError> {
        let first = order
            .networks
            .node(1)
            .map_err(MembershipError::Index)
            .map_err(BootstrapperError::Membership)?;
        let membership = Membership {
            cluster_name: order.cluster_name.clone(),
            version: order.version,
            node_name: self.instance.name.clone(),
            role: Role::ControlPlane,
            networks: order.networks,
            index: first.index,
            node_ip: self.node_ip,
            provider_id: Some(self.instance.provider_id.clone()),
            api_sans: order.api_sans.clone(),
        };
        Ok(InitSteps {
            node: self.node_steps(membership, log)?,
            order,
            machine: self.machine.clone(),
            pki: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// Makes this machine a further node of a cluster.
    pub(super) async fn join(
        &self,
        awaiting: AwaitingMark,
        ticket: CheckedTicket,
        shared: Option<Shared>,
    ) -> Result<Membership, (Failed, BootstrapperError)> {
        let log = Arc::new(Log::begin());
        let membership = Membership {
            cluster_name: ticket.cluster_name.clone(),
            version: ticket.kubernetes_version,
            node_name: self.instance.name.clone(),
            role: ticket.role,
            networks: ticket.networks,
            index: ticket.addresses.index,
            node_ip: self.node_ip,
            provider_id: Some(self.instance.provider_id.clone()),
            api_sans: ticket.api_sans.clone(),
        };
        self.host
            .console
            .say(format_args!("joining the cluster {}", ticket.cluster_name));
        let cluster_id = ticket.cluster_id.clone();
        let node = match self.node_steps(membership.clone(), &log) {
            Ok(node) => node,
            Err(error) => return Err((awaiting.failed(), error)),
        };
        let steps = Arc::new(JoinSteps {
            node,
            ticket,
            shared,
        });
        let _complete = drive(&self.machine, &cluster_id, awaiting, steps, &log)
            .await
            .map_err(|(failed, error)| (failed, BootstrapperError::Drive(error)))?;
        self.host.console.say(format_args!(
            "this machine is a node of {} after {} s",
            membership.cluster_name,
            log.elapsed().as_secs()
        ));
        Ok(membership)
    }

    fn node_steps(
        &self,
        membership: Membership,
        log: &Arc<Log>,
    ) -> Result<NodeSteps, BootstrapperError> {
        let node = membership.node().map_err(BootstrapperError::Membership)?;
        Ok(NodeSteps {
            host: self.host.clone(),
            services: Services::new(node.clone()),
            node,
            membership,
            disk: self.disk.clone(),
            verify: Arc::clone(&self.verify),
            log: Arc::clone(log),
        })
    }
}
