//! Steps that a node takes whichever way it becomes a member. Each may be taken again after it failed half-way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::DiskUuid;
use cluster::catalogue::Component;
use cluster::identity::{NodeIdentity, WireGuardPublicKey};
use cluster::network::MeshPeer;
use cluster::node_state::NodeState;
use cluster::plan::{Flow, Marked};
use k8s::components::{Event, Installer, Progress};
use k8s::control_plane::{Node, Service};
use k8s::files::{self, File};
use keys::DiskKey;

use super::machine::MachineIdentity;
use super::services::Services;
use super::steps::StepError;
use super::verify_server::VerifyServer;
use crate::exec::Program;
use crate::host::Host;
use crate::membership::Membership;
use crate::progress::Log;
use crate::state_disk::NodeDisk;
use crate::{mesh, systemd};

/// How long a kubelet may wait for its first certificate. Its request is approved by the join service, and under software
/// emulation everything takes a while.
const CERTIFICATE_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How long an import of images may take.
const IMPORT_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// A node on its way in.
pub struct NodeSteps {
    /// The machine.
    pub host: Host,
    /// Its place.
    pub membership: Membership,
    /// The same, as Kubernetes sees it.
    pub node: Node,
    /// Its state disk.
    pub disk: NodeDisk,
    /// The server that has the verification service's port until then.
    pub verify: Arc<VerifyServer>,
    /// Where to say what happens.
    pub log: Arc<Log>,
    /// Its units.
    pub services: Services,
}

impl NodeSteps {
    /// Writes who this node is to be.
    pub fn record(&self, flow: Flow, measurement_salt: &[u8; 32]) -> Result<(), StepError> {
        let state =
            NodeState::becoming(flow, self.membership.node_name.as_str(), *measurement_salt);
        self.write_state(&state)?;
        self.membership
            .write(&self.host.paths)
            .map_err(StepError::Membership)
    }

    /// Records that the node is a member, and gives the state disk the node's key: from here on a reboot keeps both.
    pub async fn finish(&self, marked: &Marked, key: Arc<DiskKey>) -> Result<(), StepError> {
        let path = self.host.paths.node_state();
        let json = std::fs::read(&path).map_err(|source| {
            StepError::File(files::FileError {
                operation: "read",
                path,
                source,
            })
        })?;
        let state = NodeState::from_json(&json)
            .map_err(StepError::NodeState)?
            .into_member();
        self.write_state(&state)?;
        self.disk
            .set_key(marked, key)
            .await
            .map_err(StepError::Disk)
    }

    fn write_state(&self, state: &NodeState) -> Result<(), StepError> {
        let json = state.to_json().map_err(StepError::NodeState)?;
        let text = String::from_utf8_lossy(&json).into_owned();
        File::public(self.host.paths.node_state(), text)
            .write()
            .map(drop)
            .map_err(StepError::File)
    }

    /// Brings the mesh up.
    pub async fn mesh(&self, peers: &[MeshPeer]) -> Result<(), StepError> {
        let own = self.membership.addresses().map_err(StepError::Membership)?;
        self.membership.tell(&self.host.api_servers, peers);
        mesh::bring_up(&self.host.paths, &self.membership.networks, &own, peers)
            .await
            .map_err(StepError::Mesh)
    }

    /// Fetches, checks and installs components.
    pub async fn install(
        &self,
        components: &[Component],
        mirror: Option<&str>,
    ) -> Result<(), StepError> {
        let log = Arc::clone(&self.log);
        let progress: Progress = Arc::new(move |name, event| match event {
            Event::Installed => log.progress("components", format!("{name} checked and installed")),
            Event::Present => log.progress("components", format!("{name} is there already")),
            Event::Retrying { reason, pause } => {
                let pause = pause.as_secs_f32();
                log.progress(
                    "components",
                    format!("{name}: {reason}; again in {pause:.0} s"),
                );
            }
            Event::Received { .. } => {}
        });
        let installer = Installer::new(mirror).map_err(StepError::Install)?;
        installer
            .install(components, &progress)
            .await
            .map_err(StepError::Install)
    }

    /// Imports the service images of the measured image.
    pub async fn import_service_images(&self) -> Result<(), StepError> {
        // it was started beside this program, and takes long; this waits until it answers
        systemd::start(&["containerd.service"])
            .await
            .map_err(StepError::Unit)?;
        self.import(&self.host.paths.service_images).await
    }

