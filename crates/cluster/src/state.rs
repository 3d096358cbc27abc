//! The state file, `constellation-state.yaml`, version v1 as the original's: what infrastructure there is, and which
//! cluster was made on it.
//!
//! Written by the CLI, and by hand for machines that somebody else made. Holds the init secret, which is worth nothing
//! once the cluster is initialised. Facts: constellation-facts.md 14.5.

use std::fmt;
use std::net::IpAddr;

use keys::{ClusterId, MeasurementSalt};

use crate::yaml::{self, Problems, Section, Value};

/// The version of the format.
pub const VERSION: &str = "v1";
/// The usual name of the file.
pub const FILE_NAME: &str = "constellation-state.yaml";
/// The most names the API server's certificate gets from the file.
const SANS_MAX: usize = 64;

/// The whole file, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The machines and how they are reached; empty before they are made.
    pub infrastructure: Option<Infrastructure>,
    /// The cluster; empty before its init.
    pub cluster_values: Option<ClusterValues>,
}

/// `infrastructure`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infrastructure {
    /// Distinguishes the resources of this cluster from those of others of its name.
    pub uid: String,
    /// Where the admin reaches the cluster: host name or address.
    pub cluster_endpoint: String,
    /// Where nodes reach it.
    pub in_cluster_endpoint: String,
    /// What the first node demands of whoever initialises it.
    pub init_secret: InitSecret,
    /// More names and addresses for the API server's certificate.
    pub api_server_cert_sans: Vec<String>,
    /// Name of the infrastructure.
    pub name: String,
    /// The network of the machines.
    pub ip_cidr_node: Option<ipnet::IpNet>,
}

/// `clusterValues`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterValues {
    /// Which cluster it is.
    pub cluster_id: ClusterId,
    /// The original's field; empty here.
    pub owner_id: String,
    /// From which, with the measurement secret, the cluster ID is derived.
    pub measurement_salt: MeasurementSalt,
}

/// The init secret. Shown to nobody: leaves by [`InitSecret::expose_bytes`].
#[derive(Clone, PartialEq, Eq)]
pub struct InitSecret(Vec<u8>);

/// Not a number of bytes a secret has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the init secret must have 16 to 64 bytes, none of them zero")]
pub struct InitSecretError;

impl InitSecret {
    /// Takes the bytes of a secret that a proper generator made.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InitSecretError> {
        // bcrypt, in which metadata shows it, stops at a zero
        if (16..=64).contains(&bytes.len()) && !bytes.contains(&0) {
            Ok(Self(bytes))
        } else {
            Err(InitSecretError)
        }
    }

    /// The bytes, for the state file, the Init request and the hash that metadata shows.
    pub fn expose_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for InitSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InitSecret(..)")
    }
}

impl State {
    /// Reads the text of a state file; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        yaml::document(file, text, read)
    }

    /// The text of the file, with the init secret in it.
    pub fn expose_yaml(&self) -> String {
        let mut text =
            format!("# Written by constellation; holds the init secret.\nversion: {VERSION}\n");
        if let Some(infrastructure) = &self.infrastructure {
            let Infrastructure {
                uid,
                cluster_endpoint,
                in_cluster_endpoint,
                init_secret,
                api_server_cert_sans,
                name,
                ip_cidr_node,
            } = infrastructure;
            let sans: Vec<_> = api_server_cert_sans.iter().map(|san| quoted(san)).collect();
            text.push_str(&format!(
                "infrastructure:\n  uid: {}\n  clusterEndpoint: {}\n  inClusterEndpoint: {}\n  initSecret: {}\n  apiServerCertSANs: [{}]\n  name: {}\n",
                quoted(uid),
                quoted(cluster_endpoint),
                quoted(in_cluster_endpoint),
                quoted(&hex::encode(init_secret.expose_bytes())),
                sans.join(", "),
                quoted(name),
            ));
            if let Some(network) = ip_cidr_node {
                text.push_str(&format!("  ipCidrNode: {}\n", quoted(&network.to_string())));
            }
        }
        if let Some(ClusterValues {
            cluster_id,
            owner_id,
            measurement_salt,
        }) = &self.cluster_values
        {
            text.push_str(&format!(
                "clusterValues:\n  clusterID: {}\n  ownerID: {}\n  measurementSalt: {}\n",
                quoted(&cluster_id.to_string()),
                quoted(owner_id),
                quoted(&hex::encode(measurement_salt.as_bytes())),
            ));
        }
        text
    }
}

