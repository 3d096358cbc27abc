//! Peers that keep to the protocol, accepted or refused for what they are.

use std::sync::Mutex;

use attest::{PcrIndex, RefusalCode};

use super::*;

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut S, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, text);
}

#[tokio::test]
async fn init_and_recover_prove_the_node_only() {
    let machine = machine();
    let (client, server) = meet(&admin(), &node(Arc::clone(&machine))).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(client.peer().verified().measurements(), &machine.pcrs());
    assert_eq!(server.peer().unproved(), Unproved);
    say(&mut client, b"init").await;
    hear(&mut server, b"init").await;
    say(&mut server, b"done").await;
    hear(&mut client, b"done").await;
}

#[tokio::test]
async fn join_and_rejoin_prove_both_sides() {
    let (new, old) = (machine(), member());
    let (client, server) = meet(&joining(Arc::clone(&new)), &join_service(Arc::clone(&old))).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(client.peer().verified().measurements(), &old.pcrs());
    assert_eq!(server.peer().verified().measurements(), &new.pcrs());
    say(&mut client, b"ticket?").await;
    hear(&mut server, b"ticket?").await;
    say(&mut server, b"ticket").await;
    hear(&mut client, b"ticket").await;
}

#[tokio::test]
async fn the_cluster_mark_keeps_the_uses_apart() {
    // A machine that belongs to a cluster cannot be initialised, recovered or joined again ...
    let (client, server) = meet(&admin(), &node(member())).await;
    assert_eq!(refusal_code(client), RefusalCode::ClusterMark);
    assert!(matches!(
        server,
        Err(Error::RefusedByPeer(Some(RefusalCode::ClusterMark)))
    ));
    let (client, server) = meet(&joining(member()), &join_service(member())).await;
    assert!(matches!(
        client,
        Err(Error::RefusedByPeer(Some(RefusalCode::ClusterMark)))
    ));
    assert_eq!(refusal_code(server), RefusalCode::ClusterMark);
    // ... and one that belongs to none cannot be a join service.
    let (client, server) = meet(&joining(machine()), &join_service(machine())).await;
    assert_eq!(refusal_code(client), RefusalCode::ClusterMark);
    assert!(matches!(
        server,
        Err(Error::RefusedByPeer(Some(RefusalCode::ClusterMark)))
    ));
}

#[tokio::test]
async fn a_joining_node_accepts_a_service_like_itself_only() {
    let own = machine();
    let like_itself = || {
        let own_policy =
            Policy::from_own_measurements(own.variant(), &own.pcrs(), own.event_log()).unwrap();
        Client::joining_node(
            Arc::<SoftTpm>::clone(&own),
            Verifier::same_as_self(own_policy),
        )
    };
    let (client, server) = meet(&like_itself(), &join_service(member())).await;
    assert!(client.is_ok() && server.is_ok());

    let other = SoftTpm::boot(&Image {
        linux: b"another kernel".to_vec(),
        ..Image::default()
    });
    other.join(&CLUSTER);
    let (client, _server) = meet(&like_itself(), &join_service(Arc::new(other))).await;
    assert_eq!(refusal_code(client), RefusalCode::Measurements);
}

#[tokio::test]
async fn the_peer_learns_a_code_and_the_caller_the_tree() {
    let other = SoftTpm::boot(&Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    });
    let (client, server) = meet(&joining(Arc::new(other)), &join_service(member())).await;
    assert!(matches!(
        client,
        Err(Error::RefusedByPeer(Some(RefusalCode::Measurements)))
    ));
    let error = server.unwrap_err();
    assert!(!error.is_transient());
    let tree = error.refusal().unwrap().to_string();
    assert!(tree.contains("initrd"), "{tree}");
}

#[tokio::test]
async fn two_sides_that_refuse_one_another_both_say_why() {
    let bad = || {
        SoftTpm::boot(&Image {
            linux: b"another kernel".to_vec(),
            ..Image::default()
        })
    };
    let service = bad();
    service.join(&CLUSTER);
    let (client, server) = meet(&joining(Arc::new(bad())), &join_service(Arc::new(service))).await;
    assert_eq!(refusal_code(client), RefusalCode::Measurements);
    assert_eq!(refusal_code(server), RefusalCode::Measurements);
}

#[tokio::test]
async fn a_policy_that_is_replaced_holds_for_the_next_handshake() {
    let other = Image {
        linux: b"another kernel".to_vec(),
        ..Image::default()
    };
    let current = Arc::new(Mutex::new(policy()));
    let source = {
        let current = Arc::clone(&current);
        move || Arc::clone(&current.lock().unwrap())
    };
    let server =
        Server::join_service(member(), Verifier::new(source, ClusterMark::NotJoined)).unwrap();
    let upgraded = || joining(Arc::new(SoftTpm::boot(&other)));

    let (_client, server_side) = meet(&upgraded(), &server).await;
    assert_eq!(refusal_code(server_side), RefusalCode::Measurements);
    *current.lock().unwrap() = Arc::new(other.policy());
    let (_client, server_side) = meet(&upgraded(), &server).await;
    assert!(server_side.is_ok());
    let (_client, server_side) = meet(&joining(machine()), &server).await;
    assert_eq!(refusal_code(server_side), RefusalCode::Measurements);
}

#[tokio::test]
async fn a_machine_that_changes_after_its_boot_is_refused() {
    let machine = machine();
    machine.extend(PcrIndex::new(11).unwrap(), &attest::Digest::of(b"a module"));
    let (client, _server) = meet(&admin(), &node(machine)).await;
    assert_eq!(refusal_code(client), RefusalCode::Measurements);
}

#[tokio::test]
async fn a_device_that_fails_is_an_error_at_home_and_a_closed_connection_abroad() {
    #[derive(Debug)]
    struct Broken;
    impl Issue for Broken {
        fn variant(&self) -> attest::Variant {
            attest::Variant::QemuVtpm
        }
        fn issue(&self, _: &Binding) -> Result<attest::Evidence, attest::IssueError> {
            Err(attest::IssueError::new(self.variant(), "the TPM is gone"))
        }
    }
    let (client, server) = meet(&admin(), &Server::node(Arc::new(Broken)).unwrap()).await;
    assert!(matches!(server, Err(Error::Issue(_))));
    assert!(matches!(client, Err(Error::Frame(_))), "{client:?}");
}