    /// Imports the images that came as components.
    pub async fn import_component_images(&self, components: &[Component]) -> Result<(), StepError> {
        for component in components.iter().filter(|component| component.import) {
            self.import(component.install_path.as_ref()).await?;
        }
        Ok(())
    }

    async fn import(&self, archive: &Path) -> Result<(), StepError> {
        self.log
            .progress("images", format!("import {}", archive.display()));
        Program::new("ctr")
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive)
            .deadline(IMPORT_DEADLINE)
            .run()
            .await
            .map_err(StepError::Import)
    }

    /// The reference of an imported image whose name ends like this.
    pub async fn image_named(&self, name: &str) -> Result<Option<String>, StepError> {
        let listing = Program::new("ctr")
            .args(["--namespace", "k8s.io", "images", "list", "--quiet"])
            .output()
            .await
            .map_err(StepError::Import)?;
        Ok(find_image(&String::from_utf8_lossy(&listing), name))
    }

    /// The record of this node, as the join service would write it.
    pub fn identity(
        &self,
        machine: MachineIdentity,
        disk_uuid: DiskUuid,
        wireguard_public_key: WireGuardPublicKey,
    ) -> Result<NodeIdentity, StepError> {
        let own = self.membership.addresses().map_err(StepError::Membership)?;
        Ok(NodeIdentity {
            name: self.membership.node_name.clone(),
            role: self.membership.role,
            disk_uuid,
            attestation_variant: machine.variant,
            attestation_key_id: machine.key_id,
            measurements: machine.measurements,
            index: own.index,
            mesh_ip: own.mesh_ip,
            pod_cidr: own.pod_cidr,
            node_ip: self.membership.node_ip,
            wireguard_public_key,
            admitted_at: jiff::Timestamp::now().to_string(),
            reset_count: None,
        })
    }

    /// Writes the pod network's configuration.
    pub fn pod_network(&self) -> Result<(), StepError> {
        let own = self.membership.addresses().map_err(StepError::Membership)?;
        k8s::cni::conflist(&own)
            .write()
            .map(drop)
            .map_err(StepError::File)
    }

    /// Writes the files of services and starts them.
    pub async fn start(&self, services: &[Service], ca_certificate: &str) -> Result<(), StepError> {
        self.services.start(services, ca_certificate).await
    }

    /// Starts kubelet, and waits until it has its client certificate. Before that the verification server makes room.
    pub async fn start_kubelet(&self, ca_certificate: &str) -> Result<(), StepError> {
        self.verify.stop().await;
        let ca = self.node.paths().pki().join("ca.crt");
        File::public(ca, ca_certificate)
            .write()
            .map_err(StepError::File)?;
        self.start(&[Service::Kubelet], ca_certificate).await?;

        let certificate = self.node.paths().kubelet_client_certificate();
        let waiting = async {
            while !certificate.exists() {
                self.host
                    .console
                    .say_once("waiting for the cluster to approve this node's certificate");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::time::timeout(CERTIFICATE_DEADLINE, waiting)
            .await
            .map_err(|_| StepError::NoCertificate(CERTIFICATE_DEADLINE.as_secs()))
    }
}

/// Finds `registry/path/name:tag` or `...@digest` by its last part.
fn find_image(listing: &str, name: &str) -> Option<String> {
    let base = |reference: &str| -> Option<String> {
        let last = reference.split('@').next()?.rsplit('/').next()?;
        Some(last.split(':').next()?.to_owned())
    };
    listing
        .lines()
        .map(str::trim)
        .find(|line| base(line).as_deref() == Some(name))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_the_last_part_of_its_name() {
        let listing = "constellation.local/pause:v0.1.0\nregistry.k8s.io/coredns/coredns:v1.12.0\nsha256:00\n";
        assert_eq!(
            find_image(listing, "coredns").as_deref(),
            Some("registry.k8s.io/coredns/coredns:v1.12.0")
        );
        assert_eq!(find_image(listing, "dns"), None);
        assert_eq!(
            find_image("x/coredns@sha256:00", "coredns").as_deref(),
            Some("x/coredns@sha256:00")
        );
    }
}
