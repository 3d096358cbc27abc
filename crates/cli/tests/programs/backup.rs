//! `backup` against control planes that give one, give a part of one, give another cluster's, or are not what they say. What a node
//! does to make one is tested in `node`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use futures::Stream;
use k8s::backup::Essentials;
use k8s::control_plane::EncryptionKey;
use k8s::pki::Authorities;
use keys::backup::{Header, PART, Sealer};
use keys::{BackupKey, ClusterId, MasterSecretFile, MeasurementSalt, MeasurementSecret};
use proto::backup::api_server::{Api, ApiServer};
use proto::backup::{CreateRequest, Piece, UploadRequest, UploadResponse};
use testkit::boot::Image;
use testkit::tee::SoftTpm;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming};

use crate::harness::{Lab, Ran};

/// A control plane that answers with these bytes.
#[derive(Clone)]
struct Gives {
    file: Vec<u8>,
    key: Vec<u8>,
    requests: Arc<Mutex<Vec<CreateRequest>>>,
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
        let pieces: Vec<_> = self
            .file
            .chunks(50_000)
            .map(|data| {
                Ok(Piece {
                    data: data.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
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
        let master = MasterSecretFile::generate().unwrap();
        std::fs::write(
            lab.file("constellation-mastersecret.json"),
            master.expose_json().as_bytes(),
        )
        .unwrap();
        let secret = MeasurementSecret::derive(&master.master_secret, &master.salt);
        let salt = MeasurementSalt::from_slice(&[3; 32]).unwrap();
        let cluster_id = ClusterId::derive(&secret, &salt);
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
    assert_eq!(inside(outputs.path()), ["b"]);
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
