//! Control planes of this project's making on loopback: real etcd, real kube-apiserver; and a client that writes.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cluster::Role;
use cluster::identity::WireGuardPublicKey;
use cluster::network::{API_PORT, API_PROXY_PORT, MeshPeer};
use k8s::control_plane::{EncryptionKey, Listen, Node, NodeConfig, Service, Shared};
use k8s::etcd::take_part;
use k8s::files;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use testkit::etcd::{EtcdNode, EtcdNodes};
use testkit::kubernetes::Release;
use tokio_util::sync::CancellationToken;

/// A join or a start, on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// Until the API has gone on without a control plane, on a busy machine.
const FAILOVER: Duration = Duration::from_secs(120);
/// How long an answer may take until it counts as none.
const ANSWER: Duration = Duration::from_secs(10);
/// Writes that have to be acknowledged while a control plane is gone.
const WRITES: usize = 50;

/// Control planes of which nothing runs but the first one's etcd, all on record.
pub(super) fn prepare(count: u8) -> Result<(EtcdNodes, Vec<ControlPlane>)> {
    let release = Release::find()?;
    let etcds = EtcdNodes::found(count)?;
    let first = etcds.node(0).node().paths().clone();
    EncryptionKey::generate()?
        .file(first.encryption_config())
        .write()?;
    let control_planes = (0..usize::from(count))
        .map(|index| {
            // what a ticket carries from one control plane to another
            let shared = Shared::from_files(Shared::load(&first.kubernetes)?.to_files())?;
            ControlPlane::prepare(etcds.node(index), &shared, &release)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((etcds, control_planes))
}

/// One control plane: its etcd, and beside it its API server.
pub(super) struct ControlPlane {
    pub(super) etcd: Arc<EtcdNode>,
    pub(super) node: Node,
    api_server: Option<Child>,
}

impl ControlPlane {
    /// Renders the API server of a node whose etcd is there, with what all control planes share.
    fn prepare(etcd: Arc<EtcdNode>, shared: &Shared, release: &Release) -> Result<Self> {
        let own = etcd.node();
        let mesh_ip = own.config().addresses.mesh_ip;
        let config = NodeConfig {
            version: release.version,
            // as on every node: by the proxy
            api_endpoint: SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PROXY_PORT),
            ..own.config().clone()
        };
        let mut paths = own.paths().clone();
        paths.bin.clone_from(&release.programs);
        let listen = Listen {
            api: (IpAddr::V4(mesh_ip), API_PORT),
            // the API server refuses to announce a loopback address; nobody uses this one
            advertise: config.plan.node(config.addresses.index)?.mesh_ip,
            ..*own.listen()
        };
        let node = Node::new(config, paths, listen)?;
        shared.write(node.paths())?;
        let authority = shared.authorities().cluster_certificate();
        files::write_all(&node.files(Service::ApiServer, authority))?;
        fs::create_dir_all(&node.paths().logs)?;
        Ok(Self {
            etcd,
            node,
            api_server: None,
        })
    }

    /// As `bootstrapper/control_plane.rs` does it: its part in etcd, then its API server.
    pub(super) async fn bring_up(&mut self, elders: &[Ipv4Addr]) -> Result<()> {
        tokio::time::timeout(PATIENCE, take_part(self.etcd.node(), elders, &*self.etcd))
            .await
            .map_err(|_| anyhow::anyhow!("no member of etcd yet:\n{}", self.etcd.log()))?;
        let program = self.node.program(Service::ApiServer);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let child = Command::new(&program.binary)
            .args(&program.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start kube-apiserver")?;
        self.api_server = Some(child);
        let own = self.client().await?;
        let begun = Instant::now();
        while let Err(reason) = k8s::api::ready(&own).await {
            if begun.elapsed() > PATIENCE {
                let text = fs::read_to_string(self.log()).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                bail!("{} has no API: {reason}\n{end}", self.etcd.name());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// kill -9 of both programs.
    pub(super) fn cut_power(&mut self) -> Result<()> {
        self.etcd.cut_power();
        self.end_api_server()
    }

    pub(super) fn end_api_server(&mut self) -> Result<()> {
        if let Some(mut child) = self.api_server.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.node.paths().logs.join("kube-apiserver.log")
    }

    /// The agent's client, past the proxy to this API server.
    pub(super) async fn client(&self) -> Result<Client> {
        let kubeconfig = fs::read_to_string(self.node.paths().node_agent_kubeconfig())?;
        let (proxy, own) = (
            self.node.api_server(),
            format!("https://{}:{API_PORT}", self.mesh_ip()),
        );
        ensure!(kubeconfig.contains(&proxy), "the agent asks the proxy");
        let kubeconfig = files::SecretText::new(kubeconfig.replace(&proxy, &own));
        Ok(k8s::api::client_from(&kubeconfig).await?)
    }

    /// Whether it has all of this.
    pub(super) async fn has(&self, acknowledged: &BTreeMap<String, String>) -> Result<()> {
        let there = everything(self.client().await?).await?;
        for (name, value) in acknowledged {
            ensure!(
                there.get(name) == Some(value),
                "{name} was acknowledged, and {} has {:?}",
                self.etcd.name(),
                there.get(name)
            );
        }
        Ok(())
    }

    fn mesh_ip(&self) -> Ipv4Addr {
        self.node.config().addresses.mesh_ip
    }

    pub(super) fn peer(&self) -> MeshPeer {
        let config = self.node.config();
        MeshPeer {
            node_name: config.node_name.clone(),
            role: Role::ControlPlane,
            public_key: WireGuardPublicKey::new([7; 32]),
            endpoint: self.mesh_ip(),
            mesh_ip: self.mesh_ip(),
            pod_cidr: config.addresses.pod_cidr,
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // the test is over, or has failed and says why
        let _ended = self.end_api_server();
    }
}

/// Writes one object after the other, and remembers which were acknowledged.
pub(super) struct Checker {
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
    stop: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
}

impl Checker {
    pub(super) fn start(client: Client) -> Self {
        let acknowledged = Arc::<Mutex<BTreeMap<String, String>>>::default();
        let stop = CancellationToken::new();
        let (seen, stopped) = (Arc::clone(&acknowledged), stop.clone());
        let writer = tokio::spawn(async move {
            let maps: Api<ConfigMap> = Api::namespaced(client, "default");
            for number in 0_u64.. {
                if stopped.is_cancelled() {
                    return;
                }
                let (name, value) = (format!("written-{number:06}"), format!("value {number}"));
                let map = object(&name, &value);
                let params = PostParams::default();
                let answer = tokio::time::timeout(ANSWER, maps.create(&params, &map)).await;
                if matches!(answer, Ok(Ok(_))) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.insert(name, value);
                } else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
        Self {
            acknowledged,
            stop,
            writer,
        }
    }

    fn count(&self) -> usize {
        let acknowledged = self.acknowledged.lock();
        acknowledged.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until the API has gone on for a while.
    pub(super) async fn goes_on(&self) -> Result<()> {
        let (begun, before) = (Instant::now(), self.count());
        while self.count() < before + WRITES {
            ensure!(
                begun.elapsed() < FAILOVER,
                "writes are not acknowledged any more"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    pub(super) async fn finish(self) -> Result<BTreeMap<String, String>> {
        self.stop.cancel();
        self.writer.await?;
        let acknowledged = self.acknowledged.lock();
        Ok(acknowledged.unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn object(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

async fn everything(client: Client) -> Result<BTreeMap<String, String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut there = BTreeMap::new();
    for map in maps.list(&ListParams::default()).await? {
        let name = map.metadata.name.context("a name")?;
        let value = map.data.unwrap_or_default().remove("value");
        there.extend(value.map(|value| (name, value)));
    }
    Ok(there)
}
