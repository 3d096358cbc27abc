//! Deleting a node with `kubectl delete node` takes all of it: its member of etcd, its record, and with the record its place in the
//! mesh, the renewal of its certificates and its disk's key.
//!
//! Control planes put a finalizer on every Node object whose node is on record; a deletion then waits until one of them has done
//! these things, in this order. The member goes first: without its record a node is out of the mesh, and while too few others answer
//! etcd needs it there. Until then its deletion waits. Several control planes may do these things at once, and each may be done again.
//! No control plane removes itself: the only one stays, and of several another one does it. As k3s does it.
//!
//! A kubelet can take the finalizer off again. So they also note on the record which Node object the node has: a record whose Node
//! object is gone, or is another one, is that of a node that was deleted.

use std::collections::{BTreeMap, BTreeSet};

use cluster::etcd::ControlPlanes;
use cluster::{NodeName, Role};
use k8s::api::records::Recorded;
use k8s::api::{ApiError, records};
use k8s::control_plane::Node;
use k8s::etcd::{ApiRecords, DepartedError, LocalError, Records, remove_departed};
use kube::Client;

/// What did not work; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The API.
    #[error("removing nodes that were deleted")]
    Api(#[from] ApiError),
    /// etcd.
    #[error("removing the members of nodes that are on record no more")]
    Etcd(#[from] DepartedError),
}

/// Removes what has gone and marks what is there. `node` is a control plane, whose own etcd runs.
pub async fn look(client: &Client, node: &Node) -> Result<(), RemovalError> {
    let own = &node.config().node_name;
    let recorded: BTreeMap<NodeName, Recorded> = records::all_records(client)
        .await?
        .into_iter()
        .map(|record| (record.identity.name.clone(), record))
        .collect();
    let nodes = records::nodes(client).await?;
    let mut leaving = without_their_node(&recorded, &nodes, own);
    for found in nodes {
        if let Some(record) = recorded.get(&found.name)
            && record.node_uid.is_none()
            && !found.deleted
        {
            records::note_node(client, record, &found.uid).await?;
        }
        match step(&found, recorded.contains_key(&found.name), own) {
            Step::Mark => records::mark_node(client, &found.name).await?,
            Step::Remove => {
                leaving.insert(found.name);
            }
            Step::Leave => {}
        }
    }
    let remaining = Remaining {
        all: ApiRecords {
            client: client.clone(),
            peer_port: node.etcd_peer_port(),
        },
        leaving: &leaving,
    };
    let members = remove_departed(node, &remaining).await?;
    for member in &members.removed {
        tracing::info!(%member, "removed from etcd");
    }
    for name in &leaving {
        let record = recorded.get(name);
        let role = record.map(|record| record.identity.role);
        if role == Some(Role::ControlPlane) && !members.staying.is_empty() {
            tracing::warn!(node = %name, "its deletion waits: now etcd can not do without its member");
            continue;
        }
        if let Some(record) = record {
            records::delete_record(client, record).await?;
            tracing::info!(node = %name, "its record was removed: the node was deleted");
        }
        records::release_node(client, name).await?;
        tracing::info!(node = %name, "removed");
    }
    Ok(())
}

/// Who is on record with a Node object that there is no more. The nodes were listed after the records.
fn without_their_node(
    recorded: &BTreeMap<NodeName, Recorded>,
    nodes: &[records::FoundNode],
    own: &NodeName,
) -> BTreeSet<NodeName> {
    let there: BTreeMap<_, _> = nodes.iter().map(|node| (&node.name, &node.uid)).collect();
    recorded
        .iter()
        .filter(|(name, record)| {
            let noted = record.node_uid.as_ref();
            *name != own && noted.is_some() && noted != there.get(name).copied()
        })
        .map(|(name, _)| name.clone())
        .collect()
}

/// The records as they are once those who leave have none.
struct Remaining<'a> {
    all: ApiRecords,
    leaving: &'a BTreeSet<NodeName>,
}

#[async_trait::async_trait]
impl Records for Remaining<'_> {
    async fn control_planes(&self) -> Result<ControlPlanes, LocalError> {
        Ok(self.all.control_planes().await?.without(self.leaving))
    }
}

/// What a Node object asks for.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Its deletion has to wait for a control plane.
    Mark,
    /// It is being deleted.
    Remove,
    /// Nothing.
    Leave,
}

fn step(found: &records::FoundNode, recorded: bool, own: &NodeName) -> Step {
    match (found.deleted, found.marked) {
        (true, true) if found.name != *own => Step::Remove,
        (false, false) if recorded => Step::Mark,
        _ => Step::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_node_is_removed_by_another_and_only_recorded_ones_are_marked() {
        let own: NodeName = "control-plane-0".parse().unwrap();
        let found = |name: &str, deleted, marked| records::FoundNode {
            name: name.parse().unwrap(),
            uid: "1".to_owned(),
            deleted,
            marked,
        };
        let table = [
            (found("control-plane-1", true, true), true, Step::Remove),
            // its record went, and the program stopped before the mark did
            (found("control-plane-1", true, true), false, Step::Remove),
            (found("control-plane-0", true, true), true, Step::Leave),
            (found("worker-0", false, false), true, Step::Mark),
            (found("worker-0", false, true), true, Step::Leave),
            // a Node object that somebody wrote for a machine that never joined
            (found("stranger", false, false), false, Step::Leave),
            (found("stranger", true, false), false, Step::Leave),
        ];
        for (node, recorded, expected) in table {
            assert_eq!(step(&node, recorded, &own), expected, "{node:?}");
        }
    }
}
