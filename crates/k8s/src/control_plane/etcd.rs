//! etcd: one member per control plane, TLS with client certificates on every port but health.
//!
//! The API server asks its own node's member on loopback. In the mesh the members listen as well, for each other and for a control
//! plane that is about to become one; who has no certificate of etcd's authority, such as a worker or a pod, gets no answer there.
//!
//! The flags are those that etcd 3.4 and 3.5 have in common, since Debian carries both. The data lies on the state disk, which is
//! encrypted and authenticated; writes are synced.

use std::net::Ipv4Addr;

use cluster::NodeName;

use super::{Node, TLS_CIPHER_SUITES};
use crate::pki::{AuthorityName, Leaf};

/// Which etcd cluster a member belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdMembership {
    /// The first member of a new one.
    New,
    /// A further member, added before it starts; all members with their peer addresses, this one included.
    Existing(Vec<(NodeName, Ipv4Addr)>),
}

impl Node {
    pub(super) fn etcd_args(&self) -> Vec<String> {
        let name = &self.config.node_name;
        let (peer_ip, peer_port) = self.listen.etcd_peer;
        let peer_url = format!("https://{peer_ip}:{peer_port}");
        let local_url = format!("https://127.0.0.1:{}", self.listen.etcd_client);
        let (mesh_ip, mesh_port) = self.listen.etcd_mesh_client;
        let mesh_url = format!("https://{mesh_ip}:{mesh_port}");
        let mut client_urls = vec![local_url, mesh_url.clone()];
        // in tests both may be one
        client_urls.dedup();
        let (state, members) = match &self.config.etcd {
            EtcdMembership::New => ("new", vec![format!("{name}={peer_url}")]),
            EtcdMembership::Existing(members) => (
                "existing",
                members
                    .iter()
                    .map(|(name, ip)| format!("{name}=https://{ip}:{peer_port}"))
                    .collect(),
            ),
        };
        let authority = format!("{}.crt", AuthorityName::Etcd.stem());
        vec![
            format!("--name={name}"),
            Self::flag_path("data-dir", &self.paths.etcd_data),
            format!("--listen-client-urls={}", client_urls.join(",")),
            format!("--advertise-client-urls={mesh_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!(
                "--listen-metrics-urls=http://127.0.0.1:{}",
                self.listen.etcd_metrics
            ),
            format!("--initial-cluster={}", members.join(",")),
            format!("--initial-cluster-state={state}"),
            format!("--initial-cluster-token={}", self.config.cluster_name),
            "--client-cert-auth=true".to_owned(),
            self.pki_flag("trusted-ca-file", &authority),
            self.pki_flag("cert-file", Leaf::EtcdServer.certificate()),
            self.pki_flag("key-file", Leaf::EtcdServer.key()),
            "--peer-client-cert-auth=true".to_owned(),
            self.pki_flag("peer-trusted-ca-file", &authority),
            self.pki_flag("peer-cert-file", Leaf::EtcdPeer.certificate()),
            self.pki_flag("peer-key-file", Leaf::EtcdPeer.key()),
            format!("--cipher-suites={}", TLS_CIPHER_SUITES.join(",")),
            "--experimental-initial-corrupt-check=true".to_owned(),
            "--snapshot-count=10000".to_owned(),
            // the API server compacts
            "--auto-compaction-retention=0".to_owned(),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }
}
