//! Evidence that is authentic, but not for this session. Attacks by name; model: step 4.

use attest::{RefusalCode, Variant};
use testkit::tee::{QuoteParts, tpm2b};

use super::*;

/// Runs one session with the honest node as an administrator would and returns the evidence it gave.
async fn record_evidence(server: &Server<AsksNothing>, hello: &Hello) -> Vec<u8> {
    let (left, right) = duplex(BUFFER);
    let client = async {
        let mut raw = Raw::client(left, None).await;
        raw.greet(hello).await;
        let evidence = raw.receive(Kind::Evidence).await;
        raw.send(Kind::Verdict, &accepted()).await;
        evidence
    };
    let (server, evidence) = tokio::join!(server.accept(right), client);
    assert!(server.is_ok());
    evidence
}

#[tokio::test]
async fn replayed_evidence_is_refused() {
    let recorded = record_evidence(&node(machine()), &hello(Role::Cli, true)).await;
    let (client, verdict) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        raw.send(Kind::Evidence, &recorded).await;
        raw.verdict().await
    })
    .await;
    assert_eq!(refusal_code(client), RefusalCode::WrongBinding);
    assert_eq!(verdict, Verdict::Refused(Some(RefusalCode::WrongBinding)));
}

/// A peer that keeps its own verdict back must not turn the refusal into a deadline, which is worth another try and no alarm.
#[tokio::test]
async fn evidence_is_refused_also_where_the_peer_sends_no_verdict() {
    let recorded = record_evidence(&node(machine()), &hello(Role::Cli, true)).await;
    for deadline in [SHORT, crate::DEADLINE] {
        let recorded = recorded.clone();
        let started = Instant::now();
        let (server, ()) = join_service_within(deadline, |mut raw| async move {
            raw.greet(&hello(Role::Node, true)).await;
            raw.receive(Kind::Evidence).await;
            raw.send(Kind::Evidence, &recorded).await;
            assert_eq!(
                raw.verdict().await,
                Verdict::Refused(Some(RefusalCode::WrongBinding))
            );
            raw.rest().await;
        })
        .await;
        assert_eq!(refusal_code(server), RefusalCode::WrongBinding);
        assert!(started.elapsed() < crate::DEADLINE / 2);
    }
}

/// The same from the other side: the connection is gone before the verdict could be sent.
#[tokio::test]
async fn evidence_is_refused_also_where_the_peer_is_gone() {
    let recorded = record_evidence(&node(machine()), &hello(Role::Cli, true)).await;
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        raw.send(Kind::Evidence, &recorded).await;
        let _farewell = raw.stream.shutdown().await;
    })
    .await;
    assert_eq!(refusal_code(client), RefusalCode::WrongBinding);
}

/// The attack that breaks evidence in certificates: the key of an accepted machine has leaked, the attacker ends the victim's
/// session with it and carries both hellos, unchanged, to the machine it came from. Certificate key, nonces, transcript and
/// role are the same in both sessions; only the exporter is not.
#[tokio::test]
async fn relayed_evidence_of_another_session_with_the_same_certificate_key_is_refused() {
    let leaked = Identity::fresh().unwrap();
    let honest =
        Server::with_identity(Role::Node, Role::Cli, machine(), AsksNothing, &leaked).unwrap();
    let (client, (to_client, to_machine)) = admin_against(&leaked, |mut victim| async move {
        let victim_hello = victim.receive(Kind::Hello).await;

        let (left, right) = duplex(BUFFER);
        let machine = tokio::spawn(async move { honest.accept(right).await.map(drop) });
        let mut relay = Raw::client(left, None).await;
        relay.send(Kind::Hello, &victim_hello).await;
        let machine_hello = relay.receive(Kind::Hello).await;
        victim.send(Kind::Hello, &machine_hello).await;
        for raw in [&mut victim, &mut relay] {
            let [client, server] = &mut raw.frames;
            *client = frame::encode(Kind::Hello, &victim_hello).unwrap();
            *server = frame::encode(Kind::Hello, &machine_hello).unwrap();
        }
        let evidence = relay.receive(Kind::Evidence).await;

        // The attack got everything right that it could.
        assert_eq!(victim.transcript(), relay.transcript());
        assert_eq!(victim.keys(), relay.keys());
        assert_ne!(victim.exporter(), relay.exporter());
        victim.send(Kind::Evidence, &evidence).await;
        let verdict = victim.verdict().await;
        machine.abort();
        (
            verdict,
            message::parse_evidence(&evidence).unwrap().variant(),
        )
    })
    .await;
    assert_eq!(refusal_code(client), RefusalCode::WrongBinding);
    assert_eq!(to_client, Verdict::Refused(Some(RefusalCode::WrongBinding)));
    assert_eq!(to_machine, Variant::QemuVtpm);
}

