//! Test harnesses: swtpm, LUKS disks, etcd and kube-apiserver, a TEE with its own roots

pub mod boot;
#[cfg(feature = "kubernetes")]
pub mod etcd;
#[cfg(feature = "kubernetes")]
pub mod harness;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod luks;
pub mod swtpm;
pub mod tee;
