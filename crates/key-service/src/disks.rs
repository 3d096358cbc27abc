//! Which disks are state disks: those that a node's record names.
//!
//! Read from the API at each question, never from a cache: the record is written before the node gets its ticket, so a list read
//! now has every state disk there is. A record that cannot be read answers nothing, since it could be the one that matters.

use k8s::identities::{self, NodeIdentity, RecordError};
use kube::{Api, Client};
use uuid::Uuid;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DisksError {
    #[error("list the node records")]
    List(#[source] kube::Error),
    #[error("read a node record")]
    Record(#[source] RecordError),
}

/// The records of the cluster's nodes.
pub(crate) struct StateDisks(Api<NodeIdentity>);

impl StateDisks {
    pub(crate) fn new(client: Client) -> Self {
        Self(identities::api(client))
    }

    /// The UUIDs of all state disks.
    pub(crate) async fn list(&self) -> Result<Vec<Uuid>, DisksError> {
        self.0
            .list(&identities::list_params())
            .await
            .map_err(DisksError::List)?
            .iter()
            .map(|record| {
                Ok(record
                    .to_identity()
                    .map_err(DisksError::Record)?
                    .disk_uuid
                    .uuid())
            })
            .collect()
    }
}
