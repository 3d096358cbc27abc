//! Who may initialise a machine, and what that does to PCR 15.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{ClusterMark, RefusalCode};
use channel::{Client, Verifier};
use cluster::boot_lock::BootLock;
use cluster::init::SecretHash;
use cluster::plan::{Marked, Step};
use keys::{ClusterId, MasterSecret, MeasurementSalt, MeasurementSecret, Salt};
use node::bootstrapper::backup_server::Membered;
use node::bootstrapper::drive::{Steps, drive};
use node::bootstrapper::init_port;
use node::bootstrapper::init_server::{Begin, Begun, InitServer};
use node::bootstrapper::machine::MeasuredMachine;
use node::bootstrapper::restore::Restores;
use node::bootstrapper::steps::StepError;
use node::progress::Event;
use proto::components::Component;
use proto::init::init_response::Kind;
use proto::init::{InitRequest, api_client::ApiClient};
use testkit::boot::Image;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::machine::{Machine, cluster_id};

pub(super) const SECRET: &[u8] = b"the init secret of this test";
const SALT: [u8; 32] = [7; 32];

/// Steps that record, and that look whether the mark is there.
pub(super) struct Recorder {
    pub(super) machine: MeasuredMachine,
    pub(super) fails: Option<Step>,
    pub(super) steps: Arc<Mutex<Vec<(Step, [u8; 32])>>>,
}

#[async_trait::async_trait]
impl Steps for Recorder {
    async fn perform(&self, step: Step, _marked: &Marked) -> Result<(), StepError> {
        let pcr15 = self.machine.pcr15().await.map_err(StepError::Machine)?;
        self.steps.lock().unwrap().push((step, pcr15));
        if self.fails == Some(step) {
            Err(StepError::Order("a test's failure"))
        } else {
            Ok(())
        }
    }
}

/// An init server on a machine.
pub(super) struct Served {
    pub(super) machine: Machine,
    pub(super) address: SocketAddr,
    pub(super) lock: Arc<BootLock>,
    pub(super) steps: Arc<Mutex<Vec<(Step, [u8; 32])>>>,
    pub(super) uploads: tempfile::TempDir,
}

impl Served {
    pub(super) async fn on(machine: Machine, fails: Option<Step>) -> Self {
        Self::at(Ipv4Addr::new(10, 42, 1, 10), machine, fails).await
    }

    async fn at(node_ip: Ipv4Addr, machine: Machine, fails: Option<Step>) -> Self {
        let lock = Arc::new(BootLock::new());
        let steps = Arc::new(Mutex::new(Vec::new()));
        let hash = SecretHash::parse(&bcrypt::hash(SECRET, 4).unwrap()).unwrap();
        let begin = begin(&machine, fails, &steps);
        let uploads = tempfile::tempdir().unwrap();
        let restores = Restores::new(uploads.path());
        let server = InitServer::new(
            Arc::clone(&lock),
            hash,
            node_ip,
            begin,
            machine.console(),
            restores,
        );
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        init_port::serve(
            listener,
            machine.measured.issuer(),
            Arc::new(server),
            Membered::default(),
            CancellationToken::new(),
        )
        .unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            machine,
            address,
            lock,
            steps,
            uploads,
        }
    }

    /// Calls Init as an administrator who accepts this mark, and reads the answer to its end.
    pub(super) async fn init(
        &self,
        mark: ClusterMark,
        request: InitRequest,
    ) -> Result<Vec<Kind>, Status> {
        let client = Client::admin(Verifier::new(Arc::new(self.machine.image.policy()), mark));
        let (channel, _node) = channel::tonic::connect(&client, self.address)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut stream = ApiClient::new(channel).init(request).await?.into_inner();
        let mut kinds = Vec::new();
        while let Some(response) = stream.message().await? {
            kinds.push(response.kind.unwrap());
        }
        Ok(kinds)
    }
}

