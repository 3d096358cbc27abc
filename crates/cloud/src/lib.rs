//! A module per provider: metadata, machines, network. QEMU on this host is the first.
//!
//! Touches the provider and nothing else: it knows no attestation, no Kubernetes and no wire message.

pub mod qemu;
