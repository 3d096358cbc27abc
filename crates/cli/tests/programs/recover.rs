//! `recover` against machines that wait: they prove themselves, take their key, refuse it, are busy, lie; alone and behind a load
//! balancer. The machines' own server is tested in `node`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cluster::DiskUuid;
use keys::{DiskKey, MasterSecretFile};
use proto::recover::api_server::{Api, ApiServer};
use proto::recover::{DescribeRequest, DescribeResponse, RecoverRequest, RecoverResponse};
use serde_json::Value;
use testkit::boot::Image;
use testkit::tee::SoftTpm;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::harness::{Lab, Ran};

/// A machine that waits for the key of one disk.
#[derive(Clone)]
struct Waits {
    disk: DiskUuid,
    /// The key that opens it; without one no key does.
    key: Option<Arc<Vec<u8>>>,
    /// So many keys are turned away before one is tried.
    busy: Arc<AtomicUsize>,
    /// So many connections end before it is said which disk waits.
    crowded: Arc<AtomicUsize>,
    /// Whether the answer to the right key is lost.
    loses_its_answer: bool,
    requests: Arc<Mutex<Vec<RecoverRequest>>>,
    over: CancellationToken,
}

#[tonic::async_trait]
impl Api for Waits {
    async fn describe(
        &self,
        _request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        if self.crowded.load(Ordering::Relaxed) > 0 {
            self.crowded.fetch_sub(1, Ordering::Relaxed);
            return Err(Status::unavailable("the connection ended"));
        }
        Ok(Response::new(DescribeResponse {
            disk_uuid: self.disk.to_string(),
            node_name: String::new(),
        }))
    }

    async fn recover(
        &self,
        request: Request<RecoverRequest>,
    ) -> Result<Response<RecoverResponse>, Status> {
        let request = request.into_inner();
        if self.busy.load(Ordering::Relaxed) > 0 {
            self.busy.fetch_sub(1, Ordering::Relaxed);
            return Err(Status::resource_exhausted("others are before you"));
        }
        let opens = self
            .key
            .as_ref()
            .is_some_and(|key| **key == request.state_disk_key);
        self.requests.lock().unwrap().push(request);
        if !opens {
            return Err(Status::permission_denied(
                "the key does not open the disk\u{1b}[2J",
            ));
        }
        if self.loses_its_answer {
            self.over.cancel();
            return Err(Status::unavailable("connection reset"));
        }
        let over = self.over.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            over.cancel();
        });
        Ok(Response::new(RecoverResponse {}))
    }
}

struct Scene {
    lab: Lab,
    master: MasterSecretFile,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::configured();
        let (master, id) = lab.with_master_secret();
        std::fs::write(
            lab.file("constellation-state.yaml"),
            format!(
                "version: v1\ninfrastructure:\n  clusterEndpoint: 127.44.9.9\n  initSecret: \"{}\"\n\
                 clusterValues:\n  clusterID: {id}\n  measurementSalt: \"{}\"\n",
                "5a".repeat(32),
                "03".repeat(32),
            ),
        )
        .unwrap();
        Self { lab, master }
    }

    fn disk(number: u8) -> DiskUuid {
        format!("0b5c9e7e-6d2f-4f0e-9c3a-0000000000{number:02x}")
            .parse()
            .unwrap()
    }

    fn waits(&self, number: u8) -> Waits {
        let MasterSecretFile {
            master_secret,
            salt,
        } = &self.master;
        let disk = Self::disk(number);
        let key = DiskKey::derive(master_secret, salt, disk.uuid());
        Waits {
            disk,
            key: Some(Arc::new(key.expose_bytes().to_vec())),
            busy: Arc::default(),
            crowded: Arc::default(),
            loses_its_answer: false,
            requests: Arc::default(),
            over: CancellationToken::new(),
        }
    }

    /// Boots it at an address, until it has its key.
    async fn boot(&self, waits: &Waits, image: Option<Image>, address: SocketAddr) -> SocketAddr {
        let issuer = SoftTpm::boot(&image.unwrap_or_else(|| self.lab.image.clone()));
        let server = channel::Server::node(Arc::new(issuer)).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tonic::transport::Server::builder()
            .add_service(ApiServer::new(waits.clone()))
            .serve_with_incoming(channel::tonic::incoming(listener, server));
        let over = waits.over.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = serving => {}
                () = over.cancelled() => {}
            }
        });
        address
    }

    async fn recover(&self, arguments: &[&str]) -> (Ran, Value) {
        let arguments = [&["recover", "--wait", "3", "-o", "json"], arguments].concat();
        let mut command = self.lab.command(&arguments);
        let ran: Ran = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
            .into();
        let value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        (ran, value)
    }
}

fn at(last: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 44, 0, last), 9999).into()
}

/// Leads each connection to the next machine, whether anything listens there or not.
async fn balance(address: SocketAddr, machines: Vec<SocketAddr>) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut from, _) = listener.accept().await.unwrap();
            let machine = machines[turn % machines.len()];
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(machine).await {
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
}

