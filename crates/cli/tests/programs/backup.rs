//! `backup` against control planes that give one, give a part of one, give another cluster's, or are not what they say. What a node
//! does to make one is tested in `node`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use k8s::backup::Essentials;
use k8s::control_plane::EncryptionKey;
use k8s::pki::Authorities;
use keys::backup::{Header, PART, Sealer};
use keys::{BackupKey, ClusterId, MasterSecretFile};
use proto::backup::api_server::{Api, ApiServer};
use proto::backup::{CreateRequest, Piece, UploadRequest, UploadResponse};
use testkit::boot::Image;
use testkit::tee::SoftTpm;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming};

use crate::harness::{Lab, Ran, await_end};

/// A control plane that answers with these bytes.
#[derive(Clone)]
struct Gives {
    file: Vec<u8>,
    key: Vec<u8>,
    requests: Arc<Mutex<Vec<CreateRequest>>>,
    /// What happens on the caller's host before the second half is sent.
    half_way: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, Status>> + Send>>;

#[tonic::async_trait]
impl Api for Gives {
    type CreateStream = Pieces;

    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<Pieces>, Status> {
        let request = request.into_inner();
        let fits = request.key == self.key;
        self.requests.lock().unwrap().push(request);
        if !fits {
            return Err(Status::permission_denied(
                "the backup key is another\u{1b}[2J",
            ));
        }
        let pieces = |bytes: &[u8]| {
            let pieces: Vec<_> = bytes
                .chunks(50_000)
                .map(|data| {
                    Ok(Piece {
                        data: data.to_vec(),
                    })
                })
                .collect();
            futures::stream::iter(pieces)
        };
        let (first, second) = self.file.split_at(self.file.len() / 2);
        let between = (self.half_way)().into_stream();
        let pieces = pieces(first)
            .chain(between.filter_map(|()| async { None }))
            .chain(pieces(second));
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn upload(
        &self,
        _request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        Err(Status::failed_precondition("a member"))
    }
}

pub(crate) struct Scene {
    pub(crate) lab: Lab,
    key: BackupKey,
    cluster_id: ClusterId,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let lab = Lab::configured();
        let (master, cluster_id) = lab.with_master_secret();
        let scene = Self {
            key: BackupKey::derive(&master.master_secret, &master.salt),
            cluster_id,
            lab,
        };
        scene.write_state(true);
        scene
    }

    pub(crate) fn write_state(&self, made: bool) {
        let mut state = format!(
            "version: v1\ninfrastructure:\n  clusterEndpoint: 127.44.9.9\n  initSecret: \"{}\"\n",
            "5a".repeat(32)
        );
        if made {
            state.push_str(&format!(
                "clusterValues:\n  clusterID: {}\n  measurementSalt: \"{}\"\n",
                self.cluster_id,
                "03".repeat(32)
            ));
        }
        std::fs::write(self.lab.file("constellation-state.yaml"), state).unwrap();
    }

    /// A whole backup of some parts.
    fn file(&self, cluster: &ClusterId, services: &str) -> Vec<u8> {
        let networks = cluster::network::AddressPlan::new(
            cluster::network::DEFAULT_POD_CIDR,
            services.parse().unwrap(),
        )
        .unwrap();
        let essentials = Essentials::new(
            "v1.20.2".parse().unwrap(),
            networks,
            Authorities::generate("test", jiff::Timestamp::now()).unwrap(),
            EncryptionKey::generate().unwrap(),
        );
        let snapshot = vec![7; 512 * 1000];
        let mut content = essentials.to_content().unwrap().to_vec();
        content.extend_from_slice(&snapshot);
        content.extend_from_slice(digest(&SHA256, &snapshot).as_ref());
        let header = Header {
            cluster_id: cluster.clone(),
            begun: 1_795_680_000,
            revision: 4711,
            etcd_version: "3.5.16".to_owned(),
        };
        let (mut sealer, mut file) = Sealer::begin(&self.key, &header).unwrap();
        let mut parts = content.chunks(PART).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                file.extend(sealer.part(part).unwrap());
            } else {
                file.extend(sealer.last(part));
                break;
            }
        }
        file
    }

    pub(crate) fn whole(&self) -> Vec<u8> {
        self.file(&self.cluster_id, "10.96.0.0/12")
    }

    fn gives(&self, file: Vec<u8>) -> Gives {
        Gives {
            file,
            key: self.key.expose_bytes().to_vec(),
            requests: Arc::default(),
            half_way: Arc::new(|| async {}.boxed()),
        }
    }

    async fn serve(&self, gives: &Gives, issuer: SoftTpm) -> SocketAddr {
        let server = channel::Server::node(Arc::new(issuer)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(ApiServer::new(gives.clone()))
                .serve_with_incoming(channel::tonic::incoming(listener, server)),
        );
        address
    }

    /// A member of the cluster, or of the one with another ID.
    fn member(&self, image: &Image, cluster: &ClusterId) -> SoftTpm {
        let tpm = SoftTpm::boot(image);
        tpm.join(cluster.as_bytes());
        tpm
    }

    async fn create(&self, addresses: &[SocketAddr], output: &Path) -> Ran {
        let mut arguments = vec!["backup", "create", "--output", output.to_str().unwrap()];
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        for address in &addresses {
            arguments.extend(["--endpoint", address]);
        }
        let mut command = self.lab.command(&arguments);
        tokio::task::spawn_blocking(move || Ran::from(command.output().unwrap()))
            .await
            .unwrap()
    }
}

