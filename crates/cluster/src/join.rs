//! The join flow of a node that looks for its cluster, up to the lock; from there on it is [`crate::plan`].
//!
//! ```text
//! rounds::Searching ─ control planes ─→ rounds::Asking ─ ticket ─→ AwaitingLock ─ lock ─→ plan::AwaitingMark
//!       ↑──────── none, refused, unreachable ─────────┘
//! ```
//!
//! Whom the node asks is the matter of [`crate::rounds`]. The ticket comes over the attested channel from a machine that measured
//! like this one; it is checked all the same before anything changes, so that a ticket that can not work is an error with a name,
//! and not a node that is half way in.
//!
//! Does no IO. Design: `cluster.md` (Join); facts 7.3.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use ipnet::Ipv4Net;
use keys::{ClusterId, DiskKey, MeasurementSalt, MeasurementSecret};
use zeroize::Zeroizing;

use crate::boot_lock::BootLock;
use crate::catalogue::{Component, Components};
use crate::identity::WireGuardPublicKey;
use crate::kubernetes::{Version, VersionError};
use crate::name::{ClusterName, NodeName};
use crate::network::{
    AddressPlan, MESH_CIDR, MeshPeer, NODE_POD_PREFIX, NetworkError, NodeAddresses, WIREGUARD_PORT,
};
use crate::plan::{AwaitingMark, Flow};
use crate::role::Role;

/// Has a ticket; waits for the lock.
#[derive(Debug)]
pub struct AwaitingLock {
    ticket: CheckedTicket,
}

/// The init server was faster.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this machine is already on its way into a cluster")]
pub struct Taken;

impl AwaitingLock {
    /// Starts with a ticket that passed its checks.
    pub fn new(ticket: CheckedTicket) -> Self {
        Self { ticket }
    }

    /// Takes the lock. From here on the ticket is the node's only way.
    pub fn take(self, lock: &BootLock) -> Result<(AwaitingMark, CheckedTicket), Taken> {
        let held = lock.take().ok_or(Taken)?;
        let flow = Flow::join(self.ticket.role);
        let mark = AwaitingMark::new(flow, &self.ticket.cluster_id, held);
        Ok((mark, self.ticket))
    }
}

/// A ticket as it was received: lengths and texts unchecked.
pub struct Ticket {
    /// Key of this node's state disk.
    pub state_disk_key: Vec<u8>,
    /// Salt of the cluster ID.
    pub measurement_salt: Vec<u8>,
    /// Secret of the cluster ID.
    pub measurement_secret: Vec<u8>,
    /// Bootstrap token.
    pub token: String,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Kubernetes version.
    pub kubernetes_version: String,
    /// What the node has to install.
    pub components: Vec<Component>,
    /// Where from, instead of the components' own addresses; may be empty.
    pub component_mirror: String,
    /// PEM of the cluster CA.
    pub ca_certificate: Vec<u8>,
    /// This node's mesh address.
    pub mesh_ip: String,
    /// This node's pod network.
    pub pod_cidr: String,
    /// Pod network of the whole cluster.
    pub cluster_pod_cidr: String,
    /// Network of the services.
    pub service_cidr: String,
    /// The other nodes.
    pub peers: Vec<TicketPeer>,
    /// What the cluster's control planes share, for a control plane only.
    pub control_plane_files: Vec<ControlPlaneFile>,
    /// Further names of the API, for a control plane only.
    pub api_sans: Vec<String>,
}

/// A file that a control plane gets from the others. Holds a key, so it is zeroed when it is dropped, and never prints.
pub struct ControlPlaneFile {
    /// Its path below `/etc/kubernetes`, as its giver says.
    pub name: String,
    /// What it holds.
    pub text: Zeroizing<String>,
}

impl std::fmt::Debug for ControlPlaneFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlPlaneFile({})", self.name)
    }
}

