//! The steps of the first node: a control plane out of nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster::catalogue::Component;
use cluster::plan::{Flow, Marked, Step};
use jiff::Timestamp;
use k8s::api::Applier;
use k8s::control_plane::{EncryptionKey, Service};
use k8s::files::SecretText;
use k8s::pki::{Credential, Kubeconfig, Pki};
use keys::{DiskKey, KeyId};
use kube::Client;

use super::cluster_records::{self, ClusterRecords};
use super::control_plane::{make_directory, make_log_directories};
use super::drive::Steps;
use super::machine::MeasuredMachine;
use super::node_steps::NodeSteps;
use super::order::Order;
use super::steps::StepError;
use crate::exec::Program;
use crate::mesh;

/// How long the API server may take to its first answer. Software emulation needs minutes.
const API_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How long kubelet may take to register the node.
const REGISTRATION_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// How long etcd's data may take to be made of a backup.
const RESTORE_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Name of the administrator in the kubeconfig.
const ADMIN: &str = "constellation-admin";

/// The first node of a cluster.
pub struct InitSteps {
    /// What every node does.
    pub node: NodeSteps,
    /// What the administrator ordered.
    pub order: Order,
    /// What this machine runs.
    pub machine: MeasuredMachine,
    /// The cluster's certificates, once they are made.
    pub pki: OnceLock<Pki>,
    /// A client of the API, once it answers.
    pub client: OnceLock<Client>,
}

#[async_trait::async_trait]
impl Steps for InitSteps {
    async fn perform(&self, step: Step, marked: &Marked) -> Result<(), StepError> {
        let node = &self.node;
        match step {
            Step::NodeState => node.record(Flow::Init, self.order.measurement_salt.as_bytes()),
            Step::Pki => self.make_pki(),
            Step::Mesh => node.mesh(&[]).await,
            Step::Etcd => {
                self.restore_etcd(marked).await?;
                make_directory(&node.node.paths().etcd_data, 0o700)?;
                node.start(&[Service::Etcd], self.ca()?).await
            }
            Step::ApiServerComponent => {
                self.install(|name| name == Service::ApiServer.program_name())
                    .await
            }
            Step::ApiServer => self.start_api_server().await,
            Step::Components => {
                self.install(|name| name != Service::ApiServer.program_name())
                    .await
            }
            Step::Controllers => {
                node.start(
                    &[Service::ControllerManager, Service::Scheduler],
                    self.ca()?,
                )
                .await
            }
            Step::ClusterRecords => self.write_records().await,
            Step::Images => node.import_service_images().await,
            Step::ComponentImages => {
                node.import_component_images(&self.order.own_components)
                    .await
            }
            Step::PodNetwork => node.pod_network(),
            Step::Kubelet => self.start_kubelet().await,
            Step::KubeProxy => node.start(&[Service::KubeProxy], self.ca()?).await,
            Step::OwnServices => self.apply_services().await,
            Step::DiskKey => node.finish(marked, Arc::new(self.disk_key()?)).await,
        }
    }
}

impl InitSteps {
    /// The kubeconfig of the administrator.
    pub fn admin_kubeconfig(&self) -> Result<SecretText, StepError> {
        let pki = self.pki()?;
        let leaf = pki
            .authorities()
            .issue_admin(ADMIN, Timestamp::now())
            .map_err(StepError::Pki)?;
        let mesh_ip = self.node.node.config().addresses.mesh_ip.to_string();
        // the administrator's program puts the address there under which it reaches the cluster
        let host = self.order.api_sans.first().unwrap_or(&mesh_ip);
        let config = Kubeconfig {
            cluster_name: self.order.cluster_name.as_str(),
            user: ADMIN,
            server: &format!("https://{host}:{}", cluster::network::API_PORT),
            ca_certificate_pem: pki.authorities().cluster_certificate(),
            credential: Credential::Embedded(&leaf),
        };
        Ok(config.render())
    }

    fn make_pki(&self) -> Result<(), StepError> {
        let paths = self.node.node.paths();
        if let Some(restore) = &self.order.restore {
            restore
                .essentials
                .write(paths)
                .map_err(StepError::Essentials)?;
        }
        let encryption = paths.encryption_config();
        EncryptionKey::open_or_generate(&encryption)
            .map_err(StepError::Encryption)?
            .file(encryption)
            .write()
            .map_err(StepError::File)?;
        let names = self
            .node
            .node
            .names(self.node.membership.node_ip, self.order.api_sans.clone());
        let now = Timestamp::now();
        let pki = Pki::open_or_generate(self.order.cluster_name.as_str(), names, &paths.pki(), now)
            .map_err(StepError::Pki)?;
        pki.write(now).map_err(StepError::Pki)?;
        // a repeated step finds the first one's
        let _first = self.pki.set(pki);
        Ok(())
    }

