//! What a member does for the rest of its life: keeps the mesh as the cluster's records say, and on a control plane renews the leaf
//! certificates. An error is said and tried again: nothing here may take a node down.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::Role;
use cluster::identity::{IdentityError, PlacedNode};
use cluster::network::{AddressPlan, MeshPeer};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s::control_plane::{Node, Service};
use k8s::identities::{self, RecordError};
use k8s::wireguard::{self, Key};
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio_util::sync::CancellationToken;

use crate::departed;
use crate::host::Host;
use crate::membership::{Membership, MembershipError, kubeconfig};
use crate::mesh::{self, MeshError};
use crate::renewal::outlived;
use crate::systemd::{self, SystemdError};

/// Pause after an error, and between two looks at how long a program runs.
const PAUSE: Duration = Duration::from_secs(5);
const LOOK_AT_PROGRAMS: Duration = Duration::from_secs(60);
const LOOK_FOR_DELETED: Duration = Duration::from_secs(15);

/// Something that will be tried again.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("the node's membership")]
    Membership(#[source] MembershipError),
    #[error("a client of the API")]
    Api(#[source] k8s::api::ApiError),
    #[error("watching the cluster's nodes")]
    Watch(#[source] watcher::Error),
    #[error("the mesh")]
    Mesh(#[source] MeshError),
    #[error("deleted nodes")]
    Removal(#[source] departed::RemovalError),
    #[error("looking after the programs")]
    Programs(#[source] SystemdError),
    #[error("a record that cannot be read")]
    Record(#[source] RecordError),
    #[error("a record with addresses that are not its node's")]
    Place(#[source] IdentityError),
}

/// Runs until the program is asked to stop.
pub async fn run(host: &Host, membership: &Membership, shutdown: &CancellationToken) {
    let renewal = async {
        match membership.role {
            Role::ControlPlane => {
                tokio::join!(
                    certificates(membership),
                    again("the programs", LOOK_AT_PROGRAMS, || programs(
                        membership.index
                    )),
                    again("nodes that were deleted", LOOK_FOR_DELETED, || deleted(
                        membership
                    )),
                );
            }
            Role::Worker => std::future::pending().await,
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = again("the mesh", PAUSE, || follow(host, membership)) => {}
        () = renewal => {}
    }
}

/// Keeps the certificates of a control plane.
async fn certificates(membership: &Membership) {
    let renewal = loop {
        match membership.renewal() {
            Ok(renewal) => break renewal,
            Err(error) => {
                tracing::warn!(error = %runtime::chain(&error), "tried again in a moment");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    renewal
        .run(|service: Service| async move {
            if let Err(error) = restart(service).await {
                tracing::warn!(error = %runtime::chain(&error), ?service, "not started again");
            }
        })
        .await;
}

/// Pods outlive their kubelet, and an API server lets requests end.
async fn restart(service: Service) -> Result<(), AgentError> {
    tracing::info!(?service, "started again, to have another certificate");
    systemd::restart(service.unit_name())
        .await
        .map_err(AgentError::Programs)
}

/// Removes all of a node that was deleted.
async fn deleted(membership: &Membership) -> Result<(), AgentError> {
    let node = membership.node().map_err(AgentError::Membership)?;
    let client = k8s::api::client(&kubeconfig(membership.role, node.paths()))
        .await
        .map_err(AgentError::Api)?;
    departed::look(&client, &node)
        .await
        .map_err(AgentError::Removal)
}

/// Starts an API server again whose certificate for itself ends.
async fn programs(index: u16) -> Result<(), AgentError> {
    let unit = Service::ApiServer.unit_name();
    let started = systemd::started_at(unit)
        .await
        .map_err(AgentError::Programs)?;
    match started {
        Some(started) if outlived(started, Timestamp::now(), index) => {
            restart(Service::ApiServer).await
        }
        _ => Ok(()),
    }
}

/// Does something over and over, with a pause between.
async fn again<F>(what: &str, pause: Duration, work: impl Fn() -> F)
where
    F: Future<Output = Result<(), AgentError>>,
{
    loop {
        let pause = match work().await {
            Ok(()) => pause,
            Err(error) => {
                tracing::warn!(what, error = %runtime::chain(&error), "tried again in a moment");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Makes the mesh follow the cluster's records, until the watch ends.
async fn follow(host: &Host, membership: &Membership) -> Result<(), AgentError> {
    let node = membership.node().map_err(AgentError::Membership)?;
    let key = mesh::ensure_key(&host.paths).map_err(AgentError::Mesh)?;
    let client = k8s::api::client(&kubeconfig(membership.role, node.paths()))
        .await
        .map_err(AgentError::Api)?;
    let records: Api<identities::NodeIdentity> = identities::api(client);
    let mut events = kube::runtime::watcher(records, identities::watch_config()).boxed();
    let mut known = Known::of(membership.networks);
    // a certificate is renewed while it lives: a watch longer than this begins anew with the new one
    let end = tokio::time::Instant::now() + node.lifetime().of_a_client();
    while let Ok(event) = tokio::time::timeout_at(end, events.try_next()).await {
        let Some(event) = event.map_err(AgentError::Watch)? else {
            break;
        };
        if known.take(event) {
            apply(host, &node, &key, &mut known).await?;
        }
    }
    Ok(())
}

async fn apply(host: &Host, node: &Node, key: &Key, known: &mut Known) -> Result<(), AgentError> {
    let role = node.config().role;
    let identities = known.identities.values().map(PlacedNode::identity);
    let peers = wireguard::peers(identities, key.public());
    let credentials = kubeconfig(role, node.paths());
    host.api_servers.follow(role, &peers, credentials);
    if known.applied.as_ref() != Some(&peers) {
        mesh::set_peers(&host.paths, key, &peers)
            .await
            .map_err(AgentError::Mesh)?;
        let names: Vec<&str> = peers.iter().map(|peer| peer.node_name.as_str()).collect();
        tracing::info!(peers = names.join(" "), "the mesh has new peers");
        known.applied = Some(peers);
    }
    Ok(())
}

/// The cluster's records as the watch tells them.
struct Known {
    plan: AddressPlan,
    identities: BTreeMap<String, PlacedNode>,
    /// A list that is not complete yet.
    listing: BTreeMap<String, PlacedNode>,
    applied: Option<Vec<MeshPeer>>,
}

impl Known {
    fn of(plan: AddressPlan) -> Self {
        Self {
            plan,
            identities: BTreeMap::new(),
            listing: BTreeMap::new(),
            applied: None,
        }
    }

    /// Takes an event, and says whether the records are complete.
    fn take(&mut self, event: Event<identities::NodeIdentity>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(record) => {
                if let Some((name, identity)) = usable(&record, &self.plan) {
                    self.listing.insert(name, identity);
                }
                false
            }
            // peers are taken away only by a complete list
            Event::InitDone => {
                self.identities = std::mem::take(&mut self.listing);
                true
            }
            Event::Apply(record) => {
                match usable(&record, &self.plan) {
                    Some((name, identity)) => self.identities.insert(name, identity),
                    None => record
                        .metadata
                        .name
                        .and_then(|name| self.identities.remove(&name)),
                };
                true
            }
            Event::Delete(record) => {
                record
                    .metadata
                    .name
                    .and_then(|name| self.identities.remove(&name));
                true
            }
        }
    }
}

fn usable(record: &identities::NodeIdentity, plan: &AddressPlan) -> Option<(String, PlacedNode)> {
    let placed = record
        .to_identity()
        .map_err(AgentError::Record)
        .and_then(|identity| identity.placed(plan).map_err(AgentError::Place));
    match placed {
        Ok(node) => Some((node.identity().name.to_string(), node)),
        Err(error) => {
            tracing::error!(error = %runtime::chain(&error), "a node's record can not be used; it is no peer");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::identity::NodeIdentity;

    use super::*;

    fn record(name: &str, index: u16) -> identities::NodeIdentity {
        let addresses = AddressPlan::default().node(index).unwrap();
        identities::NodeIdentity::from_identity(&NodeIdentity {
            name: name.parse().unwrap(),
            role: Role::Worker,
            disk_uuid: "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54".parse().unwrap(),
            attestation_variant: "qemu-vtpm".to_owned(),
            attestation_key_id: "ab".repeat(32),
            measurements: BTreeMap::new(),
            index,
            mesh_ip: addresses.mesh_ip,
            pod_cidr: addresses.pod_cidr,
            node_ip: std::net::Ipv4Addr::new(10, 42, 2, 10),
            wireguard_public_key: cluster::identity::WireGuardPublicKey::new([7; 32]),
            admitted_at: "2026-11-22T06:00:00Z".to_owned(),
            reset_count: None,
        })
    }

    fn names(known: &Known) -> Vec<&str> {
        known.identities.keys().map(String::as_str).collect()
    }

    #[test]
    fn peers_go_only_when_a_list_is_complete_or_a_record_is_deleted() {
        let mut known = Known::of(AddressPlan::default());
        assert!(!known.take(Event::Init));
        assert!(!known.take(Event::InitApply(record("a", 1))));
        assert!(!known.take(Event::InitApply(record("b", 2))));
        assert!(known.take(Event::InitDone));
        assert_eq!(names(&known), ["a", "b"]);
        // a second list that breaks off changes nothing
        assert!(!known.take(Event::Init));
        assert!(!known.take(Event::InitApply(record("a", 1))));
        assert_eq!(names(&known), ["a", "b"]);
        assert!(known.take(Event::Apply(record("c", 3))));
        assert!(known.take(Event::Delete(record("b", 2))));
        assert_eq!(names(&known), ["a", "c"]);
    }

    #[test]
    fn a_record_that_was_edited_into_nonsense_is_no_peer() {
        let mut known = Known::of(AddressPlan::default());
        known.take(Event::Apply(record("a", 1)));
        // the record of another node under this name
        let mut edited = record("b", 1);
        edited.metadata.name = Some("a".to_owned());
        known.take(Event::Apply(edited));
        assert!(names(&known).is_empty());
    }

    #[test]
    fn a_record_with_addresses_of_others_is_no_peer() {
        let good = record("b", 2).to_identity().unwrap();
        for edited in [
            NodeIdentity {
                pod_cidr: "0.0.0.0/0".parse().unwrap(),
                ..good.clone()
            },
            NodeIdentity {
                pod_cidr: "10.244.1.0/24".parse().unwrap(),
                ..good.clone()
            },
            NodeIdentity {
                mesh_ip: [10, 45, 0, 1].into(),
                ..good.clone()
            },
            NodeIdentity { index: 0, ..good },
        ] {
            let mut known = Known::of(AddressPlan::default());
            let record = identities::NodeIdentity::from_identity(&edited);
            known.take(Event::Apply(record.clone()));
            known.take(Event::InitApply(record));
            known.take(Event::InitDone);
            assert!(names(&known).is_empty(), "{edited:?}");
        }
    }
}
