//! Which machine becomes which node: a request, what the machine proved, and the records of the nodes there are, to an
//! [`AdmittedNode`] or a [`Denial`]. Only an admitted node can be turned into a ticket, only a [`RecognisedNode`] gets its
//! disk's key again.
//!
//! What is known about a machine, and what that is worth:
//!
//! - **Proven**: what it runs, and the attestation key of its TPM or chip. Nothing else identifies a machine.
//! - **Claimed by its (measured) software**: the disk UUID, the WireGuard key.
//! - **Claimed by the host** through metadata: name, role, address. They may deny service and never decide what a node may have.
//!
//! Rules:
//!
//! 1. Name, disk, attestation key, WireGuard key and address belong to one record each. A request that meets another
//!    node's in any of them is refused: a second machine never stands in for a first.
//! 2. A record is *pending* until the node asked for something with its own certificate, then it is *joined*. The same machine
//!    (name and attestation key) that asks while its record is pending lost its ticket or was interrupted: it gets its place
//!    again. If its disk, key or address is new (first boot formats afresh), the record takes them over. That gives away nothing
//!    that the machine was not given before: name, role, place and attestation key stay, and its earlier token is no longer the
//!    record's. A request of an earlier boot than the record's last is refused: the TPM counts its resets in every quote. Its disk is
//!    gone, so a host that kept it back would have the record name a disk that nobody has. The count begins anew when the TPM is
//!    cleared, which leaves the attestation key as it is (a primary of the endorsement hierarchy); then an administrator deletes the
//!    record.
//! 3. A joined node is never admitted again. It rejoins with the disk on record; if that disk is lost, an administrator deletes
//!    the record first. So a host that wipes a node's disk gets a refusal, not a new node under an old name.
//! 4. A record's role never changes. Whether a machine should be a control plane cannot be proven: both roles run the same
//!    measured image, and which one it takes comes from the host. What is enforced is that the answer is given once and recorded.
//!    What limits the damage is that a control plane machine proves the same measurements as those that already hold the keys.
//! 5. Places (mesh address, pod CIDR) are given out upwards from the highest on record; those below it are used again only when there
//!    are no higher ones. A pending record whose place another record has too gets a new one when its machine asks again.
//!
//! Two services that decide at once are the caller's matter: after writing the record it looks again, see [`conflict`].
//! Design: `cluster.md`, "Join". Does no IO and has no clock.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use crate::{
    DiskUuid, NodeName, Role,
    identity::{NodeIdentity, WireGuardPublicKey},
    network::{AddressPlan, MESH_CIDR, NetworkError},
};

/// What a machine asks for: parsed, but nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The name it wants to have.
    pub name: NodeName,
    /// The role it wants to have.
    pub role: Role,
    /// Its state disk.
    pub disk_uuid: DiskUuid,
    /// Where the others reach it.
    pub node_ip: Ipv4Addr,
    /// Its key in the mesh.
    pub wireguard_public_key: WireGuardPublicKey,
}

/// What a machine proved. Made from a verdict and from nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    variant: String,
    key_id: String,
    measurements: BTreeMap<u32, String>,
    reset_count: u32,
}

impl From<&attest::Verified> for Proven {
    fn from(verified: &attest::Verified) -> Self {
        Self {
            variant: verified.variant().to_string(),
            key_id: verified.ak_id().to_string(),
            measurements: verified
                .measurements()
                .iter()
                .map(|(index, value)| (u32::from(index.number()), value.to_string()))
                .collect(),
            reset_count: verified.reset_count(),
        }
    }
}

impl Proven {
    /// The attestation key, in hex.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// How this boot of the machine lies to the one that is recorded for it. Counts are serial numbers: a TPM may add a constant to all of
    /// a key's, so they may pass through zero. Half of the numbers are later ones; 2^31 resets take a host 68 years at one a second.
    fn boot(&self, recorded: &NodeIdentity) -> Boot {
        match recorded
            .reset_count
            .map(|count| self.reset_count.wrapping_sub(count))
        {
            Some(0) => Boot::Recorded,
            Some(resets) if resets > u32::MAX / 2 => Boot::Earlier,
            None | Some(_) => Boot::Later,
        }
    }
}

