//! The init client (`apply`) against a node that speaks the protocol: it proves itself, breaks off, fails, lies.

use std::io::BufRead;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keys::{ClusterId, MeasurementSalt, MeasurementSecret};
use proto::init::api_server::{Api, ApiServer};
use proto::init::init_response::Kind;
use proto::init::{InitFailure, InitRequest, InitResponse, InitSuccess, Log, Progress};
use testkit::boot::Image;
use testkit::tee::SoftTpm;
use tonic::{Request, Response, Status};

use crate::harness::{Lab, Ran, await_end};

/// What the node does with an init.
#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    /// Breaks off the first answer, then goes on.
    BreaksOffOnce,
    Fails,
    RefusesTheSecret,
    /// Ends the call with a status of its own.
    HasADefect,
    /// Answers for another cluster.
    Lies,
}

#[derive(Clone)]
struct Node {
    conduct: Conduct,
    requests: Arc<Mutex<Vec<InitRequest>>>,
}

type Answer = Result<InitResponse, Status>;

fn say(kind: Kind) -> Answer {
    Ok(InitResponse { kind: Some(kind) })
}

#[tonic::async_trait]
impl Api for Node {
    type InitStream = tokio_stream::Iter<std::vec::IntoIter<Answer>>;

    async fn init(
        &self,
        request: Request<InitRequest>,
    ) -> Result<Response<Self::InitStream>, Status> {
        let request = request.into_inner();
        let count = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len()
        };
        let progress = |phase: &str| {
            say(Kind::Progress(Progress {
                phase: phase.to_owned(),
                detail: String::new(),
                elapsed_ms: 1,
            }))
        };
        let (secret, salt) = keys::uri::parse_kms(&request.kms_uri).unwrap();
        let measurement_salt = MeasurementSalt::from_slice(&request.measurement_salt).unwrap();
        let id = ClusterId::derive(
            &MeasurementSecret::derive(&secret, &salt),
            &measurement_salt,
        );
        let success = |cluster_id: Vec<u8>| {
            let kubeconfig = serde_json::json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "mini",
                "clusters": [{ "name": "mini", "cluster": { "server": "https://10.42.1.10:6443" } }],
                "contexts": [{ "name": "mini", "context": { "cluster": "mini", "user": "admin" } }],
                "users": [{ "name": "admin", "user": { "token": "t" } }],
            });
            say(Kind::InitSuccess(InitSuccess {
                kubeconfig: kubeconfig.to_string().into_bytes(),
                owner_id: vec![],
                cluster_id,
            }))
        };
        let answer = match self.conduct {
            Conduct::RefusesTheSecret => {
                return Err(Status::permission_denied("the init secret is wrong"));
            }
            Conduct::HasADefect => return Err(Status::internal("the disk can not be opened")),
            Conduct::BreaksOffOnce if count == 1 => {
                vec![progress("disk"), Err(Status::unavailable("gone"))]
            }
            Conduct::BreaksOffOnce => vec![
                progress("disk"),
                progress("etcd"),
                success(id.as_bytes().to_vec()),
            ],
            Conduct::Lies => vec![success(vec![9; 32])],
            Conduct::Fails => vec![
                progress("disk"),
                say(Kind::InitFailure(InitFailure {
                    error: "etcd did not start\u{1b}[2J".to_owned(),
                })),
                say(Kind::Log(Log {
                    log: b"line one\n".to_vec(),
                })),
                say(Kind::Log(Log {
                    log: b"line two\n".to_vec(),
                })),
            ],
        };
        Ok(Response::new(tokio_stream::iter(answer)))
    }
}

/// A lab with a state file that leads to a node; each test has an address of its own, the port is the protocol's.
struct Scene {
    lab: Lab,
    node: Node,
}

