//! What a member keeps about its cluster on its encrypted state disk, so that a restarted or rebooted node can go on without
//! asking anybody who it is. Holds no secret.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use cluster::kubernetes::{Version, VersionError};
use cluster::network::{API_PROXY_PORT, AddressPlan, MeshPeer, NetworkError, NodeAddresses};
use cluster::{ClusterName, NodeName, Role};
use k8s::control_plane::{EtcdMembership, Listen, Node, NodeConfig};
use k8s::files::{File, FileError};
use serde::{Deserialize, Serialize};

use crate::api_proxy::ApiServers;
use crate::host::Paths;
use crate::renewal::Renewal;

/// A node's place in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Membership {
    /// Which cluster.
    pub cluster_name: ClusterName,
    /// Its Kubernetes.
    pub version: Version,
    /// Which node.
    pub node_name: NodeName,
    /// Its role.
    pub role: Role,
    /// The cluster's networks.
    pub networks: AddressPlan,
    /// The node's number, from which its addresses follow.
    pub index: u16,
    /// Its address on the network between the machines.
    pub node_ip: Ipv4Addr,
    /// The provider's name for the machine.
    pub provider_id: Option<String>,
    /// Further names of the API; empty on a worker.
    pub api_sans: Vec<String>,
}

/// A membership could not be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Its file.
    #[error("a file of the node's membership")]
    File(#[source] FileError),
    /// Its form.
    #[error("the form of the node's membership")]
    Form(#[source] serde_json::Error),
    /// Its number.
    #[error("the node's number")]
    Index(#[source] NetworkError),
    /// Its version.
    #[error("the cluster's Kubernetes version")]
    Version(#[source] VersionError),
    /// etcd's directory.
    #[error("which etcd this node is a member of")]
    Etcd(#[source] k8s::etcd::DirectoryError),
}

impl Membership {
    /// The node's addresses.
    pub fn addresses(&self) -> Result<NodeAddresses, MembershipError> {
        self.networks
            .node(self.index)
            .map_err(MembershipError::Index)
    }

    /// The node as Kubernetes is configured on it.
    pub fn node(&self) -> Result<Node, MembershipError> {
        let addresses = self.addresses()?;
        let paths = k8s::control_plane::Paths::node();
        // which members there were is kept with etcd's data, not twice
        let etcd = k8s::etcd::Directory::new(&paths.etcd_data)
            .membership()
            .map_err(MembershipError::Etcd)?;
        let config = NodeConfig {
            cluster_name: self.cluster_name.clone(),
            version: self.version,
            node_name: self.node_name.clone(),
            role: self.role,
            plan: self.networks,
            addresses,
            api_endpoint: SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PROXY_PORT),
            provider_id: self.provider_id.clone(),
            etcd: etcd.unwrap_or(EtcdMembership::New),
        };
        Node::new(config, paths, Listen::node(addresses.mesh_ip)).map_err(MembershipError::Version)
    }

    /// Tells the proxy to the API who the control planes are.
    pub fn tell(&self, servers: &ApiServers, peers: &[MeshPeer]) {
        let credentials = kubeconfig(self.role, &k8s::control_plane::Paths::node());
        servers.follow(self.role, peers, credentials);
    }

    /// The certificates of this node, if it is a control plane.
    pub fn renewal(&self) -> Result<Renewal, MembershipError> {
        Ok(Renewal::new(
            self.node()?,
            self.node_ip,
            self.api_sans.clone(),
        ))
    }

    /// Keeps it.
    pub fn write(&self, paths: &Paths) -> Result<(), MembershipError> {
        let json = serde_json::to_string_pretty(self).map_err(MembershipError::Form)?;
        File::public(path(paths), json)
            .write()
            .map(drop)
            .map_err(MembershipError::File)
    }

    /// Reads what was kept.
    pub fn read(paths: &Paths) -> Result<Self, MembershipError> {
        let path = path(paths);
        let json = std::fs::read(&path).map_err(|source| {
            MembershipError::File(FileError {
                operation: "read",
                path,
                source,
            })
        })?;
        serde_json::from_slice(&json).map_err(MembershipError::Form)
    }
}

/// With what this program asks the API: on a control plane it has a certificate of its own; on a worker it uses kubelet's.
pub fn kubeconfig(role: Role, paths: &k8s::control_plane::Paths) -> PathBuf {
    match role {
        Role::ControlPlane => paths.node_agent_kubeconfig(),
        Role::Worker => paths.kubelet_kubeconfig(),
    }
}

fn path(paths: &Paths) -> PathBuf {
    paths.state.join("constellation/membership.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_comes_back_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let membership = Membership {
            cluster_name: ClusterName::new("mini").unwrap(),
            version: "v1.20.2".parse().unwrap(),
            node_name: NodeName::new("worker-0").unwrap(),
            role: Role::Worker,
            networks: AddressPlan::default(),
            index: 2,
            node_ip: Ipv4Addr::new(10, 42, 2, 10),
            provider_id: Some("qemu:///hostname/worker-0".to_owned()),
            api_sans: Vec::new(),
        };
        assert!(Membership::read(&paths).is_err());
        membership.write(&paths).unwrap();
        assert_eq!(Membership::read(&paths).unwrap(), membership);
        assert_eq!(
            membership.addresses().unwrap().mesh_ip,
            Ipv4Addr::new(10, 45, 0, 2)
        );
        membership.node().unwrap();
    }
}
