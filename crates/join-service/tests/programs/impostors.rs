//! Programs that speak the join protocol and must get nothing; each is told a code, and the log has the tree.

use std::sync::{Arc, Mutex};

use attest::{Binding, Evidence, Issue, IssueError, RefusalCode, Variant, qemu_vtpm::Document};
use channel::{Client, Error};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use proto::join::api_client::ApiClient;
use testkit::{boot::Image, harness, tee::SoftTpm};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::service::{Machine, Service, request};

/// Makes evidence in a way of its own.
struct Forger<F>(F);

impl<F: Fn(&Binding) -> Document + Send + Sync> Issue for Forger<F> {
    fn variant(&self) -> Variant {
        Variant::QemuVtpm
    }

    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
        let document = (self.0)(binding).to_json();
        Evidence::new(Variant::QemuVtpm, document)
            .map_err(|error| IssueError::new(Variant::QemuVtpm, error))
    }
}

fn document(machine: &Machine, binding: &Binding) -> Document {
    Document::parse(machine.issuer.issue(binding).unwrap().document()).unwrap()
}

/// The service refused the machine with this code, logged the whole tree with the failed check, and admitted nobody.
async fn assert_refused(
    service: &Service,
    outcome: Result<tonic::transport::Channel, Error>,
    code: RefusalCode,
    check: &str,
) {
    match outcome {
        Err(Error::RefusedByPeer(Some(told))) => assert_eq!(told, code),
        Err(other) => panic!("not refused but: {other:?}"),
        Ok(_) => panic!("an impostor has an attested channel"),
    }
    // One line has the verdict and the whole tree, with the failed check marked.
    service
        .eventually("the refusal is in the log", || async {
            let (verdict, failed) = (format!("refused: {code}"), format!("✗ {check}"));
            let log = service.log();
            let line = log
                .lines()
                .find(|line| line.contains(&verdict) && line.contains(&failed));
            line.is_some().then_some(())
        })
        .await;
    assert_nothing_given(service).await;
}

async fn assert_nothing_given(service: &Service) {
    assert!(service.workers().await.is_empty());
    let given = |event: &serde_json::Value| event["verdict"] == "granted";
    assert!(!service.audit().iter().any(given), "a ticket was given");
}

#[tokio::test]
async fn a_program_without_a_tpm_gets_nothing() {
    let image = Image::default();
    let service = Service::shared().await;
    let genuine = Machine::boot(&image);
    // It has everything but a TPM: the right log, the right values, and a signature by a key that is no TPM's.
    let verifier = genuine.verifier();
    let nothing = Forger(move |binding: &Binding| Document {
        signature: vec![0; 72],
        ..document(&genuine, binding)
    });
    let outcome = service.connect_with(Arc::new(nothing), verifier).await;
    assert_refused(&service, outcome, RefusalCode::Malformed, "signature").await;
}

#[tokio::test]
async fn a_key_outside_a_tpm_gets_nothing() {
    let image = Image::default();
    let service = Service::shared().await;
    let genuine = Machine::boot(&image);
    // A key in software, which can sign any statement, says so in its attributes: not fixed to a TPM, not restricted.
    let soft = SoftTpm::boot(&image);
    let forger = Forger(move |binding: &Binding| {
        let mut parts = soft.public_parts();
        parts.attributes &= !0x0001_0002;
        Document {
            ak_public: parts.to_tpm2b(),
            ..soft.document(binding)
        }
    });
    let outcome = service
        .connect_with(Arc::new(forger), genuine.verifier())
        .await;
    assert_refused(
        &service,
        outcome,
        RefusalCode::NotAuthentic,
        "key attributes",
    )
    .await;
}

#[tokio::test]
async fn another_tpms_quote_gets_nothing() {
    let image = Image::default();
    let service = Service::shared().await;
    let (own, other) = (Machine::boot(&image), Machine::boot(&image));
    let verifier = own.verifier();
    let mixed = Forger(move |binding: &Binding| {
        let quoted = document(&other, binding);
        Document {
            ak_public: document(&own, binding).ak_public,
            ..quoted
        }
    });
    let outcome = service.connect_with(Arc::new(mixed), verifier).await;
    assert_refused(&service, outcome, RefusalCode::NotAuthentic, "signature").await;
}

#[tokio::test]
async fn evidence_from_an_earlier_session_gets_nothing() {
    let image = Image::default();
    let service = Service::shared().await;
    let machine = Machine::boot(&image);
    // The first session's evidence is good; it is kept and shown again in the second session.
    let kept: Arc<Mutex<Option<Document>>> = Arc::default();
    let (issuer, keep) = (machine.issuer.clone(), kept.clone());
    let recorder = Arc::new(Forger(move |binding: &Binding| {
        let mut kept = keep.lock().unwrap();
        match kept.take() {
            Some(earlier) => earlier,
            None => {
                let made = Document::parse(issuer.issue(binding).unwrap().document()).unwrap();
                *kept = Some(Document::parse(&made.to_json()).unwrap());
                made
            }
        }
    }));
    service
        .connect_with(recorder.clone(), machine.verifier())
        .await
        .unwrap();
    let outcome = service.connect_with(recorder, machine.verifier()).await;
    assert_refused(
        &service,
        outcome,
        RefusalCode::WrongBinding,
        "bound to this session",
    )
    .await;
}

