//! `verify` against verification endpoints: a real TPM program behind one, machines that must be refused behind others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use attest::{Binding, Issue};
use proto::verify::api_server::{Api, ApiServer};
use proto::verify::{GetAttestationRequest, GetAttestationResponse};
use testkit::boot::Image;
use testkit::swtpm::Swtpm;
use testkit::tee::SoftTpm;
use tonic::{Request, Response, Status};

use crate::harness::{Lab, Ran};

const CLUSTER: [u8; 32] = [7; 32];

struct Endpoint {
    issuer: Arc<dyn Issue>,
    /// Answers every nonce with the evidence for this one.
    replay: Option<[u8; 32]>,
    /// How many calls are turned away before one is answered.
    busy: AtomicUsize,
}

impl Endpoint {
    fn of(issuer: Arc<dyn Issue>) -> Self {
        Self {
            issuer,
            replay: None,
            busy: AtomicUsize::new(0),
        }
    }
}

#[tonic::async_trait]
impl Api for Endpoint {
    async fn get_attestation(
        &self,
        request: Request<GetAttestationRequest>,
    ) -> Result<Response<GetAttestationResponse>, Status> {
        let busy = |calls: usize| calls.checked_sub(1);
        if self.busy.fetch_update(SeqCst, SeqCst, busy).is_ok() {
            return Err(Status::resource_exhausted("too many requests"));
        }
        let asked: [u8; 32] = request.into_inner().nonce.try_into().unwrap();
        let binding = Binding::for_verification(&self.replay.unwrap_or(asked));
        let issuer = Arc::clone(&self.issuer);
        let evidence = tokio::task::spawn_blocking(move || issuer.issue(&binding))
            .await
            .unwrap()
            .unwrap();
        Ok(Response::new((&evidence).into()))
    }
}

async fn serve(endpoint: Endpoint) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ApiServer::new(endpoint))
            .serve_with_incoming(incoming),
    );
    address
}

fn member(image: &Image) -> Arc<dyn Issue> {
    let tpm = SoftTpm::boot(image);
    tpm.join(&CLUSTER);
    Arc::new(tpm)
}

async fn verify(lab: &Lab, address: SocketAddr, more: &[&str]) -> Ran {
    let address = address.to_string();
    let cluster_id = hex::encode(CLUSTER);
    let mut arguments = vec!["verify", "-e", &address, "--cluster-id", &cluster_id];
    arguments.extend(more);
    let mut command = lab.command(&arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_real_tpm_is_accepted_and_its_image_named() {
    let lab = Lab::configured();
    let tpm = Swtpm::boot(&lab.image).unwrap();
    let log = tpm.write_event_log(&lab.image).unwrap();
    tee::Tpm::connect_swtpm(&tpm.socket())
        .unwrap()
        .extend_event(attest::PcrIndex::CLUSTER_MARK, &CLUSTER)
        .unwrap();
    let issuer = tee::TpmIssuer::new(tee::TpmAddress::Unix(tpm.socket()), log);
    let address = serve(Endpoint::of(Arc::new(issuer))).await;

    let ran = verify(&lab, address, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout
            .starts_with(&format!("{address} ({address}): verified\n")),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("v0.1.0"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("qemu-vtpm is not confidential"),
        "{}",
        ran.stderr
    );

    let ran = verify(&lab, address, &["-o", "json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["accepted"], true);
    assert_eq!(json["clusterID"], hex::encode(CLUSTER));
    assert_eq!(json["nodes"][0]["verdict"], "verified");
    assert_eq!(json["nodes"][0]["confidential"], false);

    let ran = verify(&lab, address, &["-o", "table"]).await;
    assert!(
        ran.stdout.contains("verified") && ran.stdout.contains("CONFIDENTIAL"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_machine_is_refused_with_the_component_that_differs() {
    let lab = Lab::configured();
    let good = lab.image.clone();
    for (image, component) in [
        (
            Image {
                initrd: b"test initre".to_vec(),
                ..good.clone()
            },
            "initrd",
        ),
        (
            Image {
                options: "console=ttyS0 rd.shell=1".into(),
                ..good.clone()
            },
            "command line",
        ),
        (
            Image {
                root_hash: attest::Digest::of(b"another root"),
                ..good.clone()
            },
            "root file system",
        ),
    ] {
        let address = serve(Endpoint::of(member(&image))).await;
        let ran = verify(&lab, address, &[]).await;
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(
            ran.stdout.contains("REFUSED") && ran.stdout.contains(component),
            "{component}: {}",
            ran.stdout
        );
        assert!(
            ran.stderr
                .contains(&format!("error: not verified: {address}")),
            "{}",
            ran.stderr
        );
        let json = verify(&lab, address, &["-o", "json"]).await;
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(
            (&json["accepted"], &json["nodes"][0]["verdict"]),
            (&false.into(), &"refused".into())
        );
        assert_eq!(json["nodes"][0]["refusal"]["code"], "measurements");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_evidence_another_cluster_and_silence_are_refused() {
    let lab = Lab::configured();
    let replayed = serve(Endpoint {
        replay: Some([1; 32]),
        ..Endpoint::of(member(&lab.image))
    })
    .await;
    let ran = verify(&lab, replayed, &["-o", "json"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["nodes"][0]["refusal"]["code"], "wrong-binding");

    let unjoined = serve(Endpoint::of(Arc::new(SoftTpm::boot(&lab.image)))).await;
    let ran = verify(&lab, unjoined, &["-o", "json"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["nodes"][0]["refusal"]["code"], "cluster-mark");

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ran = verify(&lab, closed, &[]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("error: no evidence could be had from"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_is_asked_again_but_not_for_ever() {
    let lab = Lab::configured();
    for (busy, code) in [(2, 0), (3, 3)] {
        let address = serve(Endpoint {
            busy: AtomicUsize::new(busy),
            ..Endpoint::of(member(&lab.image))
        })
        .await;
        let ran = verify(&lab, address, &[]).await;
        assert_eq!(ran.code, Some(code), "{busy}: {ran:?}");
        assert_eq!(
            ran.stdout.contains("too many requests"),
            code == 3,
            "{ran:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_evidence_can_be_appraised_by_others() {
    let lab = Lab::configured();
    let address = serve(Endpoint::of(member(&lab.image))).await;
    let ran = verify(&lab, address, &["-o", "raw"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let field = |name: &str| json[0]["answer"][name].as_str().unwrap();
    assert_eq!(field("attestationVariant"), "qemu-vtpm");
    let nonce: [u8; 32] = hex::decode(field("nonce")).unwrap().try_into().unwrap();
    let document = hex::decode(field("attestation")).unwrap();
    let evidence = attest::Evidence::new(attest::Variant::QemuVtpm, document).unwrap();
    let policy = attest::Policy::from_image_measurements(
        &lab.image.measurements(),
        "qemu",
        attest::Variant::QemuVtpm,
    )
    .unwrap();
    let mark = attest::ClusterMark::Cluster(attest::ClusterIdDigest::of(&CLUSTER));
    testkit::appraise(
        &evidence,
        &Binding::for_verification(&nonce),
        &policy,
        &mark,
    )
    .unwrap();
}