fn begin(
    machine: &Machine,
    fails: Option<Step>,
    steps: &Arc<Mutex<Vec<(Step, [u8; 32])>>>,
) -> Begin {
    let (machine, steps) = (machine.measured.clone(), Arc::clone(steps));
    Arc::new(move |begun: Begun| {
        let recorder = Arc::new(Recorder {
            machine: machine.clone(),
            fails,
            steps: Arc::clone(&steps),
        });
        let machine = machine.clone();
        tokio::spawn(async move {
            let Begun {
                order,
                awaiting,
                log,
            } = begun;
            let event = match drive(&machine, &order.cluster_id, awaiting, recorder, &log).await {
                Ok(_complete) => Event::Success {
                    kubeconfig: b"kubeconfig".to_vec(),
                    cluster_id: order.cluster_id.as_bytes().to_vec(),
                },
                Err((_failed, error)) => Event::Failure {
                    error: runtime::chain(&error).to_string(),
                    journal: b"journal".to_vec(),
                },
            };
            log.add(event);
        });
    })
}

pub(super) fn request(id: u8, secret: &[u8]) -> InitRequest {
    let (master, salt) = keys();
    let component = |name: &str| Component {
        name: name.to_owned(),
        url: format!("https://dl.k8s.io/v1.20.2/bin/linux/amd64/{name}"),
        hash: format!("sha256:{}", "00".repeat(32)),
        install_path: format!("/run/state/bin/{name}"),
        mode: 0o755,
        ..Component::default()
    };
    InitRequest {
        kms_uri: keys::uri::expose_cluster_kms(&master, &salt).to_string(),
        storage_uri: keys::uri::NO_STORE.to_owned(),
        measurement_salt: SALT.to_vec(),
        kubernetes_version: "v1.20.2".to_owned(),
        kubernetes_components: cluster::catalogue::programs(cluster::Role::ControlPlane)
            .map(component)
            .collect(),
        init_secret: secret.to_vec(),
        cluster_name: "mini".to_owned(),
        apiserver_cert_sans: vec!["127.42.1.10".to_owned()],
        service_cidr: "10.96.0.0/12".to_owned(),
        pod_cidr: "10.244.0.0/16".to_owned(),
        attestation_policy: Image::default().policy().to_json().into_bytes(),
        component_mirror: String::new(),
        request_id: vec![id; 16],
        restore_sha256: Vec::new(),
    }
}

pub(super) fn keys() -> (MasterSecret, Salt) {
    (
        MasterSecret::from_vec(vec![1; 32]).unwrap(),
        Salt::from_vec(vec![2; 32]).unwrap(),
    )
}

