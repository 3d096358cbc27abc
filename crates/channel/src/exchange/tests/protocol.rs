//! Frames that are missing, broken, too long, too many or too early. Model: steps 3, 5, 7 and 8.

use attest::RefusalCode;

use super::*;
use crate::{FrameError, MessageError};

#[tokio::test]
async fn a_truncated_frame_ends_the_connection() {
    let whole = frame::encode(Kind::Hello, &hello(Role::Cli, true).encode()).unwrap();
    for cut in [0, 1, 3, 4, 5, whole.len() - 1] {
        let part = whole[..cut].to_vec();
        let (server, ()) = node_against(|mut raw| async move {
            raw.send_bytes(&part).await;
            raw.stream.shutdown().await.unwrap();
            raw.rest().await;
        })
        .await;
        assert!(
            matches!(
                server,
                Err(Error::Frame(FrameError::Truncated(Kind::Hello)))
            ),
            "{cut}: {server:?}"
        );
    }
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let evidence = Raw::evidence(&machine(), &raw.binding(Role::Node));
        let frame = frame::encode(Kind::Evidence, &evidence).unwrap();
        raw.send_bytes(&frame[..frame.len() - 1]).await;
        raw.stream.shutdown().await.unwrap();
    })
    .await;
    assert!(
        matches!(
            client,
            Err(Error::Frame(FrameError::Truncated(Kind::Evidence)))
        ),
        "{client:?}"
    );
}

#[tokio::test]
async fn an_oversized_frame_ends_the_connection_before_its_body() {
    let (server, ()) = node_against(|mut raw| async move {
        raw.send_bytes(&4097_u32.to_be_bytes()).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(
        server,
        Err(Error::Frame(FrameError::TooLong {
            kind: Kind::Hello,
            length: 4097
        }))
    ));

    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        raw.send_bytes(&(256 * 1024 + 1_u32).to_be_bytes()).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(
        client,
        Err(Error::Frame(FrameError::TooLong {
            kind: Kind::Evidence,
            ..
        }))
    ));

    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&hello(Role::Cli, true)).await;
        raw.receive(Kind::Evidence).await;
        raw.send_bytes(&u32::MAX.to_be_bytes()).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(
        server,
        Err(Error::Frame(FrameError::TooLong {
            kind: Kind::Verdict,
            ..
        }))
    ));
}

#[tokio::test]
async fn trailing_bytes_in_a_frame_end_the_connection() {
    // An unknown field, a field a second time, and bytes that are no field at all.
    for trailing in [&[0x3a, 0x00][..], &[0x10, 0x01], &[0xff]] {
        let body = [&hello(Role::Cli, true).encode(), trailing].concat();
        let (server, ()) = node_against(|mut raw| async move {
            raw.send(Kind::Hello, &body).await;
            raw.rest().await;
        })
        .await;
        assert!(
            matches!(server, Err(Error::Message(_))),
            "{trailing:?}: {server:?}"
        );
    }
}

#[tokio::test]
async fn a_frame_too_many_ends_the_connection() {
    // Evidence that nobody asked for stands where the verdict is due.
    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&hello(Role::Cli, true)).await;
        let evidence = Raw::evidence(&machine(), &raw.binding(Role::Cli));
        raw.receive(Kind::Evidence).await;
        raw.send(Kind::Evidence, &evidence).await;
        raw.rest().await;
    })
    .await;
    assert!(
        matches!(
            server,
            Err(Error::Frame(FrameError::TooLong {
                kind: Kind::Verdict,
                ..
            }))
        ),
        "{server:?}"
    );

    // A second hello.
    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&hello(Role::Cli, true)).await;
        raw.send(Kind::Hello, &hello(Role::Cli, true).encode())
            .await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(server, Err(Error::Message(_))), "{server:?}");

    // A verdict that is not owed.
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let evidence = Raw::evidence(&machine(), &raw.binding(Role::Node));
        let mut bytes = frame::encode(Kind::Evidence, &evidence).unwrap();
        bytes.extend(frame::encode(Kind::Verdict, &accepted()).unwrap());
        raw.send_bytes(&bytes).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(client, Err(Error::EarlyData)), "{client:?}");
}

#[tokio::test]
async fn no_connection_without_the_verdict_that_is_owed() {
    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&hello(Role::Cli, true)).await;
        raw.receive(Kind::Evidence).await;
        raw.stream.shutdown().await.unwrap();
        raw.rest().await;
    })
    .await;
    assert!(
        matches!(
            server,
            Err(Error::Frame(FrameError::Truncated(Kind::Verdict)))
        ),
        "{server:?}"
    );

    // An empty frame, and verdicts that say neither or both.
    for body in [
        &[][..],
        &[0x08, 0x03],
        &[0x08, 0x01, 0x10, 0x01],
        &[0x08, 0x02],
        &[0x10, 0x01],
    ] {
        let (server, ()) = node_against(|mut raw| async move {
            raw.greet(&hello(Role::Cli, true)).await;
            raw.receive(Kind::Evidence).await;
            raw.send(Kind::Verdict, body).await;
            raw.rest().await;
        })
        .await;
        assert!(
            matches!(server, Err(Error::Message(MessageError::Verdict { .. }))),
            "{body:?}: {server:?}"
        );
    }
}

/// Accepted by the join service, a client that keeps its own verdict to itself gets no answer.
#[tokio::test]
async fn a_verdict_that_never_comes_runs_into_the_deadline() {
    let (server, ()) = join_service_within(SHORT, |mut raw| async move {
        raw.greet(&hello(Role::Node, true)).await;
        let evidence = Raw::evidence(&machine(), &raw.binding(Role::Node));
        raw.send(Kind::Evidence, &evidence).await;
        raw.receive(Kind::Evidence).await;
        assert_eq!(raw.verdict().await, Verdict::Accepted);
        assert_eq!(raw.rest().await, b"");
    })
    .await;
    assert!(matches!(server, Err(Error::Deadline(SHORT))), "{server:?}");
}