#[tokio::test]
async fn evidence_for_the_verification_service_gets_nothing() {
    let image = Image::default();
    let service = Service::shared().await;
    let machine = Machine::boot(&image);
    let issuer = machine.issuer.clone();
    let borrowed = Forger(move |_: &Binding| {
        let statement = issuer.issue(&Binding::for_verification(&[7; 32])).unwrap();
        Document::parse(statement.document()).unwrap()
    });
    let outcome = service
        .connect_with(Arc::new(borrowed), machine.verifier())
        .await;
    assert_refused(
        &service,
        outcome,
        RefusalCode::WrongBinding,
        "bound to this session",
    )
    .await;
}

#[tokio::test]
async fn a_machine_that_was_initialised_before_gets_nothing() {
    let image = Image::default();
    let service = Service::shared().await;
    let machine = Machine::boot(&image);
    machine.mark();
    let outcome = service.connect(&machine).await;
    assert_refused(
        &service,
        outcome,
        RefusalCode::ClusterMark,
        "cluster mark (PCR 15)",
    )
    .await;
}

#[tokio::test]
async fn a_changed_machine_is_refused_and_the_log_names_the_component() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let mut seen = 0;
    for (changed, component) in [
        (
            Image {
                initrd: b"test initrD".to_vec(),
                ..Image::default()
            },
            "initrd",
        ),
        (
            Image {
                options: "console=ttyS0 rd.shell=1".into(),
                ..Image::default()
            },
            "command line",
        ),
        (
            Image {
                root_hash: attest::Digest::of(b"another root file system"),
                ..Image::default()
            },
            "root file system",
        ),
        (
            Image {
                linux: b"test kerneL".to_vec(),
                ..Image::default()
            },
            "kernel",
        ),
    ] {
        let machine = Machine::boot(&changed);
        // It does not mind what the service runs: an attacker's program checks nothing.
        // Like a real machine it shows its command line beside the log, so that what differs in it can be named.
        let (issuer, line) = (machine.issuer.clone(), changed.command_line());
        let issuer = Forger(move |binding: &Binding| Document {
            command_line: Some(line.clone()),
            ..Document::parse(issuer.issue(binding).unwrap().document()).unwrap()
        });
        let client = Client::joining_node(Arc::new(issuer), service.machine.verifier());
        let outcome = channel::tonic::connect(&client, service.address).await;
        assert!(
            matches!(
                outcome,
                Err(Error::RefusedByPeer(Some(RefusalCode::Measurements)))
            ),
            "{component}"
        );
        seen += 1;
        let log = service
            .eventually("the refusal is in the log", || async {
                Some(service.log()).filter(|log| log.matches("refused a machine").count() == seen)
            })
            .await;
        let entry = log
            .lines()
            .filter(|line| line.contains("refused a machine"))
            .next_back()
            .unwrap();
        assert!(
            entry.contains(component),
            "{component} is not named: {entry}"
        );
        assert!(
            entry.contains("expected") && entry.contains("boot measurements"),
            "no tree: {entry}"
        );
    }
    assert!(service.workers().await.is_empty());

    let events = Api::<Event>::namespaced(service.cluster.agent().await.unwrap(), "kube-system");
    let name = format!(
        "join-service.machine-refused-{}",
        RefusalCode::Measurements.number()
    );
    let event = service
        .eventually("the refusals are one event", || async {
            events.get_opt(&name).await.unwrap()
        })
        .await;
    assert!(event.message.unwrap().contains("boot measurements"));
    let metrics = harness::get(service.operations, "/metrics").await.unwrap();
    let line = format!(
        r#"constellation_join_handshakes_total{{outcome="refused: {}"}} 4"#,
        RefusalCode::Measurements
    );
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test]
async fn a_changed_policy_holds_for_the_next_machine() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let next = Image {
        initrd: b"the next release".to_vec(),
        ..Image::default()
    };
    service.set_policy(&next.policy()).await;
    let old = Machine::boot(&image);
    assert!(matches!(
        service.connect(&old).await,
        Err(Error::RefusedByPeer(Some(RefusalCode::Measurements)))
    ));
    service.set_policy(&image.policy()).await;
    assert!(service.join(&old, request(10)).await.is_ok());
}

#[tokio::test]
async fn plain_grpc_and_plain_tls_get_nothing() {
    let service = Service::shared().await;
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", service.address))
        .unwrap()
        .connect()
        .await;
    if let Ok(channel) = plain {
        let outcome = ApiClient::new(channel).issue_join_ticket(request(10)).await;
        assert!(outcome.is_err(), "a ticket over plain TCP");
    }
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The service may close with or without a TLS alert.
    let _closed = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));

    // TLS 1.3 by a client that trusts any certificate and has none: with gRPC's protocol, and with the channel's own.
    for (protocol, alert) in [
        ("h2", "no application protocol"),
        ("constellation-attest/1", "certificate required"),
    ] {
        let mut client = tokio::process::Command::new("openssl")
            .args(["s_client", "-quiet", "-tls1_3", "-alpn", protocol])
            .arg("-connect")
            .arg(service.address.to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The connection may be closed before all of it is written.
        let mut input = client.stdin.take().unwrap();
        let _closed = input.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let output = client.wait_with_output();
        let output = tokio::time::timeout(std::time::Duration::from_secs(60), output)
            .await
            .unwrap()
            .unwrap();
        drop(input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(alert), "{protocol}: {told}");
        assert_eq!(output.stdout, b"", "{protocol}");
    }
    assert_nothing_given(&service).await;
}
