//! Who gets a backup of a cluster, and what a machine makes a cluster of: real etcd and kube-apiserver, a real TPM (swtpm), the
//! attested channel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use attest::{ClusterIdDigest, ClusterMark};
use aws_lc_rs::digest::{SHA256, digest};
use channel::{Client, Verifier};
use k8s_openapi::api::core::v1::ConfigMap;
use keys::{BackupKey, ClusterId};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use node::bootstrapper::backup_server::{BackupServer, Member, Membered};
use node::bootstrapper::restore::Restores;
use proto::backup::api_client::ApiClient;
use proto::backup::{CreateRequest, UploadRequest, api_server::ApiServer};
use testkit::boot::Image;
use testkit::kubernetes::ControlPlane;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::init::{SECRET, Served, expected_cluster_id, keys, request};
use super::machine::{Machine, cluster_id};

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn key() -> BackupKey {
    let (master, salt) = keys();
    BackupKey::derive(&master, &salt)
}

/// A control plane with so much in it that a backup does not fit into what is on the way.
async fn control_plane() -> Result<ControlPlane> {
    let control_plane = ControlPlane::start().await?;
    let client = k8s::api::client(&control_plane.agent_kubeconfig()).await?;
    let (master, salt) = keys();
    let verifier = BackupKey::derive(&master, &salt).verifier();
    k8s::api::records::put_backup_key_verifier(&client, &verifier).await?;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    for number in 0..24 {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(format!("large-{number}")),
                ..ObjectMeta::default()
            },
            data: Some([("data".to_owned(), "x".repeat(700_000))].into()),
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map).await?;
    }
    Ok(control_plane)
}

/// A member that serves backups.
struct Node {
    machine: Machine,
    address: SocketAddr,
    _control_plane: ControlPlane,
}

