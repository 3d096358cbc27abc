//! The programs of Kubernetes on a node, as systemd units with their flags and configuration files.
//!
//! Everything here is rendering: a [`Node`] says what files and units a node has; the node agent writes and starts them. The same
//! [`Program`]s run as plain processes in tests, so that what is tested is what a node runs. What differs between minors of
//! Kubernetes is one table, `versions`. Spec: design/cluster.md, "Kubernetes without moving parts in between".

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use cluster::{
    ClusterName, NodeName, Role,
    kubernetes::{Version, VersionError},
    network::{API_PORT, AddressPlan, NodeAddresses},
};

use crate::{files::File, pki::Lifetime};

mod apiserver;
mod encryption;
mod etcd;
pub mod kubelet;
mod managers;
mod proxy;
mod shared;
mod unit;
mod versions;

pub use encryption::{EncryptionError, EncryptionKey};
pub use etcd::EtcdMembership;
pub use shared::{Shared, SharedError};
pub use unit::{Program, Service};
pub use versions::{Anonymous, Differences};

/// What a node's Kubernetes depends on.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster.
    pub cluster_name: ClusterName,
    /// Its version of Kubernetes.
    pub version: Version,
    /// The node.
    pub node_name: NodeName,
    /// Its role.
    pub role: Role,
    /// The address ranges of the cluster.
    pub plan: AddressPlan,
    /// The node's own addresses in them.
    pub addresses: NodeAddresses,
    /// The API as kubelet, kube-proxy and the node agent reach it: on a node its own proxy, which finds a control plane that answers.
    pub api_endpoint: SocketAddrV4,
    /// The provider's name for the machine.
    pub provider_id: Option<String>,
    /// Which etcd this node's member belongs to; without meaning on a worker.
    pub etcd: EtcdMembership,
}

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Programs of Kubernetes.
    pub bin: PathBuf,
    /// etcd, which the image brings.
    pub etcd_binary: PathBuf,
    /// PKI, kubeconfigs, configuration.
    pub kubernetes: PathBuf,
    /// Data of etcd.
    pub etcd_data: PathBuf,
    /// Data of the kubelet.
    pub kubelet_data: PathBuf,
    /// Certificates of the kubelet.
    pub kubelet_pki: PathBuf,
    /// Audit log and others.
    pub logs: PathBuf,
    /// Unit files.
    pub units: PathBuf,
    /// FlexVolume plugins: the default lies on the read-only root.
    pub volume_plugins: PathBuf,
    /// The container runtime's socket.
    pub containerd_socket: PathBuf,
}

/// Where the programs listen.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// The API.
    pub api: (IpAddr, u16),
    /// The address the API is announced with to pods.
    pub advertise: Ipv4Addr,
    /// etcd for the API server, on loopback.
    pub etcd_client: u16,
    /// etcd for control planes that become members, in the mesh.
    pub etcd_mesh_client: (Ipv4Addr, u16),
    /// etcd for its other members.
    pub etcd_peer: (Ipv4Addr, u16),
    /// etcd's health, on loopback.
    pub etcd_metrics: u16,
    /// kube-controller-manager's health, on loopback.
    pub controller_manager: u16,
    /// kube-scheduler's health, on loopback.
    pub scheduler: u16,
}

/// A node of which everything is known: renders its files and units.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) paths: Paths,
    pub(crate) listen: Listen,
    pub(crate) differences: Differences,
    pub(crate) lifetime: Lifetime,
}

const ETCD_CLIENT_PORT: u16 = 2379;

/// TLS 1.2 suites with forward secrecy and AEAD; TLS 1.3 needs no list. The certificates are ECDSA.
pub(crate) const TLS_CIPHER_SUITES: [&str; 5] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
];

impl Paths {
    /// The layout of a node.
    pub fn node() -> Self {
        Self {
            bin: cluster::catalogue::BIN_DIR.into(),
            etcd_binary: "/usr/bin/etcd".into(),
            kubernetes: "/etc/kubernetes".into(),
            etcd_data: "/run/state/etcd".into(),
            kubelet_data: "/var/lib/kubelet".into(),
            kubelet_pki: "/run/state/kubelet/pki".into(),
            logs: "/var/log/kubernetes".into(),
            units: "/run/systemd/system".into(),
            volume_plugins: "/opt/libexec/kubernetes/kubelet-plugins/volume/exec".into(),
            containerd_socket: "/run/containerd/containerd.sock".into(),
        }
    }

    /// The same layout below a directory, with the programs of Kubernetes in `bin`: for tests.
    pub fn below(root: &Path, bin: &Path) -> Self {
        let node = Self::node();
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        Self {
            bin: bin.to_owned(),
            etcd_binary: node.etcd_binary.clone(),
            kubernetes: below(&node.kubernetes),
            etcd_data: below(&node.etcd_data),
            kubelet_data: below(&node.kubelet_data),
            kubelet_pki: below(&node.kubelet_pki),
            logs: below(&node.logs),
            units: below(&node.units),
            volume_plugins: below(&node.volume_plugins),
            containerd_socket: below(&node.containerd_socket),
        }
    }

