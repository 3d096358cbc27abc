//! Test harnesses: swtpm, LUKS disks, etcd and kube-apiserver, a TEE with its own roots

pub mod amd;
pub mod boot;
pub mod cloud;
#[cfg(feature = "kubernetes")]
pub mod etcd;
pub mod guest;
#[cfg(feature = "kubernetes")]
pub mod harness;
pub mod intel;
#[cfg(feature = "kubernetes")]
pub mod kubelet;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod luks;
pub mod maker;
pub mod nitro;
pub mod swtpm;
pub mod tee;
mod trust;
pub mod vendors;

pub use trust::{appraise, appraise_at};
