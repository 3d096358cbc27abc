//! The channel over TCP, as its users see it.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its world is not as it should be"
)]

mod flood;
mod grpc;
mod kept_verdict;

use std::sync::Arc;

use attest::{ClusterMark, Policy};
use channel::{AsksNothing, Client, Server, Verifier};
use testkit::{boot::Image, tee::SoftTpm};

const CLUSTER: [u8; 32] = [7; 32];

fn machine() -> Arc<SoftTpm> {
    Arc::new(SoftTpm::boot(&Image::default()))
}

fn member() -> Arc<SoftTpm> {
    let machine = machine();
    machine.join(&CLUSTER);
    machine
}

fn stranger() -> Arc<SoftTpm> {
    Arc::new(SoftTpm::boot(&Image {
        linux: b"another kernel".to_vec(),
        ..Image::default()
    }))
}

fn policy() -> Arc<Policy> {
    Arc::new(Image::default().policy())
}

fn admin() -> Client {
    Client::admin(Verifier::new(policy(), ClusterMark::NotJoined))
}

fn joining(machine: Arc<SoftTpm>) -> Client {
    Client::joining_node(machine, Verifier::new(policy(), ClusterMark::AnyCluster))
}

fn node() -> Server<AsksNothing> {
    Server::node(machine()).unwrap()
}

fn join_service() -> Server<Verifier> {
    Server::join_service(member(), Verifier::new(policy(), ClusterMark::NotJoined)).unwrap()
}
