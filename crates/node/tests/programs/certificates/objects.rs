//! What the test puts into the API: a node and a pod whose log is asked for, an extension of the API, a request for a certificate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use k8s::api::Applier;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{KeyPair, SanType};
use testkit::kubelet;

pub(super) const NODE: &str = "worker-0";
pub(super) const POD: &str = "probe";

/// Asks until there is an answer.
pub(super) async fn eventually<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        let why = match ask().await {
            Ok(answer) => return answer,
            Err(why) => why,
        };
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "never {what}: {why}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn said(error: k8s::api::ApiError) -> String {
    runtime::chain(&error).to_string()
}

/// Has the controller manager sign a kubelet's serving certificate, and approves it in the join service's place.
pub(super) async fn serving_certificate(client: &Client, name: &str) -> (String, KeyPair) {
    let loopback = [SanType::IpAddress([127, 0, 0, 1].into())];
    let (request, key) =
        kubelet::certificate_request(name, NODE, kubelet::SERVING, &loopback).unwrap();
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let mut request = requests
        .create(&PostParams::default(), &request)
        .await
        .unwrap();
    let approved = CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("Test".to_owned()),
        ..CertificateSigningRequestCondition::default()
    };
    let status = request.status.get_or_insert_default();
    status.conditions = Some(vec![approved]);
    requests
        .replace_subresource("approval", name, &PostParams::default(), &request)
        .await
        .unwrap();
    let certificate = eventually("a signed certificate", async || {
        let request = requests.get(name).await.unwrap();
        let certificate = request.status.and_then(|status| status.certificate);
        certificate.ok_or_else(|| "not signed".to_owned())
    })
    .await;
    (String::from_utf8(certificate.0).unwrap(), key)
}

/// A node at the address of our kubelet, with a pod; and a group of the API that our extension server serves.
pub(super) async fn create(client: &Client, kubelet: SocketAddr, extension: SocketAddr) {
    let manifest = format!(
        "\
apiVersion: v1
kind: Node
metadata: {{name: {NODE}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {POD}, namespace: default}}
spec:
  nodeName: {NODE}
  automountServiceAccountToken: false
  tolerations: [{{operator: Exists}}]
  containers: [{{name: only, image: none}}]
---
apiVersion: v1
kind: Service
metadata: {{name: extension, namespace: default}}
spec: {{type: ExternalName, externalName: localhost}}
"
    );
    let applier = Applier::new(client.clone());
    // the controller manager makes the pod's service account
    eventually("the objects", async || {
        applier.manifest(&manifest).await.map_err(said)
    })
    .await;
    let service: APIService = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "v1.renewal.test" },
        "spec": {
            "group": "renewal.test",
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "insecureSkipTLSVerify": true,
            "service": { "name": "extension", "namespace": "default", "port": extension.port() },
        },
    }))
    .unwrap();
    // an API server of 1.20 breaks off where one is applied
    Api::<APIService>::all(client.clone())
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let status = serde_json::json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": kubelet.ip().to_string() }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": kubelet.port() } },
    }});
    Api::<Node>::all(client.clone())
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

/// When a manager last said that it leads.
pub(super) async fn leads(client: &Client, name: &str) -> Option<jiff::Timestamp> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let lease = leases.get_opt(name).await.unwrap()?;
    Some(lease.spec?.renew_time?.0)
}
