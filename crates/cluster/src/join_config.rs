//! The ConfigMap `join-config`: what the join service must know of its cluster. Written by the first node at init and by the CLI at
//! upgrades, read by the join service. Nothing in it is secret.
//!
//! The name and the keys `attestationConfig` and `measurementSalt` are the original's; `cluster` is new. The attestation policy is
//! carried as text: whoever uses it parses it with `attest::Policy`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, network::AddressPlan};

/// Name of the ConfigMap, in `kube-system`.
pub const CONFIG_MAP: &str = "join-config";
/// Key of the attestation policy, in `data`.
pub const ATTESTATION_CONFIG: &str = "attestationConfig";
/// Key of the salt of the cluster ID, in `binaryData`.
pub const MEASUREMENT_SALT: &str = "measurementSalt";
/// Key of [`ClusterFacts`] as JSON, in `data`.
pub const CLUSTER: &str = "cluster";

/// The cluster that a node joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterFacts {
    /// Its name.
    pub name: ClusterName,
    /// The ConfigMap with the list of components for its Kubernetes version, see [`crate::catalogue::Components::config_map_name`].
    pub components_config_map: String,
    /// Base URL in front of the components' relative URLs; may be empty.
    #[serde(default)]
    pub component_mirror: String,
    /// Its address ranges.
    pub network: AddressPlan,
    /// Further names of the API, for the certificates of control planes.
    #[serde(default)]
    pub api_sans: Vec<String>,
}

/// The content of the ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinConfig {
    /// The policy for nodes that want to join, as JSON.
    pub attestation_config: String,
    /// Salt of the cluster ID.
    pub measurement_salt: [u8; 32],
    /// The cluster.
    pub cluster: ClusterFacts,
}

/// Why a ConfigMap is no join config.
#[derive(Debug, thiserror::Error)]
pub enum JoinConfigError {
    /// A key is not there.
    #[error("the ConfigMap {CONFIG_MAP} has no {0}")]
    Missing(&'static str),
    /// The salt has another length.
    #[error("{MEASUREMENT_SALT} in the ConfigMap {CONFIG_MAP} has {0} bytes, not 32")]
    Salt(usize),
    /// The facts do not parse.
    #[error("parse {CLUSTER} in the ConfigMap {CONFIG_MAP}")]
    Cluster(#[source] serde_json::Error),
}

/// `data` and `binaryData` of a ConfigMap.
pub type ConfigMapData = (BTreeMap<String, String>, BTreeMap<String, Vec<u8>>);

impl JoinConfig {
    /// Reads `data` and `binaryData` of the ConfigMap.
    ///
    /// # Errors
    /// When a key is missing or malformed. Keys that are not known are left alone: the original kept a backup beside.
    pub fn parse(
        data: &BTreeMap<String, String>,
        binary_data: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, JoinConfigError> {
        let text = |key| data.get(key).ok_or(JoinConfigError::Missing(key));
        let salt = binary_data
            .get(MEASUREMENT_SALT)
            .ok_or(JoinConfigError::Missing(MEASUREMENT_SALT))?;
        Ok(Self {
            attestation_config: text(ATTESTATION_CONFIG)?.clone(),
            measurement_salt: salt
                .as_slice()
                .try_into()
                .map_err(|_| JoinConfigError::Salt(salt.len()))?,
            cluster: serde_json::from_str(text(CLUSTER)?).map_err(JoinConfigError::Cluster)?,
        })
    }

    /// `data` and `binaryData` of the ConfigMap.
    ///
    /// # Errors
    /// When serialising fails, which these types give no reason for.
    pub fn to_maps(&self) -> Result<ConfigMapData, JoinConfigError> {
        let cluster = serde_json::to_string(&self.cluster).map_err(JoinConfigError::Cluster)?;
        let data = BTreeMap::from([
            (
                ATTESTATION_CONFIG.to_owned(),
                self.attestation_config.clone(),
            ),
            (CLUSTER.to_owned(), cluster),
        ]);
        let binary =
            BTreeMap::from([(MEASUREMENT_SALT.to_owned(), self.measurement_salt.to_vec())]);
        Ok((data, binary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> JoinConfig {
        JoinConfig {
            attestation_config: "{}".to_owned(),
            measurement_salt: [3; 32],
            cluster: ClusterFacts {
                name: ClusterName::new("mini").unwrap(),
                components_config_map: "k8s-components-sha256-00".to_owned(),
                component_mirror: String::new(),
                network: AddressPlan::default(),
                api_sans: vec!["127.42.0.1".to_owned()],
            },
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let (mut data, binary) = config().to_maps().unwrap();
        assert_eq!(
            data[CLUSTER],
            r#"{"name":"mini","componentsConfigMap":"k8s-components-sha256-00","componentMirror":"","network":{"podCidr":"10.244.0.0/16","serviceCidr":"10.96.0.0/12"},"apiSans":["127.42.0.1"]}"#
        );
        data.insert("attestationConfig_backup".to_owned(), "{}".to_owned());
        assert_eq!(JoinConfig::parse(&data, &binary).unwrap(), config());
    }

    #[test]
    fn names_what_is_missing_or_malformed() {
        let (data, binary) = config().to_maps().unwrap();
        for key in [ATTESTATION_CONFIG, CLUSTER] {
            let mut data = data.clone();
            data.remove(key);
            assert!(
                matches!(JoinConfig::parse(&data, &binary), Err(JoinConfigError::Missing(missing)) if missing == key)
            );
        }
        assert!(matches!(
            JoinConfig::parse(&data, &BTreeMap::new()),
            Err(JoinConfigError::Missing(MEASUREMENT_SALT))
        ));
        let short = BTreeMap::from([(MEASUREMENT_SALT.to_owned(), vec![3; 31])]);
        assert!(matches!(
            JoinConfig::parse(&data, &short),
            Err(JoinConfigError::Salt(31))
        ));
        let mut unknown = data.clone();
        unknown.insert(
            CLUSTER.to_owned(),
            data[CLUSTER].replace("\"name\"", "\"nome\""),
        );
        assert!(matches!(
            JoinConfig::parse(&unknown, &binary),
            Err(JoinConfigError::Cluster(_))
        ));
    }
}
