//! The real join service with many machines before it: the parts of the benchmark `join-load`.
//!
//! etcd, kube-apiserver, key service and join service are processes; the join service's own evidence is a swtpm's. The machines
//! that join are in this process, and only their evidence is made up ([`testkit::tee::SoftTpm`]): each has a key and a source
//! address of its own, and speaks the real channel.

pub mod flood;
pub mod nodes;
pub mod services;
