//! The table of leaf certificates a control plane has: who signs each, for whom, for what.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose as Purpose, SanType};

use super::{AuthorityName, LEAF_SLACK, Lifetime, PkiError, params};

/// A leaf certificate of a control-plane node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaf {
    /// What the API server shows to clients.
    ApiServer,
    /// What it shows to kubelets.
    ApiServerKubeletClient,
    /// What it shows to etcd.
    ApiServerEtcdClient,
    /// What it shows to extension API servers.
    FrontProxyClient,
    /// What etcd shows to the API server.
    EtcdServer,
    /// What etcd's members show to each other.
    EtcdPeer,
    /// kube-controller-manager as a client of the API.
    ControllerManager,
    /// kube-scheduler as a client of the API.
    Scheduler,
    /// The node agent as a client of the API: `system:masters`, since it makes the first roles.
    NodeAgent,
    /// What the key service on this node shows to its callers.
    KeyService,
}

/// The names and addresses that stand in a node's serving certificates.
#[derive(Clone, Debug)]
pub struct NodeNames {
    /// The node.
    pub node_name: cluster::NodeName,
    /// Its address in the mesh, where the API and etcd's peers are reached from other nodes.
    pub mesh_ip: Ipv4Addr,
    /// Its address in the provider's network.
    pub node_ip: Ipv4Addr,
    /// The address of the service `kubernetes`.
    pub api_service_ip: Ipv4Addr,
    /// Further names of the API: load balancer, the user's own.
    pub api_sans: Vec<String>,
}

