//! A node that is deleted, against a real API server and etcd.

use k8s::api::records;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use testkit::harness::{CONTROL_PLANE, Cluster};

async fn create(client: &Client, name: &str) {
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &node).await.unwrap();
}

async fn names(client: &Client) -> Vec<String> {
    let nodes = records::nodes(client).await.unwrap();
    nodes
        .into_iter()
        .map(|node| node.name.to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_node_loses_its_record_and_the_last_control_plane_stays() {
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.agent().await.unwrap();
    let image = testkit::boot::Image::default();
    let plan = cluster::network::AddressPlan::default();
    cluster
        .initialise(&image.policy(), plan, [5; 32])
        .await
        .unwrap();
    // as the join service would have recorded it
    let own = records::node_identities(&client).await.unwrap().remove(0);
    let addresses = plan.node(2).unwrap();
    let worker = cluster::identity::NodeIdentity {
        name: "worker-0".parse().unwrap(),
        role: cluster::Role::Worker,
        index: 2,
        mesh_ip: addresses.mesh_ip,
        pod_cidr: addresses.pod_cidr,
        ..own
    };
    records::put_node_identity(&client, &worker).await.unwrap();
    for name in [CONTROL_PLANE, "worker-0", "stranger"] {
        create(&client, name).await;
    }
    let look = || node::departed::look(&client, cluster.control_plane.node());
    look().await.unwrap();
    let marked: Vec<_> = records::nodes(&client)
        .await
        .unwrap()
        .into_iter()
        .filter(|node| node.marked)
        .map(|node| node.name.to_string())
        .collect();
    assert_eq!(marked, [CONTROL_PLANE, "worker-0"]);

    let nodes: Api<Node> = Api::all(client.clone());
    for name in [CONTROL_PLANE, "worker-0", "stranger"] {
        nodes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    assert_eq!(names(&client).await, [CONTROL_PLANE, "worker-0"]);
    look().await.unwrap();
    assert_eq!(
        names(&client).await,
        [CONTROL_PLANE],
        "nobody removes himself"
    );
    let recorded = records::node_identities(&client).await.unwrap();
    let recorded: Vec<_> = recorded.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(recorded, [CONTROL_PLANE]);
    look().await.unwrap();
}