impl Node {
    async fn start() -> Result<Self> {
        let control_plane = control_plane().await?;
        let machine = Machine::boot(Image::default());
        machine.measured.extend_mark(&expected_cluster_id()).await?;
        let member = Membered::default();
        member.get_or_init(|| {
            Member::new(
                control_plane.node().clone(),
                machine.measured.clone(),
                machine.console(),
            )
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let channel = channel::Server::node(machine.measured.issuer())?;
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(ApiServer::new(BackupServer::of(member)))
                .serve_with_incoming(channel::tonic::incoming(listener, channel)),
        );
        Ok(Self {
            machine,
            address,
            _control_plane: control_plane,
        })
    }

    async fn connect(&self) -> Result<ApiClient<Channel>> {
        let mark = ClusterMark::Cluster(ClusterIdDigest::of(expected_cluster_id().as_bytes()));
        connect(&self.machine, self.address, mark).await
    }

    async fn refused(&self, key: &[u8], cluster: &ClusterId) -> Result<Status> {
        let request = CreateRequest {
            key: key.to_vec(),
            cluster_id: cluster.as_bytes().to_vec(),
        };
        let answer = self.connect().await?.create(request).await;
        answer.err().context("it was not refused")
    }
}

async fn connect(
    machine: &Machine,
    address: SocketAddr,
    mark: ClusterMark,
) -> Result<ApiClient<Channel>> {
    let client = Client::admin(Verifier::new(Arc::new(machine.image.policy()), mark));
    let (channel, _node) = channel::tonic::connect(&client, address).await?;
    Ok(ApiClient::new(channel))
}

fn right() -> CreateRequest {
    CreateRequest {
        key: key().expose_bytes().to_vec(),
        cluster_id: expected_cluster_id().as_bytes().to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_key_gets_a_backup_and_one_at_a_time() -> Result<()> {
    let node = Node::start().await?;
    let own = expected_cluster_id();
    for wrong in [&[0; 32][..], &[], &[1; 31]] {
        let status = node.refused(wrong, &own).await?;
        let codes = [Code::PermissionDenied, Code::InvalidArgument];
        ensure!(codes.contains(&status.code()), "{status}");
    }
    // the key of all clusters with this master secret, and another one of them
    let status = node.refused(key().expose_bytes(), &cluster_id(9)).await?;
    ensure!(status.code() == Code::FailedPrecondition, "{status}");
    // a member takes none to make a cluster of
    let upload = futures::stream::iter([UploadRequest::default()]);
    let status = node.connect().await?.upload(upload).await.err();
    ensure!(status.context("an answer")?.code() == Code::FailedPrecondition);

    let mut first = node.connect().await?.create(right()).await?.into_inner();
    let head = first.message().await?.context("a piece")?;
    let status = node.connect().await?.create(right()).await.err();
    ensure!(status.context("a second at once")?.code() == Code::ResourceExhausted);

    let mut file = head.data;
    while let Some(piece) = first.message().await? {
        file.extend(piece.data);
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("backup");
    std::fs::write(&path, &file)?;
    let (header, _essentials) = k8s::backup::open(&path, key(), None)?;
    header.expect_cluster(&own)?;
    ensure!(file.len() > 16 << 20);

    // whoever hangs up leaves the turn to the next
    let mut dropped = node.connect().await?.create(right()).await?.into_inner();
    dropped.message().await?.context("a piece")?;
    drop(dropped);
    let again = async {
        while node.connect().await?.create(right()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), again).await??;
    Ok(())
}

async fn upload(served: &Served, secret: &[u8], file: &[u8]) -> Result<Vec<u8>, Status> {
    let first = UploadRequest {
        init_secret: secret.to_vec(),
        data: Vec::new(),
    };
    let rest = file.chunks(100_000).map(|data| UploadRequest {
        init_secret: Vec::new(),
        data: data.to_vec(),
    });
    let messages: Vec<_> = std::iter::once(first).chain(rest).collect();
    let mut client = connect(&served.machine, served.address, ClusterMark::NotJoined)
        .await
        .map_err(|error| Status::unknown(error.to_string()))?;
    let answer = client.upload(futures::stream::iter(messages)).await?;
    Ok(answer.into_inner().sha256)
}

/// Makes a backup with a key.
async fn backup(control_plane: &ControlPlane, key: &BackupKey) -> Result<Vec<u8>> {
    let (sink, mut pieces) = tokio::sync::mpsc::channel(4);
    let cluster = cluster_id(3);
    let now = jiff::Timestamp::now();
    let node = control_plane.node();
    let making = async move { k8s::backup::create(node, key, &cluster, now, &sink).await };
    let reading = async {
        let mut file = Vec::new();
        while let Some(piece) = pieces.recv().await {
            file.extend(piece);
        }
        file
    };
    let (made, file) = tokio::join!(making, reading);
    made?;
    Ok(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_of_a_backup_only_if_all_of_it_is_right() -> Result<()> {
    let control_plane = control_plane().await?;
    let file = backup(&control_plane, &key()).await?;
    let strangers = backup(&control_plane, &BackupKey::from_slice(&[9; 32])?).await?;
    drop(control_plane);
    let served = Served::on(Machine::boot(Image::default()), None).await;
    let naming = |file: &[u8]| proto::init::InitRequest {
        restore_sha256: sha256(file),
        ..request(1, SECRET)
    };
    // the machine may become another cluster's yet: nothing that can be read without the key is ever on its disk
    let only_sealed = || -> Result<()> {
        for entry in std::fs::read_dir(served.uploads.path())? {
            let name = entry?.file_name();
            ensure!(
                name == "restore.backup" || name == "restore.ordered",
                "{name:?} is there"
            );
        }
        Ok(())
    };
    let refused = async |order| -> Result<Status> {
        let answer = served.init(ClusterMark::NotJoined, order).await;
        ensure!(!served.lock.is_taken(), "something changed");
        ensure!(served.machine.pcr15().await == [0; 32]);
        let status = answer.err().context("it was not refused")?;
        ensure!(status.code() == Code::InvalidArgument, "{status}");
        only_sealed()?;
        Ok(status)
    };

    let status = upload(&served, b"wrong", &file).await.err();
    ensure!(status.context("a stranger's")?.code() == Code::PermissionDenied);
    let status = refused(naming(&file)).await?;
    ensure!(status.message().contains("was not uploaded"), "{status}");

    for (wrong, why) in [
        (strangers, "another master secret"),
        (file[..file.len() - 1].to_vec(), "cut off"),
        (b"something else".to_vec(), "not a backup"),
    ] {
        assert_eq!(upload(&served, SECRET, &wrong).await?, sha256(&wrong));
        let status = refused(naming(&wrong)).await?;
        ensure!(status.message().contains(why), "{status}");
    }
    upload(&served, SECRET, &file).await?;
    let mut other = naming(&file);
    other.service_cidr = "10.128.0.0/12".to_owned();
    let status = refused(other).await?;
    ensure!(status.message().contains("must have the same"), "{status}");

    let kinds = served.init(ClusterMark::NotJoined, naming(&file)).await?;
    ensure!(!kinds.is_empty() && served.lock.is_taken());
    only_sealed()?;
    let status = upload(&served, SECRET, &file).await.err();
    ensure!(status.context("after the init")?.code() != Code::Ok);

    // what a process left that stopped, or a machine that joined another cluster
    std::fs::write(served.uploads.path().join("restore.snapshot"), b"left")?;
    Restores::new(served.uploads.path());
    let left: Vec<_> = std::fs::read_dir(served.uploads.path())?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
