//! A member that is removed while its etcd runs.
//!
//! Whoever removes it may have decided so long ago: the host can hold a request back until it is wrong, and an administrator can be
//! mistaken. etcd ends then and can not start again with its data. What is lost is a copy: a majority knows the member no more, and
//! so has everything that was acknowledged.

use std::{net::Ipv4Addr, time::Duration};

use cluster::etcd::was_removed;

use super::{Access, Client, Directory, TakePartError};
use crate::control_plane::Node;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);

/// For as long as it is waited for: looks whether this node's member was removed, and calls `come_back` then, which has to end with
/// [`super::take_part`]. That one decides anew whether the node still belongs, and what becomes of its data.
///
/// `elders` are mesh addresses of other control planes, as they are known at that moment without the API: a node that has no member
/// has no API server that answers.
pub async fn stay(
    node: &Node,
    elders: impl Fn() -> Vec<Ipv4Addr>,
    mut come_back: impl AsyncFnMut(),
) {
    loop {
        tokio::time::sleep(PAUSE).await;
        match removed(node, &elders()).await {
            Ok(true) => come_back().await,
            Ok(false) => {}
            // without a majority nobody can say so
            Err(error) => tracing::debug!(?error, "whether this node is in etcd is not known"),
        }
    }
}

/// Whether a majority of etcd's members knows this node's member no more. An error if none can be asked.
async fn removed(node: &Node, elders: &[Ipv4Addr]) -> Result<bool, TakePartError> {
    let data = Directory::new(&node.paths().etcd_data).holds()?;
    let place = node.etcd_place();
    let others = elders.iter().filter(|ip| *ip != place.peer.ip());
    let endpoints = std::iter::once(node.etcd_own_client())
        .chain(others.map(|ip| node.etcd_client_of(*ip)))
        .collect();
    let client = Client::new(Access::of(&node.paths().pki()), endpoints);
    let (_, members) = client.with_majority().await?;
    Ok(was_removed(&place, data, &members))
}
