//! etcd's members: a client for its API, and what a control plane does to become a member, to stay one, and to let others go.
//!
//! What is to be done is decided in `cluster::etcd`; here it is asked and done. [`take_part`] runs on a control plane after each
//! boot, once its kubelet is a member of Kubernetes, until its etcd is a member with a vote; [`stay`] watches from then on that it
//! is one. [`remove_departed`] runs on control planes from time to time. Both that change the list of members do so only under a
//! [`lock::Lock`], which ends by itself when its holder stops.
//!
//! The lock keeps control planes from working against each other; safety does not rest on it. A holder that was stopped for longer
//! than its lease and goes on may still send its one request: etcd allows one learner, promotes none that has not caught up, and
//! changes its list by one member at a time, with majorities that overlap. The worst that comes of it is a joining that begins anew.

use std::net::{Ipv4Addr, SocketAddrV4};

use cluster::etcd::ControlPlanes;

mod client;
mod departed;
mod directory;
pub mod lock;
mod removed;
mod take_part;
pub mod wire;

pub use client::{Access, Client, Connection, EtcdError, Snapshot, Status};
pub use departed::{Departed, DepartedError, remove_departed};
pub use directory::{Directory, DirectoryError};
pub use removed::stay;
pub use take_part::{News, TakePartError, take_part, take_part_within};

use crate::control_plane::{EtcdMembership, Node};

/// Why the node could not do its part.
pub type LocalError = Box<dyn std::error::Error + Send + Sync>;

/// The records of the cluster's nodes.
#[async_trait::async_trait]
pub trait Records: Send + Sync {
    /// All control planes on record, as the API knows them now. An error if one record can not be read: what is missing here loses
    /// its place in etcd.
    async fn control_planes(&self) -> Result<ControlPlanes, LocalError>;
}

/// etcd on this node.
#[async_trait::async_trait]
pub trait LocalEtcd: Records {
    /// Sees to it that etcd runs, and is kept running, with this membership. Runs it already, nothing happens.
    async fn start(&self, membership: EtcdMembership) -> Result<(), LocalError>;

    /// Sees to it that etcd does not run.
    async fn stop(&self) -> Result<(), LocalError>;

    /// Hears what happens, to tell people about it.
    fn tell(&self, news: News<'_>);
}

impl Node {
    /// Where a member of the node with this mesh address listens for clients.
    pub(crate) fn etcd_client_of(&self, mesh_ip: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(mesh_ip, self.listen.etcd_mesh_client.1)
    }

    /// Where this node's own member listens for clients.
    pub fn etcd_own_client(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.listen.etcd_client)
    }

    /// Port of etcd's peers, on every node.
    pub const fn etcd_peer_port(&self) -> u16 {
        self.listen.etcd_peer.1
    }

    /// The name and address of this node's member.
    pub(crate) fn etcd_place(&self) -> cluster::etcd::Place {
        let (ip, port) = self.listen.etcd_peer;
        cluster::etcd::Place {
            name: self.config.node_name.clone(),
            peer: SocketAddrV4::new(ip, port),
        }
    }
}
