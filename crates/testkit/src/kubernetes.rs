//! etcd and the programs of Kubernetes as processes on loopback, with the flags, files and PKI that `k8s` renders for a node.
//!
//! What runs here is what a node runs, but for addresses and directories. Processes are killed when the harness is dropped. Which
//! Kubernetes: `$CONSTELLATION_COMPONENTS` (a directory with the layout of dl.k8s.io), else what `cargo xtask components` put into the
//! target directory. Where neither is, tests fail and say so. Spec: design/testing.md.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cluster::{
    Role,
    kubernetes::Version,
    network::{AddressPlan, NodeAddresses},
};
use jiff::Timestamp;
use k8s::{
    control_plane::{EncryptionKey, EtcdMembership, Listen, Node, NodeConfig, Paths, Service},
    files::{self, SecretText},
    pki::{Credential, Kubeconfig, Lifetime, Pki},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

/// How long the API server may take, on a busy machine without hardware virtualisation.
const READY: Duration = Duration::from_secs(300);

/// The programs of one release.
#[derive(Clone, Debug)]
pub struct Release {
    /// The directory with the programs.
    pub programs: PathBuf,
    /// Which release they are of.
    pub version: Version,
}

/// A control plane in processes.
pub struct ControlPlane {
    node: Node,
    pki: Pki,
    processes: Vec<(Service, Process)>,
    directory: tempfile::TempDir,
}

/// A child that dies with its owner.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Release {
    /// Finds Kubernetes for tests and says on stderr which it is.
    pub fn find() -> Result<Self> {
        let (root, origin) = match std::env::var_os("CONSTELLATION_COMPONENTS") {
            Some(root) => (PathBuf::from(root), "$CONSTELLATION_COMPONENTS"),
            None => (target()?.join("components"), "target/components"),
        };
        ensure!(
            root.is_dir(),
            "no Kubernetes to test with in {}: `cargo xtask components` gets it",
            root.display()
        );
        let release = Self::in_directory(&root)
            .with_context(|| format!("look for Kubernetes in {origin}"))?;
        // a line of the test's output: which Kubernetes the result is about
        let _unwritable = writeln!(
            std::io::stderr(),
            "testing with Kubernetes {} from {origin}",
            release.version
        );
        Ok(release)
    }

    /// The newest usable release below a directory.
    fn in_directory(root: &Path) -> Result<Self> {
        let entries = fs::read_dir(root).with_context(|| {
            format!(
                "list {} (a URL cannot be tested with: give a directory)",
                root.display()
            )
        })?;
        let mut releases: Vec<Self> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version: Version = entry.file_name().to_str()?.parse().ok()?;
                let programs = entry.path().join("bin/linux/amd64");
                (version.support().is_ok() && programs.join("kube-apiserver").is_file())
                    .then_some(Self { programs, version })
            })
            .collect();
        releases.sort_by_key(|release| release.version);
        releases
            .pop()
            .with_context(|| format!("{} holds no supported release", root.display()))
    }
}

