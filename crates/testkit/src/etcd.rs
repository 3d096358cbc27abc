//! Control planes of which only etcd runs: each with the flags, files and PKI of a node, on a loopback address of its own that
//! stands for its address in the mesh.
//!
//! Each etcd is kept running as the service manager does, until it is stopped or its node's power is cut.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use cluster::{
    Role,
    etcd::ControlPlanes,
    kubernetes::Version,
    network::{AddressPlan, NodeAddresses},
};
use jiff::Timestamp;
use k8s::{
    control_plane::{EtcdMembership, Listen, Node, NodeConfig, Paths, Service},
    etcd::{Access, Client, LocalError, LocalEtcd, News, Records},
    pki::{Authorities, Pki},
};

use crate::kubernetes::free_ports;

/// Who hears what happens on a node.
pub type Listener = Box<dyn Fn(&News<'_>) + Send + Sync>;

/// The control planes.
pub struct EtcdNodes {
    nodes: Vec<Arc<EtcdNode>>,
    records: Arc<Mutex<Vec<(String, SocketAddrV4)>>>,
    _directory: tempfile::TempDir,
}

/// One of them.
pub struct EtcdNode {
    node: Node,
    log: PathBuf,
    records: Arc<Mutex<Vec<(String, SocketAddrV4)>>>,
    process: Arc<Mutex<Kept>>,
    listener: Mutex<Listener>,
}

/// A program that is kept running.
struct Kept {
    wanted: Option<Node>,
    child: Option<Child>,
    log: PathBuf,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // a test that fails while it holds it must not hide why
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EtcdNodes {
    /// Makes the files of `count` control planes, all on record; the first one's etcd begins a cluster.
    pub fn found(count: u8) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("constellation-etcd-")
            .tempdir()
            .context("create a directory")?;
        let authorities = Authorities::generate("test", Timestamp::now())?;
        let [mesh_client, peer] = free_ports()?;
        let records = Arc::new(Mutex::new(Vec::new()));
        let mut nodes = Vec::new();
        for number in 1..=count {
            let root = directory.path().join(format!("node-{number}"));
            let node = prepare(number, &root, &authorities, mesh_client, peer)?;
            lock(&records).push(record(&node));
            nodes.push(Arc::new(EtcdNode::new(
                node,
                root.join("etcd.log"),
                Arc::clone(&records),
            )));
        }
        let first = nodes.first().context("at least one")?;
        first.keep(EtcdMembership::New)?;
        Ok(Self {
            nodes,
            records,
            _directory: directory,
        })
    }

    /// One of them, from 0.
    pub fn node(&self, index: usize) -> Arc<EtcdNode> {
        Arc::clone(&self.nodes[index])
    }

    /// Deletes a node's record.
    pub fn delete_record(&self, index: usize) {
        let name = self.nodes[index].name().to_owned();
        lock(&self.records).retain(|(recorded, _)| *recorded != name);
    }

    /// Asks the members of all nodes, in turn.
    pub fn client(&self) -> Client {
        let endpoints = self.nodes.iter().map(|node| node.node.etcd_own_client());
        let access = Access::of(&self.nodes[0].node.paths().pki());
        Client::new(access, endpoints.collect())
    }
}

fn prepare(
    number: u8,
    root: &std::path::Path,
    authorities: &Authorities,
    mesh_client: u16,
    peer: u16,
) -> Result<Node> {
    let plan = AddressPlan::default();
    let NodeAddresses {
        index, pod_cidr, ..
    } = plan.node(number.into())?;
    let mesh_ip = Ipv4Addr::new(127, 0, 0, 10 + number);
    let [etcd_client, etcd_metrics, unused] = free_ports()?;
    let config = NodeConfig {
        cluster_name: "test".parse()?,
        version: Version::new(20, 2),
        node_name: format!("control-plane-{number}").parse()?,
        role: Role::ControlPlane,
        plan,
        addresses: NodeAddresses {
            index,
            mesh_ip,
            pod_cidr,
        },
        api_endpoint: SocketAddrV4::new(mesh_ip, unused),
        provider_id: None,
        etcd: EtcdMembership::New,
    };
    let listen = Listen {
        api: (mesh_ip.into(), unused),
        advertise: mesh_ip,
        etcd_client,
        etcd_mesh_client: (mesh_ip, mesh_client),
        etcd_peer: (mesh_ip, peer),
        etcd_metrics,
        controller_manager: unused,
        scheduler: unused,
    };
    let node = Node::new(config, Paths::below(root, root), listen)?;
    let pki_dir = node.paths().pki();
    k8s::files::write_all(&authorities.files(&pki_dir))?;
    let names = node.names(mesh_ip, Vec::new());
    Pki::open(names, &pki_dir)?.write(Timestamp::now())?;
    fs::create_dir_all(&node.paths().etcd_data).context("create etcd's directory")?;
    Ok(node)
}

fn record(node: &Node) -> (String, SocketAddrV4) {
    let config = node.config();
    let peer = SocketAddrV4::new(config.addresses.mesh_ip, node.etcd_peer_port());
    (config.node_name.to_string(), peer)
}

impl EtcdNode {
    fn new(node: Node, log: PathBuf, records: Arc<Mutex<Vec<(String, SocketAddrV4)>>>) -> Self {
        let process = Arc::new(Mutex::new(Kept {
            wanted: None,
            child: None,
            log: log.clone(),
        }));
        // until the node is dropped
        let kept = Arc::downgrade(&process);
        std::thread::spawn(move || {
            while let Some(kept) = kept.upgrade() {
                lock(&kept).look_after();
                drop(kept);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            node,
            log,
            records,
            process,
            listener: Mutex::new(Box::new(|_| {})),
        }
    }

    /// The node as rendered.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.node.config().node_name.as_str()
    }

    /// Who hears from now on what happens; what it panics with ends the task that tells it.
    pub fn listen(&self, listener: impl Fn(&News<'_>) + Send + Sync + 'static) {
        *lock(&self.listener) = Box::new(listener);
    }

    /// Cuts the node's power: etcd ends at once, and stays ended.
    pub fn cut_power(&self) {
        lock(&self.process).end();
    }

    /// Gives the node a new disk.
    pub fn lose_disk(&self) -> Result<()> {
        self.cut_power();
        Ok(k8s::etcd::Directory::new(&self.node.paths().etcd_data).discard()?)
    }

    /// The end of etcd's log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Whether the program runs.
    pub fn runs(&self) -> bool {
        lock(&self.process).wanted.is_some()
    }

    fn keep(&self, membership: EtcdMembership) -> Result<()> {
        let config = NodeConfig {
            etcd: membership,
            ..self.node.config().clone()
        };
        let node = Node::new(config, self.node.paths().clone(), *self.node.listen())?;
        let mut kept = lock(&self.process);
        kept.wanted = Some(node);
        kept.look_after();
        Ok(())
    }
}

impl Kept {
    /// Starts the program if it is to run and does not.
    fn look_after(&mut self) {
        let Some(node) = &self.wanted else { return };
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(None))
        {
            return;
        }
        let program = node.program(Service::Etcd);
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .and_then(|log| Ok((log.try_clone()?, log)));
        let Ok((stdout, stderr)) = output else { return };
        // tried again in a moment; a test that waits for it shows the log
        self.child = Command::new(&program.binary)
            .args(&program.args)
            // On loopback all connections come from one address, which is no member's. A node's come from its own in the mesh.
            .arg("--experimental-peer-skip-client-san-verification=true")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .ok();
    }

    fn end(&mut self) {
        self.wanted = None;
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait::async_trait]
impl Records for EtcdNode {
    async fn control_planes(&self) -> Result<ControlPlanes, LocalError> {
        Ok(lock(&self.records).iter().cloned().collect())
    }
}

#[async_trait::async_trait]
impl LocalEtcd for EtcdNode {
    async fn start(&self, membership: EtcdMembership) -> Result<(), LocalError> {
        if !self.runs() {
            self.keep(membership)?;
        }
        Ok(())
    }

    async fn stop(&self) -> Result<(), LocalError> {
        lock(&self.process).end();
        Ok(())
    }

    fn tell(&self, news: News<'_>) {
        eprintln!("{} {}: {news}", Timestamp::now(), self.name());
        (lock(&self.listener))(&news);
    }
}
