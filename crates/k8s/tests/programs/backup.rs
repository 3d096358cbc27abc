//! A backup of a control plane with real etcd and kube-apiserver, and a new cluster that is made of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cluster::Role;
use jiff::Timestamp;
use k8s::control_plane::Service;
use k8s::{
    api::{self, records},
    backup::{self, CreateError, OpenError},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Node, Secret},
};
use keys::{BackupKey, ClusterId, backup::BackupError};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams},
};
use testkit::kubernetes::ControlPlane;
use tokio::sync::mpsc;

const COUNT: usize = 200;
const VALUE: &[u8] = b"a value that only who has the key can read";

fn key(byte: u8) -> BackupKey {
    BackupKey::from_slice(&[byte; 32]).unwrap()
}

fn cluster_id() -> ClusterId {
    ClusterId::from_slice(&[7; 32]).unwrap()
}

fn meta(name: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        ..ObjectMeta::default()
    }
}

async fn client(control_plane: &ControlPlane) -> Result<Client> {
    Ok(api::client(&control_plane.agent_kubeconfig()).await?)
}

fn identity(name: &str, index: u16, role: Role) -> Result<cluster::identity::NodeIdentity> {
    let addresses = cluster::network::AddressPlan::default().node(index)?;
    Ok(cluster::identity::NodeIdentity {
        name: name.parse()?,
        role,
        disk_uuid: "00000000-0000-4000-8000-000000000001".parse()?,
        attestation_variant: "qemu-vtpm".to_owned(),
        attestation_key_id: "01".repeat(32),
        measurements: BTreeMap::new(),
        index,
        mesh_ip: addresses.mesh_ip,
        pod_cidr: addresses.pod_cidr,
        node_ip: "10.42.1.10".parse()?,
        wireguard_public_key: cluster::identity::WireGuardPublicKey::new([1; 32]),
        admitted_at: "2026-11-22T06:00:00Z".to_owned(),
        reset_count: None,
    })
}

/// Objects, a secret, and two nodes.
async fn fill(client: &Client) -> Result<()> {
    api::Applier::new(client.clone())
        .manifest(k8s::addons::ROLES)
        .await?;
    let secrets = Api::<Secret>::namespaced(client.clone(), "default");
    let secret = Secret {
        metadata: meta("kept"),
        data: Some([("key".to_owned(), ByteString(VALUE.to_vec()))].into()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &secret).await?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    for number in 0..COUNT {
        let map = ConfigMap {
            metadata: meta(format!("kept-{number}")),
            // in all some parts of a file
            data: Some([("data".to_owned(), format!("{number}").repeat(2000))].into()),
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map).await?;
    }
    for (name, index, role) in [
        ("control-plane-0", 1, Role::ControlPlane),
        ("worker-0", 2, Role::Worker),
    ] {
        records::put_node_identity(client, &identity(name, index, role)?).await?;
        let node = Node {
            metadata: meta(name),
            ..Node::default()
        };
        let nodes = Api::<Node>::all(client.clone());
        nodes.create(&PostParams::default(), &node).await?;
    }
    for node in records::nodes(client).await? {
        // what keeps it until its member of etcd has gone
        records::mark_node(client, &node).await?;
    }
    Ok(())
}

/// Makes a backup into a file.
async fn create(control_plane: &ControlPlane, path: &Path) -> Result<()> {
    let (sink, mut pieces) = mpsc::channel(4);
    let creating = async move {
        let (key, id) = (key(1), cluster_id());
        backup::create(control_plane.node(), &key, &id, Timestamp::now(), &sink).await
    };
    let writing = async {
        let mut file = Vec::new();
        while let Some(piece) = pieces.recv().await {
            file.extend(piece);
        }
        file
    };
    let (created, file) = tokio::join!(creating, writing);
    created?;
    std::fs::write(path, file)?;
    Ok(())
}

fn refused(path: &Path, by: u8, snapshot: &Path) -> Result<BackupError> {
    let opened = backup::open(path, key(by), Some(snapshot));
    ensure!(!snapshot.exists(), "something is left");
    match opened {
        Err(OpenError::Backup(error)) => Ok(error),
        other => anyhow::bail!("{other:?}"),
    }
}

fn holds(path: &Path, needle: &[u8]) -> Result<bool> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.windows(needle.len()).any(|window| window == needle))
}