/// A boot of a machine, beside the one that its record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    Earlier,
    Recorded,
    Later,
}

/// How far a recorded node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its ticket was made; it has not been seen with a certificate of its own.
    Pending,
    /// It asked for something with its own certificate.
    Joined,
}

/// A record as it is kept in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who the node is.
    pub identity: NodeIdentity,
    /// How far it has come.
    pub standing: Standing,
}

/// What has to be written before the ticket is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new record; it must not exist.
    Create,
    /// The pending record of this name takes over the new identity; it must not have changed since it was read.
    Replace,
    /// The record is there as it should be.
    Keep,
}

/// A machine that may be a node. Has no public constructor but [`admit`].
#[derive(Debug)]
pub struct AdmittedNode {
    identity: NodeIdentity,
    write: Write,
}

impl AdmittedNode {
    /// The node's record.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// What has to be written.
    pub fn write(&self) -> Write {
        self.write
    }
}

/// A machine that is a node already and wants its disk's key. Has no public constructor but [`recognise`].
#[derive(Debug)]
pub struct RecognisedNode {
    identity: NodeIdentity,
    write: Write,
}

impl RecognisedNode {
    /// The node's record.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// What has to be written before it gets the key: never [`Write::Create`].
    pub fn write(&self) -> Write {
        self.write
    }
}

/// What only one record may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// Node name.
    Name,
    /// State disk.
    Disk,
    /// Attestation key.
    AttestationKey,
    /// Key in the mesh.
    WireGuardKey,
    /// Address between the machines.
    Address,
    /// Number, and with it mesh address and pod CIDR.
    Index,
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Disk => "state disk",
            Self::AttestationKey => "attestation key",
            Self::WireGuardKey => "WireGuard key",
            Self::Address => "address",
            Self::Index => "number",
        })
    }
}

/// Why a machine does not become a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Another node has it.
    #[error(
        "its {what} is recorded for the node {other}; if that node is gone for good, `kubectl delete node {other}` ends its record; one that never was a Node is the ConfigMap {other} in constellation-nodes"
    )]
    Taken {
        /// What.
        what: Unique,
        /// Whose it is.
        other: NodeName,
    },
    /// It is a node already.
    #[error(
        "{0} has joined before: it must rejoin with the disk on record; if that disk is lost, `kubectl delete node {0}` first"
    )]
    AlreadyJoined(NodeName),
    /// A node keeps its role.
    #[error("{name} is recorded as {recorded} and asks to be {asked}")]
    RoleFixed {
        /// Which node.
        name: NodeName,
        /// Its role.
        recorded: Role,
        /// What it asks for.
        asked: Role,
    },
    /// The host kept the request back until the machine was started anew, or the TPM is not what it was.
    #[error(
        "its evidence is of an earlier boot (TPM reset {asked}) than the record of {name} (reset {recorded}): a request that came late is of no use, and the machine asks again by itself; if its TPM was cleared or put back, `kubectl delete node {name}` ends its record; one that never was a Node is the ConfigMap {name} in constellation-nodes"
    )]
    EarlierBoot {
        /// Which node.
        name: NodeName,
        /// The count of the record.
        recorded: u32,
        /// The count of the evidence.
        asked: u32,
    },
    /// Nobody can have this address.
    #[error("{0} cannot be the address of a machine")]
    NotAMachine(Ipv4Addr),
    /// The address belongs to the cluster's own networks.
    #[error("its address {address} lies in the cluster's own network {network}")]
    InsideCluster {
        /// The address.
        address: Ipv4Addr,
        /// The network it lies in.
        network: ipnet::Ipv4Net,
    },
    /// The name is somebody else's in the cluster.
    #[error("the name {0} is not for nodes: it stands in other certificates of the cluster")]
    ReservedName(NodeName),
    /// The all-zero key, which is everyone's.
    #[error("its WireGuard key is zero")]
    ZeroKey,
    /// No place is left.
    #[error("no place is left for another node")]
    Full(#[source] NetworkError),
}

