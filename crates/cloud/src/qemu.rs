//! QEMU machines on this host, without root rights: the machines, the network between them, their metadata.
//!
//! [`machine`], [`network`] and [`metadata`] run on the host, [`client`] runs on a node. Every address and name of a
//! machine follows from its [`Seat`], so that no part has to ask another. Design: `cluster.md`, "Local provider".

pub mod accelerator;
pub mod balancer;
pub mod client;
pub mod hang;
pub mod machine;
pub mod metadata;
pub mod mirror;
pub mod network;
pub mod process;
pub mod qmp;
mod seat;
pub mod swtpm;

pub use seat::{Mac, NoSuchSeat, SEATS_PER_ROLE, Seat};

/// Port of the metadata server and component mirror, on the host's loopback address.
pub const METADATA_PORT: u16 = 8080;

/// Where a guest finds the metadata server. Fixed at build time and so part of the measured image: QEMU's user-mode
/// network hands connections to 10.0.2.2 over to the host's 127.0.0.1, and the host can not point a node elsewhere.
pub const METADATA_URL: &str = "http://10.0.2.2:8080";

/// The first bytes of the MAC address of the NIC that leads out (user-mode network, DHCP).
pub const OUTSIDE_MAC_PREFIX: [u8; 4] = [0x52, 0x54, 0x00, 0x10];

/// The first bytes of the MAC address of the NIC on the network between the machines.
pub const CLUSTER_MAC_PREFIX: [u8; 4] = [0x52, 0x54, 0x00, 0x42];

/// Length of the prefix of the network between the machines, 10.42.0.0/16.
pub const CLUSTER_PREFIX_LEN: u8 = 16;
