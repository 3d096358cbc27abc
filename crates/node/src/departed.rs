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
//!
//! Between finding a deleted node and removing it any time may pass, and a new node may have its name then. So what goes, goes by
//! UID: a record, and a Node object that is noted on it.
//!
//! What is placed on control planes has the cluster's keys. So the label by which it is placed is on Node objects of recorded control
//! planes only: where the record was deleted by hand, or is a worker's by now, the label goes, and the pods with it.

use std::collections::BTreeSet;

use cluster::etcd::ControlPlanes;
use cluster::{NodeName, Role};
use k8s::api::records::{FoundNode, Recorded};
use k8s::api::{ApiError, records};
use k8s::control_plane::Node;
use k8s::etcd::{DepartedError, LocalError, Records, remove_departed};
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

/// A node that was deleted: this one, and none that has its name afterwards.
#[derive(Debug)]
pub struct Leaving {
    name: NodeName,
    /// Its record, if it still has one.
    record: Option<Recorded>,
    /// Its Node object, if that still waits.
    node: Option<FoundNode>,
}

/// Removes what has gone and marks what is there. `node` is a control plane, whose own etcd runs.
pub async fn look(client: &Client, node: &Node) -> Result<(), RemovalError> {
    let leaving = find(client, &node.config().node_name).await?;
    remove(client, node, &leaving).await
}

/// Marks what is there and says who leaves. `own` stays: no control plane removes itself.
pub async fn find(client: &Client, own: &NodeName) -> Result<Vec<Leaving>, RemovalError> {
    let recorded = records::all_records(client).await?;
    let nodes = records::nodes(client).await?;
    // who is not on record itself knows nothing about the records
    if recorded.iter().any(|record| record.identity.name == *own) {
        dismiss(client, &nodes, own).await?;
    }
    let mut deleted = Vec::new();
    for found in &nodes {
        let record = recorded
            .iter()
            .find(|record| record.identity.name == found.name)
            .filter(|record| {
                let noted = record.node_uid.as_ref();
                noted.is_none_or(|noted| *noted == found.uid)
            });
        if let Some(record) = record
            && record.node_uid.is_none()
            && !found.deleted
        {
            records::note_node(client, record, &found.uid).await?;
        }
        match step(found, record.is_some(), own) {
            Step::Mark => records::mark_node(client, found).await?,
            Step::Remove => deleted.push(found),
            Step::Leave => {}
        }
    }
    let mut leaving = without_their_node(recorded, &nodes, own);
    if deleted.is_empty() {
        return Ok(leaving);
    }
    // A Node object is noted on its record before it is marked. The note may be younger than the records above, and those younger than
    // its deletion: another node may have its name by now.
    let now = records::all_records(client).await?;
    leaving.extend(deleted.into_iter().map(|found| {
        Leaving {
            name: found.name.clone(),
            record: now
                .iter()
                .find(|record| record.node_uid.as_ref() == Some(&found.uid))
                .cloned(),
            node: Some(found.clone()),
        }
    }));
    Ok(leaving)
}

/// Removes all of those who leave, as far as etcd can do without them.
pub async fn remove(client: &Client, node: &Node, leaving: &[Leaving]) -> Result<(), RemovalError> {
    let remaining = Remaining {
        client,
        peer_port: node.etcd_peer_port(),
        leaving: leaving
            .iter()
            .filter_map(|leaving| leaving.record.as_ref()?.uid.as_deref())
            .collect(),
    };
    let members = remove_departed(node, &remaining).await?;
    for member in &members.removed {
        tracing::info!(%member, "removed from etcd");
    }
    for Leaving { name, record, node } in leaving {
        let role = record.as_ref().map(|record| record.identity.role);
        if role == Some(Role::ControlPlane) && !members.staying.is_empty() {
            tracing::warn!(node = %name, "its deletion waits: now etcd can not do without its member");
            continue;
        }
        if let Some(record) = record {
            records::delete_record(client, record).await?;
            tracing::info!(node = %name, "its record was removed: the node was deleted");
        }
        if let Some(node) = node {
            records::release_node(client, node).await?;
        }
        tracing::info!(node = %name, "removed");
    }
    Ok(())
}

/// Takes from Node objects what makes them control planes, unless they are that by their record.
async fn dismiss(client: &Client, nodes: &[FoundNode], own: &NodeName) -> Result<(), RemovalError> {
    for found in nodes
        .iter()
        .filter(|node| node.control_plane && node.name != *own)
    {
        // read now, after the Node object: it gets its label after its record
        let record = records::node_identity(client, &found.name).await?;
        if record.is_none_or(|record| record.role != Role::ControlPlane) {
            // somebody's webhook may stand in its way, and others leave and come meanwhile
            if let Err(error) = records::dismiss_control_plane(client, found).await {
                tracing::error!(node = %found.name, error = %runtime::chain(&error), "it is not on record as a control plane, and keeps its label and its pods");
                continue;
            }
            tracing::warn!(node = %found.name, "it is not on record as a control plane: its label and its pods were removed");
        }
    }
    Ok(())
}

/// Who is on record with a Node object that there is no more. The nodes were listed after the records.
fn without_their_node(
    recorded: Vec<Recorded>,
    nodes: &[FoundNode],
    own: &NodeName,
) -> Vec<Leaving> {
    recorded
        .into_iter()
        .filter(|record| record.identity.name != *own && !has_its_node(record, nodes))
        .map(|record| Leaving {
            name: record.identity.name.clone(),
            record: Some(record),
            node: None,
        })
        .collect()
}

/// Whether the Node object that is noted on a record is among these, or none is noted yet.
fn has_its_node(record: &Recorded, nodes: &[FoundNode]) -> bool {
    let noted = record.node_uid.as_ref();
    noted.is_none_or(|uid| nodes.iter().any(|node| node.uid == *uid))
}

/// The control planes on record that nobody deletes, this one included: one that is deleted and whose member has gone already must not
/// come back into etcd while its record is there still.
pub async fn staying(client: &Client, peer_port: u16) -> Result<ControlPlanes, ApiError> {
    let recorded = records::all_records(client).await?;
    let mut nodes = records::nodes(client).await?;
    nodes.retain(|node| !node.deleted);
    let staying = recorded
        .iter()
        .filter(|record| has_its_node(record, &nodes))
        .map(|record| &record.identity);
    Ok(ControlPlanes::of_all_records(staying, peer_port))
}

/// The records as they are once those who leave have none.
struct Remaining<'a> {
    client: &'a Client,
    peer_port: u16,
    /// UIDs of their records.
    leaving: BTreeSet<&'a str>,
}

#[async_trait::async_trait]
impl Records for Remaining<'_> {
    async fn control_planes(&self) -> Result<ControlPlanes, LocalError> {
        let recorded = records::all_records(self.client).await?;
        let remaining = recorded
            .iter()
            .filter(|record| {
                let uid = record.uid.as_deref();
                !uid.is_some_and(|uid| self.leaving.contains(uid))
            })
            .map(|record| &record.identity);
        Ok(ControlPlanes::of_all_records(remaining, self.peer_port))
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

fn step(found: &FoundNode, recorded: bool, own: &NodeName) -> Step {
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
        let found = |name: &str, deleted, marked| FoundNode {
            name: name.parse().unwrap(),
            uid: "1".to_owned(),
            deleted,
            marked,
            control_plane: false,
            version: None,
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
