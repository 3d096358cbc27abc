//! The cluster's address plan: which addresses pods, services and the mesh between nodes have.
//!
//! A node's addresses follow from its number alone, and the number is in the record the join service made, so that no node can
//! choose another's. Does not configure anything: rendering is `k8s::{cni, wireguard}`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{identity::WireGuardPublicKey, name::NodeName, role::Role};

/// The pods of a cluster, unless the config says otherwise.
pub const DEFAULT_POD_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);
/// The services of a cluster, unless the config says otherwise (the original's default).
pub const DEFAULT_SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);
/// The mesh between nodes.
pub const MESH_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 45, 0, 0), 16);
/// The interface of the mesh on each node.
pub const MESH_INTERFACE: &str = "wg0";
/// WireGuard's UDP port.
pub const WIREGUARD_PORT: u16 = 51820;
/// The Kubernetes API.
pub const API_PORT: u16 = 6443;
/// The Kubernetes API on each node's loopback, whichever control plane answers.
pub const API_PROXY_PORT: u16 = 7445;
/// A node's share of the pod CIDR.
pub const NODE_POD_PREFIX: u8 = 24;
/// Domain of services in the cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The checked address ranges of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Ranges", into = "Ranges")]
pub struct AddressPlan {
    pods: Ipv4Net,
    services: Ipv4Net,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ranges {
    pod_cidr: Ipv4Net,
    service_cidr: Ipv4Net,
}

/// The addresses of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// The node's number.
    pub index: u16,
    /// Its address in the mesh.
    pub mesh_ip: Ipv4Addr,
    /// The pods it may run.
    pub pod_cidr: Ipv4Net,
}

/// One other node, as WireGuard needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshPeer {
    /// Its name, for logs and comments.
    pub node_name: NodeName,
    /// Its role: on a control plane there is an API server.
    pub role: Role,
    /// Its key, which is its identity in the mesh.
    pub public_key: WireGuardPublicKey,
    /// Its address in the provider's network.
    pub endpoint: Ipv4Addr,
    /// Its address in the mesh.
    pub mesh_ip: Ipv4Addr,
    /// Its pods.
    pub pod_cidr: Ipv4Net,
}

/// Why ranges cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A range whose address has bits beyond its prefix.
    #[error("{what} {range} is not a network address; did you mean {trunc}?", trunc = range.trunc())]
    NotANetwork {
        /// Which range.
        what: &'static str,
        /// Its value.
        range: Ipv4Net,
    },
    /// A range of a size Kubernetes or the plan cannot work with.
    #[error("{what} {range} must have a prefix of /{min} to /{max}")]
    Size {
        /// Which range.
        what: &'static str,
        /// Its value.
        range: Ipv4Net,
        /// Largest network allowed.
        min: u8,
        /// Smallest network allowed.
        max: u8,
    },
    /// Two ranges that share addresses.
    #[error("{first} and {second} overlap")]
    Overlap {
        /// One range.
        first: Ipv4Net,
        /// The other.
        second: Ipv4Net,
    },
    /// No more node numbers.
    #[error("the pod CIDR {pods} has room for {max} nodes; there is no number {index}")]
    NodeIndex {
        /// The pod CIDR.
        pods: Ipv4Net,
        /// Its number of nodes.
        max: u16,
        /// The number asked for.
        index: u16,
    },
}

impl Default for AddressPlan {
    fn default() -> Self {
        Self {
            pods: DEFAULT_POD_CIDR,
            services: DEFAULT_SERVICE_CIDR,
        }
    }
}

impl AddressPlan {
    /// Checks the ranges of a cluster against each other and against the mesh.
    pub fn new(pods: Ipv4Net, services: Ipv4Net) -> Result<Self, NetworkError> {
        for (what, range, min, max) in [
            ("pod CIDR", pods, 8, 22),
            ("service CIDR", services, 12, 24),
        ] {
            if range.addr() != range.network() {
                return Err(NetworkError::NotANetwork { what, range });
            }
            if !(min..=max).contains(&range.prefix_len()) {
                return Err(NetworkError::Size {
                    what,
                    range,
                    min,
                    max,
                });
            }
        }
        for (first, second) in [(pods, services), (pods, MESH_CIDR), (services, MESH_CIDR)] {
            if first.contains(&second) || second.contains(&first) {
                return Err(NetworkError::Overlap { first, second });
            }
        }
        Ok(Self { pods, services })
    }

    /// The pods of the cluster.
    pub const fn pods(&self) -> Ipv4Net {
        self.pods
    }

    /// The services of the cluster.
    pub const fn services(&self) -> Ipv4Net {
        self.services
    }

