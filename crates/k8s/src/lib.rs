//! Kubernetes on a node: PKI, components, units and their configuration, custom resources, and helpers for its API.
//!
//! Renders and talks to the API; starts nothing itself. Spec: design/cluster.md, "Kubernetes without moving parts in between".

pub mod addons;
pub mod api;
pub mod backup;
pub mod cni;
pub mod components;
pub mod control_plane;
pub mod etcd;
pub mod files;
pub mod identities;
pub mod pki;
pub mod wireguard;
