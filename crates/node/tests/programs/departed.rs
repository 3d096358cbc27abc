//! A node that is deleted, against a real API server and etcd.

use std::net::{Ipv4Addr, SocketAddrV4};

use cluster::{Role, identity::NodeIdentity};
use k8s::api::records;
use k8s::etcd::lock::{Asked, Lock};
use k8s::etcd::{Access, Client as Etcd};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use testkit::harness::{CONTROL_PLANE, Cluster};

/// A control plane besides the one that runs.
const SECOND: &str = "control-plane-1";

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

/// A cluster whose only control plane is on record with the address that its etcd has.
async fn cluster() -> (Cluster, Client, NodeIdentity) {
    let cluster = Cluster::start().await.unwrap();
    let client = cluster.agent().await.unwrap();
    let image = testkit::boot::Image::default();
    let plan = cluster::network::AddressPlan::default();
    cluster
        .initialise(&image.policy(), plan, [5; 32])
        .await
        .unwrap();
    let own = records::node_identities(&client).await.unwrap().remove(0);
    let own = NodeIdentity {
        mesh_ip: Ipv4Addr::LOCALHOST,
        ..own
    };
    records::put_node_identity(&client, &own).await.unwrap();
    (cluster, client, own)
}

async fn delete(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.delete(name, &DeleteParams::default()).await.unwrap();
}

async fn recorded(client: &Client) -> Vec<String> {
    let records = records::node_identities(client).await.unwrap();
    records
        .into_iter()
        .map(|record| record.name.to_string())
        .collect()
}

/// While another control plane changes etcd's members, nobody else does: a control plane that was deleted keeps its record, and with it
/// its place in the mesh, as long as etcd has its member. A worker's deletion does not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_control_plane_keeps_its_record_until_its_member_has_gone() {
    let (cluster, client, own) = cluster().await;
    let node = cluster.control_plane.node();
    let second = "control-plane-1";
    let mesh_ip = Ipv4Addr::new(127, 0, 0, 13);
    for identity in [
        NodeIdentity {
            name: second.parse().unwrap(),
            index: 3,
            mesh_ip,
            ..own.clone()
        },
        NodeIdentity {
            name: "worker-0".parse().unwrap(),
            role: Role::Worker,
            index: 2,
            ..own
        },
    ] {
        records::put_node_identity(&client, &identity)
            .await
            .unwrap();
        create(&client, identity.name.as_str()).await;
    }
    let etcd = Etcd::new(
        Access::of(&node.paths().pki()),
        vec![node.etcd_own_client()],
    );
    let (mut connection, _) = etcd.with_majority().await.unwrap();
    let peer = SocketAddrV4::new(mesh_ip, node.etcd_peer_port());
    connection.add_learner(peer).await.unwrap();
    let lock = Lock::ask(&etcd, &mut connection, "another").await.unwrap();
    let Asked::Taken(lock) = lock else {
        panic!("nobody has the lock")
    };

    let look = || node::departed::look(&client, node);
    look().await.unwrap();
    delete(&client, second).await;
    delete(&client, "worker-0").await;
    look().await.unwrap();
    assert_eq!(names(&client).await, [second]);
    assert_eq!(recorded(&client).await, [CONTROL_PLANE, second]);
    assert_eq!(connection.members().await.unwrap().len(), 2);

    lock.release().await;
    look().await.unwrap();
    assert!(names(&client).await.is_empty());
    assert_eq!(recorded(&client).await, [CONTROL_PLANE]);
    assert_eq!(connection.members().await.unwrap().len(), 1);
}