impl Scene {
    async fn new(number: u8, conduct: Conduct, runs: Option<Image>) -> Self {
        let lab = Lab::configured();
        let address = Ipv4Addr::new(127, 43, 0, number);
        std::fs::write(
            lab.file("constellation-state.yaml"),
            format!("version: v1\ninfrastructure:\n  clusterEndpoint: {address}\n  initSecret: \"{}\"\n", "5a".repeat(32)),
        )
        .unwrap();
        let issuer = SoftTpm::boot(&runs.unwrap_or_else(|| lab.image.clone()));
        let server = channel::Server::node(Arc::new(issuer)).unwrap();
        let listener = tokio::net::TcpListener::bind((address, 9000))
            .await
            .unwrap();
        let node = Node {
            conduct,
            requests: Arc::default(),
        };
        let incoming = channel::tonic::incoming(listener, server);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(ApiServer::new(node.clone()))
                .serve_with_incoming(incoming),
        );
        Self { lab, node }
    }

    fn spawn(&self) -> Child {
        // the mirror is a URL: nodes of `apply` can not reach a directory of the admin's; hashes come from the directory
        let mut command = self
            .lab
            .command(&["apply", "--skip-phases=infrastructure", "--yes"]);
        std::fs::create_dir_all(self.lab.file("constellation-mini")).unwrap();
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    async fn apply(&self) -> Ran {
        let mut child = self.spawn();
        let end = move || {
            await_end(&mut child);
            child.wait_with_output().unwrap()
        };
        tokio::task::spawn_blocking(end).await.unwrap().into()
    }

    fn requests(&self) -> Vec<InitRequest> {
        self.node.requests.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_resumed_with_the_same_request() {
    let scene = Scene::new(1, Conduct::BreaksOffOnce, None).await;
    let mut child = scene.spawn();
    // after the init the command waits for an API server, which this node has not got
    let state = scene.lab.file("constellation-state.yaml");
    for _ in 0..1200 {
        if std::fs::read_to_string(&state)
            .unwrap()
            .contains("clusterID")
        {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "ended early");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ran: Ran = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(
        ran.stderr.contains("broke (gone); the init goes on"),
        "{ran:?}"
    );

    let requests = scene.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
    let request = &requests[0];
    assert_eq!(request.request_id.len(), 16);
    assert_eq!(request.init_secret, [0x5a; 32]);
    assert_eq!(request.kubernetes_components.len(), 5);
    assert_eq!(request.component_mirror, "http://10.0.2.2:8080/components");
    assert!(attest::Policy::from_json(&request.attestation_policy).is_ok());

    let kubeconfig = std::fs::read_to_string(scene.lab.file("constellation-admin.conf")).unwrap();
    assert!(
        kubeconfig.contains("https://127.43.0.1:6443"),
        "{kubeconfig}"
    );
    use std::os::unix::fs::PermissionsExt;
    for file in [
        "constellation-admin.conf",
        "constellation-mastersecret.json",
        "constellation-state.yaml",
    ] {
        let mode = std::fs::metadata(scene.lab.file(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(!scene.lab.file("constellation-init.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_runs_something_else_is_sent_nothing() {
    let image = Image {
        options: "init=/bin/sh".into(),
        ..Image::default()
    };
    let scene = Scene::new(2, Conduct::BreaksOffOnce, Some(image)).await;
    let ran = scene.apply().await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("command line"), "{ran:?}");
    assert!(
        ran.stderr.contains("hint: nothing was sent to it"),
        "{ran:?}"
    );
    assert!(scene.requests().is_empty());
    assert!(!scene.lab.file("constellation-admin.conf").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_init_leaves_the_nodes_log() {
    let scene = Scene::new(3, Conduct::Fails, None).await;
    let ran = scene.apply().await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(
        ran.stderr
            .contains("error: the init failed: etcd did not start [2J"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains('\u{1b}'));
    let log = std::fs::read_to_string(scene.lab.file("constellation-cluster.log")).unwrap();
    assert_eq!(log, "line one\nline two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_a_wrong_cluster_are_told() {
    let scene = Scene::new(4, Conduct::RefusesTheSecret, None).await;
    let ran = scene.apply().await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(
        ran.stderr
            .contains("the init secret in constellation-state.yaml is not the one"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains("5a5a"), "{ran:?}");

    let scene = Scene::new(5, Conduct::Lies, None).await;
    let ran = scene.apply().await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("answered for another cluster"),
        "{ran:?}"
    );
    assert!(!scene.lab.file("constellation-admin.conf").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_itself_says_is_final() {
    let scene = Scene::new(6, Conduct::HasADefect, None).await;
    let ran = scene.apply().await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(
        ran.stderr
            .contains("refused the init: the disk can not be opened"),
        "{ran:?}"
    );
    assert_eq!(scene.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_nobody_listens_on_is_told_while_it_is_tried() {
    let scene = Scene::new(7, Conduct::Lies, None).await;
    let state = scene.lab.file("constellation-state.yaml");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace("127.43.0.7", "127.43.0.8")).unwrap();
    let mut child = scene.spawn();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let told = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        while !said.contains("note: 127.43.0.8:9000 is not reached: ") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
        }
        said
    });
    let said = told.await.unwrap();
    assert!(said.matches("Connection refused").count() == 2, "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}