/// Why a machine does not get a disk's key again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecognised {
    /// No record names the disk.
    #[error("no node is recorded with the state disk {0}")]
    UnknownDisk(DiskUuid),
    /// The disk is another machine's.
    #[error("the state disk {disk} is recorded for {node}, which has another attestation key")]
    OtherMachine {
        /// The disk.
        disk: DiskUuid,
        /// Whose it is.
        node: NodeName,
    },
}

/// DNS names that stand in other certificates of the cluster: a node of this name would get a certificate for it.
pub const RESERVED_NAMES: [&str; 3] = ["kubernetes", "key-service", "localhost"];

/// Decides whether a machine becomes a node. `records` must be all there are, read now.
///
/// # Errors
/// By the rules in the head of this module.
pub fn admit(
    request: &JoinRequest,
    proven: &Proven,
    records: &[Record],
    plan: &AddressPlan,
    now: jiff::Timestamp,
) -> Result<AdmittedNode, Denial> {
    check_address(request.node_ip, plan)?;
    if RESERVED_NAMES.contains(&request.name.as_str()) {
        return Err(Denial::ReservedName(request.name.clone()));
    }
    if request.wireguard_public_key.as_bytes() == &[0; 32] {
        return Err(Denial::ZeroKey);
    }
    let recorded = records
        .iter()
        .find(|record| record.identity.name == request.name);
    if let Some(record) = recorded {
        check_same_node(request, proven, record)?;
    }
    // a service that stopped before it looked again left a place that another node may have by now
    let shared = |record: &Record| {
        conflict(&record.identity, records).is_some_and(|(what, _)| what == Unique::Index)
    };
    let addresses = match recorded {
        Some(record) if !shared(record) => plan.node(record.identity.index),
        _ => next_place(plan, records),
    }
    .map_err(Denial::Full)?;
    let identity = NodeIdentity {
        name: request.name.clone(),
        role: request.role,
        disk_uuid: request.disk_uuid,
        attestation_variant: proven.variant.clone(),
        attestation_key_id: proven.key_id.clone(),
        measurements: proven.measurements.clone(),
        index: addresses.index,
        mesh_ip: addresses.mesh_ip,
        pod_cidr: addresses.pod_cidr,
        node_ip: request.node_ip,
        wireguard_public_key: request.wireguard_public_key,
        admitted_at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        reset_count: Some(proven.reset_count),
    };
    if let Some((what, other)) = conflict(&identity, records) {
        return Err(Denial::Taken {
            what,
            other: other.clone(),
        });
    }
    let write = match recorded {
        None => Write::Create,
        Some(record) if unchanged(&record.identity, &identity) => Write::Keep,
        Some(_) => Write::Replace,
    };
    let identity = match (write, recorded) {
        (Write::Keep, Some(record)) => record.identity.clone(),
        _ => identity,
    };
    Ok(AdmittedNode { identity, write })
}

/// Decides whether a machine gets the key of a disk again. A record that is pending takes over the boot: a join request that a host got
/// out of the machine between the boot on record and this one, with a disk that it exchanged, must not take the record any more. A joined
/// node's record is nobody's to take, and is not written.
///
/// # Errors
/// When no record has both the disk and the machine's attestation key.
pub fn recognise(
    disk: DiskUuid,
    proven: &Proven,
    records: &[Record],
) -> Result<RecognisedNode, Unrecognised> {
    let record = records
        .iter()
        .find(|record| record.identity.disk_uuid == disk)
        .ok_or(Unrecognised::UnknownDisk(disk))?;
    if record.identity.attestation_key_id != proven.key_id
        || record.identity.attestation_variant != proven.variant
    {
        return Err(Unrecognised::OtherMachine {
            disk,
            node: record.identity.name.clone(),
        });
    }
    let mut identity = record.identity.clone();
    let write = if record.standing == Standing::Pending && proven.boot(&identity) == Boot::Later {
        identity.reset_count = Some(proven.reset_count);
        Write::Replace
    } else {
        Write::Keep
    };
    Ok(RecognisedNode { identity, write })
}

