//! A control plane in processes with the manifests of `deploy/` applied, and what init leaves in the API for the join service.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use attest::Policy;
use cluster::{
    Role,
    catalogue::{Component, Components, programs},
    identity::{NodeIdentity, WireGuardPublicKey},
    join_config::{CONFIG_MAP, ClusterFacts, JoinConfig},
    kubernetes::Version,
    network::AddressPlan,
};
use k8s::{
    api::{self, NAMESPACE, records},
    files::SecretText,
    pki::Credential,
};
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, ServiceAccount},
    },
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::kubernetes::{ControlPlane, free_ports};

/// The manifests as they are in the measured image.
const MANIFESTS: [&str; 3] = [
    include_str!("../../../deploy/key-service.yaml"),
    include_str!("../../../deploy/join-service.yaml"),
    include_str!("../../../deploy/verification-service.yaml"),
];
/// The control plane that services run on, as it is on record.
pub const CONTROL_PLANE: &str = "control-plane-0";
const START: Duration = Duration::from_secs(60);

/// A cluster without nodes: its API, our definitions, roles and manifests.
pub struct Cluster {
    /// Its processes.
    pub control_plane: ControlPlane,
    /// For the files of the programs that work with it, removed with it.
    pub directory: tempfile::TempDir,
}

impl Cluster {
    /// A cluster of one's own.
    pub async fn start() -> Result<Self> {
        let cluster = Self {
            control_plane: ControlPlane::start().await?,
            directory: tempfile::tempdir()?,
        };
        let client = cluster.agent().await?;
        let applier = api::Applier::new(client.clone());
        applier.manifest(k8s::addons::ROLES).await?;
        for manifest in MANIFESTS {
            applier.manifest(manifest).await?;
        }
        // Callers of the table that have no program yet, and one that only has the name of one.
        for (namespace, name) in [
            ("kube-system", "csi-node"),
            ("kube-system", "s3proxy"),
            ("default", "join-service"),
        ] {
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            Api::<ServiceAccount>::namespaced(client.clone(), namespace)
                .create(&PostParams::default(), &account)
                .await
                .with_context(|| format!("create the service account {namespace}/{name}"))?;
        }
        Ok(cluster)
    }

    /// A client that may do everything.
    pub async fn agent(&self) -> Result<Client> {
        Ok(api::client(&self.control_plane.agent_kubeconfig()).await?)
    }

    /// A token of a service account; without an audience it is one for the API.
    pub async fn token(
        &self,
        namespace: &str,
        name: &str,
        audience: Option<&str>,
    ) -> Result<String> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.map(str::to_owned).into_iter().collect()),
                expiration_seconds: Some(600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.agent().await?, namespace);
        let made = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("request a token of {namespace}/{name}"))?;
        made.status
            .and_then(|status| status.token)
            .context("a token request without a token")
    }

    /// A kubeconfig file with the rights of a service account of kube-system, and no others.
    pub async fn kubeconfig(&self, name: &str) -> Result<PathBuf> {
        let token = SecretText::new(self.token("kube-system", name, None).await?);
        let path = self
            .directory
            .path()
            .join(format!("{name}-{}.conf", uuid::Uuid::new_v4()));
        let text = self.control_plane.kubeconfig(Credential::Token(&token));
        std::fs::write(&path, text.expose())?;
        Ok(path)
    }

    /// What init writes: the component list, the join config, the record of [`CONTROL_PLANE`] as node 1.
    pub async fn initialise(
        &self,
        policy: &Policy,
        network: AddressPlan,
        measurement_salt: [u8; 32],
    ) -> Result<()> {
        let agent = self.agent().await?;
        let version = Version::new(20, 2);
        let hash =
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
        let programs = programs(Role::ControlPlane);
        let components = Components::new(
            programs
                .map(|name| Component::program(name, version, hash))
                .collect(),
        )?;
        let config = JoinConfig {
            attestation_config: policy.to_json(),
            measurement_salt,
            cluster: ClusterFacts {
                name: "test".parse()?,
                components_config_map: records::put_components(&agent, &components, version)
                    .await?,
                component_mirror: "http://10.0.2.2:8080/components".to_owned(),
                network,
                api_sans: vec!["api.test".to_owned()],
            },
        };
        let (data, binary) = config.to_maps()?;
        let binary = binary
            .into_iter()
            .map(|(key, value)| (key, ByteString(value)));
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(CONFIG_MAP.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            binary_data: Some(binary.collect()),
            ..ConfigMap::default()
        };
        Api::<ConfigMap>::namespaced(agent.clone(), NAMESPACE)
            .create(&PostParams::default(), &map)
            .await?;
        let addresses = network.node(1)?;
        records::put_node_identity(
            &agent,
            &NodeIdentity {
                name: CONTROL_PLANE.parse()?,
                role: Role::ControlPlane,
                disk_uuid: "00000000-0000-4000-8000-000000000001".parse()?,
                attestation_variant: "qemu-vtpm".to_owned(),
                attestation_key_id: "01".repeat(32),
                measurements: BTreeMap::new(),
                index: 1,
                mesh_ip: addresses.mesh_ip,
                pod_cidr: addresses.pod_cidr,
                node_ip: "10.42.1.10".parse()?,
                wireguard_public_key: WireGuardPublicKey::new([1; 32]),
                admitted_at: "2026-11-22T06:00:00Z".to_owned(),
                reset_count: None,
            },
        )
        .await?;
        Ok(())
    }

    /// The directory of the node's PKI.
    pub fn pki(&self) -> PathBuf {
        self.control_plane.node().paths().pki()
    }
}

/// Waits until a program says that it is ready.
pub async fn wait_ready(operations: std::net::SocketAddr) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = get(operations, "/readyz").await.unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        if begun.elapsed() > START {
            bail!("not ready after {START:?}: {answer}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One GET by hand.
pub async fn get(address: std::net::SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// An address on this host that nobody listens on now.
pub fn free_address() -> Result<std::net::SocketAddr> {
    let [port] = free_ports()?;
    Ok((std::net::Ipv4Addr::LOCALHOST, port).into())
}

/// Writes the files of a mounted Secret.
pub fn write_secret(directory: &Path, secret: &[u8], salt: &[u8]) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("mastersecret"), secret)?;
    std::fs::write(directory.join("salt"), salt)?;
    Ok(())
}
