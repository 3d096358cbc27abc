//! What a provider tells a node about itself and its peers, and the trait through which a node asks.
//!
//! All of it comes from the untrusted host: it may stop a node from joining, it must never decide what a node may have.
//! Facts: constellation-facts.md 15.1.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::NodeName;
use crate::role::Role;

/// The longest provider id that is believed.
pub const PROVIDER_ID_MAX: usize = 256;
/// The most machines a list may have.
pub const INSTANCES_MAX: usize = 4096;

/// One machine as its provider describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceMetadata {
    /// Host name, and the name of the Kubernetes node.
    pub name: NodeName,
    /// The provider's identifier, `qemu:///hostname/<name>` for QEMU.
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// Control plane or worker.
    pub role: Role,
    /// The address on the network between the machines.
    #[serde(rename = "vpcIP")]
    pub vpc_ip: IpAddr,
    /// A range given to this machine's pods by the provider, where there is one.
    #[serde(
        rename = "secondaryIPRange",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub secondary_ip_range: Option<ipnet::IpNet>,
}

impl InstanceMetadata {
    /// Refuses what serde can not: an address nobody can have, a provider id beyond its bound.
    pub fn check(&self) -> Result<(), InstanceError> {
        if self.provider_id.len() > PROVIDER_ID_MAX
            || self
                .provider_id
                .chars()
                .any(|c| c.is_control() || c.is_whitespace())
        {
            return Err(InstanceError::ProviderId);
        }
        if self.vpc_ip.is_unspecified() || self.vpc_ip.is_loopback() || self.vpc_ip.is_multicast() {
            return Err(InstanceError::Address(self.vpc_ip));
        }
        Ok(())
    }
}

/// Why a machine's description is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// Too long, or holds control characters or spaces.
    #[error("the provider id is too long or holds control characters")]
    ProviderId,
    /// Loopback, multicast or unspecified.
    #[error("{0} can not be the address of a machine")]
    Address(IpAddr),
}

/// Where the cluster is reached from outside: host (name or address) and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// DNS name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why metadata could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetadataError {
    /// The provider did not answer, or not in time.
    #[error("fetch {what} from the metadata service")]
    Fetch {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The provider answered with something that is not what was asked for.
    #[error("the metadata service's answer for {what} is refused: {reason}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What is wrong with it; safe to log.
        reason: String,
    },
}

/// How a node learns about itself and its peers. One implementation per provider, in `cloud`.
#[async_trait::async_trait]
pub trait Metadata: Send + Sync {
    /// This machine.
    async fn this_instance(&self) -> Result<InstanceMetadata, MetadataError>;

    /// Every machine of the cluster, this one included.
    async fn list(&self) -> Result<Vec<InstanceMetadata>, MetadataError>;

    /// The bcrypt hash of the init secret (`$2b$...`), readable by anyone who can ask the metadata service.
    async fn init_secret_hash(&self) -> Result<String, MetadataError>;

    /// Where clients reach the API server.
    async fn endpoint(&self) -> Result<Endpoint, MetadataError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> serde_json::Value {
        serde_json::json!({
            "name": "worker-0", "providerID": "qemu:///hostname/worker-0", "role": "worker", "vpcIP": "10.42.2.10",
        })
    }

    #[test]
    fn the_wire_form_reads_back() {
        let parsed: InstanceMetadata = serde_json::from_value(instance()).unwrap();
        assert_eq!(parsed.check(), Ok(()));
        assert_eq!(serde_json::to_value(&parsed).unwrap(), instance());
    }

    #[test]
    fn hostile_values_are_refused() {
        let mut unknown = instance();
        unknown["uid"] = "x".into();
        assert!(serde_json::from_value::<InstanceMetadata>(unknown).is_err());
        for address in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::1"] {
            let mut value = instance();
            value["vpcIP"] = address.into();
            let parsed: InstanceMetadata = serde_json::from_value(value).unwrap();
            assert!(
                matches!(parsed.check(), Err(InstanceError::Address(_))),
                "{address}"
            );
        }
        for id in [
            "a b".to_owned(),
            "a\nb".to_owned(),
            "x".repeat(PROVIDER_ID_MAX + 1),
        ] {
            let mut value = instance();
            value["providerID"] = id.into();
            let parsed: InstanceMetadata = serde_json::from_value(value).unwrap();
            assert_eq!(parsed.check(), Err(InstanceError::ProviderId));
        }
    }
}