/// Cargo's target directory: a test lies in `<target>/<profile>/deps`.
fn target() -> Result<PathBuf> {
    let test = std::env::current_exe().context("find the test's own path")?;
    let target = test.ancestors().nth(3);
    Ok(target.context("find the target directory")?.to_owned())
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver and waits until the API is ready.
    pub async fn start() -> Result<Self> {
        Self::start_with(Lifetime::DAY).await
    }

    /// The same with certificates that live shorter than a day.
    pub async fn start_with(lifetime: Lifetime) -> Result<Self> {
        let mut this = Self::prepare_with(Timestamp::now(), lifetime)?;
        // both at once, as on a node: the API server waits for etcd by itself
        this.spawn(Service::Etcd)?;
        this.spawn(Service::ApiServer)?;
        this.ready().await?;
        this.has_namespaces().await?;
        Ok(this)
    }

    /// Waits for the namespaces that the API server makes by itself: a moment after it says that it is ready.
    async fn has_namespaces(&mut self) -> Result<()> {
        let begun = Instant::now();
        let client = k8s::api::client(&self.node.paths().node_agent_kubeconfig()).await?;
        let namespaces: Api<Namespace> = Api::all(client);
        for name in ["kube-system", "default"] {
            while namespaces.get_opt(name).await?.is_none() {
                ensure!(begun.elapsed() < READY, "there is no namespace {name}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Waits until the API is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let client = k8s::api::client(&self.node.paths().node_agent_kubeconfig()).await?;
        while let Err(reason) = k8s::api::ready(&client).await {
            self.check_alive()?;
            if begun.elapsed() > READY {
                bail!(
                    "the API server is not ready: {reason}\n{}",
                    self.log(Service::ApiServer)
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Renders everything and starts nothing.
    pub fn prepare(now: Timestamp) -> Result<Self> {
        Self::prepare_with(now, Lifetime::DAY)
    }

    /// The same with certificates that live shorter than a day.
    pub fn prepare_with(now: Timestamp, lifetime: Lifetime) -> Result<Self> {
        let release = Release::find()?;
        let directory = tempfile::Builder::new()
            .prefix("constellation-k8s-")
            .tempdir()
            .context("create a directory")?;
        let plan = AddressPlan::default();
        let NodeAddresses {
            index, pod_cidr, ..
        } = plan.node(1)?;
        let [
            api,
            etcd_client,
            etcd_peer,
            etcd_metrics,
            controller_manager,
            scheduler,
        ] = free_ports()?;
        let config = NodeConfig {
            cluster_name: "test".parse()?,
            version: release.version,
            node_name: "control-plane-0".parse()?,
            role: Role::ControlPlane,
            plan,
            addresses: NodeAddresses {
                index,
                mesh_ip: Ipv4Addr::LOCALHOST,
                pod_cidr,
            },
            api_endpoint: SocketAddrV4::new(Ipv4Addr::LOCALHOST, api),
            provider_id: None,
            etcd: EtcdMembership::New,
        };
        let listen = Listen {
            api: (IpAddr::V4(Ipv4Addr::LOCALHOST), api),
            // the API server refuses to announce a loopback address; nobody uses this one
            advertise: plan.node(1)?.mesh_ip,
            etcd_client,
            etcd_mesh_client: (Ipv4Addr::LOCALHOST, etcd_client),
            etcd_peer: (Ipv4Addr::LOCALHOST, etcd_peer),
            etcd_metrics,
            controller_manager,
            scheduler,
        };
        let node = Node::new(
            config,
            Paths::below(directory.path(), &release.programs),
            listen,
        )?
        .with_lifetime(lifetime);
        let names = node.names(Ipv4Addr::LOCALHOST, Vec::new());
        let pki =
            Pki::open_or_generate("test", names, &node.paths().pki(), now)?.with_lifetime(lifetime);
        pki.write(now)?;
        EncryptionKey::generate()?
            .file(node.paths().encryption_config())
            .write()?;
        for service in [
            Service::ApiServer,
            Service::ControllerManager,
            Service::Scheduler,
        ] {
            files::write_all(&node.files(service, pki.authorities().cluster_certificate()))?;
        }
        for path in [&node.paths().etcd_data, &node.paths().logs] {
            fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        }
        Ok(Self {
            node,
            pki,
            processes: Vec::new(),
            directory,
        })
    }

    /// Puts a backup where a control plane would have its own, before anything of it started.
    pub fn restore(&mut self, snapshot: &Path, essentials: &k8s::backup::Essentials) -> Result<()> {
        let paths = self.node.paths().clone();
        fs::remove_dir_all(paths.pki()).context("remove the new authorities")?;
        essentials.write(&paths)?;
        let names = self.node.names(Ipv4Addr::LOCALHOST, Vec::new());
        self.pki = Pki::open(names, &paths.pki())?;
        self.pki.write(Timestamp::now())?;
        let ca = self.pki.authorities().cluster_certificate();
        for service in [
            Service::ApiServer,
            Service::ControllerManager,
            Service::Scheduler,
        ] {
            files::write_all(&self.node.files(service, ca))?;
        }
        let into = self.node.etcd_restore_directory();
        let program = self.node.etcd_restore(snapshot, &into);
        let output = Command::new(&program.binary)
            .args(&program.args)
            .output()
            .context("start etcdctl (Debian package: etcd-client)")?;
        ensure!(output.status.success(), "etcdctl: {output:?}");
        fs::remove_dir_all(&paths.etcd_data).context("remove the empty directory")?;
        fs::rename(&into, &paths.etcd_data).context("name what was restored")
    }

    /// Starts a further program, such as kube-controller-manager, or one again that was killed.
    pub fn spawn(&mut self, service: Service) -> Result<()> {
        let program = self.node.program(service);
        let log = self
            .directory
            .path()
            .join(format!("{}.log", service.program_name()));
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(&program.binary)
            .args(&program.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share the log")?)
            .stderr(output)
            .spawn()
            .with_context(|| {
                format!(
                    "start {} (Debian packages: etcd-server for etcd)",
                    program.binary.display()
                )
            })?;
        self.processes.push((service, Process { child, log }));
        Ok(())
    }

    /// Kills a program that runs, as a power cut does: it is told nothing.
    pub fn kill(&mut self, service: Service) -> Result<()> {
        let index = self
            .processes
            .iter()
            .position(|(which, _)| *which == service)
            .with_context(|| format!("{} does not run", service.program_name()))?;
        // its end is the drop's
        self.processes.swap_remove(index);
        Ok(())
    }

    /// The process of a program.
    pub fn pid(&self, service: Service) -> Option<u32> {
        let mut processes = self.processes.iter();
        processes
            .find(|(which, _)| *which == service)
            .map(|(_, process)| process.child.id())
    }

    /// Fails with the log of a program that has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        for (service, process) in &mut self.processes {
            if let Some(status) = process.child.try_wait().context("look after a process")? {
                bail!(
                    "{} ended with {status}:\n{}",
                    service.program_name(),
                    process.tail()
                );
            }
        }
        Ok(())
    }

    /// The end of a program's log.
    pub fn log(&self, service: Service) -> String {
        self.processes
            .iter()
            .find(|(which, _)| *which == service)
            .map(|(_, process)| process.tail())
            .unwrap_or_default()
    }

    /// The node as rendered.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The PKI, to issue certificates with.
    pub const fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The API's address on this host.
    pub const fn api(&self) -> SocketAddrV4 {
        self.node.config().api_endpoint
    }

    /// The kubeconfig of the node agent, which may do everything.
    pub fn agent_kubeconfig(&self) -> PathBuf {
        self.node.paths().node_agent_kubeconfig()
    }

    /// A kubeconfig for `credential`.
    pub fn kubeconfig(&self, credential: Credential<'_>) -> SecretText {
        Kubeconfig {
            cluster_name: "test",
            user: "test",
            server: &format!("https://{}", self.api()),
            ca_certificate_pem: self.pki.authorities().cluster_certificate(),
            credential,
        }
        .render()
    }
}

impl Process {
    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        // a crash of a Go program begins with its reason and goes on with every goroutine
        let crash = lines
            .iter()
            .position(|line| line.starts_with("fatal error:") || line.starts_with("panic:"));
        let begin = crash.map_or(lines.len().saturating_sub(30), |crash| {
            crash.saturating_sub(5)
        });
        lines
            .iter()
            .skip(begin)
            .take(40)
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Ports that nobody listens on now, below those the kernel gives to outgoing connections: between choosing a port and
/// listening on it, another program's connection must not take it.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    // each process begins elsewhere, and none gives a port twice
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(7919)));
    let mut ports = [0; N];
    for port in &mut ports {
        *port = (0..COUNT)
            .filter_map(|_| {
                u16::try_from(FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT).ok()
            })
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .context("find a free port")?;
    }
    Ok(ports)
}