#[tokio::test]
async fn evidence_for_another_role_is_refused() {
    for role in [Role::JoinService, Role::Cli] {
        let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
            raw.greet(&hello(Role::Node, false)).await;
            let evidence = Raw::evidence(&machine(), &raw.binding(role));
            raw.send(Kind::Evidence, &evidence).await;
            raw.verdict().await;
        })
        .await;
        assert_eq!(refusal_code(client), RefusalCode::WrongBinding, "{role}");
    }
    // The same by hand with the right role, so that the above fails for its reason.
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let evidence = Raw::evidence(&machine(), &raw.binding(Role::Node));
        raw.send(Kind::Evidence, &evidence).await;
        raw.verdict().await;
    })
    .await;
    assert!(client.is_ok());
}

/// A joining node sends the join service's own evidence back to it.
#[tokio::test]
async fn reflected_evidence_is_refused() {
    let (server, verdict) = join_service_against(|mut raw| async move {
        raw.greet(&hello(Role::Node, true)).await;
        let evidence = raw.receive(Kind::Evidence).await;
        raw.send(Kind::Evidence, &evidence).await;
        raw.send(Kind::Verdict, &accepted()).await;
        raw.verdict().await
    })
    .await;
    assert_eq!(refusal_code(server), RefusalCode::WrongBinding);
    assert_eq!(verdict, Verdict::Refused(Some(RefusalCode::WrongBinding)));
}

#[tokio::test]
async fn evidence_over_a_swapped_spki_is_refused() {
    let other = Identity::fresh().unwrap();
    // The server's key, at the administrator.
    let swapped = other.public_key().to_vec();
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let binding = Binding::for_channel(
            Role::Node,
            &raw.exporter(),
            &raw.transcript(),
            &swapped,
            None,
        );
        raw.send(Kind::Evidence, &Raw::evidence(&machine(), &binding))
            .await;
        raw.verdict().await;
    })
    .await;
    assert_eq!(refusal_code(client), RefusalCode::WrongBinding);

    // The client's key, at the join service: another one, none, and the two keys in each other's place.
    for case in ["other", "none", "crossed"] {
        let swapped = other.public_key().to_vec();
        let (server, ()) = join_service_against(|mut raw| async move {
            raw.greet(&hello(Role::Node, true)).await;
            let (server, client) = raw.keys();
            let (server, client) = match case {
                "other" => (server, Some(swapped)),
                "none" => (server, None),
                _ => (client.unwrap(), Some(server)),
            };
            let binding = Binding::for_channel(
                Role::Node,
                &raw.exporter(),
                &raw.transcript(),
                &server,
                client.as_deref(),
            );
            raw.send(Kind::Evidence, &Raw::evidence(&machine(), &binding))
                .await;
            raw.receive(Kind::Evidence).await;
            raw.send(Kind::Verdict, &accepted()).await;
            raw.verdict().await;
        })
        .await;
        assert_eq!(refusal_code(server), RefusalCode::WrongBinding, "{case}");
    }
}

/// Nothing is compared after padding or by a prefix.
#[tokio::test]
async fn evidence_over_an_empty_short_or_padded_binding_is_refused() {
    type Cut = fn(&[u8]) -> Vec<u8>;
    let cuts: [(&str, Cut); 5] = [
        ("empty", |_| Vec::new()),
        ("short", |full| full[..31].to_vec()),
        ("padded", |full| [full, &[0]].concat()),
        ("zero", |_| vec![0; 32]),
        ("one byte", |full| full[..1].to_vec()),
    ];
    for (name, cut) in cuts {
        let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
            raw.greet(&hello(Role::Node, false)).await;
            let machine = machine();
            let binding = raw.binding(Role::Node);
            let mut document = machine.document(&binding);
            let mut parts = SoftTpm::quote_parts(&binding, &machine.pcrs());
            parts.extra_data = cut(&parts.extra_data);
            let statement = QuoteParts::to_tpms_attest(&parts);
            document.signature = machine.sign(&statement);
            document.quote = tpm2b(&statement);
            let evidence = attest::Evidence::new(Variant::QemuVtpm, document.to_json()).unwrap();
            raw.send(Kind::Evidence, &message::encode_evidence(&evidence))
                .await;
            raw.verdict().await;
        })
        .await;
        assert_eq!(refusal_code(client), RefusalCode::WrongBinding, "{name}");
    }
}

/// A statement for a caller of the verification service is no evidence for a channel, even if the caller chose its nonce.
#[tokio::test]
async fn a_statement_of_the_verification_service_is_refused() {
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let binding = Binding::for_verification(&raw.transcript());
        raw.send(Kind::Evidence, &Raw::evidence(&machine(), &binding))
            .await;
        raw.verdict().await;
    })
    .await;
    assert_eq!(refusal_code(client), RefusalCode::WrongBinding);
}
