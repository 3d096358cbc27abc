//! Layer 2: etcd and Kubernetes for real, with our flags, files and PKI; downloads onto a disk that is full.
//!
//! Needs `etcd` and `etcdctl` (Debian: etcd-server, etcd-client), the programs of Kubernetes (see `testkit::kubernetes`), what `packet_filter` names, and root.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "programs/access.rs"]
mod access;
#[path = "programs/backup.rs"]
mod backup;
#[path = "programs/disk_full.rs"]
mod disk_full;
#[path = "programs/etcd.rs"]
mod etcd;
#[path = "programs/etcd_deadlines.rs"]
mod etcd_deadlines;
#[path = "programs/etcd_removed.rs"]
mod etcd_removed;
#[path = "programs/kubelet_request.rs"]
mod kubelet_request;
#[path = "programs/manifests.rs"]
mod manifests;
#[path = "programs/node_programs.rs"]
mod node_programs;
#[path = "programs/packet_filter.rs"]
mod packet_filter;
#[path = "programs/renewal.rs"]
mod renewal;
#[path = "programs/storage.rs"]
mod storage;