/// A YAML text in double quotes. The values are checked words; escapes are for the rest.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn read(root: &mut Section<'_>) -> Option<State> {
    let version = root.required("version", VERSION).and_then(|value| {
        value.parse(VERSION, |text| {
            if text == VERSION {
                Ok(())
            } else {
                Err(format!("{text:?} is not known"))
            }
        })
    });
    let infrastructure = root
        .optional("infrastructure")
        .map(|value| infrastructure(&value));
    let cluster_values = root
        .optional("clusterValues")
        .map(|value| cluster_values(&value));
    version?;
    Some(State {
        infrastructure: match infrastructure {
            None => None,
            Some(infrastructure) => infrastructure?,
        },
        cluster_values: match cluster_values {
            None => None,
            Some(values) => values?,
        },
    })
}

const SECRET: &str = "32 to 128 hex digits";
const ENDPOINT: &str = "an address or a DNS name, without a port";

fn infrastructure(value: &Value<'_>) -> Option<Option<Infrastructure>> {
    let mut section = value.section()?;
    let text = |value: Option<Value<'_>>| match value {
        None => Some(String::new()),
        Some(value) => value.text("a text").map(str::to_owned),
    };
    let uid = text(section.optional("uid"));
    let name = text(section.optional("name"));
    let cluster_endpoint = section
        .required("clusterEndpoint", ENDPOINT)
        .and_then(|value| value.parse(ENDPOINT, endpoint));
    let in_cluster_endpoint = section
        .optional("inClusterEndpoint")
        .filter(|value| !value.is_empty_text())
        .map(|value| value.parse(ENDPOINT, endpoint));
    let init_secret = section.required("initSecret", SECRET).and_then(|value| {
        value.parse(SECRET, |text| {
            // the text is not repeated: it may be all but one digit of a secret
            let bytes = hex::decode(text).map_err(|_| "not hexadecimal".to_owned())?;
            InitSecret::new(bytes).map_err(|error| error.to_string())
        })
    });
    let sans = section
        .optional("apiServerCertSANs")
        .map_or_else(|| Some(Vec::new()), |value| sans(&value));
    let rule = "a network such as 10.42.0.0/16";
    let network = section
        .optional("ipCidrNode")
        .filter(|value| !value.is_empty_text())
        .map(|value| {
            value.parse(rule, |text| {
                text.parse::<ipnet::IpNet>()
                    .map_err(|_| format!("{text:?} is not a network"))
            })
        });
    for provider in ["azure", "gcp", "openstack"] {
        section.refuse(
            provider,
            || format!("provider {provider} is not in this release"),
            "nothing: remove this section",
        );
    }
    section.finish();
    let cluster_endpoint = cluster_endpoint?;
    Some(Some(Infrastructure {
        uid: uid?,
        in_cluster_endpoint: match in_cluster_endpoint {
            None => cluster_endpoint.clone(),
            Some(endpoint) => endpoint?,
        },
        cluster_endpoint,
        init_secret: init_secret?,
        api_server_cert_sans: sans?,
        name: name?,
        ip_cidr_node: match network {
            None => None,
            Some(network) => Some(network?),
        },
    }))
}

fn endpoint(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label)) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{:?} is neither an address nor a DNS name",
            text.chars().take(80).collect::<String>()
        ))
    }
}

fn sans(value: &Value<'_>) -> Option<Vec<String>> {
    let rule = "a list of at most 64 addresses and DNS names";
    let items = value.list(rule)?;
    if items.len() > SANS_MAX {
        value.problem(format!("{} entries", items.len()), rule);
        return None;
    }
    let sans: Vec<_> = items
        .iter()
        .map(|item| {
            item.parse("an address or a DNS name", |text| {
                endpoint(text.strip_prefix("*.").unwrap_or(text)).map(|_| text.to_owned())
            })
        })
        .collect();
    sans.into_iter().collect()
}

fn cluster_values(value: &Value<'_>) -> Option<Option<ClusterValues>> {
    let mut section = value.section()?;
    // the original's file has the section with empty values before init
    let absent = ["clusterID", "ownerID", "measurementSalt"]
        .into_iter()
        .all(|name| {
            section
                .optional(name)
                .is_none_or(|value| value.is_empty_text())
        });
    if absent {
        section.finish();
        return Some(None);
    }
    let id_rule = "64 hex digits";
    let cluster_id = section
        .required("clusterID", id_rule)
        .and_then(|value| value.parse(id_rule, str::parse));
    let owner_id = section.optional("ownerID").map_or_else(
        || Some(String::new()),
        |value| value.text("a text").map(str::to_owned),
    );
    let salt = section
        .required("measurementSalt", id_rule)
        .and_then(|value| {
            value.parse(id_rule, |text| {
                let bytes =
                    hex::decode(text).map_err(|_| format!("{text:?} is not hexadecimal"))?;
                MeasurementSalt::from_slice(&bytes).map_err(|error| error.to_string())
            })
        });
    section.finish();
    Some(Some(ClusterValues {
        cluster_id: cluster_id?,
        owner_id: owner_id?,
        measurement_salt: salt?,
    }))
}

#[cfg(test)]
mod tests;
