//! Layer 2: the join service as a process with a TPM of its own, a real API server and the real key service, met by
//! machines that may join and by programs that must not.
//!
//! Needs `swtpm`, `swtpm-tools`, `etcd-server`, `openssl` and the programs of Kubernetes, see `testkit`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "programs/service.rs"]
mod service;

#[path = "programs/certificates.rs"]
mod certificates;
#[path = "programs/impostors.rs"]
mod impostors;
#[path = "programs/tickets.rs"]
mod tickets;
