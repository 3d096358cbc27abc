//! Custom resources of the cluster.
//!
//! `NodeIdentity` is the join service's record of a node, under the node's name. Only control planes write it; nodes read it to know
//! their mesh peers. The spec is [`cluster::identity::NodeIdentity`] in the API's terms; reading one back goes through
//! [`NodeIdentity::to_identity`], which checks every field, since an admin may have edited the object.

use std::collections::BTreeMap;

use cluster::{
    Role,
    identity::{self, IdentityError},
    name::NameError,
};
use kube::{CustomResource, CustomResourceExt as _, core::ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of our resources.
pub const GROUP: &str = "constellation.edgeless.systems";

/// What the cluster knows about one of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "constellation.edgeless.systems",
    version = "v1alpha1",
    kind = "NodeIdentity",
    plural = "nodeidentities",
    derive = "PartialEq",
    doc = "A node as the join service admitted it",
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role"}"#,
    printcolumn = r#"{"name":"Mesh IP","type":"string","jsonPath":".spec.meshIp"}"#,
    printcolumn = r#"{"name":"Admitted","type":"string","jsonPath":".spec.admittedAt"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeIdentitySpec {
    /// `control-plane` or `worker`.
    pub role: String,
    /// LUKS2 UUID of the node's state disk.
    pub disk_uuid: String,
    /// Attestation variant that vouched for the node.
    pub attestation_variant: String,
    /// SHA-256 of the attestation key's public area, in hex.
    pub attestation_key_id: String,
    /// Measurements it was admitted with, hex by register.
    pub measurements: BTreeMap<String, String>,
    /// The node's number.
    pub index: u16,
    /// Address in the mesh.
    pub mesh_ip: String,
    /// Its pods.
    pub pod_cidr: String,
    /// Address in the provider's network.
    pub node_ip: String,
    /// WireGuard public key in base64.
    pub wireguard_public_key: String,
    /// When it was admitted, RFC 3339.
    pub admitted_at: String,
}

