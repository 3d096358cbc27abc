//! What an administrator orders with an Init request: every field parsed and checked before anything on the node changes.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use attest::Policy;
use cluster::admission::{Denial, check_address};
use cluster::catalogue::{CatalogueError, Component, Components};
use cluster::kubernetes::{Version, VersionError};
use cluster::name::NameError;
use cluster::network::{AddressPlan, NetworkError};
use cluster::{ClusterName, Role};
use ipnet::Ipv4Net;
use keys::uri::UriError;
use keys::{ClusterId, MasterSecret, MeasurementSalt, MeasurementSecret, Salt};
use proto::init::InitRequest;

use super::restore::Restore;

/// Most names of the API that are put into its certificate.
const MAX_SANS: usize = 64;

/// A checked order.
pub struct Order {
    /// Root of every key. Leaves the node's memory for the key service's secret and nowhere else.
    pub master_secret: MasterSecret,
    /// Its salt.
    pub salt: Salt,
    /// Salt of the cluster ID.
    pub measurement_salt: MeasurementSalt,
    /// The cluster to be.
    pub cluster_id: ClusterId,
    /// Its name.
    pub cluster_name: ClusterName,
    /// Its Kubernetes.
    pub version: Version,
    /// Everything that any node of the cluster installs.
    pub components: Components,
    /// What this node installs.
    pub own_components: Vec<Component>,
    /// Where from, instead of the components' own addresses.
    pub component_mirror: Option<reqwest::Url>,
    /// Further names of the API.
    pub api_sans: Vec<String>,
    /// Networks.
    pub networks: AddressPlan,
    /// Whom the join service admits.
    pub policy: Policy,
    /// What the cluster is made of, if it is not new.
    pub restore: Option<Restore>,
}

/// What is wrong with an order. The administrator reads it.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Keys.
    #[error("key management")]
    Uri(#[source] UriError),
    /// The salt.
    #[error("measurement salt")]
    Salt(#[source] keys::LengthError),
    /// The cluster's name.
    #[error("cluster name")]
    Name(#[source] NameError),
    /// The version.
    #[error("Kubernetes version")]
    Version(#[source] VersionError),
    /// The list of components.
    #[error(transparent)]
    ComponentList(proto::FieldError),
    /// The components.
    #[error("Kubernetes components")]
    Components(#[source] CatalogueError),
    /// The mirror.
    #[error("component mirror {0:?} is not an http or https address")]
    Mirror(String),
    /// Names of the API.
    #[error("more than {MAX_SANS} names for the API server")]
    TooManySans,
    /// A network.
    #[error("{field} {value:?} is not an IPv4 network")]
    Network {
        /// Which.
        field: &'static str,
        /// What was sent.
        value: String,
    },
    /// A name of the API.
    #[error("name for the API server {0:?} is neither an address nor a DNS name")]
    San(String),
    /// The networks together.
    #[error("networks")]
    Plan(#[source] NetworkError),
    /// This machine's address, which its record will have.
    #[error("address of this machine")]
    Address(#[source] Denial),
    /// The policy.
    #[error("attestation policy")]
    Policy(#[source] attest::PolicyError),
}

impl Order {
    /// Checks a request to a machine with this address on the network between the machines.
    pub fn from_wire(request: InitRequest, node_ip: Ipv4Addr) -> Result<Self, OrderError> {
        let (master_secret, salt) =
            keys::uri::parse_kms(&request.kms_uri).map_err(OrderError::Uri)?;
        keys::uri::parse_storage(&request.storage_uri).map_err(OrderError::Uri)?;
        let measurement_salt =
            MeasurementSalt::from_slice(&request.measurement_salt).map_err(OrderError::Salt)?;
        let measurement_secret = MeasurementSecret::derive(&master_secret, &salt);
        let cluster_id = ClusterId::derive(&measurement_secret, &measurement_salt);

        let version =
            Version::from_str(&request.kubernetes_version).map_err(OrderError::Version)?;
        version.support().map_err(OrderError::Version)?;
        let components = proto::components::Component::parse_list(request.kubernetes_components)
            .map_err(OrderError::ComponentList)?;
        let own_components = components
            .for_role(Role::ControlPlane)
            .map_err(OrderError::Components)?;
        let component_mirror = mirror(&request.component_mirror)?;
        if request.apiserver_cert_sans.len() > MAX_SANS {
            return Err(OrderError::TooManySans);
        }
        if let Some(san) = request.apiserver_cert_sans.iter().find(|san| !is_san(san)) {
            return Err(OrderError::San(san.chars().take(128).collect()));
        }
        let networks = AddressPlan::new(
            network("pod network", &request.pod_cidr)?,
            network("service network", &request.service_cidr)?,
        )
        .map_err(OrderError::Plan)?;
        check_address(node_ip, &networks).map_err(OrderError::Address)?;
        Ok(Self {
            master_secret,
            salt,
            measurement_salt,
            cluster_id,
            cluster_name: ClusterName::new(request.cluster_name.as_str())
                .map_err(OrderError::Name)?,
            version,
            components,
            own_components,
            component_mirror,
            api_sans: request.apiserver_cert_sans,
            networks,
            policy: Policy::from_json(&request.attestation_policy).map_err(OrderError::Policy)?,
            restore: None,
        })
    }
}

fn is_san(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || k8s::pki::is_dns_name(text)
}

fn mirror(text: &str) -> Result<Option<reqwest::Url>, OrderError> {
    if text.is_empty() {
        return Ok(None);
    }
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(url)),
        _ => Err(OrderError::Mirror(text.chars().take(128).collect())),
    }
}

fn network(field: &'static str, text: &str) -> Result<Ipv4Net, OrderError> {
    text.parse().map_err(|_| OrderError::Network {
        field,
        value: text.chars().take(64).collect(),
    })
}
