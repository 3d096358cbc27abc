//! What vendors state about a peer's machine: asked for when its evidence is there, and for nothing that is refused anyway.

use std::sync::Mutex;

use attest::{Endorsements, Evidence, RefusalCode, Variant};

use super::*;
use crate::{EndorsementsSource, Gathering};

/// Knows nothing, and remembers of whom it was asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Variant>>>);

impl EndorsementsSource for Asked {
    fn endorsements<'a>(&'a self, evidence: &'a Evidence) -> Gathering<'a> {
        self.0.lock().unwrap().push(evidence.variant());
        Box::pin(std::future::ready(Arc::new(Endorsements::new())))
    }
}

/// A vendor that does not answer.
struct Silent;

impl EndorsementsSource for Silent {
    fn endorsements<'a>(&'a self, _evidence: &'a Evidence) -> Gathering<'a> {
        Box::pin(std::future::pending())
    }
}

fn verifier(source: impl EndorsementsSource) -> Verifier {
    Verifier::new(policy(), ClusterMark::NotJoined).with_endorsements(source)
}

#[tokio::test]
async fn the_source_is_asked_about_a_machine_of_the_policys_kind() {
    let asked = Asked::default();
    let client = Client::admin(verifier(asked.clone()));
    let (client, server) = meet(&client, &node(machine())).await;
    assert!(client.is_ok() && server.is_ok());
    assert_eq!(*asked.0.lock().unwrap(), [Variant::QemuVtpm]);
}

#[tokio::test]
async fn nobody_is_asked_about_a_machine_of_another_kind() {
    let asked = Asked::default();
    let (client, ()) = client_against(
        Client::admin(verifier(asked.clone())),
        &Identity::fresh().unwrap(),
        |mut raw| async move {
            raw.greet(&hello(Role::Node, false)).await;
            let evidence = Evidence::new(Variant::AzureTdx, b"{}".to_vec()).unwrap();
            let evidence = message::encode_evidence(&evidence);
            raw.send(Kind::Evidence, &evidence).await;
            raw.verdict().await;
        },
    )
    .await;
    assert_eq!(refusal_code(client), RefusalCode::UnsupportedVariant);
    assert!(asked.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_source_that_does_not_answer_holds_nobody_beyond_the_deadline() {
    let client = Client::admin(verifier(Silent)).with_deadline(SHORT);
    let (client, server) = meet(&client, &node(machine())).await;
    assert!(matches!(client, Err(Error::Deadline(_))), "{client:?}");
    assert!(server.is_err());
}