/// The first thing that `identity` shares with another node's record, and that node.
///
/// Whoever wrote a record looks again with this before it makes a ticket, and withdraws the record if it finds a conflict. Of
/// two services that wrote conflicting records, the later one to write always sees the earlier one's: at most one goes on.
pub fn conflict<'a>(
    identity: &NodeIdentity,
    records: &'a [Record],
) -> Option<(Unique, &'a NodeName)> {
    records
        .iter()
        .map(|record| &record.identity)
        .filter(|other| other.name != identity.name)
        .find_map(|other| {
            let what = if other.attestation_key_id == identity.attestation_key_id {
                Unique::AttestationKey
            } else if other.disk_uuid == identity.disk_uuid {
                Unique::Disk
            } else if other.wireguard_public_key == identity.wireguard_public_key {
                Unique::WireGuardKey
            } else if other.node_ip == identity.node_ip {
                Unique::Address
            } else if other.index == identity.index
                || other.mesh_ip == identity.mesh_ip
                || other.pod_cidr == identity.pod_cidr
            {
                Unique::Index
            } else {
                return None;
            };
            Some((what, &other.name))
        })
}

/// A record of the wanted name: only its own machine, only while it is pending, not of a boot that is over, only in its role.
fn check_same_node(request: &JoinRequest, proven: &Proven, record: &Record) -> Result<(), Denial> {
    let identity = &record.identity;
    if identity.attestation_key_id != proven.key_id
        || identity.attestation_variant != proven.variant
    {
        return Err(Denial::Taken {
            what: Unique::Name,
            other: identity.name.clone(),
        });
    }
    if record.standing == Standing::Joined {
        return Err(Denial::AlreadyJoined(identity.name.clone()));
    }
    if let (Boot::Earlier, Some(recorded)) = (proven.boot(identity), identity.reset_count) {
        return Err(Denial::EarlierBoot {
            name: identity.name.clone(),
            recorded,
            asked: proven.reset_count,
        });
    }
    if identity.role != request.role {
        return Err(Denial::RoleFixed {
            name: identity.name.clone(),
            recorded: identity.role,
            asked: request.role,
        });
    }
    Ok(())
}

/// Refuses an address on the network between the machines that no machine can have, or that the cluster uses inside.
pub fn check_address(address: Ipv4Addr, plan: &AddressPlan) -> Result<(), Denial> {
    let nobody = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240;
    if nobody {
        return Err(Denial::NotAMachine(address));
    }
    match [MESH_CIDR, plan.pods(), plan.services()]
        .into_iter()
        .find(|network| network.contains(&address))
    {
        Some(network) => Err(Denial::InsideCluster { address, network }),
        None => Ok(()),
    }
}

fn next_place(
    plan: &AddressPlan,
    records: &[Record],
) -> Result<crate::network::NodeAddresses, NetworkError> {
    let taken = || records.iter().map(|record| record.identity.index);
    let highest = taken().max().unwrap_or(0);
    plan.node(highest.saturating_add(1))
        .or_else(|_| plan.first_free(taken()))
}

/// Whether a repeated request brings nothing new; when a node was admitted is no part of who it is.
fn unchanged(recorded: &NodeIdentity, asked: &NodeIdentity) -> bool {
    NodeIdentity {
        admitted_at: String::new(),
        ..recorded.clone()
    } == NodeIdentity {
        admitted_at: String::new(),
        ..asked.clone()
    }
}

#[cfg(test)]
mod tests;
