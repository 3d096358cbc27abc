//! What makes a member of Kubernetes a control plane: its part in etcd, its API server, its controllers, its label.
//!
//! It comes after the node is a member and its disk has its key, and again after every boot: a vote in etcd whose disk does not outlive a
//! reboot could cost etcd its quorum for ever (`docs/adr/a-control-plane-votes-when-its-disk-is-kept.md`). Every step may be repeated;
//! on the first node, where init did all of it, it finds everything done.

use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use cluster::Role;
use cluster::etcd::ControlPlanes;
use k8s::control_plane::{EtcdMembership, Node, Paths, Service};
use k8s::etcd::{LocalError, LocalEtcd, News, Records, stay, take_part};
use k8s::files::FileError;

use super::cluster_records::label_when_registered;
use super::services::Services;
use super::steps::StepError;
use crate::console::Console;
use crate::host::Host;
use crate::membership::Membership;
use crate::mesh::MeshError;
use crate::{departed, mesh, systemd};

/// Before everything is tried again.
const PAUSE: Duration = Duration::from_secs(10);
/// How long the own API server may take to its first answer. Software emulation needs minutes.
const API_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long kubelet may take to register the node.
const REGISTRATION_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Brings the control plane up on its node, however often that takes.
pub(super) async fn bring_up(host: &Host, membership: &Membership) {
    while let Err(error) = attempt(host, membership).await {
        host.console
            .complain("the control plane of this node is tried again", &error);
        tokio::time::sleep(PAUSE).await;
    }
    host.console.say("the control plane of this node is up");
}

/// Looks after it from then on: a member of etcd that is removed while it runs joins again, if its node still belongs.
pub(super) async fn stay_up(host: &Host, membership: &Membership) {
    let node = loop {
        match membership.node() {
            Ok(node) => break node,
            Err(error) => host
                .console
                .complain("whether etcd keeps this node", &error),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let elders = || match elders(host) {
        Ok(elders) => elders,
        Err(error) => {
            tracing::warn!(error = %runtime::chain(&error), "only this node's etcd is asked");
            Vec::new()
        }
    };
    stay(&node, elders, async || {
        host.console.say("this node's member of etcd was removed while it ran; its control plane is brought up again");
        // Without etcd it answers nothing, and what this node asks would go to it first.
        if let Err(error) = systemd::stop(Service::ApiServer.unit_name()).await {
            host.console.complain("the API server of this node is not stopped", &error);
        }
        bring_up(host, membership).await;
    })
    .await;
}

/// Mesh addresses of the other control planes, as this node knew them last.
fn elders(host: &Host) -> Result<Vec<Ipv4Addr>, MeshError> {
    let peers = mesh::kept_peers(&host.paths)?;
    let control_planes = peers.iter().filter(|peer| peer.role == Role::ControlPlane);
    Ok(control_planes.map(|peer| peer.mesh_ip).collect())
}

async fn attempt(host: &Host, membership: &Membership) -> Result<(), StepError> {
    let node = membership.node().map_err(StepError::Membership)?;
    let paths = node.paths();
    let path = paths.pki().join("ca.crt");
    let ca_certificate = std::fs::read_to_string(&path).map_err(|source| {
        StepError::File(FileError {
            operation: "read",
            path,
            source,
        })
    })?;
    make_directory(&paths.etcd_data, 0o700)?;
    let elders = elders(host).map_err(StepError::Mesh)?;
    let etcd = OwnEtcd {
        node: node.clone(),
        ca_certificate: &ca_certificate,
        console: &host.console,
    };
    take_part(&node, &elders, &etcd).await;

    // the directory of etcd says by now whom its member joined
    let node = membership.node().map_err(StepError::Membership)?;
    make_log_directories(node.paths())?;
    Services::new(node.clone())
        .start(
            &[
                Service::ApiServer,
                Service::ControllerManager,
                Service::Scheduler,
            ],
            &ca_certificate,
        )
        .await?;
    let client = k8s::api::client(&node.paths().node_agent_kubeconfig())
        .await
        .map_err(StepError::Api)?;
    k8s::api::wait_ready(&client, API_DEADLINE)
        .await
        .map_err(StepError::Api)?;
    let (name, role) = (&membership.node_name, membership.role);
    label_when_registered(&client, name, role, REGISTRATION_DEADLINE).await
}

/// Makes the directories that the API server logs to.
pub(super) fn make_log_directories(paths: &Paths) -> Result<(), StepError> {
    make_directory(&paths.logs, 0o700)?;
    match paths.audit_log().parent() {
        Some(directory) => make_directory(directory, 0o700),
        None => Ok(()),
    }
}

/// Makes a directory with all above it, unless it is there.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), StepError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| {
            StepError::File(FileError {
                operation: "make directory",
                path: path.to_owned(),
                source,
            })
        })
}

/// etcd as a unit of this node.
struct OwnEtcd<'a> {
    node: Node,
    ca_certificate: &'a str,
    console: &'a Console,
}

#[async_trait::async_trait]
impl Records for OwnEtcd<'_> {
    async fn control_planes(&self) -> Result<ControlPlanes, LocalError> {
        let client = k8s::api::client(&self.node.paths().node_agent_kubeconfig()).await?;
        Ok(departed::staying(&client, self.node.etcd_peer_port()).await?)
    }
}

#[async_trait::async_trait]
impl LocalEtcd for OwnEtcd<'_> {
    async fn start(&self, membership: EtcdMembership) -> Result<(), LocalError> {
        let node = self.node.clone().with_etcd(membership);
        let services = Services::new(node);
        Ok(services
            .start(&[Service::Etcd], self.ca_certificate)
            .await?)
    }

    async fn stop(&self) -> Result<(), LocalError> {
        Ok(systemd::stop(Service::Etcd.unit_name()).await?)
    }

    fn tell(&self, news: News<'_>) {
        tracing::info!(%news, "etcd");
        self.console.say_once(format_args!("{news}"));
    }
}