fn outcomes(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    report["machines"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|machine| (text(&machine["disk"]), text(&machine["outcome"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_machine_gets_the_key_of_its_own_disk_and_the_rest_is_left_alone() {
    let scene = Scene::new();
    let (one, two) = (scene.waits(1), scene.waits(2));
    // others are before us three times
    two.busy.store(3, Ordering::Relaxed);
    scene.boot(&one, None, at(1)).await;
    scene.boot(&two, None, at(2)).await;
    let endpoints = [
        "-e",
        "127.44.0.1",
        "-e",
        "127.44.0.2:9999",
        "-e",
        "127.44.0.3",
    ];
    let (ran, report) = scene.recover(&endpoints).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = [1, 2].map(|n| (Scene::disk(n).to_string(), "recovered".to_owned()));
    assert_eq!(outcomes(&report), expected);
    for machine in [&one, &two] {
        let requests = machine.requests.lock().unwrap();
        assert_eq!(requests.len(), 1);
        let request = &requests[0];
        assert_eq!(Some(&request.state_disk_key), machine.key.as_deref());
        assert_eq!(request.measurement_salt, [3; 32]);
        let master = scene.master.master_secret.expose_bytes();
        assert!(request.measurement_secret != master && request.state_disk_key != master);
    }
    // once more: nobody waits, and that is no failure
    let (ran, report) = scene.recover(&endpoints).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(outcomes(&report).is_empty());
    assert_eq!(report["endpoints"][0]["status"], "nothingWaits");
    assert_eq!(one.requests.lock().unwrap().len(), 1);
}

/// It proved that it waits; that others hold its connections for longer than the user's patience does not make it one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_connections_others_hold_is_asked_until_it_answers() {
    let scene = Scene::new();
    let waits = scene.waits(1);
    waits.crowded.store(8, Ordering::Relaxed);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address = scene.boot(&waits, None, any).await.to_string();
    let (ran, report) = scene.recover(&["-e", &address]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = [(Scene::disk(1).to_string(), "recovered".to_owned())];
    assert_eq!(outcomes(&report), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_machines_behind_one_address_are_found_and_the_refused_one_is_told() {
    let scene = Scene::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (one, two, three) = (scene.waits(1), scene.waits(2), scene.waits(3));
    let changed = Image {
        options: "init=/bin/sh".into(),
        ..Image::default()
    };
    let machines = vec![
        scene.boot(&one, None, any).await,
        scene.boot(&two, Some(changed), any).await,
        scene.boot(&three, None, any).await,
    ];
    balance(at(10), machines).await;
    let (ran, report) = scene.recover(&["-e", "127.44.0.10"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let expected = [1, 3].map(|n| (Scene::disk(n).to_string(), "recovered".to_owned()));
    assert_eq!(outcomes(&report), expected);
    assert!(
        ran.stderr.contains("NOT TRUSTED, and was sent nothing"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("command line"), "{ran:?}");
    assert!(two.requests.lock().unwrap().is_empty());
}

/// One of three refuses its key: the two others are recovered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_refuses_its_key_keeps_no_other_from_its() {
    let scene = Scene::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (one, three) = (scene.waits(1), scene.waits(3));
    let two = Waits {
        key: None,
        ..scene.waits(2)
    };
    let machines = vec![
        scene.boot(&one, None, any).await,
        scene.boot(&two, None, any).await,
        scene.boot(&three, None, any).await,
    ];
    balance(at(11), machines).await;
    let (ran, report) = scene.recover(&["-e", "127.44.0.11"]).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    let expected = [(1, "recovered"), (2, "wrongKey"), (3, "recovered")]
        .map(|(n, outcome)| (Scene::disk(n).to_string(), outcome.to_owned()));
    assert_eq!(outcomes(&report), expected);
    // its key is not sent over and over, and what it says drives no terminal
    assert_eq!(two.requests.lock().unwrap().len(), 1);
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stdout.contains('\u{1b}'),
        "{ran:?}"
    );
}

/// Two machines wait with one disk: a copy. The key is given once.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_copied_disk_is_given_once() {
    let scene = Scene::new();
    let (one, copy) = (scene.waits(1), scene.waits(1));
    scene.boot(&one, None, at(20)).await;
    scene.boot(&copy, None, at(21)).await;
    let (ran, report) = scene
        .recover(&["-e", "127.44.0.20", "-e", "127.44.0.21"])
        .await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(outcomes(&report).len(), 1, "{report}");
    assert!(report["machines"][0]["twin"].is_string(), "{report}");
    let given = one.requests.lock().unwrap().len() + copy.requests.lock().unwrap().len();
    assert_eq!(given, 1);
}

/// The answer is lost: that is told, and the next run leaves the machine alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_told_and_the_command_can_be_repeated() {
    let scene = Scene::new();
    let one = Waits {
        loses_its_answer: true,
        ..scene.waits(1)
    };
    scene.boot(&one, None, at(30)).await;
    let (ran, report) = scene.recover(&["-e", "127.44.0.30"]).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert_eq!(report["machines"][0]["outcome"], "unconfirmed", "{report}");
    assert!(ran.stderr.contains("run the command again"), "{ran:?}");
    let (ran, _) = scene.recover(&["-e", "127.44.0.30"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_master_secret_is_told_before_anybody_is_asked() {
    let scene = Scene::new();
    let one = scene.waits(1);
    scene.boot(&one, None, at(40)).await;
    let other = MasterSecretFile::generate().unwrap();
    let path = scene.lab.file("constellation-mastersecret.json");
    std::fs::write(&path, other.expose_json().as_bytes()).unwrap();
    let (ran, _) = scene.recover(&["-e", "127.44.0.40"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("nothing was sent to any machine"),
        "{ran:?}"
    );
    std::fs::remove_file(&path).unwrap();
    let (ran, _) = scene.recover(&["-e", "127.44.0.40"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(!path.exists(), "a new master secret would open nothing");
    assert!(one.requests.lock().unwrap().is_empty());
}