#[tokio::test]
async fn application_data_before_the_verdict_ends_the_connection() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // In the place of the verdict.
    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&hello(Role::Cli, true)).await;
        raw.receive(Kind::Evidence).await;
        raw.send_bytes(PREFACE).await;
        raw.rest().await;
    })
    .await;
    assert!(
        matches!(
            server,
            Err(Error::Frame(FrameError::TooLong {
                kind: Kind::Verdict,
                ..
            }))
        ),
        "{server:?}"
    );

    // In the place of the hello, as any HTTP/2 client would.
    let (server, ()) = node_against(|mut raw| async move {
        raw.send_bytes(PREFACE).await;
        raw.rest().await;
    })
    .await;
    assert!(
        matches!(
            server,
            Err(Error::Frame(FrameError::TooLong {
                kind: Kind::Hello,
                ..
            }))
        ),
        "{server:?}"
    );

    // Behind the evidence, before the administrator can have looked at it.
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let evidence = Raw::evidence(&machine(), &raw.binding(Role::Node));
        let mut bytes = frame::encode(Kind::Evidence, &evidence).unwrap();
        bytes.extend_from_slice(b"early");
        raw.send_bytes(&bytes).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(client, Err(Error::EarlyData)), "{client:?}");
}

#[tokio::test]
async fn a_refused_peer_gets_no_byte_of_application_data() {
    let other = || {
        SoftTpm::boot(&Image {
            linux: b"another kernel".to_vec(),
            ..Image::default()
        })
    };
    let (server, rest) = join_service_against(|mut raw| async move {
        raw.greet(&hello(Role::Node, true)).await;
        let evidence = Raw::evidence(&other(), &raw.binding(Role::Node));
        raw.send(Kind::Evidence, &evidence).await;
        raw.receive(Kind::Evidence).await;
        raw.send(Kind::Verdict, &accepted()).await;
        assert_eq!(
            raw.verdict().await,
            Verdict::Refused(Some(RefusalCode::Measurements))
        );
        raw.rest().await
    })
    .await;
    assert_eq!(refusal_code(server), RefusalCode::Measurements);
    assert_eq!(rest, b"");

    let (client, rest) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, false)).await;
        let evidence = Raw::evidence(&other(), &raw.binding(Role::Node));
        raw.send(Kind::Evidence, &evidence).await;
        assert_eq!(
            raw.verdict().await,
            Verdict::Refused(Some(RefusalCode::Measurements))
        );
        raw.rest().await
    })
    .await;
    assert_eq!(refusal_code(client), RefusalCode::Measurements);
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_peer_that_does_not_belong_at_the_other_end_is_turned_away() {
    // Wrong roles; among them what the server itself says, sent back.
    for role in [Role::Node, Role::JoinService] {
        let (server, ()) = node_against(|mut raw| async move {
            raw.greet(&hello(role, true)).await;
            raw.rest().await;
        })
        .await;
        assert!(
            matches!(server, Err(Error::Role { expected: Role::Cli, actual }) if actual == role)
        );
    }
    // A client that does without evidence, a server that wants some of the administrator.
    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&hello(Role::Cli, false)).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(server, Err(Error::Demand)), "{server:?}");
    let (client, ()) = admin_against(&Identity::fresh().unwrap(), |mut raw| async move {
        raw.greet(&hello(Role::Node, true)).await;
        raw.rest().await;
    })
    .await;
    assert!(matches!(client, Err(Error::Demand)), "{client:?}");
    // A client that can appraise other machines only.
    let (server, ()) = node_against(|mut raw| async move {
        raw.greet(&Hello {
            accepts: vec!["sev-snp".to_owned()],
            ..hello(Role::Cli, true)
        })
        .await;
        raw.rest().await;
    })
    .await;
    assert!(
        matches!(server, Err(Error::VariantNotAccepted(_))),
        "{server:?}"
    );
}

/// However it holds the handshake open: silent, or a byte now and then.
#[tokio::test]
async fn a_slow_peer_runs_into_the_deadline() {
    let (server, ()) = node_within(SHORT, |mut raw| async move {
        assert_eq!(
            raw.rest().await.len(),
            frame::encode(Kind::Hello, &hello(Role::Node, false).encode())
                .unwrap()
                .len()
        );
    })
    .await;
    assert!(matches!(server, Err(Error::Deadline(_))), "{server:?}");

    let (server, ()) = node_within(SHORT, |mut raw| async move {
        let frame = frame::encode(Kind::Hello, &hello(Role::Cli, true).encode()).unwrap();
        for byte in frame {
            tokio::time::sleep(SHORT / 10).await;
            // Fails once the server has given up.
            let _sent = raw.stream.write_all(&[byte]).await;
        }
    })
    .await;
    assert!(matches!(server, Err(Error::Deadline(_))), "{server:?}");

    // Not even TLS.
    let (_silent, stream) = duplex(BUFFER);
    let accepted = node(machine()).with_deadline(SHORT).accept(stream).await;
    assert!(
        matches!(accepted, Err(Error::Deadline(SHORT))),
        "{accepted:?}"
    );
    let (stream, _silent) = duplex(BUFFER);
    let connected = admin().with_deadline(SHORT).connect(stream).await;
    assert!(
        matches!(connected, Err(Error::Deadline(SHORT))),
        "{connected:?}"
    );
}
