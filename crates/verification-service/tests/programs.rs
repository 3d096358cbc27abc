//! Layer 2: the verification service as a process with a TPM of its own, asked as `constellation verify` asks it.
//!
//! Needs `swtpm` and `swtpm-tools`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use attest::{Binding, ClusterIdDigest, ClusterMark, Evidence, PcrIndex, RefusalCode, Variant};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use proto::verify::{GetAttestationRequest, api_client::ApiClient};
use testkit::appraise;
use testkit::{boot::Image, swtpm::Swtpm};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, transport::Endpoint};

const CLUSTER: [u8; 32] = [7; 32];

struct Service {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    _tpm: Swtpm,
}

impl Service {
    async fn start(image: &Image) -> Self {
        let tpm = Swtpm::boot(image).expect("swtpm runs (packages swtpm, swtpm-tools)");
        let mark = ClusterIdDigest::of(&CLUSTER);
        tpm.extend(PcrIndex::CLUSTER_MARK, mark.digest()).unwrap();
        let log = tpm.write_event_log(image).unwrap();
        let [grpc, http, operations] = [free(), free(), free()];
        let process = Command::new(env!("CARGO_BIN_EXE_verification-service"))
            .arg(format!("--grpc={grpc}"))
            .arg(format!("--http={http}"))
            .arg(format!("--operations={operations}"))
            .arg(format!("--swtpm={}", tpm.socket().display()))
            .arg(format!("--event-log={}", log.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self {
            process,
            grpc,
            http,
            _tpm: tpm,
        };
        let begun = Instant::now();
        while !get(operations, "/readyz").await.starts_with("HTTP/1.1 200") {
            assert!(begun.elapsed() < Duration::from_secs(30), "not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        service
    }

    async fn ask(&self, nonce: Vec<u8>) -> Result<Evidence, tonic::Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let answer = ApiClient::new(endpoint.connect().await.unwrap())
            .get_attestation(GetAttestationRequest { nonce })
            .await?;
        Ok(Evidence::try_from(answer.into_inner()).unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return String::new();
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn cluster() -> ClusterMark {
    ClusterMark::Cluster(ClusterIdDigest::of(&CLUSTER))
}

#[tokio::test]
async fn evidence_over_grpc_proves_the_machine_for_this_nonce_only() {
    let image = Image::default();
    let service = Service::start(&image).await;
    let evidence = service.ask(vec![9; 32]).await.unwrap();
    let binding = Binding::for_verification(&[9; 32]);
    let verified = appraise(&evidence, &binding, &image.policy(), &cluster()).unwrap();
    assert!(verified.has_joined());

    let other = Binding::for_verification(&[8; 32]);
    let refusal = appraise(&evidence, &other, &image.policy(), &cluster()).unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::WrongBinding);
    let mark = ClusterMark::Cluster(ClusterIdDigest::of(&[8; 32]));
    let refusal = appraise(&evidence, &binding, &image.policy(), &mark).unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::ClusterMark);
}

#[tokio::test]
async fn evidence_over_http_is_the_same_kind() {
    let image = Image::default();
    let service = Service::start(&image).await;
    let path = format!("/?nonce={}", URL_SAFE_NO_PAD.encode([9; 32]));
    let answer = get(service.http, &path).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["variant"], "qemu-vtpm");
    let document = STANDARD.decode(body["data"].as_str().unwrap()).unwrap();
    let evidence = Evidence::new(Variant::QemuVtpm, document).unwrap();
    let binding = Binding::for_verification(&[9; 32]);
    appraise(&evidence, &binding, &image.policy(), &cluster()).unwrap();
}

#[tokio::test]
async fn a_nonce_of_another_length_gets_nothing() {
    let service = Service::start(&Image::default()).await;
    for length in [0, 31, 33, 64] {
        let status = service.ask(vec![9; length]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{length} bytes");
        let path = format!("/?nonce={}", URL_SAFE_NO_PAD.encode(vec![9; length]));
        let answer = get(service.http, &path).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{length}: {answer}");
    }
    let answer = get(service.http, "/").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_flood_is_turned_away_and_the_service_goes_on() {
    /// As many connections as one source may have, and more than may wait for the TPM.
    const FLOOD: usize = 16;
    let service = Service::start(&Image::default()).await;
    let path = format!("/?nonce={}", URL_SAFE_NO_PAD.encode([9; 32]));
    let (http, path) = (service.http, &path);
    let mut answers = Vec::new();
    let call = |_| {
        let path = path.clone();
        tokio::spawn(async move { get(http, &path).await })
    };
    for call in (0..FLOOD).map(call).collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    let count = |code: &str| {
        answers
            .iter()
            .filter(|answer| answer.starts_with(code))
            .count()
    };
    let (served, turned_away) = (count("HTTP/1.1 200"), count("HTTP/1.1 503"));
    assert_eq!(served + turned_away, FLOOD, "{answers:?}");
    assert!(
        served >= 1 && turned_away >= 1,
        "{served} served, {turned_away} turned away"
    );
    assert!(service.ask(vec![9; 32]).await.is_ok());
}
