//! What the first node writes into a new cluster, into a real API (etcd, kube-apiserver).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cluster::identity::{NodeIdentity, WireGuardPublicKey};
use cluster::join_config::{CONFIG_MAP, JoinConfig};
use cluster::network::AddressPlan;
use cluster::{NodeName, Role};
use k8s::api::{Applier, NAMESPACE, records};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::{Api, Client};
use node::bootstrapper::cluster_records::{ClusterRecords, SERVICES, patiently};
use node::bootstrapper::order::Order;
use node::bootstrapper::steps::StepError;
use testkit::kubernetes::ControlPlane;

use super::init::{SECRET, request};

fn identity() -> NodeIdentity {
    let addresses = AddressPlan::default().node(1).unwrap();
    NodeIdentity {
        name: NodeName::new("control-plane-0").unwrap(),
        role: Role::ControlPlane,
        disk_uuid: "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54".parse().unwrap(),
        attestation_variant: "qemu-vtpm".to_owned(),
        attestation_key_id: "ab".repeat(32),
        measurements: BTreeMap::from([(4, "00".repeat(32))]),
        index: 1,
        mesh_ip: addresses.mesh_ip,
        pod_cidr: addresses.pod_cidr,
        node_ip: Ipv4Addr::new(10, 42, 1, 10),
        wireguard_public_key: WireGuardPublicKey::new([7; 32]),
        admitted_at: "2026-11-22T06:00:00Z".to_owned(),
        reset_count: None,
    }
}

async fn get<K>(client: &Client, name: &str) -> K
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    Api::<K>::namespaced(client.clone(), NAMESPACE)
        .get(name)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_gets_its_records_and_services_and_a_repetition_changes_nothing() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = k8s::api::client(&control_plane.agent_kubeconfig())
        .await
        .unwrap();
    let order = Order::from_wire(request(1, SECRET), Ipv4Addr::new(10, 42, 1, 10)).unwrap();
    let records = ClusterRecords {
        order: &order,
        identity: identity(),
    };
    records.write(&client).await.unwrap();
    let first: Secret = get(&client, "constellation-mastersecret").await;
    records.write(&client).await.unwrap();

    let secret: Secret = get(&client, "constellation-mastersecret").await;
    assert_eq!(
        secret.metadata.resource_version,
        first.metadata.resource_version
    );
    assert_eq!(secret.immutable, Some(true));
    let data = secret.data.unwrap();
    assert_eq!(data["mastersecret"].0, order.master_secret.expose_bytes());
    assert_eq!(data["salt"].0, order.salt.expose_bytes());

    let map: ConfigMap = get(&client, CONFIG_MAP).await;
    let binary = map
        .binary_data
        .unwrap()
        .into_iter()
        .map(|(key, bytes)| (key, bytes.0))
        .collect();
    let config = JoinConfig::parse(&map.data.unwrap(), &binary).unwrap();
    assert_eq!(&config.measurement_salt, order.measurement_salt.as_bytes());
    assert_eq!(config.cluster.network, order.networks);
    attest::Policy::from_json(config.attestation_config.as_bytes()).unwrap();

    let list: ConfigMap = get(&client, &config.cluster.components_config_map).await;
    assert_eq!(list.immutable, Some(true));
    assert_eq!(
        records::node_identities(&client).await.unwrap(),
        [identity()]
    );

    let applier = Applier::new(client.clone());
    for _ in 0..2 {
        for manifest in SERVICES {
            patiently(|| async { applier.manifest(manifest).await.map_err(StepError::Api) })
                .await
                .unwrap();
        }
    }
    let services: Api<DaemonSet> = Api::namespaced(client, NAMESPACE);
    let names: Vec<String> = services
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|service| service.metadata.name)
        .collect();
    assert_eq!(
        names,
        ["join-service", "key-service", "verification-service"]
    );
}