    /// Makes etcd's data of the backup, if there is one.
    async fn restore_etcd(&self, marked: &Marked) -> Result<(), StepError> {
        let Some(restore) = &self.order.restore else {
            return Ok(());
        };
        let node = &self.node.node;
        let (data, made) = (&node.paths().etcd_data, node.etcd_restore_directory());
        // it gets its name when it is whole, and is never made twice
        if data.join("member").exists() {
            return Ok(());
        }
        let began = Timestamp::from_second(restore.header.begun).unwrap_or_default();
        self.node.log.progress(
            "backup",
            format!(
                "restore the backup of {began}, revision {}",
                restore.header.revision
            ),
        );
        for directory in [&made, data] {
            match std::fs::remove_dir_all(directory) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(file_failed("remove", directory)(source));
                }
                _ => {}
            }
        }
        let snapshot = tokio::task::block_in_place(|| restore.unseal(&self.order, marked))
            .map_err(StepError::Unseal)?;
        Program::new("etcdctl")
            .args(node.etcd_restore(snapshot, &made).args)
            .deadline(RESTORE_DEADLINE)
            .run()
            .await
            .map_err(StepError::Restore)?;
        std::fs::rename(&made, data).map_err(file_failed("name", data))?;
        restore.clear();
        Ok(())
    }

    async fn start_api_server(&self) -> Result<(), StepError> {
        let paths = self.node.node.paths();
        make_log_directories(paths)?;
        self.node.start(&[Service::ApiServer], self.ca()?).await?;
        let client = k8s::api::client(&paths.node_agent_kubeconfig())
            .await
            .map_err(StepError::Api)?;
        k8s::api::wait_ready(&client, API_DEADLINE)
            .await
            .map_err(StepError::Api)?;
        self.node.log.progress("API", "ready");
        let _first = self.client.set(client);
        Ok(())
    }

    async fn install(&self, wanted: impl Fn(&str) -> bool) -> Result<(), StepError> {
        let components: Vec<Component> = self
            .order
            .own_components
            .iter()
            .filter(|component| wanted(&component.name))
            .cloned()
            .collect();
        let mirror = self
            .order
            .component_mirror
            .as_ref()
            .map(reqwest::Url::as_str);
        self.node.install(&components, mirror).await
    }

    async fn write_records(&self) -> Result<(), StepError> {
        let key = mesh::ensure_key(&self.node.host.paths).map_err(StepError::Mesh)?;
        let identity = self.machine.identity().await.map_err(StepError::Machine)?;
        let records = ClusterRecords {
            order: &self.order,
            identity: self
                .node
                .identity(identity, self.node.disk.uuid(), key.public())?,
        };
        let client = self.client()?;
        if self.order.restore.is_some() {
            // before this node's kubelet brings its own
            cluster_records::patiently(|| async {
                k8s::backup::forget_nodes(client)
                    .await
                    .map_err(StepError::Api)
            })
            .await?;
        }
        cluster_records::patiently(|| records.write(client)).await
    }

    async fn start_kubelet(&self) -> Result<(), StepError> {
        let node = &self.node.node;
        node.ensure_kubelet_client(self.pki()?.authorities(), Timestamp::now())
            .map_err(StepError::Pki)?;
        node.kubelet_kubeconfig(self.ca()?)
            .write()
            .map_err(StepError::File)?;
        self.node.start_kubelet(self.ca()?).await?;
        cluster_records::label_when_registered(
            self.client()?,
            &self.node.membership.node_name,
            self.node.membership.role,
            REGISTRATION_DEADLINE,
        )
        .await
    }

    async fn apply_services(&self) -> Result<(), StepError> {
        let applier = Applier::new(self.client()?.clone());
        for manifest in cluster_records::SERVICES {
            apply(&applier, manifest).await?;
        }
        match self.node.image_named("coredns").await? {
            Some(image) => {
                let manifest =
                    k8s::addons::coredns(&image, &self.order.networks).map_err(StepError::Image)?;
                apply(&applier, &manifest).await
            }
            None => {
                let words =
                    "no CoreDNS image among the components: names of services will not resolve";
                self.node.log.progress("DNS", words);
                Ok(())
            }
        }
    }

    fn disk_key(&self) -> Result<DiskKey, StepError> {
        let id = KeyId::Disk(self.node.disk.uuid().uuid());
        let key = keys::derive(&self.order.master_secret, &self.order.salt, &id);
        key.into_disk_key().map_err(StepError::DiskKey)
    }

    fn pki(&self) -> Result<&Pki, StepError> {
        self.pki.get().ok_or(StepError::Order("certificates"))
    }

    fn ca(&self) -> Result<&str, StepError> {
        Ok(self.pki()?.authorities().cluster_certificate())
    }

    fn client(&self) -> Result<&Client, StepError> {
        self.client.get().ok_or(StepError::Order("the API"))
    }
}

fn file_failed(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> StepError {
    let path = path.to_owned();
    move |source| {
        StepError::File(k8s::files::FileError {
            operation,
            path,
            source,
        })
    }
}

async fn apply(applier: &Applier, manifest: &str) -> Result<(), StepError> {
    cluster_records::patiently(|| async {
        applier.manifest(manifest).await.map_err(StepError::Api)
    })
    .await
}