/// The file that is being written in this directory.
async fn unfinished(directory: &Path) -> PathBuf {
    loop {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().ends_with(".unfinished")
                && entry.metadata().unwrap().len() > 0
            {
                return entry.path();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn inside(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_written_whole_checked_and_for_its_owner_alone() {
    let scene = Scene::new();
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("b");
    // what others have there is theirs, and what a killed command left is in nobody's way
    let theirs = ["b.new", "constellation-backup-1.unfinished"];
    for name in theirs {
        std::fs::write(outputs.path().join(name), name).unwrap();
    }
    let file = scene.whole();
    let gives = scene.gives(file.clone());
    let member = scene.member(&scene.lab.image, &scene.cluster_id);
    let address = scene.serve(&gives, member).await;
    let ran = scene.create(&[address], &output).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("2026-11-26T"), "{ran:?}");
    assert_eq!(std::fs::read(&output).unwrap(), file);
    let mode = std::fs::metadata(&output).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for name in theirs {
        let there = std::fs::read_to_string(outputs.path().join(name)).unwrap();
        assert_eq!(there, name);
    }
    assert_eq!(inside(outputs.path()).len(), 3);
    {
        let requests = gives.requests.lock().unwrap();
        assert_eq!(requests[0].cluster_id, scene.cluster_id.as_bytes());
    }
    // what is there is never replaced
    let again = scene.create(&[address], &output).await;
    assert_eq!(again.code, Some(4), "{again:?}");
    assert_eq!(gives.requests.lock().unwrap().len(), 1);

    let inspected = scene
        .lab
        .run(&["backup", "inspect", "-o", "json", output.to_str().unwrap()]);
    assert_eq!(inspected.code, Some(0), "{inspected:?}");
    let told: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(told["clusterId"], scene.cluster_id.to_string());
    assert_eq!(told["kubernetes"], "v1.20.2");
    assert_eq!(told["revision"], 4711);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cut_or_anothers_leaves_no_file_and_the_next_one_is_asked() {
    let scene = Scene::new();
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("b");
    let member = || scene.member(&scene.lab.image, &scene.cluster_id);
    let whole = scene.whole();
    let mut flipped = whole.clone();
    flipped[300_000] ^= 1;
    let other = ClusterId::from_slice(&[9; 32]).unwrap();
    for (file, code, words) in [
        (whole[..whole.len() - 1].to_vec(), 6, "cut off"),
        (flipped, 3, "was changed"),
        (scene.file(&other, "10.96.0.0/12"), 3, "another cluster"),
        (Vec::new(), 6, "no whole backup"),
    ] {
        let address = scene.serve(&scene.gives(file), member()).await;
        let ran = scene.create(&[address], &output).await;
        assert_eq!(ran.code, Some(code), "{words}: {ran:?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
        assert!(inside(outputs.path()).is_empty(), "{words}");
    }
    let cut = scene.gives(whole[..100_000].to_vec());
    let cut = scene.serve(&cut, member()).await;
    let right = scene.serve(&scene.gives(whole.clone()), member()).await;
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let ran = scene.create(&[nobody, cut, right], &output).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(std::fs::read(&output).unwrap(), whole);
}

/// What came was right: only reading it again shows that the disk has something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_the_disk_does_not_give_back_gets_no_name() {
    let scene = Scene::new();
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("b");
    let directory = outputs.path().to_owned();
    let gives = Gives {
        half_way: Arc::new(move || {
            let directory = directory.clone();
            async move {
                let path = unfinished(&directory).await;
                let file = std::fs::File::options().write(true).open(path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"bad sector", 20_000).unwrap();
            }
            .boxed()
        }),
        ..scene.gives(scene.whole())
    };
    let member = scene.member(&scene.lab.image, &scene.cluster_id);
    let address = scene.serve(&gives, member).await;
    let ran = scene.create(&[address], &output).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("is not what is read back"), "{ran:?}");
    assert!(inside(outputs.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_backup_whose_name_was_taken_meanwhile_is_kept_and_told() {
    let scene = Scene::new();
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("b");
    let whole = scene.whole();
    let taken = output.clone();
    let gives = Gives {
        half_way: Arc::new(move || {
            std::fs::write(&taken, "another's").unwrap();
            async {}.boxed()
        }),
        ..scene.gives(whole.clone())
    };
    let member = scene.member(&scene.lab.image, &scene.cluster_id);
    let address = scene.serve(&gives, member).await;
    let ran = scene.create(&[address], &output).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "another's");
    let kept = unfinished(outputs.path()).await;
    assert!(ran.stderr.contains(kept.to_str().unwrap()), "{ran:?}");
    assert_eq!(std::fs::read(&kept).unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_leaves_nothing() {
    let scene = Scene::new();
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("b");
    let gives = Gives {
        half_way: Arc::new(|| std::future::pending().boxed()),
        ..scene.gives(scene.whole())
    };
    let member = scene.member(&scene.lab.image, &scene.cluster_id);
    let address = scene.serve(&gives, member).await.to_string();
    let output = output.to_str().unwrap();
    let arguments = [
        "backup",
        "create",
        "--output",
        output,
        "--endpoint",
        &address,
    ];
    let mut child = scene
        .lab
        .command(&arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = unfinished(outputs.path());
    tokio::time::timeout(Duration::from_secs(60), begun)
        .await
        .unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = tokio::task::spawn_blocking(move || await_end(&mut child));
    assert_eq!(ended.await.unwrap().code(), Some(130));
    assert!(inside(outputs.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_no_member_of_this_cluster_is_sent_no_key() {
    let scene = Scene::new();
    let outputs = tempfile::tempdir().unwrap();
    let output = outputs.path().join("b");
    let other = ClusterId::from_slice(&[9; 32]).unwrap();
    let mut changed = scene.lab.image.clone();
    changed.options.push_str(" quiet");
    let not_joined = SoftTpm::boot(&scene.lab.image);
    for machine in [
        not_joined,
        scene.member(&scene.lab.image, &other),
        scene.member(&changed, &scene.cluster_id),
    ] {
        let gives = scene.gives(scene.whole());
        let address = scene.serve(&gives, machine).await;
        let ran = scene.create(&[address], &output).await;
        assert_eq!(ran.code, Some(6), "{ran:?}");
        assert!(ran.stderr.contains("not verified"), "{ran:?}");
        assert!(gives.requests.lock().unwrap().is_empty());
    }
    assert!(inside(outputs.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_secret_is_said_so_by_the_node_and_by_the_file() {
    let scene = Scene::new();
    let output = scene.lab.path().join("b");
    let gives = Gives {
        key: vec![0; 32],
        ..scene.gives(scene.whole())
    };
    let member = scene.member(&scene.lab.image, &scene.cluster_id);
    let address = scene.serve(&gives, member).await;
    let ran = scene.create(&[address], &output).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
    assert!(!output.exists());

    std::fs::write(&output, scene.whole()).unwrap();
    let other = MasterSecretFile::generate().unwrap();
    std::fs::write(
        scene.lab.file("constellation-mastersecret.json"),
        other.expose_json().as_bytes(),
    )
    .unwrap();
    for command in ["inspect", "restore"] {
        scene.write_state(false);
        let ran = scene
            .lab
            .run(&["backup", command, output.to_str().unwrap()]);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.stderr.contains("another master secret"), "{ran:?}");
    }
}

/// Everything that can be seen here is seen before a machine is asked for anything: its address answers nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_can_not_work_is_refused_before_it_begins() {
    let scene = Scene::new();
    let path = scene.lab.path().join("b");
    let restore = || {
        scene
            .lab
            .run(&["backup", "restore", path.to_str().unwrap()])
    };
    let whole = scene.whole();
    std::fs::write(&path, &whole).unwrap();
    let ran = restore();
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("made already"), "{ran:?}");

    scene.write_state(false);
    for (file, code, words) in [
        (whole[..whole.len() / 2].to_vec(), 3, "cut off"),
        (
            scene.file(&scene.cluster_id, "10.128.0.0/12"),
            4,
            "must have the same",
        ),
        (b"no backup".to_vec(), 3, "not a backup"),
    ] {
        std::fs::write(&path, file).unwrap();
        let ran = restore();
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
        assert!(!scene.lab.file("constellation-init.json").exists());
    }
    std::fs::write(&path, &whole).unwrap();
    std::fs::remove_file(scene.lab.file("constellation-mastersecret.json")).unwrap();
    let ran = restore();
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("there is no"), "{ran:?}");
}
