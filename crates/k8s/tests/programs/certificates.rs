//! A kubelet's way to its certificates: token, request, decision, signature, renewal, serving.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use cluster::Role;
use jiff::Timestamp;
use k8s::{
    api::{
        self,
        csr::{Approval, Decision, Denial, Purpose},
        records, tokens,
    },
    control_plane::Service,
    files::SecretText,
    pki::{Credential, IssuedLeaf},
};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        core::v1::Node,
    },
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use testkit::kubernetes::ControlPlane;

use super::{
    access::{as_leaf, identity, status, with_roles},
    approver::settle,
};

/// A kubelet's request and its key.
pub(crate) fn request_with_key(node: &str, dns: &[&str], ips: &[IpAddr]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name = name;
    params.subject_alt_names = dns
        .iter()
        .map(|name| SanType::DnsName((*name).try_into().unwrap()))
        .collect();
    params
        .subject_alt_names
        .extend(ips.iter().copied().map(SanType::IpAddress));
    (
        params.serialize_request(&key).unwrap().pem().unwrap(),
        key.serialize_pem(),
    )
}

pub(crate) fn request(node: &str, dns: &[&str], ips: &[IpAddr]) -> String {
    request_with_key(node, dns, ips).0
}

async fn submit(
    client: &Client,
    name: &str,
    pem: String,
    signer: &str,
    purpose: &str,
) -> Result<()> {
    let csr = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: format!("kubernetes.io/{signer}"),
            usages: Some(vec![
                "digital signature".into(),
                "key encipherment".into(),
                purpose.into(),
            ]),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    Api::<CertificateSigningRequest>::all(client.clone())
        .create(&PostParams::default(), &csr)
        .await?;
    Ok(())
}

async fn signed(client: &Client, name: &str) -> Result<String> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    for _ in 0..240 {
        if let Some(certificate) = api
            .get(name)
            .await?
            .status
            .and_then(|status| status.certificate)
        {
            return Ok(String::from_utf8(certificate.0)?);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    anyhow::bail!("{name} was not signed within a minute")
}

#[tokio::test]
async fn a_recorded_node_gets_its_certificates_and_nobody_elses() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    control_plane.spawn(Service::ControllerManager)?;
    let agent = with_roles(&control_plane).await?;
    let worker = identity("worker-0", 2, Role::Worker);
    records::put_node_identity(&agent, &worker).await?;

    // the first certificate, by token
    let token = tokens::create(&agent, &worker.name, Timestamp::now()).await?;
    let joining =
        api::client_from(&control_plane.kubeconfig(Credential::Token(token.text()))).await?;
    let (pem, key) = request_with_key("worker-0", &[], &[]);
    submit(
        &joining,
        "first",
        pem,
        "kube-apiserver-client-kubelet",
        "client auth",
    )
    .await?;
    submit(
        &joining,
        "second",
        request("worker-0", &[], &[]),
        "kube-apiserver-client-kubelet",
        "client auth",
    )
    .await?;
    submit(
        &joining,
        "other",
        request("control-plane-0", &[], &[]),
        "kube-apiserver-client-kubelet",
        "client auth",
    )
    .await?;
    submit(
        &joining,
        "user",
        request("worker-0", &[], &[]),
        "kube-apiserver-client",
        "client auth",
    )
    .await?;
    let decisions: std::collections::BTreeMap<_, _> = settle(&agent, Timestamp::now())
        .await?
        .into_iter()
        .collect();
    assert_eq!(
        decisions["first"],
        Decision::Approve(Approval {
            node: worker.name.clone(),
            purpose: Purpose::FirstClient
        })
    );
    assert_eq!(
        decisions["second"],
        Decision::Deny(Denial::UsedToken(token.id().into()))
    );
    assert!(matches!(
        decisions["other"],
        Decision::Deny(Denial::OtherNode { .. })
    ));
    assert!(
        !decisions.contains_key("user"),
        "other signers are left alone"
    );

    // the token's bearer fetches it, and is a node with it
    let certificate_pem = signed(&joining, "first")
        .await
        .with_context(|| control_plane.log(Service::ControllerManager))?;
    let kubelet = as_leaf(
        &control_plane,
        &IssuedLeaf {
            certificate_pem: certificate_pem.clone(),
            key_pem: SecretText::new(key),
        },
    )
    .await?;
    assert_eq!(records::node_identities(&kubelet).await?.len(), 1);
    let node = Node {
        metadata: ObjectMeta {
            name: Some("worker-0".into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let nodes: Api<Node> = Api::all(kubelet.clone());
    nodes.create(&PostParams::default(), &node).await?;
    let mut other = node.clone();
    other.metadata.name = Some("worker-1".into());
    assert_eq!(
        status(nodes.create(&PostParams::default(), &other).await),
        Some(403),
        "a node is itself only"
    );
    let (_, parsed) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())?;
    let validity = parsed.parse_x509()?.validity().clone();
    let life = validity.not_after.timestamp() - Timestamp::now().as_second();
    assert!(
        (23 * 3600..=24 * 3600).contains(&life),
        "it lives a day, not {life} s"
    );

    // serving: own names only; asking as the node ends the token
    let own = [IpAddr::V4(worker.mesh_ip)];
    submit(
        &kubelet,
        "serving",
        request("worker-0", &["worker-0"], &own),
        "kubelet-serving",
        "server auth",
    )
    .await?;
    submit(
        &kubelet,
        "foreign",
        request("worker-0", &["kubernetes.default.svc"], &own),
        "kubelet-serving",
        "server auth",
    )
    .await?;
    submit(
        &kubelet,
        "renewal",
        request("worker-0", &[], &[]),
        "kube-apiserver-client-kubelet",
        "client auth",
    )
    .await?;
    let decisions: std::collections::BTreeMap<_, _> = settle(&agent, Timestamp::now())
        .await?
        .into_iter()
        .collect();
    assert_eq!(
        decisions["serving"],
        Decision::Approve(Approval {
            node: worker.name.clone(),
            purpose: Purpose::Serving
        })
    );
    assert_eq!(
        decisions["foreign"],
        Decision::Deny(Denial::AlternativeName("kubernetes.default.svc".into()))
    );
    assert_eq!(
        decisions["renewal"],
        Decision::Approve(Approval {
            node: worker.name.clone(),
            purpose: Purpose::ClientRenewal
        })
    );
    signed(&kubelet, "serving").await?;
    signed(&kubelet, "renewal").await?;
    assert!(
        tokens::nodes_by_id(&agent).await?.is_empty(),
        "the token is gone"
    );

    // a node whose record is gone gets no more
    k8s::identities::api(agent.clone())
        .delete("worker-0", &kube::api::DeleteParams::default())
        .await?;
    submit(
        &kubelet,
        "late",
        request("worker-0", &[], &[]),
        "kube-apiserver-client-kubelet",
        "client auth",
    )
    .await?;
    let decisions = settle(&agent, Timestamp::now()).await?;
    assert_eq!(
        decisions,
        [(
            "late".to_owned(),
            Decision::Deny(Denial::UnknownNode(worker.name.clone()))
        )]
    );

    let csrs: Api<CertificateSigningRequest> = Api::all(agent.clone());
    for csr in csrs.list(&ListParams::default()).await?.items {
        let name = csr.metadata.name.unwrap_or_default();
        let certified = csr
            .status
            .is_some_and(|status| status.certificate.is_some());
        assert_eq!(
            certified,
            matches!(name.as_str(), "first" | "serving" | "renewal"),
            "{name}"
        );
    }
    control_plane.check_alive()
}