/// Whoever has a node's credentials takes the finalizer off its Node object before an administrator deletes it, and may register
/// again at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_off_its_finalizer_is_removed_all_the_same() {
    let (cluster, client, own) = cluster().await;
    let look = || node::departed::look(&client, cluster.control_plane.node());
    create(&client, CONTROL_PLANE).await;
    let workers = ["worker-0", "worker-1", "worker-2"];
    for (name, index) in workers.into_iter().zip(2..) {
        let identity = NodeIdentity {
            name: name.parse().unwrap(),
            role: Role::Worker,
            index,
            ..own.clone()
        };
        records::put_node_identity(&client, &identity)
            .await
            .unwrap();
        // not registered yet: no reason to take it for a deleted one
        look().await.unwrap();
        create(&client, name).await;
    }
    look().await.unwrap();
    for name in [CONTROL_PLANE, "worker-0", "worker-1"] {
        let nodes = records::nodes(&client).await.unwrap();
        let found = nodes.iter().find(|node| node.name.as_str() == name);
        records::release_node(&client, found.unwrap())
            .await
            .unwrap();
        delete(&client, name).await;
    }
    create(&client, "worker-1").await;
    look().await.unwrap();
    // nobody removes himself
    assert_eq!(recorded(&client).await, [CONTROL_PLANE, "worker-2"]);
    look().await.unwrap();
    assert_eq!(names(&client).await, ["worker-1", "worker-2"]);
    assert_eq!(recorded(&client).await, [CONTROL_PLANE, "worker-2"]);
}

/// A control plane that read the records long ago does not take the one that was written since under the same name.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_new_node_outlives_the_removal_of_its_namesake() {
    let (_cluster, client, own) = cluster().await;
    let before = records::all_records(&client).await.unwrap().remove(0);
    records::delete_record(&client, &before).await.unwrap();
    records::put_node_identity(&client, &own).await.unwrap();
    records::delete_record(&client, &before).await.unwrap();
    assert_eq!(recorded(&client).await, [CONTROL_PLANE]);
    let now = records::all_records(&client).await.unwrap().remove(0);
    records::delete_record(&client, &now).await.unwrap();
    assert!(recorded(&client).await.is_empty());
}

/// A second control plane as the join service would have recorded it.
async fn record_second(client: &Client, own: &NodeIdentity, last: u8) -> NodeIdentity {
    let second = NodeIdentity {
        name: SECOND.parse().unwrap(),
        index: 3,
        mesh_ip: Ipv4Addr::new(127, 0, 0, last),
        ..own.clone()
    };
    records::put_node_identity(client, &second).await.unwrap();
    second
}

/// A control plane finds a deleted node and is stopped before it removes it; meanwhile another one does so, and a new machine joins
/// under that name.
#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_that_joined_meanwhile_keeps_its_member_and_its_record() {
    let (cluster, client, own) = cluster().await;
    let node = cluster.control_plane.node();
    record_second(&client, &own, 13).await;
    create(&client, SECOND).await;
    let look = || node::departed::look(&client, node);
    look().await.unwrap();
    delete(&client, SECOND).await;
    let found = node::departed::find(&client, &own.name).await.unwrap();
    assert_eq!(found.len(), 1);
    look().await.unwrap();
    assert_eq!(recorded(&client).await, [CONTROL_PLANE]);

    let namesake = record_second(&client, &own, 14).await;
    create(&client, SECOND).await;
    look().await.unwrap();
    let access = Access::of(&node.paths().pki());
    let etcd = Etcd::new(access, vec![node.etcd_own_client()]);
    let (mut connection, _) = etcd.with_majority().await.unwrap();
    let peer = SocketAddrV4::new(namesake.mesh_ip, node.etcd_peer_port());
    connection.add_learner(peer).await.unwrap();

    node::departed::remove(&client, node, &found).await.unwrap();
    assert_eq!(connection.members().await.unwrap().len(), 2);
    assert_eq!(recorded(&client).await, [CONTROL_PLANE, SECOND]);
    let nodes = records::nodes(&client).await.unwrap();
    assert!(nodes.iter().any(|node| node.marked), "it keeps its mark");
}

/// A control plane stops after it deleted a record and before it let the Node object go; a new machine has joined when another one
/// comes to that.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_object_that_was_left_takes_no_namesakes_record_with_it() {
    let (cluster, client, own) = cluster().await;
    let look = || node::departed::look(&client, cluster.control_plane.node());
    record_second(&client, &own, 13).await;
    create(&client, SECOND).await;
    look().await.unwrap();
    delete(&client, SECOND).await;
    let all = records::all_records(&client).await.unwrap();
    let first = all
        .iter()
        .find(|record| record.identity.name.as_str() == SECOND);
    records::delete_record(&client, first.unwrap())
        .await
        .unwrap();
    record_second(&client, &own, 14).await;
    look().await.unwrap();
    assert!(names(&client).await.is_empty());
    assert_eq!(recorded(&client).await, [CONTROL_PLANE, SECOND]);
}

