//! Between wire and domain, for what both ends of a service need.
//!
//! From the wire every field is parsed and bounded, and the error names it; nothing of it is believed by that. What a ticket
//! or an init request has to fulfil as a whole is decided where it is used (`cluster::join`, the bootstrapper).

use std::net::{AddrParseError, Ipv4Addr};

use attest::{Evidence, EvidenceError, VariantError};
use cluster::{
    DiskUuid, NodeName, Role,
    admission::JoinRequest,
    catalogue::{CatalogueError, Component, Components},
    disk_uuid::DiskUuidError,
    identity::{IdentityError, WireGuardPublicKey},
    join::{ControlPlaneFile, Ticket, TicketPeer},
    name::NameError,
    recovery, rejoin,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    components,
    join::{
        self, IssueJoinTicketRequest, IssueJoinTicketResponse, IssueRejoinTicketRequest,
        IssueRejoinTicketResponse, WireguardPeer,
    },
    recover::{DescribeResponse, RecoverRequest},
    verify::{GetAttestationRequest, GetAttestationResponse},
};

/// A field of a message that is not what it should be.
#[derive(Debug, Error)]
pub enum FieldError {
    /// Not a name of a node.
    #[error("node_name is unusable")]
    NodeName(#[source] NameError),
    /// Not a UUID as disks have them.
    #[error("disk_uuid is unusable")]
    DiskUuid(#[source] DiskUuidError),
    /// Not an IPv4 address.
    #[error("node_ip is unusable")]
    NodeIp(#[source] AddrParseError),
    /// Not a key of WireGuard.
    #[error("wireguard_public_key is unusable")]
    WireguardKey(#[source] IdentityError),
    /// Not a list of components.
    #[error("kubernetes_components are unusable")]
    Components(#[source] CatalogueError),
    /// More peers than a cluster has.
    #[error("wireguard_peers has {0} entries, at most {MAX_PEERS} are read")]
    TooManyPeers(usize),
    /// Not text.
    #[error("one of control_plane_files is not text")]
    ControlPlaneFile,
    /// The nonce must have 32 bytes.
    #[error("nonce has {0} bytes, not 32")]
    Nonce(usize),
    /// A variant that is not known here.
    #[error("variant is unusable")]
    Variant(#[source] VariantError),
    /// Empty or too long.
    #[error("attestation is unusable")]
    Evidence(#[source] EvidenceError),
}

/// As many as `cluster::join` takes.
const MAX_PEERS: usize = 1024;

impl From<&Component> for components::Component {
    fn from(component: &Component) -> Self {
        Self {
            url: component.url.clone(),
            hash: component.hash.to_string(),
            install_path: component.install_path.clone(),
            extract: component.extract,
            name: component.name.clone(),
            mode: component.mode,
            import: component.import,
        }
    }
}

impl TryFrom<components::Component> for Component {
    type Error = FieldError;

    fn try_from(wire: components::Component) -> Result<Self, FieldError> {
        Ok(Self {
            name: wire.name,
            url: wire.url,
            hash: wire.hash.parse().map_err(FieldError::Components)?,
            install_path: wire.install_path,
            mode: wire.mode,
            extract: wire.extract,
            import: wire.import,
        })
    }
}

impl components::Component {
    /// A list as it goes over the wire.
    pub fn list<'a>(components: impl IntoIterator<Item = &'a Component>) -> Vec<Self> {
        components.into_iter().map(Self::from).collect()
    }

    /// A list as it came over the wire, checked.
    ///
    /// # Errors
    /// When an entry, or the list as a whole, is nothing a node could install.
    pub fn parse_list(wire: Vec<Self>) -> Result<Components, FieldError> {
        let components = wire
            .into_iter()
            .map(Component::try_from)
            .collect::<Result<_, _>>()?;
        Components::new(components).map_err(FieldError::Components)
    }
}

impl From<&JoinRequest> for IssueJoinTicketRequest {
    fn from(request: &JoinRequest) -> Self {
        Self {
            disk_uuid: request.disk_uuid.to_string(),
            is_control_plane: request.role == Role::ControlPlane,
            node_name: request.name.to_string(),
            node_ip: request.node_ip.to_string(),
            wireguard_public_key: request.wireguard_public_key.as_bytes().to_vec(),
            host_public_key: Vec::new(),
            host_certificate_principals: Vec::new(),
        }
    }
}

impl TryFrom<&IssueJoinTicketRequest> for JoinRequest {
    type Error = FieldError;

    fn try_from(wire: &IssueJoinTicketRequest) -> Result<Self, FieldError> {
        Ok(Self {
            name: NodeName::new(wire.node_name.as_str()).map_err(FieldError::NodeName)?,
            role: if wire.is_control_plane {
                Role::ControlPlane
            } else {
                Role::Worker
            },
            disk_uuid: wire.disk_uuid.parse().map_err(FieldError::DiskUuid)?,
            node_ip: wire
                .node_ip
                .parse::<Ipv4Addr>()
                .map_err(FieldError::NodeIp)?,
            wireguard_public_key: WireGuardPublicKey::try_from(
                wire.wireguard_public_key.as_slice(),
            )
            .map_err(FieldError::WireguardKey)?,
        })
    }
}

impl IssueRejoinTicketRequest {
    /// The disk whose key is asked for.
    ///
    /// # Errors
    /// When it is no UUID.
    pub fn parse_disk(&self) -> Result<DiskUuid, FieldError> {
        self.disk_uuid.parse().map_err(FieldError::DiskUuid)
    }
}

impl TryFrom<IssueJoinTicketResponse> for Ticket {
    type Error = FieldError;

    /// Takes the secrets along without a copy; `cluster::join` checks the whole.
    fn try_from(wire: IssueJoinTicketResponse) -> Result<Self, FieldError> {
        if wire.wireguard_peers.len() > MAX_PEERS {
            return Err(FieldError::TooManyPeers(wire.wireguard_peers.len()));
        }
        let components = wire
            .kubernetes_components
            .into_iter()
            .map(Component::try_from);
        Ok(Self {
            state_disk_key: wire.state_disk_key,
            measurement_salt: wire.measurement_salt,
            measurement_secret: wire.measurement_secret,
            token: wire.token,
            cluster_name: wire.cluster_name,
            kubernetes_version: wire.kubernetes_version,
            components: components.collect::<Result<_, _>>()?,
            component_mirror: wire.component_mirror,
            ca_certificate: wire.ca_certificate,
            mesh_ip: wire.mesh_ip,
            pod_cidr: wire.pod_cidr,
            cluster_pod_cidr: wire.cluster_pod_cidr,
            service_cidr: wire.service_cidr,
            peers: wire
                .wireguard_peers
                .into_iter()
                .map(TicketPeer::from)
                .collect(),
            control_plane_files: wire
                .control_plane_files
                .into_iter()
                .map(ControlPlaneFile::try_from)
                .collect::<Result<_, _>>()?,
            api_sans: wire.apiserver_cert_sans,
        })
    }
}

impl TryFrom<join::ControlPlaneFile> for ControlPlaneFile {
    type Error = FieldError;

    /// Leaves no copy of the bytes behind.
    fn try_from(wire: join::ControlPlaneFile) -> Result<Self, FieldError> {
        let bytes = Zeroizing::new(wire.data);
        let text = std::str::from_utf8(&bytes).map_err(|_| FieldError::ControlPlaneFile)?;
        Ok(Self {
            name: wire.name,
            text: Zeroizing::new(text.to_owned()),
        })
    }
}

impl From<IssueRejoinTicketResponse> for rejoin::Ticket {
    /// Takes the secrets along without a copy; `cluster::rejoin` checks them.
    fn from(wire: IssueRejoinTicketResponse) -> Self {
        Self {
            state_disk_key: wire.state_disk_key,
            measurement_salt: wire.measurement_salt,
            measurement_secret: wire.measurement_secret,
            bootstrap_token: wire.bootstrap_token,
        }
    }
}

impl From<&recovery::Waiting> for DescribeResponse {
    fn from(waiting: &recovery::Waiting) -> Self {
        let name = waiting.node_name.as_ref();
        Self {
            disk_uuid: waiting.disk_uuid.to_string(),
            node_name: name.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<DescribeResponse> for recovery::Waiting {
    type Error = FieldError;

    fn try_from(wire: DescribeResponse) -> Result<Self, FieldError> {
        let name = (!wire.node_name.is_empty()).then_some(wire.node_name);
        Ok(Self {
            disk_uuid: wire.disk_uuid.parse().map_err(FieldError::DiskUuid)?,
            node_name: name
                .map(NodeName::new)
                .transpose()
                .map_err(FieldError::NodeName)?,
        })
    }
}

impl From<recovery::Request> for RecoverRequest {
    fn from(request: recovery::Request) -> Self {
        Self {
            state_disk_key: request.state_disk_key,
            measurement_secret: request.measurement_secret,
            measurement_salt: request.measurement_salt,
        }
    }
}

impl From<RecoverRequest> for recovery::Request {
    /// Takes the secrets along without a copy; `cluster::recovery` checks them.
    fn from(wire: RecoverRequest) -> Self {
        Self {
            state_disk_key: wire.state_disk_key,
            measurement_secret: wire.measurement_secret,
            measurement_salt: wire.measurement_salt,
        }
    }
}

impl From<WireguardPeer> for TicketPeer {
    fn from(wire: WireguardPeer) -> Self {
        Self {
            public_key: wire.public_key,
            endpoint: wire.endpoint,
            mesh_ip: wire.mesh_ip,
            pod_cidr: wire.pod_cidr,
            node_name: wire.node_name,
            is_control_plane: wire.is_control_plane,
        }
    }
}

impl GetAttestationRequest {
    /// The nonce, which is never padded or cut.
    ///
    /// # Errors
    /// When it has not 32 bytes.
    pub fn parse_nonce(&self) -> Result<[u8; 32], FieldError> {
        self.nonce
            .as_slice()
            .try_into()
            .map_err(|_| FieldError::Nonce(self.nonce.len()))
    }
}

impl From<&Evidence> for GetAttestationResponse {
    fn from(evidence: &Evidence) -> Self {
        Self {
            attestation: evidence.document().to_vec(),
            variant: evidence.variant().as_str().to_owned(),
        }
    }
}

impl TryFrom<GetAttestationResponse> for Evidence {
    type Error = FieldError;

    fn try_from(wire: GetAttestationResponse) -> Result<Self, FieldError> {
        let variant = wire.variant.parse().map_err(FieldError::Variant)?;
        Self::new(variant, wire.attestation).map_err(FieldError::Evidence)
    }
}

#[cfg(test)]
mod tests;
