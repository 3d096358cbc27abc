//! Renewed certificates are taken up by the running programs.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s::{api, pki::Leaf};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::ListParams};
use testkit::kubernetes::ControlPlane;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName, pki_types::pem::PemObject as _},
};

/// The certificate that the API server shows.
async fn served(control_plane: &ControlPlane) -> Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    let ca = control_plane.pki().authorities().cluster_certificate();
    roots.add(tokio_rustls::rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(control_plane.api()).await?;
    let name = ServerName::try_from("kubernetes.default.svc")?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let (_, connection) = stream.get_ref();
    Ok(connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .context("a certificate")?
        .to_vec())
}

#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    let before = served(&control_plane).await?;

    // all leaves at once, as after half a day
    let pki_dir = control_plane.node().paths().pki();
    for leaf in Leaf::ALL {
        fs::remove_file(pki_dir.join(leaf.certificate()))?;
    }
    let renewed = control_plane.pki().renew(Timestamp::now())?;
    assert_eq!(renewed.len(), Leaf::ALL.len());

    let begun = std::time::Instant::now();
    while served(&control_plane).await? == before {
        assert!(
            begun.elapsed() < Duration::from_secs(150),
            "the API server still shows the old certificate"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // a new client, since the old one's certificate is of its owner
    let client = api::client(&control_plane.agent_kubeconfig()).await?;
    Api::<Namespace>::all(client)
        .list(&ListParams::default())
        .await?;
    control_plane.check_alive()
}
