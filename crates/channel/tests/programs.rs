//! The channel between machines with a real TPM 2.0 (swtpm): layer 2.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its world is not as it should be"
)]

use std::{path::PathBuf, sync::Arc};

use attest::{ClusterIdDigest, ClusterMark, PcrIndex, Policy, RefusalCode, Variant};
use channel::{Client, Error, Server, Verifier};
use tee::{TpmAddress, TpmIssuer};
use testkit::{boot::Image, swtpm::Swtpm};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

const CLUSTER: [u8; 32] = [7; 32];

/// A TPM with what a boot of an image measures, and an issuer on it.
struct Machine {
    tpm: Swtpm,
    issuer: Arc<TpmIssuer>,
}

impl Machine {
    fn boot(image: &Image) -> Self {
        let tpm = Swtpm::boot(image).expect("swtpm runs (packages swtpm, swtpm-tools)");
        let log: PathBuf = tpm.write_event_log(image).unwrap();
        let issuer = Arc::new(TpmIssuer::new(TpmAddress::Unix(tpm.socket()), log));
        Self { tpm, issuer }
    }

    fn issuer(&self) -> Arc<TpmIssuer> {
        Arc::clone(&self.issuer)
    }

    fn join(&self) {
        let mark = ClusterIdDigest::of(&CLUSTER);
        self.tpm
            .extend(PcrIndex::CLUSTER_MARK, mark.digest())
            .unwrap();
    }

    /// As a joining node does it: a policy made of what the node itself booted.
    fn joining(&self) -> Client {
        let (pcrs, log) = self.issuer.own_measurements().unwrap();
        let own = Policy::from_own_measurements(Variant::QemuVtpm, &pcrs, &log).unwrap();
        Client::joining_node(self.issuer(), Verifier::same_as_self(own))
    }

    fn join_service(&self, policy: Policy) -> Server<Verifier> {
        let verifier = Verifier::new(Arc::new(policy), ClusterMark::NotJoined);
        Server::join_service(self.issuer(), verifier).unwrap()
    }
}

#[tokio::test]
async fn an_administrator_meets_a_machine() {
    let image = Image::default();
    let machine = Machine::boot(&image);
    let client = Client::admin(Verifier::new(
        Arc::new(image.policy()),
        ClusterMark::NotJoined,
    ));
    let server = Server::node(machine.issuer()).unwrap();
    // Recover is the same channel again, by the same process.
    for _ in 0..2 {
        let (left, right) = duplex(4096);
        let (client, server) = tokio::join!(client.connect(left), server.accept(right));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        assert!(!client.peer().verified().has_joined());
        server.write_all(b"hello").await.unwrap();
        server.flush().await.unwrap();
        let mut heard = [0; 5];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}

#[tokio::test]
async fn two_machines_meet() {
    let image = Image::default();
    let (new, old) = (Machine::boot(&image), Machine::boot(&image));
    old.join();
    let (client, server) = (new.joining(), old.join_service(image.policy()));
    let (left, right) = duplex(4096);
    let (client_side, server_side) = tokio::join!(client.connect(left), server.accept(right));
    let (client_side, server_side) = (client_side.unwrap(), server_side.unwrap());
    assert_ne!(
        client_side.peer().verified().ak_id(),
        server_side.peer().verified().ak_id()
    );

    // Once the new machine is marked, it is no joining node any more.
    new.join();
    let (left, right) = duplex(4096);
    let (client_side, server_side) = tokio::join!(client.connect(left), server.accept(right));
    assert!(matches!(
        client_side,
        Err(Error::RefusedByPeer(Some(RefusalCode::ClusterMark)))
    ));
    assert_eq!(
        server_side.unwrap_err().refusal().unwrap().code(),
        RefusalCode::ClusterMark
    );
}

#[tokio::test]
async fn two_machines_of_different_images_refuse_one_another() {
    let image = Image::default();
    let other = Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    };
    let (new, old) = (Machine::boot(&other), Machine::boot(&image));
    old.join();
    let (client, server) = (new.joining(), old.join_service(image.policy()));
    let (left, right) = duplex(4096);
    let (client_side, server_side) = tokio::join!(client.connect(left), server.accept(right));
    for refused in [client_side.unwrap_err(), server_side.unwrap_err()] {
        let refusal = refused.refusal().expect("a refusal of its own");
        assert_eq!(refusal.code(), RefusalCode::Measurements);
        assert!(refusal.to_string().contains("initrd"), "{refusal}");
    }
}