/// Why an object is not a usable identity.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Without a name, or with one that no node has.
    #[error("node identity {object:?} has no usable name")]
    Name {
        /// The object.
        object: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// A key that is not one.
    #[error("node identity {object} has an unusable key")]
    Key {
        /// The object.
        object: String,
        /// What is wrong with it.
        #[source]
        source: IdentityError,
    },
    /// Another field that cannot be read.
    #[error("node identity {object} has an unusable {field}: {value:?}")]
    Field {
        /// The object.
        object: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

impl NodeIdentity {
    /// The record of a node.
    pub fn from_identity(identity: &identity::NodeIdentity) -> Self {
        let spec = NodeIdentitySpec {
            role: identity.role.to_string(),
            disk_uuid: identity.disk_uuid.to_string(),
            attestation_variant: identity.attestation_variant.clone(),
            attestation_key_id: identity.attestation_key_id.clone(),
            measurements: identity
                .measurements
                .iter()
                .map(|(register, value)| (register.to_string(), value.clone()))
                .collect(),
            index: identity.index,
            mesh_ip: identity.mesh_ip.to_string(),
            pod_cidr: identity.pod_cidr.to_string(),
            node_ip: identity.node_ip.to_string(),
            wireguard_public_key: identity.wireguard_public_key.to_string(),
            admitted_at: identity.admitted_at.clone(),
        };
        Self {
            metadata: ObjectMeta {
                name: Some(identity.name.to_string()),
                ..ObjectMeta::default()
            },
            spec,
        }
    }

    /// The identity in this record, every field checked.
    pub fn to_identity(&self) -> Result<identity::NodeIdentity, RecordError> {
        let object = self.metadata.name.clone().unwrap_or_default();
        let spec = &self.spec;
        let field = |field, value: &str| RecordError::Field {
            object: object.clone(),
            field,
            value: value.chars().take(80).collect(),
        };
        let measurements = spec
            .measurements
            .iter()
            .map(|(register, value)| {
                let register = register
                    .parse()
                    .map_err(|_| field("measurements", register))?;
                Ok::<_, RecordError>((register, value.clone()))
            })
            .collect::<Result<_, _>>()?;
        Ok(identity::NodeIdentity {
            name: object.parse().map_err(|source| RecordError::Name {
                object: object.clone(),
                source,
            })?,
            role: spec
                .role
                .parse::<Role>()
                .map_err(|_| field("role", &spec.role))?,
            disk_uuid: spec
                .disk_uuid
                .parse()
                .map_err(|_| field("diskUuid", &spec.disk_uuid))?,
            attestation_variant: spec.attestation_variant.clone(),
            attestation_key_id: spec.attestation_key_id.clone(),
            measurements,
            index: spec.index,
            mesh_ip: spec
                .mesh_ip
                .parse()
                .map_err(|_| field("meshIp", &spec.mesh_ip))?,
            pod_cidr: spec
                .pod_cidr
                .parse()
                .map_err(|_| field("podCidr", &spec.pod_cidr))?,
            node_ip: spec
                .node_ip
                .parse()
                .map_err(|_| field("nodeIp", &spec.node_ip))?,
            wireguard_public_key: spec.wireguard_public_key.parse().map_err(|source| {
                RecordError::Key {
                    object: object.clone(),
                    source,
                }
            })?,
            admitted_at: spec.admitted_at.clone(),
        })
    }
}

/// The definitions to apply before the first record, as JSON documents.
pub fn definitions() -> Vec<serde_json::Value> {
    // a definition that kube derives is plain data; it cannot fail to become JSON
    vec![serde_json::to_value(NodeIdentity::crd()).unwrap_or_default()]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An identity for tests of this crate.
    pub(crate) fn identity(name: &str, index: u16, role: Role) -> identity::NodeIdentity {
        let addresses = cluster::network::AddressPlan::default()
            .node(index)
            .unwrap();
        identity::NodeIdentity {
            name: name.parse().unwrap(),
            role,
            disk_uuid: "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54".parse().unwrap(),
            attestation_variant: "qemu-vtpm".into(),
            attestation_key_id: "ab".repeat(32),
            measurements: [(4, "00".repeat(32)), (11, "11".repeat(32))].into(),
            index,
            mesh_ip: addresses.mesh_ip,
            pod_cidr: addresses.pod_cidr,
            node_ip: std::net::Ipv4Addr::new(10, 42, 2, 9 + u8::try_from(index).unwrap()),
            wireguard_public_key: identity::WireGuardPublicKey::new(
                [u8::try_from(index).unwrap(); 32],
            ),
            admitted_at: "2026-11-22T06:00:00Z".into(),
        }
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let identity = identity("worker-0", 2, Role::Worker);
        assert_eq!(
            NodeIdentity::from_identity(&identity)
                .to_identity()
                .unwrap(),
            identity
        );
    }

    #[test]
    fn an_edited_record_is_refused_by_field() {
        let good = NodeIdentity::from_identity(&identity("worker-0", 2, Role::Worker));
        let edit = |edit: fn(&mut NodeIdentity)| {
            let mut record = good.clone();
            edit(&mut record);
            record.to_identity().unwrap_err().to_string()
        };
        assert!(edit(|record| record.spec.role = "admin".into()).contains("role"));
        assert!(edit(|record| record.spec.mesh_ip = "10.45.0.2/32".into()).contains("meshIp"));
        assert!(edit(|record| record.spec.pod_cidr = String::new()).contains("podCidr"));
        assert!(edit(|record| record.spec.disk_uuid.make_ascii_uppercase()).contains("diskUuid"));
        assert!(edit(|record| record.spec.wireguard_public_key = "AAAA".into()).contains("key"));
        assert!(edit(|record| record.metadata.name = None).contains("name"));
    }

    #[test]
    fn the_definition_is_cluster_scoped_and_structural() {
        let definition = &definitions()[0];
        assert_eq!(
            definition["metadata"]["name"],
            "nodeidentities.constellation.edgeless.systems"
        );
        assert_eq!(definition["spec"]["scope"], "Cluster");
        assert_eq!(
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"],
            "object"
        );
    }
}
