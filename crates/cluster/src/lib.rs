//! Nouns of a cluster: node, role, version, config and state files, component catalogue.
//!
//! Decides and describes; no IO, no clock, no environment.

pub mod disk_uuid;
pub mod metadata;
pub mod name;
pub mod role;

pub use disk_uuid::DiskUuid;
pub use metadata::{InstanceMetadata, Metadata};
pub use name::{ClusterName, Name, NodeName};
pub use role::Role;
