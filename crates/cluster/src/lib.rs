//! Nouns of a cluster: node, role, version, config and state files, component catalogue.
//!
//! Decides and describes; no IO, no clock, no environment.

pub mod admission;
pub mod boot_lock;
pub mod catalogue;
pub mod config;
pub mod disk_uuid;
pub mod etcd;
pub mod identity;
pub mod init;
pub mod join;
pub mod join_config;
pub mod kubernetes;
pub mod metadata;
pub mod name;
pub mod network;
pub mod node_state;
pub mod plan;
pub mod recovery;
pub mod rejoin;
pub mod role;
pub mod rounds;
pub mod state;
mod yaml;

pub use disk_uuid::DiskUuid;
pub use metadata::{InstanceMetadata, Metadata};
pub use name::{ClusterName, Name, NodeName};
pub use role::Role;