    /// The PKI.
    pub fn pki(&self) -> PathBuf {
        self.kubernetes.join("pki")
    }

    /// The kubeconfig of the node agent on a control plane.
    pub fn node_agent_kubeconfig(&self) -> PathBuf {
        self.kubernetes.join("node-agent.conf")
    }

    /// The kubeconfig of the kubelet, which kube-proxy and the node agent of a worker use as well.
    pub fn kubelet_kubeconfig(&self) -> PathBuf {
        self.kubernetes.join("kubelet.conf")
    }

    /// The kubeconfig with which a joining kubelet asks for its certificate.
    pub fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.kubernetes.join("bootstrap-kubelet.conf")
    }

    /// The kubelet's current client certificate and key, one file.
    pub fn kubelet_client_certificate(&self) -> PathBuf {
        self.kubelet_pki.join("kubelet-client-current.pem")
    }

    /// The audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.logs.join("audit/audit.log")
    }

    /// The key that encrypts secrets in etcd.
    pub fn encryption_config(&self) -> PathBuf {
        self.kubernetes.join(encryption::FILE_NAME)
    }
}

impl Listen {
    /// The ports of a node.
    pub const fn node(mesh_ip: Ipv4Addr) -> Self {
        Self {
            api: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), API_PORT),
            advertise: mesh_ip,
            etcd_client: ETCD_CLIENT_PORT,
            etcd_mesh_client: (mesh_ip, ETCD_CLIENT_PORT),
            etcd_peer: (mesh_ip, 2380),
            etcd_metrics: 2381,
            controller_manager: 10257,
            scheduler: 10259,
        }
    }
}

impl Node {
    /// Checks that clusters may be made with this version.
    pub fn new(config: NodeConfig, paths: Paths, listen: Listen) -> Result<Self, VersionError> {
        config.version.support()?;
        let differences = Differences::of(config.version);
        Ok(Self {
            config,
            paths,
            listen,
            differences,
            lifetime: Lifetime::DAY,
        })
    }

    /// The same with certificates that live shorter than a day.
    #[must_use]
    pub const fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How long this node's certificates live.
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The same node as a member of this etcd.
    #[must_use]
    pub fn with_etcd(mut self, etcd: EtcdMembership) -> Self {
        self.config.etcd = etcd;
        self
    }

    /// The layout of this node.
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What the node is configured with.
    pub const fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Where its programs listen.
    pub const fn listen(&self) -> &Listen {
        &self.listen
    }

    /// The URL under which this node's kubelet, kube-proxy and agent reach the API.
    pub fn api_server(&self) -> String {
        format!("https://{}", self.config.api_endpoint)
    }

    /// The URL of a control plane's own API server, which its controllers use: of those, one control plane's work at a time.
    pub fn own_api_server(&self) -> String {
        format!("https://127.0.0.1:{}", self.listen.api.1)
    }

    /// The names in this node's serving certificates.
    pub fn names(&self, node_ip: Ipv4Addr, api_sans: Vec<String>) -> crate::pki::NodeNames {
        crate::pki::NodeNames {
            node_name: self.config.node_name.clone(),
            mesh_ip: self.config.addresses.mesh_ip,
            node_ip,
            api_service_ip: self.config.plan.api_service_ip(),
            api_sans,
        }
    }

    /// The configuration files of `service`, its kubeconfigs included. Keys and certificates are `pki`'s, the encryption key is
    /// [`EncryptionKey`]'s, a joining kubelet's bootstrap kubeconfig is [`Node::kubelet_bootstrap`]'s.
    pub fn files(&self, service: Service, ca_certificate_pem: &str) -> Vec<File> {
        match service {
            Service::Etcd => Vec::new(),
            Service::ApiServer => self.api_server_files(ca_certificate_pem),
            Service::ControllerManager | Service::Scheduler => {
                self.manager_files(service, ca_certificate_pem)
            }
            Service::Kubelet => self.kubelet_files(),
            Service::KubeProxy => self.proxy_files(),
        }
    }

    /// How `service` is started.
    pub fn program(&self, service: Service) -> Program {
        let args = match service {
            Service::Etcd => self.etcd_args(),
            Service::ApiServer => self.api_server_args(),
            Service::ControllerManager => self.controller_manager_args(),
            Service::Scheduler => self.scheduler_args(),
            Service::Kubelet => self.kubelet_args(),
            Service::KubeProxy => self.proxy_args(),
        };
        let binary = match service {
            Service::Etcd => self.paths.etcd_binary.clone(),
            _ => self.paths.bin.join(service.program_name()),
        };
        Program { binary, args }
    }

    /// The unit file of `service`.
    pub fn unit(&self, service: Service) -> File {
        File::public(
            self.paths.units.join(service.unit_name()),
            unit::render(service, &self.program(service), &self.paths),
        )
    }

    pub(crate) fn flag_path(name: &str, path: &Path) -> String {
        format!("--{name}={}", path.display())
    }

    pub(crate) fn pki_flag(&self, name: &str, file: impl AsRef<Path>) -> String {
        Self::flag_path(name, &self.paths.pki().join(file))
    }
}

#[cfg(test)]
mod tests;
