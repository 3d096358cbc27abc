//! Test harnesses: swtpm, etcd and kube-apiserver, a TEE with its own roots