/// Between the removal of its member and that of its record a deleted control plane looks whether it may join etcd again.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_deleted_does_not_belong_to_etcd_any_more() {
    let (cluster, client, own) = cluster().await;
    let node = cluster.control_plane.node();
    let second = record_second(&client, &own, 13).await;
    let port = node.etcd_peer_port();
    let peers = async || {
        let staying = node::departed::staying(&client, port).await.unwrap();
        staying.peers().map(|peer| *peer.ip()).collect::<Vec<_>>()
    };
    let both = [own.mesh_ip, second.mesh_ip];
    assert_eq!(peers().await, both, "before its kubelet has registered");
    create(&client, SECOND).await;
    node::departed::look(&client, node).await.unwrap();
    assert_eq!(peers().await, both);
    delete(&client, SECOND).await;
    assert_eq!(peers().await, [own.mesh_ip]);
}

/// A record that somebody deleted without its Node leaves a Node that is called a control plane. A worker of the name gets nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_on_record_as_a_control_plane_no_more_is_none() {
    let (cluster, client, own) = cluster().await;
    let look = || node::departed::look(&client, cluster.control_plane.node());
    let member = |name: &str, role, index| NodeIdentity {
        name: name.parse().unwrap(),
        role,
        index,
        ..own.clone()
    };
    let control_planes = ["control-plane-1", "control-plane-2", "control-plane-3"];
    for (name, index) in control_planes.into_iter().zip(2..) {
        let identity = member(name, Role::ControlPlane, index);
        records::put_node_identity(&client, &identity)
            .await
            .unwrap();
    }
    for name in control_planes
        .into_iter()
        .chain([CONTROL_PLANE, "stranger"])
    {
        create(&client, name).await;
        let node = name.parse().unwrap();
        records::label_node(&client, &node, Role::ControlPlane)
            .await
            .unwrap();
        bind(&client, name).await;
    }
    let labelled = || async {
        let nodes = records::nodes(&client).await.unwrap();
        let labelled = nodes.into_iter().filter(|node| node.control_plane);
        labelled
            .map(|node| node.name.to_string())
            .collect::<Vec<_>>()
    };
    look().await.unwrap();
    let all = [&[CONTROL_PLANE], control_planes.as_slice()].concat();
    assert_eq!(labelled().await, all);
    assert_eq!(pods(&client).await, all);

    // one is gone, of another one the name is a worker's before anybody looked
    for record in records::all_records(&client).await.unwrap() {
        if control_planes[..2].contains(&record.identity.name.as_str()) {
            records::delete_record(&client, &record).await.unwrap();
        }
    }
    let worker = member("control-plane-2", Role::Worker, 7);
    records::put_node_identity(&client, &worker).await.unwrap();
    look().await.unwrap();
    assert_eq!(labelled().await, [CONTROL_PLANE, "control-plane-3"]);
    assert_eq!(pods(&client).await, [CONTROL_PLANE, "control-plane-3"]);

    // nobody dismisses others who is not on record himself
    for record in records::all_records(&client).await.unwrap() {
        records::delete_record(&client, &record).await.unwrap();
    }
    // etcd's members are not its to change either, which is no error
    look().await.unwrap();
    assert_eq!(labelled().await, [CONTROL_PLANE, "control-plane-3"]);
}

/// A pod of the key service on a node, as the scheduler binds it.
async fn bind(client: &Client, node: &str) {
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": node },
        "spec": {
            "nodeName": node, "serviceAccountName": "key-service", "automountServiceAccountToken": false,
            "containers": [{ "name": "key-service", "image": "key-service" }],
        },
    });
    let api: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let pod = serde_json::from_value(pod).unwrap();
    api.create(&PostParams::default(), &pod).await.unwrap();
}

/// The nodes that have a pod.
async fn pods(client: &Client) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let pods = api.list(&ListParams::default()).await.unwrap();
    let node = |pod: Pod| pod.spec.unwrap().node_name.unwrap();
    pods.into_iter().map(node).collect()
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
    let worker = NodeIdentity {
        name: "worker-0".parse().unwrap(),
        role: Role::Worker,
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
