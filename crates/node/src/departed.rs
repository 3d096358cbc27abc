//! Deleting a node with `kubectl delete node` takes all of it: its member of etcd, its record, and with the record its place in the
//! mesh, its certificates and its disk's key.
//!
//! Control planes put a finalizer on every Node object whose node is on record; a deletion then waits until one of them has done
//! these things, in this order. Several may do them at once, and each may be done again. No control plane removes itself: the only
//! one stays, and of several another one does it. As k3s does it.

use std::collections::BTreeSet;

use cluster::NodeName;
use k8s::api::{ApiError, records};
use k8s::control_plane::Node;
use k8s::etcd::{ApiRecords, DepartedError, remove_departed};
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
    let recorded: BTreeSet<NodeName> = records::all_node_identities(client)
        .await?
        .into_iter()
        .map(|identity| identity.name)
        .collect();
    let mut leaving = Vec::new();
    for found in records::nodes(client).await? {
        match step(&found, recorded.contains(&found.name), own) {
            Step::Mark => records::mark_node(client, &found.name).await?,
            Step::Remove => {
                records::delete_node_identity(client, &found.name).await?;
                tracing::info!(node = %found.name, "its record was removed: the node was deleted");
                leaving.push(found.name);
            }
            Step::Leave => {}
        }
    }
    // with the record gone, its member in etcd has no node any more
    let records_in_api = ApiRecords {
        client: client.clone(),
        peer_port: node.etcd_peer_port(),
    };
    for member in remove_departed(node, &records_in_api).await? {
        tracing::info!(%member, "removed from etcd");
    }
    for name in leaving {
        records::release_node(client, &name).await?;
        tracing::info!(node = %name, "removed");
    }
    Ok(())
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
