//! Members whose node is on record no more.

use cluster::etcd::{MemberId, departed, unrecorded};

use super::{
    Access, Client, EtcdError, LocalError, Records,
    lock::{Asked, Lock},
    take_part::look_for_life,
};
use crate::control_plane::Node;

/// Why members whose node is gone stay for now.
#[derive(Debug, thiserror::Error)]
pub enum DepartedError {
    /// etcd.
    #[error("removing from etcd who is on record no more")]
    Etcd(#[from] EtcdError),
    /// The records.
    #[error("reading who is on record")]
    Records(#[source] LocalError),
}

/// What became of the members whose node is on record no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// Those that were removed.
    pub removed: Vec<MemberId>,
    /// Those that stay for now: too few others answer, or another node changes the members. Their nodes are needed until they have gone.
    pub staying: Vec<MemberId>,
}

/// Removes the members whose node is on record no more, one after the other, as long as a majority stays.
///
/// To be called from time to time on a control plane whose own member runs. Does nothing while another node changes the members.
pub async fn remove_departed(
    node: &Node,
    records: &dyn Records,
) -> Result<Departed, DepartedError> {
    let own = node.etcd_place();
    let access = Access::of(&node.paths().pki());
    let client = Client::new(access.clone(), vec![node.etcd_own_client()]);
    let (mut connection, members) = client.with_majority().await?;
    // The records come after the list: whoever is in the list was on record before, so that a new node is not taken for a gone one.
    let recorded = records
        .control_planes()
        .await
        .map_err(DepartedError::Records)?;
    let unanswered = members.iter().cloned().map(|member| cluster::etcd::Member {
        alive: true,
        ..member
    });
    let unchanged = Departed {
        removed: Vec::new(),
        staying: unrecorded(&members, &recorded),
    };
    if departed(&own, &unanswered.collect::<Vec<_>>(), &recorded).is_none() {
        return Ok(unchanged);
    }
    let lock = match Lock::ask(&client, &mut connection, own.name.as_str()).await? {
        Asked::Taken(lock) => lock,
        Asked::HeldBy(_) => return Ok(unchanged),
    };
    let mut removed = Vec::new();
    let outcome = loop {
        match remove_one(node, records, &lock, &mut connection).await {
            Ok(Turn::Removed(id)) => removed.push(id),
            Ok(Turn::Over { staying }) => break Ok(Departed { removed, staying }),
            Err(error) => break Err(error),
        }
    };
    lock.release().await;
    outcome
}

enum Turn {
    Removed(MemberId),
    Over { staying: Vec<MemberId> },
}

async fn remove_one(
    node: &Node,
    records: &dyn Records,
    lock: &Lock,
    connection: &mut super::Connection,
) -> Result<Turn, DepartedError> {
    let mut members = connection.members().await?;
    let recorded = records
        .control_planes()
        .await
        .map_err(DepartedError::Records)?;
    look_for_life(node, &mut members).await;
    match departed(&node.etcd_place(), &members, &recorded) {
        Some(id) if lock.is_held() => {
            connection.remove(id).await?;
            tracing::info!(member = %id, "removed from etcd: its node is on record no more");
            Ok(Turn::Removed(id))
        }
        _ => Ok(Turn::Over {
            staying: unrecorded(&members, &recorded),
        }),
    }
}
