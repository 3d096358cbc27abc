//! What init writes into a new cluster, against the real API: by server-side apply, and twice.

use anyhow::{Context as _, Result};
use cluster::{
    Role,
    catalogue::{Component, Components, Sha256, programs},
    kubernetes::Version,
    network::AddressPlan,
};
use k8s::{
    addons,
    api::{self, NAMESPACE, records},
    control_plane::Service,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use testkit::kubernetes::ControlPlane;

use super::{access::with_roles, storage};

#[tokio::test]
async fn a_new_cluster_takes_all_that_init_writes_and_keeps_it_safe() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    storage::secrets_are_encrypted_in_etcd_and_requests_are_audited(&control_plane)
        .await
        .context("storage")?;
    let client = with_roles(&control_plane).await?;
    let applier = api::Applier::new(client.clone());
    let coredns = addons::coredns(
        "registry.k8s.io/coredns/coredns:v1.12.0",
        &AddressPlan::default(),
    )?;
    for _ in 0..2 {
        applier
            .manifest(&coredns)
            .await
            .with_context(|| control_plane.log(Service::ApiServer))?;
    }
    let deployment = Api::<Deployment>::namespaced(client.clone(), NAMESPACE)
        .get("coredns")
        .await?;
    let containers = deployment
        .spec
        .template
        .spec
        .map(|spec| spec.containers)
        .unwrap_or_default();
    assert_eq!(
        containers[0].image.as_deref(),
        Some("registry.k8s.io/coredns/coredns:v1.12.0")
    );

    let version = Version::new(20, 2);
    let list = programs(Role::ControlPlane)
        .map(|name| Component::program(name, version, Sha256::of(name.as_bytes())))
        .collect();
    let list = Components::new(list)?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    for _ in 0..2 {
        let name = records::put_components(&client, &list, version).await?;
        let data = maps.get(&name).await?.data.unwrap_or_default();
        assert_eq!(
            serde_json::from_str::<Components>(&data["components"])?,
            list
        );
        assert_eq!(data["cluster-version"], "v1.20.2");
    }

    let nodes: Api<Node> = Api::all(client.clone());
    let node = Node {
        metadata: ObjectMeta {
            name: Some("worker-0".into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    nodes.create(&PostParams::default(), &node).await?;
    records::label_node(&client, &"worker-0".parse()?, Role::Worker).await?;
    let labels = nodes
        .get("worker-0")
        .await?
        .metadata
        .labels
        .unwrap_or_default();
    assert!(labels.contains_key("node-role.kubernetes.io/worker"));

    // a kind that nobody defines is said so, by name
    let unknown = "apiVersion: v1\nkind: Unknown\nmetadata: {name: x}\n";
    let error = applier.manifest(unknown).await.unwrap_err().to_string();
    assert!(error.contains("Unknown"), "{error}");
    control_plane.check_alive()
}
