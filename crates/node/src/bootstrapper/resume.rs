//! Brings up what a member runs, from what it keeps on its state disk: after a reboot nothing of it is there, after a restart of this
//! program all of it. Everything here may be repeated, and what runs is left alone.

use cloud::qemu::client::ClusterInterface;
use cluster::Role;
use k8s::control_plane::Service;
use k8s::files::{FileError, Written};

use super::BootstrapperError;
use super::services::Services;
use super::steps::StepError;
use crate::host::Host;
use crate::membership::Membership;
use crate::mesh;
use crate::network::{self, Manager};
use crate::systemd;

/// Brings up the network between the machines, the mesh with the peers that the node had last, and the programs of Kubernetes.
pub(super) async fn resume(host: &Host, membership: &Membership) -> Result<(), BootstrapperError> {
    let interface = ClusterInterface::find().map_err(BootstrapperError::Provider)?;
    network::configure(
        &host.paths,
        Manager::Told,
        &interface,
        membership.node_ip.into(),
    )
    .await
    .map_err(BootstrapperError::Network)?;

    let own = membership
        .addresses()
        .map_err(BootstrapperError::Membership)?;
    let peers = mesh::kept_peers(&host.paths).map_err(BootstrapperError::Mesh)?;
    mesh::bring_up(&host.paths, &membership.networks, &own, &peers)
        .await
        .map_err(BootstrapperError::Mesh)?;
    start_programs(membership)
        .await
        .map_err(BootstrapperError::Resume)
}

async fn start_programs(membership: &Membership) -> Result<(), StepError> {
    let own = membership.addresses().map_err(StepError::Membership)?;
    k8s::cni::conflist(&own).write().map_err(StepError::File)?;
    let node = membership.node().map_err(StepError::Membership)?;
    if membership.role == Role::ControlPlane {
        // The machine may have stopped in the middle of a renewal, or was off for longer than a certificate lives. What begins with a
        // certificate that has ended takes minutes to notice the next one.
        let renewal = membership.renewal().map_err(StepError::Membership)?;
        let looked = renewal
            .look(jiff::Timestamp::now())
            .map_err(StepError::Pki)?;
        if looked.kubelet == Written::Changed {
            let unit = Service::Kubelet.unit_name();
            systemd::try_restart(unit).await.map_err(StepError::Unit)?;
        }
    }
    let path = node.paths().pki().join("ca.crt");
    let ca_certificate = std::fs::read_to_string(&path).map_err(|source| {
        StepError::File(FileError {
            operation: "read",
            path,
            source,
        })
    })?;
    Services::new(node)
        .start(Service::of(membership.role), &ca_certificate)
        .await
}