#[tokio::test]
async fn a_new_cluster_has_what_the_backup_has() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("backup");
    let snapshot = directory.path().join("snapshot");

    let mut old = ControlPlane::start().await?;
    fill(&client(&old).await?).await?;
    create(&old, &file).await?;
    let after = ConfigMap {
        metadata: meta("after"),
        ..ConfigMap::default()
    };
    let maps = Api::<ConfigMap>::namespaced(client(&old).await?, "default");
    maps.create(&PostParams::default(), &after).await?;
    let ca = std::fs::read_to_string(old.node().paths().pki().join("ca.key"))?;
    old.check_alive()?;
    drop(old);

    // nothing of it is in the clear
    for needle in [b"kept-1".as_slice(), VALUE, b"PRIVATE KEY", b"secretbox"] {
        ensure!(!holds(&file, needle)?);
    }
    let (header, essentials) = backup::open(&file, key(1), Some(&snapshot))?;
    header.expect_cluster(&cluster_id())?;
    ensure!(header.revision > i64::try_from(COUNT)?);
    ensure!(holds(&snapshot, b"kept-1")? && !holds(&snapshot, VALUE)?);

    let mut new = ControlPlane::prepare(Timestamp::now())?;
    new.restore(&snapshot, &essentials)?;
    new.spawn(Service::Etcd)?;
    new.spawn(Service::ApiServer)?;
    new.ready().await?;
    let client = client(&new).await?;
    let secret = Api::<Secret>::namespaced(client.clone(), "default")
        .get("kept")
        .await?;
    assert_eq!(secret.data.context("data")?["key"].0, VALUE);
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    for number in 0..COUNT {
        let map = maps.get(&format!("kept-{number}")).await?;
        assert_eq!(
            map.data.context("data")?["data"],
            format!("{number}").repeat(2000)
        );
    }
    ensure!(maps.get_opt("after").await?.is_none(), "it is a backup");
    let now = std::fs::read_to_string(new.node().paths().pki().join("ca.key"))?;
    ensure!(now == ca, "the authorities are those of old");

    // whoever was a node is none
    assert_eq!(records::all_node_identities(&client).await?.len(), 2);
    backup::forget_nodes(&client).await?;
    ensure!(records::all_node_identities(&client).await?.is_empty());
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    ensure!(nodes.items.is_empty());
    // and the store takes writes
    let again = ConfigMap {
        metadata: meta("again"),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &again).await?;
    new.check_alive()
}

#[tokio::test]
async fn a_backup_that_is_not_whole_leaves_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| -> PathBuf { directory.path().join(name) };
    let control_plane = ControlPlane::start().await?;
    fill(&client(&control_plane).await?).await?;
    create(&control_plane, &path("whole")).await?;
    let whole = std::fs::read(path("whole"))?;
    let with = |bytes: &[u8]| std::fs::write(path("changed"), bytes);
    let snapshot = path("snapshot");

    assert_eq!(
        refused(&path("whole"), 2, &snapshot)?,
        BackupError::WrongKey
    );
    for length in [1, 100, 200, 70_000, whole.len() / 2, whole.len() - 1] {
        with(&whole[..length])?;
        assert_eq!(refused(&path("changed"), 1, &snapshot)?, BackupError::Cut);
    }
    let mut flipped = whole.clone();
    let last = whole.len() - 20;
    flipped[last] ^= 1;
    with(&flipped)?;
    ensure!(matches!(
        refused(&path("changed"), 1, &snapshot)?,
        BackupError::Changed(_)
    ));
    with(&[&whole[..], b"x"].concat())?;
    assert_eq!(
        refused(&path("changed"), 1, &snapshot)?,
        BackupError::Trailing
    );
    Ok(())
}

/// Whoever asked for it went away.
#[tokio::test]
async fn a_backup_that_nobody_takes_ends() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let (sink, pieces) = mpsc::channel(1);
    drop(pieces);
    let created = backup::create(
        control_plane.node(),
        &key(1),
        &cluster_id(),
        Timestamp::now(),
        &sink,
    )
    .await;
    ensure!(matches!(created, Err(CreateError::NobodyThere)));
    Ok(())
}