pub(super) fn expected_cluster_id() -> ClusterId {
    let (master, salt) = keys();
    ClusterId::derive(
        &MeasurementSecret::derive(&master, &salt),
        &MeasurementSalt::from_slice(&SALT).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_changes_nothing() {
    let served = Served::on(Machine::boot(Image::default()), None).await;
    for secret in [&b""[..], b"wrong"] {
        let status = served
            .init(ClusterMark::NotJoined, request(1, secret))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    assert!(!served.lock.is_taken());
    assert_eq!(served.machine.pcr15().await, [0; 32]);
    assert!(
        served
            .machine
            .heard
            .text()
            .contains("an init was refused: the init secret is not the one")
    );
    // the lock is free for the one who has the secret
    served
        .init(ClusterMark::NotJoined, request(1, SECRET))
        .await
        .unwrap();
    assert!(served.lock.is_taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_can_not_be_followed_changes_nothing() {
    type Spoil = fn(&mut InitRequest);
    let table: &[(&str, Spoil)] = &[
        (
            "key management: this key management URI is not supported",
            |request| request.kms_uri = "kms://x".to_owned(),
        ),
        ("measurement salt: ", |request| {
            request.measurement_salt.truncate(31)
        }),
        ("Kubernetes version: ", |request| {
            request.kubernetes_version = "v1.19.0".to_owned()
        }),
        (
            "Kubernetes components: component kubelet is missing",
            |request| {
                request
                    .kubernetes_components
                    .retain(|component| component.name != "kubelet");
            },
        ),
        (
            "kubernetes_components are unusable: \"sha256:00\" is not a SHA-256",
            |request| {
                request.kubernetes_components[0].hash = "sha256:00".to_owned();
            },
        ),
        (
            "kubernetes_components are unusable: component kube-apiserver: install path",
            |request| {
                request.kubernetes_components[0].install_path =
                    "/usr/bin/kube-apiserver".to_owned();
            },
        ),
        (
            "name for the API server \"a b\" is neither an address nor a DNS name",
            |request| request.apiserver_cert_sans.push("a b".to_owned()),
        ),
        ("more than 64 names for the API server", |request| {
            request.apiserver_cert_sans = vec!["a".to_owned(); 65];
        }),
        ("networks: ", |request| {
            request.pod_cidr = "10.96.0.0/16".to_owned()
        }),
        ("service network \"x\" is not an IPv4 network", |request| {
            request.service_cidr = "x".to_owned()
        }),
        (
            "component mirror \"file:///etc\" is not an http",
            |request| request.component_mirror = "file:///etc".to_owned(),
        ),
        ("attestation policy: ", |request| {
            request.attestation_policy = b"{}".to_vec()
        }),
        ("cluster name: ", |request| {
            request.cluster_name = "../x".to_owned()
        }),
        ("the request id must have 16 bytes", |request| {
            request.request_id.truncate(15)
        }),
    ];
    let served = Served::on(Machine::boot(Image::default()), None).await;
    for (expected, spoil) in table {
        let mut request = request(1, SECRET);
        spoil(&mut request);
        let status = served
            .init(ClusterMark::NotJoined, request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(
            status.message().starts_with(expected),
            "{:?} should begin with {expected:?}",
            status.message()
        );
    }
    assert!(!served.lock.is_taken());
    assert_eq!(served.machine.pcr15().await, [0; 32]);
}

/// The address comes from the host, and the first node records it: one that is the cluster's own can not be meant.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_an_address_inside_the_cluster_does_not_begin() {
    let machine = Machine::boot(Image::default());
    let served = Served::at(Ipv4Addr::new(10, 244, 1, 10), machine, None).await;
    let status = served
        .init(ClusterMark::NotJoined, request(1, SECRET))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(
        status.message().starts_with("address of this machine: "),
        "{status}"
    );
    assert!(!served.lock.is_taken());
    assert_eq!(served.machine.pcr15().await, [0; 32]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_secret_marks_the_machine_before_any_step() {
    let served = Served::on(Machine::boot(Image::default()), None).await;
    let kinds = served
        .init(ClusterMark::NotJoined, request(1, SECRET))
        .await
        .unwrap();
    let id = expected_cluster_id();
    match kinds.last() {
        Some(Kind::InitSuccess(success)) => {
            assert_eq!(success.kubeconfig, b"kubeconfig");
            assert_eq!(success.cluster_id, id.as_bytes());
        }
        other => panic!("{other:?}"),
    }
    assert!(
        kinds
            .iter()
            .any(|kind| matches!(kind, Kind::Progress(progress) if progress.phase == "mark"))
    );
    assert_eq!(served.machine.pcr15().await, id.pcr15());
    let steps = served.steps.lock().unwrap();
    assert!(!steps.is_empty());
    for (step, pcr15) in steps.iter() {
        assert_eq!(*pcr15, id.pcr15(), "{step:?} ran without the mark");
    }
    assert_eq!(steps.last().map(|(step, _)| *step), Some(Step::DiskKey));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_init_is_refused_and_the_first_is_shown_again() {
    let served = Served::on(Machine::boot(Image::default()), None).await;
    let first = served
        .init(ClusterMark::NotJoined, request(1, SECRET))
        .await
        .unwrap();
    let steps = served.steps.lock().unwrap().len();

    for (id, secret) in [(2, SECRET), (1, &b"wrong"[..])] {
        let status = served
            .init(ClusterMark::AnyCluster, request(id, secret))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    let again = served
        .init(ClusterMark::AnyCluster, request(1, SECRET))
        .await
        .unwrap();
    assert_eq!(again, first);
    assert_eq!(
        served.steps.lock().unwrap().len(),
        steps,
        "nothing is done twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_inits_at_once_one_wins() {
    let served = Served::on(Machine::boot(Image::default()), None).await;
    let (one, other) = tokio::join!(
        served.init(ClusterMark::NotJoined, request(1, SECRET)),
        served.init(ClusterMark::NotJoined, request(2, SECRET)),
    );
    let refused = match (one, other) {
        (Ok(_), Err(status)) | (Err(status), Ok(_)) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(served.machine.pcr15().await, expected_cluster_id().pcr15());
}

/// The administrator's side: a machine that a cluster has is not what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_refuses_a_machine_that_a_cluster_has() {
    let machine = Machine::boot(Image::default());
    machine.measured.extend_mark(&cluster_id(9)).await.unwrap();
    let served = Served::on(machine, None).await;
    let client = Client::admin(Verifier::new(
        Arc::new(served.machine.image.policy()),
        ClusterMark::NotJoined,
    ));
    let error = channel::tonic::connect(&client, served.address)
        .await
        .unwrap_err();
    assert_eq!(error.refusal().unwrap().code(), RefusalCode::ClusterMark);
}

/// The node's side: even for a caller who does not look, a mark that is there is not overwritten, and no step runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_a_cluster_has_takes_no_step_for_another() {
    let machine = Machine::boot(Image::default());
    machine.measured.extend_mark(&cluster_id(9)).await.unwrap();
    let served = Served::on(machine, None).await;
    let kinds = served
        .init(ClusterMark::AnyCluster, request(1, SECRET))
        .await
        .unwrap();
    let failure = kinds.iter().find_map(|kind| match kind {
        Kind::InitFailure(failure) => Some(failure.error.clone()),
        _ => None,
    });
    assert!(
        failure
            .unwrap()
            .contains("PCR 15 does not hold this cluster's mark")
    );
    assert!(served.steps.lock().unwrap().is_empty());
    assert_eq!(served.machine.pcr15().await, cluster_id(9).pcr15());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_is_told_with_the_journal_and_stops_the_rest() {
    let served = Served::on(Machine::boot(Image::default()), Some(Step::Etcd)).await;
    let kinds = served
        .init(ClusterMark::NotJoined, request(1, SECRET))
        .await
        .unwrap();
    let at = kinds
        .iter()
        .position(|kind| matches!(kind, Kind::InitFailure(_)))
        .unwrap();
    match &kinds[at] {
        Kind::InitFailure(failure) => assert!(
            failure.error.starts_with("start etcd: "),
            "{}",
            failure.error
        ),
        other => panic!("{other:?}"),
    }
    assert!(matches!(&kinds[at + 1..], [Kind::Log(log)] if log.log == b"journal"));
    let steps = served.steps.lock().unwrap();
    assert!(
        !steps
            .iter()
            .any(|(step, _)| matches!(step, Step::ApiServer | Step::DiskKey))
    );
}

/// Every place of the port is held by connections that finished the exchange, which asks nobody for evidence, and then ask for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_hold_connections_do_not_keep_an_init_out() {
    let served = Served::on(Machine::boot(Image::default()), None).await;
    let mut held = Vec::new();
    for source in 11..16 {
        for _ in 0..32 {
            let policy = Arc::new(served.machine.image.policy());
            let stranger = Client::admin(Verifier::new(policy, ClusterMark::NotJoined));
            let socket = TcpSocket::new_v4().unwrap();
            let from = SocketAddr::from(([127, 0, 0, source], 0));
            socket.bind(from).unwrap();
            // the last source finds no place
            let connecting = async {
                let stream = socket.connect(served.address).await.ok()?;
                stranger.connect(stream).await.ok()
            };
            let short = Duration::from_secs(2);
            match tokio::time::timeout(short, connecting).await {
                Ok(Some(attested)) => held.push(attested),
                _ => break,
            }
        }
    }
    assert!(held.len() > 100, "only {} are held", held.len());
    let kinds = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            match served
                .init(ClusterMark::NotJoined, request(1, SECRET))
                .await
            {
                Ok(kinds) => return kinds,
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    })
    .await
    .expect("the administrator is kept out");
    assert!(
        matches!(kinds.last(), Some(Kind::InitSuccess(_))),
        "{kinds:?}"
    );
}
