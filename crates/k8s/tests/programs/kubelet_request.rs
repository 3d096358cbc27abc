//! The one form of a certificate request is the one that the real kubelet writes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster::{Role, admission::Standing};
use jiff::Timestamp;
use k8s::{
    api::{
        csr::{Approval, Decision, Facts, Known, Purpose, decide},
        tokens,
    },
    control_plane::Service,
    files,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{Api, api::ListParams};
use testkit::kubernetes::ControlPlane;

use super::access::{identity, with_roles};

#[tokio::test]
async fn what_a_joining_kubelet_asks_for_is_approved() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    let client = with_roles(&control_plane).await?;
    let node = control_plane.node();
    let name = node.config().node_name.clone();
    let token = tokens::create(&client, &name, Timestamp::now()).await?;
    let ca = control_plane.pki().authorities().cluster_certificate();
    node.kubelet_bootstrap(ca, token.text()).write()?;
    files::write_all(&node.files(Service::Kubelet, ca))?;
    control_plane.spawn(Service::Kubelet)?;

    let requests: Api<CertificateSigningRequest> = Api::all(client);
    let begun = Instant::now();
    let request = loop {
        let all = requests.list(&ListParams::default()).await?.items;
        if let Some(request) = all.into_iter().next() {
            break request;
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "no request:\n{}",
            control_plane.log(Service::Kubelet)
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let facts = Facts {
        nodes: [(
            name.clone(),
            Known {
                identity: identity(name.as_str(), 1, Role::ControlPlane),
                standing: Standing::Pending,
                certificates: Vec::new(),
            },
        )]
        .into(),
        tokens: [(token.id().to_owned(), name.clone())].into(),
    };
    let approved = Decision::Approve(Approval {
        node: name,
        purpose: Purpose::FirstClient,
    });
    let pem = String::from_utf8(request.spec.request.0.clone()).context("PEM is text")?;
    ensure!(decide(&request.spec, &facts) == approved, "{pem}");
    Ok(())
}
