//! From the wire to `cluster::admission`: every field parsed, nothing of it believed.

use std::net::Ipv4Addr;

use cluster::{
    DiskUuid, NodeName, Role,
    admission::JoinRequest,
    disk_uuid::DiskUuidError,
    identity::{IdentityError, WireGuardPublicKey},
    name::NameError,
};
use proto::join::IssueJoinTicketRequest;

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the node name is unusable")]
    Name(#[source] NameError),
    #[error("the disk UUID is unusable")]
    Disk(#[source] DiskUuidError),
    #[error("the node address is unusable")]
    Address(#[source] std::net::AddrParseError),
    #[error("the WireGuard key is unusable")]
    WireGuardKey(#[source] IdentityError),
}

/// Parses a request for a ticket.
pub(crate) fn parse(wire: &IssueJoinTicketRequest) -> Result<JoinRequest, RequestError> {
    Ok(JoinRequest {
        name: NodeName::new(wire.node_name.as_str()).map_err(RequestError::Name)?,
        role: if wire.is_control_plane {
            Role::ControlPlane
        } else {
            Role::Worker
        },
        disk_uuid: disk(&wire.disk_uuid)?,
        node_ip: wire
            .node_ip
            .parse::<Ipv4Addr>()
            .map_err(RequestError::Address)?,
        wireguard_public_key: WireGuardPublicKey::try_from(wire.wireguard_public_key.as_slice())
            .map_err(RequestError::WireGuardKey)?,
    })
}

/// Parses the UUID of a state disk.
pub(crate) fn disk(text: &str) -> Result<DiskUuid, RequestError> {
    text.parse().map_err(RequestError::Disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> IssueJoinTicketRequest {
        IssueJoinTicketRequest {
            disk_uuid: "0a1b2c3d-0000-4000-8000-00000000000f".to_owned(),
            node_name: "worker-0".to_owned(),
            node_ip: "10.42.2.10".to_owned(),
            wireguard_public_key: vec![7; 32],
            ..IssueJoinTicketRequest::default()
        }
    }

    #[test]
    fn reads_every_field() {
        let request = parse(&wire()).unwrap();
        assert_eq!(request.name.as_str(), "worker-0");
        assert_eq!(request.role, Role::Worker);
        assert_eq!(request.node_ip, Ipv4Addr::new(10, 42, 2, 10));
        let control_plane = IssueJoinTicketRequest {
            is_control_plane: true,
            ..wire()
        };
        assert_eq!(parse(&control_plane).unwrap().role, Role::ControlPlane);
    }

    #[test]
    fn refuses_what_is_not_in_form() {
        type Edit = fn(&mut IssueJoinTicketRequest);
        let edits: [(Edit, &str); 9] = [
            (
                |wire| wire.node_name = "Worker_0".to_owned(),
                "the node name is unusable",
            ),
            (
                |wire| wire.node_name = "../etc".to_owned(),
                "the node name is unusable",
            ),
            (
                |wire| wire.node_name = String::new(),
                "the node name is unusable",
            ),
            (
                |wire| wire.disk_uuid.make_ascii_uppercase(),
                "the disk UUID is unusable",
            ),
            (
                |wire| wire.disk_uuid = String::new(),
                "the disk UUID is unusable",
            ),
            (
                |wire| wire.node_ip = "10.42.2".to_owned(),
                "the node address is unusable",
            ),
            (
                |wire| wire.node_ip = "fe80::1".to_owned(),
                "the node address is unusable",
            ),
            (
                |wire| wire.wireguard_public_key = vec![7; 31],
                "the WireGuard key is unusable",
            ),
            (
                |wire| wire.wireguard_public_key = Vec::new(),
                "the WireGuard key is unusable",
            ),
        ];
        for (edit, why) in edits {
            let mut wire = wire();
            edit(&mut wire);
            assert_eq!(parse(&wire).unwrap_err().to_string(), why);
        }
    }
}
