//! Test harnesses: swtpm, etcd and kube-apiserver, a TEE with its own roots

pub mod boot;
pub mod swtpm;
pub mod tee;