    /// The address of the service `kubernetes`: the first of the range.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services.network()) + 1)
    }

    /// The address of the service `kube-dns`: the tenth of the range, as everywhere.
    pub fn dns_service_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services.network()) + 10)
    }

    /// How many nodes the plan has numbers for; numbers are 1 to this.
    pub fn max_nodes(&self) -> u16 {
        let blocks = 1_u32 << (NODE_POD_PREFIX - self.pods.prefix_len());
        // block 0 stays free; the mesh has a /16, its last address is not a node's
        u16::try_from(blocks - 1)
            .unwrap_or(u16::MAX)
            .min(u16::MAX - 1)
    }

    /// The addresses of node number `index`, the first control plane being 1.
    pub fn node(&self, index: u16) -> Result<NodeAddresses, NetworkError> {
        let max = self.max_nodes();
        if index == 0 || index > max {
            return Err(NetworkError::NodeIndex {
                pods: self.pods,
                max,
                index,
            });
        }
        let offset = u32::from(index);
        let pods = u32::from(self.pods.network()) + (offset << (32 - NODE_POD_PREFIX));
        Ok(NodeAddresses {
            index,
            mesh_ip: Ipv4Addr::from(u32::from(MESH_CIDR.network()) + offset),
            pod_cidr: Ipv4Net::new_assert(Ipv4Addr::from(pods), NODE_POD_PREFIX),
        })
    }

    /// The lowest number that is not in `taken`.
    pub fn first_free(
        &self,
        taken: impl IntoIterator<Item = u16>,
    ) -> Result<NodeAddresses, NetworkError> {
        let taken: std::collections::BTreeSet<u16> = taken.into_iter().collect();
        let max = self.max_nodes();
        let index = (1..=max)
            .find(|index| !taken.contains(index))
            .unwrap_or(max.saturating_add(1));
        self.node(index)
    }
}

impl TryFrom<Ranges> for AddressPlan {
    type Error = NetworkError;

    fn try_from(ranges: Ranges) -> Result<Self, NetworkError> {
        Self::new(ranges.pod_cidr, ranges.service_cidr)
    }
}

impl From<AddressPlan> for Ranges {
    fn from(plan: AddressPlan) -> Self {
        Self {
            pod_cidr: plan.pods,
            service_cidr: plan.services,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn default_plan_is_the_documented_one() {
        let plan = AddressPlan::new(DEFAULT_POD_CIDR, DEFAULT_SERVICE_CIDR).unwrap();
        assert_eq!(plan, AddressPlan::default());
        let first = plan.node(1).unwrap();
        assert_eq!(
            (first.mesh_ip, first.pod_cidr),
            (Ipv4Addr::new(10, 45, 0, 1), net("10.244.1.0/24"))
        );
        assert_eq!(plan.api_service_ip(), Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(plan.dns_service_ip(), Ipv4Addr::new(10, 96, 0, 10));
        assert_eq!(plan.max_nodes(), 255);
        assert!(plan.node(0).is_err() && plan.node(256).is_err());
    }

    #[test]
    fn refuses_ranges_that_cannot_work() {
        let plan = |pods, services| AddressPlan::new(net(pods), net(services));
        assert!(matches!(
            plan("10.244.1.0/16", "10.96.0.0/12"),
            Err(NetworkError::NotANetwork {
                what: "pod CIDR",
                ..
            })
        ));
        assert!(matches!(
            plan("10.244.0.0/24", "10.96.0.0/12"),
            Err(NetworkError::Size {
                what: "pod CIDR",
                ..
            })
        ));
        assert!(matches!(
            plan("10.244.0.0/16", "10.96.0.0/28"),
            Err(NetworkError::Size {
                what: "service CIDR",
                ..
            })
        ));
        for (pods, services) in [
            ("10.96.0.0/16", "10.96.0.0/12"),
            ("10.45.0.0/16", "10.96.0.0/12"),
            ("10.244.0.0/16", "10.45.0.0/20"),
        ] {
            assert!(
                matches!(plan(pods, services), Err(NetworkError::Overlap { .. })),
                "{pods} {services}"
            );
        }
    }

    #[test]
    fn numbers_are_taken_from_the_bottom_until_none_is_left() {
        let plan = AddressPlan::default();
        assert_eq!(plan.first_free([]).unwrap().index, 1);
        assert_eq!(plan.first_free([1, 2, 4]).unwrap().index, 3);
        assert!(matches!(
            plan.first_free(1..=255),
            Err(NetworkError::NodeIndex { index: 256, .. })
        ));
    }

    proptest! {
        #[test]
        fn nodes_never_share_addresses(a in 1_u16..=255, b in 1_u16..=255) {
            let plan = AddressPlan::default();
            let (first, second) = (plan.node(a).unwrap(), plan.node(b).unwrap());
            prop_assert!(plan.pods().contains(&first.pod_cidr) && MESH_CIDR.contains(&first.mesh_ip));
            prop_assert_eq!(a == b, first.mesh_ip == second.mesh_ip);
            prop_assert_eq!(a == b, first.pod_cidr == second.pod_cidr);
            prop_assert!(a == b || !first.pod_cidr.contains(&second.pod_cidr));
        }
    }
}
