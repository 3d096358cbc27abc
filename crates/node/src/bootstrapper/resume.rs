//! Brings up what a member runs, from what it keeps on its state disk: after a reboot nothing of it is there, after a restart of this
//! program all of it. Everything here may be repeated, and what runs is left alone.

use cloud::qemu::client::ClusterInterface;
use cluster::Role;
use k8s::control_plane::{Node, Service};
use k8s::files::{FileError, SecretText, Written};

use super::BootstrapperError;
use super::services::Services;
use super::steps::StepError;
use crate::host::{Host, Paths};
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
    membership.tell(&host.api_servers, &peers);
    mesh::bring_up(&host.paths, &membership.networks, &own, &peers)
        .await
        .map_err(BootstrapperError::Mesh)?;
    start_programs(host, membership)
        .await
        .map_err(BootstrapperError::Resume)
}

async fn start_programs(host: &Host, membership: &Membership) -> Result<(), StepError> {
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
    take_rejoin_token(&host.paths, &node, &ca_certificate).map_err(StepError::File)?;
    // what makes a control plane of it comes beside the agent's work, see `super::control_plane`
    Services::new(node)
        .start(&[Service::Kubelet, Service::KubeProxy], &ca_certificate)
        .await
}

/// Lets the kubelet find the token that came with the disk's key. It looks at it only if its certificate has ended, which happens to a
/// worker that was off for longer than a day; the token is the one of this boot, and is in memory no longer than it takes to get there.
fn take_rejoin_token(paths: &Paths, node: &Node, ca_certificate: &str) -> Result<(), FileError> {
    let path = paths.rejoin_token();
    let failed = |operation| {
        let path = path.clone();
        move |source| FileError {
            operation,
            path,
            source,
        }
    };
    let token = match std::fs::read_to_string(&path) {
        Ok(token) => SecretText::new(token),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read")(error)),
    };
    node.kubelet_bootstrap(ca_certificate, &token).write()?;
    std::fs::remove_file(&path).map_err(failed("remove"))
}

#[cfg(test)]
mod tests {
    use cluster::network::AddressPlan;
    use cluster::{ClusterName, NodeName, Role};
    use k8s::control_plane::{EtcdMembership, Listen, NodeConfig};
    use k8s::files::File;

    use super::*;

    #[test]
    fn a_kubelet_finds_the_token_of_this_boot_and_it_stays_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let plan = AddressPlan::default();
        let addresses = plan.node(2).unwrap();
        let config = NodeConfig {
            cluster_name: ClusterName::new("mini").unwrap(),
            version: "v1.20.2".parse().unwrap(),
            node_name: NodeName::new("worker-0").unwrap(),
            role: Role::Worker,
            plan,
            addresses,
            api_endpoint: "127.0.0.1:7445".parse().unwrap(),
            provider_id: None,
            etcd: EtcdMembership::New,
        };
        let places = k8s::control_plane::Paths::below(root.path(), root.path());
        let node = Node::new(config, places, Listen::node(addresses.mesh_ip)).unwrap();
        let bootstrap = node.paths().bootstrap_kubeconfig();

        take_rejoin_token(&paths, &node, "CA").unwrap();
        assert!(!bootstrap.exists(), "a credential out of nothing");
        let token = "abcdef.0123456789abcdef";
        File::secret(paths.rejoin_token(), SecretText::new(token.to_owned()))
            .write()
            .unwrap();
        take_rejoin_token(&paths, &node, "CA").unwrap();
        assert!(std::fs::read_to_string(&bootstrap).unwrap().contains(token));
        assert!(!paths.rejoin_token().exists());
        // the program once more
        take_rejoin_token(&paths, &node, "CA").unwrap();
    }
}
