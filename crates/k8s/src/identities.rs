//! The records of the nodes in the API: `NodeIdentity`.
//!
//! One ConfigMap per node, under the node's name, in a namespace of its own: the join service and the first control plane write
//! there, nodes read there (to know their mesh peers), nobody else has business there (`manifests/roles.yaml`). A built-in kind
//! rather than a custom resource: it needs no definition that init would have to wait for, and the API server that the tests
//! run (1.20 built with a later Go) crashes on every custom resource; see docs/adr.
//!
//! Reading one goes through [`NodeIdentity::to_identity`], which checks every field: an admin may have edited the object.
//! Kubernetes puts ConfigMaps of its own into every namespace, so records carry a label and are listed by it
//! ([`list_params`], [`watch_config`]).

use std::borrow::Cow;

use cluster::{NodeName, identity, name::NameError};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ConfigMap};
use kube::{Api, Client, Resource, api::ListParams, core::ObjectMeta, runtime::watcher};
use serde::{Deserialize, Serialize};

/// The namespace of the records.
pub const NAMESPACE: &str = "constellation-nodes";
/// Label of a record.
const LABEL: &str = "constellation.edgeless.systems/record";
const LABEL_VALUE: &str = "node-identity";

/// A node's record as the API keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeIdentity {
    // the items of a list say neither
    #[serde(default = "api_version")]
    api_version: String,
    #[serde(default = "kind")]
    kind: String,
    /// Name, version and annotations of the object.
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    data: Data,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Data {
    /// The identity as JSON.
    #[serde(default)]
    identity: String,
}

/// Why an object is not a usable record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Without a name, or with one that no node has.
    #[error("node record {object:?} has no usable name")]
    Name {
        /// The object.
        object: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// A field that is missing, unknown, or not what it should be.
    #[error("node record {object} cannot be read")]
    Fields {
        /// The object.
        object: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The record of another node under this name.
    #[error("node record {object} is that of {node}")]
    OtherNode {
        /// The object.
        object: String,
        /// The node inside.
        node: NodeName,
    },
}

impl NodeIdentity {
    /// The record of a node.
    pub fn from_identity(identity: &identity::NodeIdentity) -> Self {
        Self {
            api_version: api_version(),
            kind: kind(),
            metadata: ObjectMeta {
                name: Some(identity.name.to_string()),
                namespace: Some(NAMESPACE.to_owned()),
                labels: Some([(LABEL.to_owned(), LABEL_VALUE.to_owned())].into()),
                ..ObjectMeta::default()
            },
            // texts and numbers only: it cannot fail, and an empty record would be refused by its readers
            data: Data {
                identity: serde_json::to_string_pretty(identity).unwrap_or_default(),
            },
        }
    }

    /// The identity in this record, every field checked.
    pub fn to_identity(&self) -> Result<identity::NodeIdentity, RecordError> {
        let object = self.metadata.name.clone().unwrap_or_default();
        let name: NodeName = object.parse().map_err(|source| RecordError::Name {
            object: object.clone(),
            source,
        })?;
        let identity: identity::NodeIdentity =
            serde_json::from_str(&self.data.identity).map_err(|source| RecordError::Fields {
                object: object.clone(),
                source,
            })?;
        if identity.name == name {
            Ok(identity)
        } else {
            Err(RecordError::OtherNode {
                object,
                node: identity.name,
            })
        }
    }
}

impl Resource for NodeIdentity {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ConfigMap::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ConfigMap::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ConfigMap::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ConfigMap::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn api_version() -> String {
    "v1".to_owned()
}

fn kind() -> String {
    "ConfigMap".to_owned()
}

/// The records of the cluster.
pub fn api(client: Client) -> Api<NodeIdentity> {
    Api::namespaced(client, NAMESPACE)
}

/// Lists records and nothing else.
pub fn list_params() -> ListParams {
    ListParams::default().labels(&selector())
}

/// Watches records and nothing else.
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().labels(&selector())
}

fn selector() -> String {
    format!("{LABEL}={LABEL_VALUE}")
}

#[cfg(test)]
pub(crate) mod tests {
    use cluster::Role;

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
            reset_count: None,
        }
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let identity = identity("worker-0", 2, Role::Worker);
        let record = NodeIdentity::from_identity(&identity);
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(
            (json["kind"].as_str(), json["apiVersion"].as_str()),
            (Some("ConfigMap"), Some("v1"))
        );
        let item = serde_json::json!({ "metadata": json["metadata"], "data": json["data"] });
        let read: NodeIdentity = serde_json::from_value(item).unwrap();
        assert_eq!(read, record, "an item of a list is the same");
        assert_eq!(read.to_identity().unwrap(), identity);
    }

    #[test]
    fn an_edited_record_is_refused() {
        let good = NodeIdentity::from_identity(&identity("worker-0", 2, Role::Worker));
        let refused = |from: &str, to: &str| {
            let mut record = good.clone();
            record.data.identity = record.data.identity.replace(from, to);
            assert_ne!(record, good, "{from} occurs");
            let error = record.to_identity().unwrap_err();
            assert!(matches!(error, RecordError::Fields { .. }), "{error}");
        };
        refused("\"worker\"", "\"admin\"");
        refused("\"10.45.0.2\"", "\"10.45.0.2/32\"");
        refused("\"10.244.2.0/24\"", "\"\"");
        refused("0b5c9e7e", "0B5C9E7E");
        refused("\"qemu-vtpm\"", "7");
        refused("\"diskUuid\"", "\"diskUUID\"");
        refused("{", "");

        let mut nameless = good.clone();
        nameless.metadata.name = None;
        assert!(matches!(
            nameless.to_identity(),
            Err(RecordError::Name { .. })
        ));
        let mut other = good;
        other.metadata.name = Some("worker-1".into());
        assert!(matches!(
            other.to_identity(),
            Err(RecordError::OtherNode { .. })
        ));
    }

    #[test]
    fn another_config_map_is_no_record() {
        let other = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kube-root-ca.crt" }, "data": { "ca.crt": "..." },
        });
        let other: NodeIdentity = serde_json::from_value(other).unwrap();
        assert!(other.to_identity().is_err());
    }
}