/// DNS names of the API inside the cluster.
const API_SERVICE: [&str; 4] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];
/// DNS names of the key service inside the cluster.
const KEY_SERVICE: [&str; 4] = [
    "key-service",
    "key-service.kube-system",
    "key-service.kube-system.svc",
    "key-service.kube-system.svc.cluster.local",
];
/// How often a client of the API by client-go reads the certificate that its kubeconfig names, and closes its connections when it is
/// another one: `CertCallbackRefreshDuration` in `client-go/transport/cert_rotation.go`. At a new connection it reads it as well.
pub(super) const CLIENT_LOOKS_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How often the API server reads its serving certificate and what it shows to extension API servers: `FileRefreshDuration` in
/// `apiserver/pkg/server/dynamiccertificates`. Later versions are told of a change by the kernel as well.
const API_SERVER_LOOKS_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// How often the key service looks: its `tls` module.
const KEY_SERVICE_LOOKS_EVERY: SignedDuration = SignedDuration::from_secs(30);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Leaf {
    /// All of them, in the order they are needed at init.
    pub const ALL: [Self; 10] = [
        Self::EtcdServer,
        Self::EtcdPeer,
        Self::ApiServerEtcdClient,
        Self::ApiServer,
        Self::ApiServerKubeletClient,
        Self::FrontProxyClient,
        Self::NodeAgent,
        Self::ControllerManager,
        Self::Scheduler,
        Self::KeyService,
    ];

    /// Path below the pki directory, without extension.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::ApiServerKubeletClient => "apiserver-kubelet-client",
            Self::ApiServerEtcdClient => "apiserver-etcd-client",
            Self::FrontProxyClient => "front-proxy-client",
            Self::EtcdServer => "etcd/server",
            Self::EtcdPeer => "etcd/peer",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::NodeAgent => "node-agent",
            // In a directory of its own, which is all of the PKI that the key service's pod mounts.
            Self::KeyService => "key-service/tls",
        }
    }

    /// Path of the certificate below the pki directory.
    pub fn certificate(self) -> PathBuf {
        PathBuf::from(format!("{}.crt", self.stem()))
    }

    /// Path of the key below the pki directory.
    pub fn key(self) -> PathBuf {
        PathBuf::from(format!("{}.key", self.stem()))
    }

    /// Who signs it.
    pub const fn authority(self) -> AuthorityName {
        match self {
            Self::EtcdServer | Self::EtcdPeer | Self::ApiServerEtcdClient => AuthorityName::Etcd,
            Self::FrontProxyClient => AuthorityName::FrontProxy,
            Self::ApiServer
            | Self::ApiServerKubeletClient
            | Self::ControllerManager
            | Self::Scheduler
            | Self::NodeAgent
            | Self::KeyService => AuthorityName::Cluster,
        }
    }

    /// How long a program that runs may go on with the former one after a new one was written. None restarts for it.
    ///
    /// etcd, and the API server as a client of etcd and of kubelets, read at each new connection; theirs are checked
    /// when a connection begins, and it stays good. Requests to the API are checked one by one, also on an old connection.
    pub(super) const fn noticed_after(self) -> SignedDuration {
        match self {
            Self::EtcdServer
            | Self::EtcdPeer
            | Self::ApiServerEtcdClient
            | Self::ApiServerKubeletClient
            // the agent makes a new client when the old one is refused
            | Self::NodeAgent => SignedDuration::ZERO,
            Self::ApiServer | Self::FrontProxyClient => API_SERVER_LOOKS_EVERY,
            Self::ControllerManager | Self::Scheduler => CLIENT_LOOKS_EVERY,
            Self::KeyService => KEY_SERVICE_LOOKS_EVERY,
        }
    }

    /// Common name and organization: user and group for clients of the API.
    const fn subject(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::ApiServer => ("kube-apiserver", None),
            Self::ApiServerKubeletClient => {
                ("kube-apiserver-kubelet-client", Some(KUBELET_ADMIN_GROUP))
            }
            Self::ApiServerEtcdClient => ("kube-apiserver-etcd-client", None),
            Self::FrontProxyClient => ("front-proxy-client", None),
            Self::EtcdServer => ("etcd-server", None),
            Self::EtcdPeer => ("etcd-peer", None),
            Self::ControllerManager => ("system:kube-controller-manager", None),
            Self::Scheduler => ("system:kube-scheduler", None),
            Self::NodeAgent => ("constellation:node-agent", Some("system:masters")),
            Self::KeyService => ("key-service", None),
        }
    }

    const fn purposes(self) -> &'static [Purpose] {
        match self {
            Self::ApiServer | Self::KeyService => &[Purpose::ServerAuth],
            // etcd's gRPC gateway dials its own server with the server certificate
            Self::EtcdServer | Self::EtcdPeer => &[Purpose::ServerAuth, Purpose::ClientAuth],
            Self::ApiServerKubeletClient
            | Self::ApiServerEtcdClient
            | Self::FrontProxyClient
            | Self::ControllerManager
            | Self::Scheduler
            | Self::NodeAgent => &[Purpose::ClientAuth],
        }
    }

    fn subject_alt_names(self, names: &NodeNames) -> Result<Vec<SanType>, PkiError> {
        let node = names.node_name.as_str();
        let (mut dns, mut ips): (Vec<String>, Vec<IpAddr>) = (Vec::new(), Vec::new());
        match self {
            Self::ApiServer => {
                dns.extend(API_SERVICE.map(str::to_owned));
                dns.extend([node.to_owned(), "localhost".to_owned()]);
                ips.extend([
                    LOOPBACK,
                    names.mesh_ip.into(),
                    names.node_ip.into(),
                    names.api_service_ip.into(),
                ]);
                for san in &names.api_sans {
                    match san.parse() {
                        Ok(ip) => ips.push(ip),
                        Err(_) if is_dns_name(san) => dns.push(san.clone()),
                        Err(_) => return Err(PkiError::SubjectAltName(san.clone())),
                    }
                }
            }
            Self::EtcdServer => {
                dns.extend([node.to_owned(), "localhost".to_owned()]);
                ips.extend([LOOPBACK, names.mesh_ip.into()]);
            }
            Self::EtcdPeer => {
                dns.push(node.to_owned());
                ips.push(names.mesh_ip.into());
            }
            Self::KeyService => dns.extend(KEY_SERVICE.map(str::to_owned)),
            Self::ApiServerKubeletClient
            | Self::ApiServerEtcdClient
            | Self::FrontProxyClient
            | Self::ControllerManager
            | Self::Scheduler
            | Self::NodeAgent => {}
        }
        dns.sort();
        dns.dedup();
        ips.sort();
        ips.dedup();
        let mut sans = Vec::new();
        for name in dns {
            sans.push(SanType::DnsName(
                name.as_str()
                    .try_into()
                    .map_err(|_| PkiError::SubjectAltName(name.clone()))?,
            ));
        }
        sans.extend(ips.into_iter().map(SanType::IpAddress));
        Ok(sans)
    }

    /// The certificate's contents for a node.
    pub(crate) fn params(
        self,
        names: &NodeNames,
        now: Timestamp,
        lifetime: Lifetime,
    ) -> Result<CertificateParams, PkiError> {
        let (common_name, organization) = self.subject();
        let mut params = params(
            common_name,
            organization,
            self.purposes(),
            now,
            LEAF_SLACK,
            lifetime.of(self),
        )?;
        params.subject_alt_names = self.subject_alt_names(names)?;
        Ok(params)
    }
}

/// The group that may use kubelets' API; bound to `system:kubelet-api-admin` in `addons`.
pub const KUBELET_ADMIN_GROUP: &str = "constellation:kubelet-api-admins";

/// Whether `name` can stand in a certificate as a DNS name, maybe with a wildcard in front.
pub fn is_dns_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    rest.len() <= 253
        && rest.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
