//! Who a node is: its name, role, disk, keys and addresses, as the join service recorded them after appraisal.
//!
//! Plain data; the object around it is `k8s::identities`. Whatever decides about a node (certificates, mesh peers, keys of
//! disks) reads this record and never the Node object, which the node itself may change. Spec: design/cluster.md, "Join".

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{disk_uuid::DiskUuid, name::NodeName, network::AddressPlan, role::Role};

/// The public half of a node's WireGuard key (X25519), in base64 as `wg` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WireGuardPublicKey([u8; 32]);

/// Why something is not a part of an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a WireGuard public key.
    #[error("WireGuard public key {0:?} is not 32 bytes in base64")]
    WireGuardPublicKey(String),
    /// A record whose addresses are not those of its number.
    #[error(
        "mesh address {mesh_ip} and pod network {pod_cidr} are not those of node number {index}"
    )]
    Place {
        /// The number.
        index: u16,
        /// The recorded address.
        mesh_ip: Ipv4Addr,
        /// The recorded network.
        pod_cidr: Ipv4Net,
    },
}

/// What the cluster knows about one of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeIdentity {
    /// Also the name of the object.
    pub name: NodeName,
    /// As the join service admitted it.
    pub role: Role,
    /// The node's state disk: it gets this disk's key at rejoin and no other's.
    pub disk_uuid: DiskUuid,
    /// Attestation variant that vouched for the node, such as `qemu-vtpm`.
    pub attestation_variant: String,
    /// SHA-256 of the attestation key's public area, in hex.
    pub attestation_key_id: String,
    /// The measurements it was admitted with, by register, in hex.
    pub measurements: BTreeMap<u32, String>,
    /// The node's number, from which its mesh address and pod CIDR follow.
    pub index: u16,
    /// Its address in the WireGuard mesh; the kubelet's node IP.
    pub mesh_ip: Ipv4Addr,
    /// The pods of this node.
    pub pod_cidr: Ipv4Net,
    /// Its address in the provider's network, where WireGuard reaches it.
    pub node_ip: Ipv4Addr,
    /// Its key in the mesh.
    pub wireguard_public_key: WireGuardPublicKey,
    /// When it was admitted, RFC 3339 in UTC.
    pub admitted_at: String,
    /// How often its TPM was reset when it last asked, until it had joined. Records of the first node and of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_count: Option<u32>,
}

/// A node whose addresses are those that the cluster's plan has for its number, and so nobody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedNode(NodeIdentity);

impl PlacedNode {
    /// The node.
    pub fn identity(&self) -> &NodeIdentity {
        &self.0
    }
}

impl NodeIdentity {
    /// Checks the addresses against the plan: a record that was edited must not draw other nodes' traffic to its node.
    ///
    /// # Errors
    /// When the plan has other addresses for this number, or none.
    pub fn placed(self, plan: &AddressPlan) -> Result<PlacedNode, IdentityError> {
        match plan.node(self.index) {
            Ok(place) if (place.mesh_ip, place.pod_cidr) == (self.mesh_ip, self.pod_cidr) => {
                Ok(PlacedNode(self))
            }
            _ => Err(IdentityError::Place {
                index: self.index,
                mesh_ip: self.mesh_ip,
                pod_cidr: self.pod_cidr,
            }),
        }
    }
}

/// Kubernetes' prefix of a kubelet's user name.
pub const KUBELET_USER_PREFIX: &str = "system:node:";

impl NodeName {
    /// The user name of the node's kubelet in Kubernetes.
    pub fn kubelet_user(&self) -> String {
        format!("{KUBELET_USER_PREFIX}{self}")
    }
}

impl WireGuardPublicKey {
    /// Takes a key's bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for WireGuardPublicKey {
    type Error = IdentityError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdentityError> {
        <[u8; 32]>::try_from(bytes)
            .map(Self)
            .map_err(|_| IdentityError::WireGuardPublicKey(format!("{} bytes", bytes.len())))
    }
}

impl FromStr for WireGuardPublicKey {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let bytes = BASE64
            .decode(text)
            .map_err(|_| IdentityError::WireGuardPublicKey(shown(text)))?;
        Self::try_from(bytes.as_slice()).map_err(|_| IdentityError::WireGuardPublicKey(shown(text)))
    }
}

impl fmt::Display for WireGuardPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for WireGuardPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text of the other side, cut to what an error message can bear.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl TryFrom<String> for WireGuardPublicKey {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<WireGuardPublicKey> for String {
    fn from(key: WireGuardPublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wireguard_key_is_32_bytes() {
        let key = WireGuardPublicKey::new([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "AAAA", "not base64!", &BASE64.encode([0; 33])] {
            assert!(text.parse::<WireGuardPublicKey>().is_err(), "{text}");
        }
    }
}
