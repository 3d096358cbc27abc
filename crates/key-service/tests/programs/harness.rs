//! A control plane in processes with the manifests of `deploy/` applied.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s::{api, files::SecretText, pki::Credential};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use testkit::kubernetes::ControlPlane;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The manifests as they are in the measured image.
const MANIFESTS: [&str; 3] = [
    include_str!("../../../../deploy/key-service.yaml"),
    include_str!("../../../../deploy/join-service.yaml"),
    include_str!("../../../../deploy/verification-service.yaml"),
];
const START: Duration = Duration::from_secs(60);

/// A cluster without nodes: its API, our definitions, roles and manifests.
pub(crate) struct Cluster {
    pub(crate) control_plane: ControlPlane,
    pub(crate) directory: tempfile::TempDir,
}

impl Cluster {
    /// A cluster of one's own.
    pub(crate) async fn start() -> Result<Self> {
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
    pub(crate) async fn agent(&self) -> Result<Client> {
        Ok(api::client(&self.control_plane.agent_kubeconfig()).await?)
    }

    /// A token of a service account; without an audience it is one for the API.
    pub(crate) async fn token(
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
        Ok(made
            .status
            .and_then(|status| status.token)
            .context("a token request without a token")?)
    }

    /// A kubeconfig file with the rights of a service account of kube-system, and no others.
    pub(crate) async fn kubeconfig(&self, name: &str) -> Result<PathBuf> {
        let token = SecretText::new(self.token("kube-system", name, None).await?);
        let path = self
            .directory
            .path()
            .join(format!("{name}-{}.conf", uuid::Uuid::new_v4()));
        let text = self.control_plane.kubeconfig(Credential::Token(&token));
        std::fs::write(&path, text.expose())?;
        Ok(path)
    }

    /// The directory of the node's PKI.
    pub(crate) fn pki(&self) -> PathBuf {
        self.control_plane.node().paths().pki()
    }
}

/// Waits until a program says that it is ready.
pub(crate) async fn wait_ready(operations: std::net::SocketAddr) -> Result<()> {
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
pub(crate) async fn get(address: std::net::SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// An address on this host that nobody listens on now.
pub(crate) fn free_address() -> Result<std::net::SocketAddr> {
    let [port] = testkit::kubernetes::free_ports()?;
    Ok((std::net::Ipv4Addr::LOCALHOST, port).into())
}

/// Writes the files of a mounted Secret.
pub(crate) fn write_secret(directory: &Path, secret: &[u8], salt: &[u8]) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("mastersecret"), secret)?;
    std::fs::write(directory.join("salt"), salt)?;
    Ok(())
}