/// Another node, unchecked.
pub struct TicketPeer {
    /// WireGuard public key.
    pub public_key: Vec<u8>,
    /// `address:port` on the network between the machines.
    pub endpoint: String,
    /// Mesh address.
    pub mesh_ip: String,
    /// Its pod network.
    pub pod_cidr: String,
    /// Its name.
    pub node_name: String,
    /// Whether it is a control plane.
    pub is_control_plane: bool,
}

/// What is wrong with a ticket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TicketError {
    /// A key, a secret or the salt has the wrong length.
    #[error("the ticket's keys are malformed")]
    Secret(#[source] keys::LengthError),
    /// A field has the wrong length.
    #[error("the ticket's {0} has the wrong length")]
    Length(&'static str),
    /// A field is not what its name says.
    #[error("the ticket's {field} is malformed: {value:?}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What it holds. No secret field is reported this way.
        value: String,
    },
    /// An address lies outside the network that it must be in.
    #[error("the ticket's {field} {value} is not inside {network}")]
    Outside {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// Where it must be.
        network: Ipv4Net,
    },
    /// This program can not configure that Kubernetes.
    #[error("the ticket's kubernetes version can not be used")]
    Version(#[source] VersionError),
    /// The networks do not make an address plan.
    #[error("the ticket's networks can not be used")]
    Networks(#[source] NetworkError),
    /// The components do not make a list that a node can install.
    #[error("the ticket's components can not be used")]
    Components(#[source] crate::catalogue::CatalogueError),
    /// Another pod network than the one that goes with the mesh address.
    #[error("the ticket's pod network {pod_cidr} does not belong to the mesh address {mesh_ip}")]
    PodNetwork {
        /// The node's mesh address.
        mesh_ip: Ipv4Addr,
        /// The pod network.
        pod_cidr: Ipv4Net,
    },
    /// A peer's WireGuard does not listen where it does everywhere.
    #[error("the ticket's peer endpoint {0} has another port than {WIREGUARD_PORT}")]
    Port(SocketAddrV4),
    /// Two nodes have one key or one address.
    #[error("the ticket names two nodes with the same {0}")]
    Duplicate(&'static str),
    /// No peer has an API server.
    #[error("none of the ticket's peers is a control plane")]
    NoControlPlane,
    /// Files of a control plane came to a worker.
    #[error("the ticket carries {0} control plane files, but this node asked to join as a worker")]
    ControlPlaneFiles(usize),
    /// None came to a control plane.
    #[error(
        "the ticket carries no control plane files, but this node asked to join as a control plane"
    )]
    NoControlPlaneFiles,
    /// The certificate of the cluster's authority is another one than that among the files.
    #[error("the ticket's ca certificate is not that of its control plane files")]
    AnotherAuthority,
}

/// A ticket that can work. Made by [`Ticket::check`] only.
#[derive(Debug)]
pub struct CheckedTicket {
    /// What the node becomes.
    pub role: Role,
    /// Key of this node's state disk.
    pub disk_key: Arc<DiskKey>,
    /// Salt of the cluster ID, for the node's record.
    pub measurement_salt: MeasurementSalt,
    /// The cluster, derived from the ticket's secret and salt.
    pub cluster_id: ClusterId,
    /// Bootstrap token, good for one kubelet and for minutes.
    pub token: BootstrapToken,
    /// Name of the cluster.
    pub cluster_name: ClusterName,
    /// Kubernetes version.
    pub kubernetes_version: Version,
    /// What a worker installs.
    pub components: Vec<Component>,
    /// Where from, instead of the components' own addresses.
    pub component_mirror: Option<url::Url>,
    /// PEM of the cluster CA.
    pub ca_certificate: String,
    /// The cluster's networks.
    pub networks: AddressPlan,
    /// This node's addresses.
    pub addresses: NodeAddresses,
    /// The other nodes.
    pub peers: Vec<MeshPeer>,
    /// What the cluster's control planes share; empty for a worker. Bounded, each name once; what they hold is for the crate that uses it to
    /// parse.
    pub control_plane_files: Vec<ControlPlaneFile>,
    /// Further names of the API; empty for a worker.
    pub api_sans: Vec<String>,
}

/// A bootstrap token of the form `abcdef.0123456789abcdef`. Its `Debug` shows the public half only.
pub struct BootstrapToken(String);

impl BootstrapToken {
    pub(crate) fn parse(text: String) -> Result<Self, TicketError> {
        let part = |text: &str, length: usize| {
            text.len() == length
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        match text.split_once('.') {
            Some((id, secret)) if part(id, 6) && part(secret, 16) => Ok(Self(text)),
            _ => Err(TicketError::Length("bootstrap token")),
        }
    }

    /// Gives the token away, to the kubelet's bootstrap kubeconfig.
    pub fn expose_text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "BootstrapToken({}.…)",
            self.0.get(..6).unwrap_or_default()
        )
    }
}

/// Most peers that a ticket may name.
const MAX_PEERS: usize = 1024;

/// Most files that a control plane gets, and most bytes of each.
const MAX_FILES: usize = 32;
const MAX_FILE: usize = 16 * 1024;

/// Most names of the API, and most bytes of each: as a DNS name may have.
const MAX_SANS: usize = 64;
const MAX_SAN: usize = 253;

/// The file that is the ticket's `ca_certificate` as well.
const CA_FILE: &str = "pki/ca.crt";

impl Ticket {
    /// Checks everything that can be checked without asking anybody, of a ticket for a node that asked for this role.
    pub fn check(self, role: Role) -> Result<CheckedTicket, TicketError> {
        self.check_files(role)?;
        let disk_key =
            Arc::new(DiskKey::from_vec(self.state_disk_key).map_err(TicketError::Secret)?);
        let measurement_secret =
            MeasurementSecret::from_vec(self.measurement_secret).map_err(TicketError::Secret)?;
        let measurement_salt =
            MeasurementSalt::from_slice(&self.measurement_salt).map_err(TicketError::Secret)?;
        let cluster_id = ClusterId::derive(&measurement_secret, &measurement_salt);
        let token = BootstrapToken::parse(self.token)?;
        let cluster_name = ClusterName::new(self.cluster_name.as_str())
            .map_err(|_| malformed("cluster name", &self.cluster_name))?;
        let kubernetes_version: Version = parse("kubernetes version", &self.kubernetes_version)?;
        kubernetes_version.support().map_err(TicketError::Version)?;
        let components = Components::new(self.components)
            .and_then(|components| components.for_role(role))
            .map_err(TicketError::Components)?;
        let component_mirror = match self.component_mirror.as_str() {
            "" => None,
            mirror => Some(parse("component mirror", mirror)?),
        };
        let ca_certificate = pem("ca certificate", self.ca_certificate)?;

        let networks = AddressPlan::new(
            parse("cluster pod network", &self.cluster_pod_cidr)?,
            parse("service network", &self.service_cidr)?,
        )
        .map_err(TicketError::Networks)?;
        let addresses = addresses(&networks, "mesh address", &self.mesh_ip, &self.pod_cidr)?;

        if self.peers.len() > MAX_PEERS {
            return Err(TicketError::Length("list of peers"));
        }
        let peers = self
            .peers
            .into_iter()
            .map(|peer| peer.check(&networks))
            .collect::<Result<Vec<_>, TicketError>>()?;
        distinct(&peers, &addresses)?;

        if !peers.iter().any(|peer| peer.role == Role::ControlPlane) {
            return Err(TicketError::NoControlPlane);
        }
        Ok(CheckedTicket {
            role,
            disk_key,
            measurement_salt,
            cluster_id,
            token,
            cluster_name,
            kubernetes_version,
            components,
            component_mirror,
            ca_certificate,
            networks,
            addresses,
            peers,
            control_plane_files: self.control_plane_files,
            api_sans: self.api_sans,
        })
    }

    fn check_files(&self, role: Role) -> Result<(), TicketError> {
        let files = &self.control_plane_files;
        match role {
            Role::Worker if !files.is_empty() => {
                return Err(TicketError::ControlPlaneFiles(files.len()));
            }
            Role::Worker => return Ok(()),
            Role::ControlPlane if files.is_empty() => return Err(TicketError::NoControlPlaneFiles),
            Role::ControlPlane => {}
        }
        if files.len() > MAX_FILES || files.iter().any(|file| file.text.len() > MAX_FILE) {
            return Err(TicketError::Length("control plane files"));
        }
        if self.api_sans.len() > MAX_SANS || self.api_sans.iter().any(|san| san.len() > MAX_SAN) {
            return Err(TicketError::Length("names of the API"));
        }
        let authority = files.iter().find(|file| file.name == CA_FILE);
        if authority.map(|file| file.text.as_bytes()) == Some(&self.ca_certificate) {
            Ok(())
        } else {
            Err(TicketError::AnotherAuthority)
        }
    }
}

impl TicketPeer {
    fn check(self, networks: &AddressPlan) -> Result<MeshPeer, TicketError> {
        let endpoint: SocketAddrV4 = parse("peer's endpoint", &self.endpoint)?;
        if endpoint.port() != WIREGUARD_PORT {
            return Err(TicketError::Port(endpoint));
        }
        let addresses = addresses(
            networks,
            "peer's mesh address",
            &self.mesh_ip,
            &self.pod_cidr,
        )?;
        Ok(MeshPeer {
            node_name: NodeName::new(self.node_name.as_str())
                .map_err(|_| malformed("peer's name", &self.node_name))?,
            role: if self.is_control_plane {
                Role::ControlPlane
            } else {
                Role::Worker
            },
            public_key: WireGuardPublicKey::try_from(self.public_key.as_slice())
                .map_err(|_| TicketError::Length("peer's public key"))?,
            endpoint: *endpoint.ip(),
            mesh_ip: addresses.mesh_ip,
            pod_cidr: addresses.pod_cidr,
        })
    }
}

/// A node's mesh address and pod network, which both follow from the node's number.
fn addresses(
    networks: &AddressPlan,
    field: &'static str,
    mesh_ip: &str,
    pod_cidr: &str,
) -> Result<NodeAddresses, TicketError> {
    let mesh_ip: Ipv4Addr = parse(field, mesh_ip)?;
    let pod_cidr: Ipv4Net = parse("pod network", pod_cidr)?;
    if !MESH_CIDR.contains(&mesh_ip) {
        return Err(TicketError::Outside {
            field,
            value: mesh_ip.to_string(),
            network: MESH_CIDR,
        });
    }
    let offset = u32::from(mesh_ip) - u32::from(MESH_CIDR.network());
    let index = u16::try_from(offset).unwrap_or(u16::MAX);
    let addresses = networks.node(index).map_err(TicketError::Networks)?;
    if pod_cidr.prefix_len() == NODE_POD_PREFIX && addresses.pod_cidr == pod_cidr {
        Ok(addresses)
    } else {
        Err(TicketError::PodNetwork { mesh_ip, pod_cidr })
    }
}

fn parse<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, TicketError> {
    text.parse().map_err(|_| malformed(field, text))
}

fn malformed(field: &'static str, text: &str) -> TicketError {
    TicketError::Malformed {
        field,
        value: text.chars().take(64).collect(),
    }
}

fn pem(field: &'static str, bytes: Vec<u8>) -> Result<String, TicketError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let text = String::from_utf8(bytes).map_err(|_| TicketError::Length(field))?;
    let one = text.trim_start().starts_with(BEGIN) && text.matches("-----BEGIN").count() == 1;
    if one && text.len() <= 16 * 1024 {
        Ok(text)
    } else {
        Err(malformed(field, &text))
    }
}

fn distinct(peers: &[MeshPeer], own: &NodeAddresses) -> Result<(), TicketError> {
    for (at, peer) in peers.iter().enumerate() {
        let later = || peers.iter().skip(at + 1);
        // the pod network follows from the mesh address, so one comparison is enough for both
        if peer.mesh_ip == own.mesh_ip || later().any(|other| other.mesh_ip == peer.mesh_ip) {
            return Err(TicketError::Duplicate("mesh address"));
        }
        if later().any(|other| other.public_key == peer.public_key) {
            return Err(TicketError::Duplicate("public key"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
