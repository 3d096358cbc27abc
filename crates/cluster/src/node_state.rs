//! What a node keeps about itself on its encrypted state disk (`constellation/node_state.json`), the original's file with
//! its fields and those that this project adds.
//!
//! Nothing in it is secret. The bootstrapper reads it to know that the machine is a member already; the cluster ID for PCR 15 is
//! known before the disk may be read (`docs/adr/the-mark-comes-before-the-mount.md`). Does not read or write the file.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::plan::Flow;
use crate::role::Role;

/// Path of the file below the state disk's mount point.
pub const PATH: &str = "constellation/node_state.json";

/// The record. Written before the disk's key is set, completed when every step of init or join is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeState {
    /// `control-plane` or `worker`.
    role: Role,
    #[serde(with = "base64_salt")]
    measurement_salt: [u8; 32],
    /// The node's name in the cluster.
    node_name: String,
    /// `true` once the node has become a member.
    member: bool,
}

/// The file does not say what it must.
#[derive(Debug, thiserror::Error)]
pub enum NodeStateError {
    /// Not JSON, or not of this form.
    #[error("reading the node state file")]
    Parse(#[source] serde_json::Error),
    /// Can not happen for the type above; kept because the serializer can say so.
    #[error("writing the node state file")]
    Write(#[source] serde_json::Error),
}

impl NodeState {
    /// The record of a node on its way into a cluster.
    pub fn becoming(flow: Flow, node_name: &str, measurement_salt: [u8; 32]) -> Self {
        Self {
            role: flow.role(),
            measurement_salt,
            node_name: node_name.to_owned(),
            member: false,
        }
    }

    /// The same record, of a node for which every step is done.
    #[must_use]
    pub fn into_member(self) -> Self {
        Self {
            member: true,
            ..self
        }
    }

    /// Says whether the node has become a member.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// The node's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The node's name.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// The salt from which, with the measurement secret, the cluster ID is derived.
    pub fn measurement_salt(&self) -> &[u8; 32] {
        &self.measurement_salt
    }

    /// Reads the file's content.
    pub fn from_json(json: &[u8]) -> Result<Self, NodeStateError> {
        serde_json::from_slice(json).map_err(NodeStateError::Parse)
    }

    /// The file's content.
    pub fn to_json(&self) -> Result<Vec<u8>, NodeStateError> {
        serde_json::to_vec_pretty(self).map_err(NodeStateError::Write)
    }
}

mod base64_salt {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{BASE64_STANDARD, Deserialize, Engine};

    pub(super) fn serialize<S: Serializer>(
        salt: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(salt))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
        bytes
            .try_into()
            .map_err(|_| D::Error::custom("a measurement salt has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_round_trips() {
        let state = NodeState::becoming(Flow::JoinAsWorker, "worker-0", [7; 32]).into_member();
        let json = state.to_json().unwrap();
        assert_eq!(NodeState::from_json(&json).unwrap(), state);
        assert!(state.is_member() && state.role() == Role::Worker);
    }

    #[test]
    fn unknown_fields_and_short_salts_are_refused() {
        let long = BASE64_STANDARD.encode([1; 32]);
        let short = BASE64_STANDARD.encode([1; 31]);
        let text = |salt: &str, more: &str| {
            format!(
                r#"{{"role":"worker","measurementSalt":"{salt}","nodeName":"w","member":true{more}}}"#
            )
        };
        NodeState::from_json(text(&long, "").as_bytes()).unwrap();
        assert!(NodeState::from_json(text(&short, "").as_bytes()).is_err());
        assert!(NodeState::from_json(text(&long, r#","x":1"#).as_bytes()).is_err());
    }
}
