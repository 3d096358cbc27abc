//! The WireGuard mesh on this node: its key, its interface, its peers.
//!
//! Peers come from the join ticket or from `NodeIdentity` records, which only the join service writes. What the mesh does not
//! carry falls into a blackhole, and the packet filter drops it on any other interface, in either direction: no pod or node address
//! ever leaves in the clear or is reached from there. What is configured is rendered by [`k8s::wireguard`] and [`k8s::cni`]; every function here may be repeated.

use cluster::network::{AddressPlan, MESH_INTERFACE, MeshPeer, NodeAddresses};
use k8s::files::{File, FileError, SecretText};
use k8s::wireguard::{self, Key, KeyError};

use crate::exec::{ExecError, Program};
use crate::host::Paths;

/// The mesh could not be brought up or changed.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The file of the key or of the configuration.
    #[error("a file of the mesh")]
    File(#[source] FileError),
    /// The key itself.
    #[error("the node's key in the mesh")]
    Key(#[source] KeyError),
    /// The peers that were kept.
    #[error("the peers that this node keeps for its next boot")]
    Kept(#[source] serde_json::Error),
    /// A program.
    #[error("configuring {MESH_INTERFACE}")]
    Configure(#[source] ExecError),
}

/// Reads this node's key, or makes it.
pub fn ensure_key(paths: &Paths) -> Result<Key, MeshError> {
    let path = paths.mesh_key();
    match std::fs::read_to_string(&path) {
        Ok(secret) => Key::from_secret(&SecretText::new(secret)).map_err(MeshError::Key),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Key::generate().map_err(MeshError::Key)?;
            File::secret(path, key.to_secret())
                .write()
                .map_err(MeshError::File)?;
            Ok(key)
        }
        Err(source) => Err(MeshError::File(FileError {
            operation: "read",
            path,
            source,
        })),
    }
}

/// Brings the interface up with this node's address and these peers.
pub async fn bring_up(
    paths: &Paths,
    plan: &AddressPlan,
    own: &NodeAddresses,
    peers: &[MeshPeer],
) -> Result<(), MeshError> {
    let key = ensure_key(paths)?;
    // the filter comes first: until the mesh works nothing may go another way
    let filter = k8s::cni::packet_filter(plan, own).into_bytes();
    Program::new("nft")
        .args(["-f", "-"])
        .input(filter)
        .run()
        .await
        .map_err(MeshError::Configure)?;
    if !paths.interfaces.join(MESH_INTERFACE).exists() {
        let add = ["link", "add", MESH_INTERFACE, "type", "wireguard"];
        Program::new("ip")
            .args(add)
            .run()
            .await
            .map_err(MeshError::Configure)?;
    }
    set_peers(paths, &key, peers).await?;
    // one process for all of them: starting one is most of what a call costs
    let batch = wireguard::interface_setup(plan, own);
    let lines: Vec<String> = batch.iter().map(|call| call.join(" ")).collect();
    Program::new("ip")
        .args(["-batch", "-"])
        .input(lines.join("\n").into_bytes())
        .run()
        .await
        .map_err(MeshError::Configure)
}

/// Makes the mesh have exactly these peers, without a break for those that stay.
pub async fn set_peers(paths: &Paths, key: &Key, peers: &[MeshPeer]) -> Result<(), MeshError> {
    let conflicting = wireguard::conflicting(peers);
    for address in &conflicting {
        tracing::error!(%address, "two nodes are recorded with one mesh address; neither is a peer");
    }
    let peers: Vec<MeshPeer> = peers
        .iter()
        .filter(|peer| !conflicting.contains(&peer.mesh_ip))
        .cloned()
        .collect();
    // in memory: the private key is in it
    let path = paths.run.join("wg0.conf");
    File::secret(&path, wireguard::config(key, &peers))
        .write()
        .map_err(MeshError::File)?;
    let sync = Program::new("wg")
        .args(["syncconf", MESH_INTERFACE])
        .arg(path);
    sync.run().await.map_err(MeshError::Configure)?;
    keep_peers(paths, &peers)
}

/// Keeps the peers on the encrypted disk: a rebooted worker reaches the API, and with it the records, through the mesh only.
fn keep_peers(paths: &Paths, peers: &[MeshPeer]) -> Result<(), MeshError> {
    let json = serde_json::to_string(peers).map_err(MeshError::Kept)?;
    File::public(paths.mesh_peers(), json)
        .write()
        .map(drop)
        .map_err(MeshError::File)
}

/// The peers that this node had last.
pub fn kept_peers(paths: &Paths) -> Result<Vec<MeshPeer>, MeshError> {
    let path = paths.mesh_peers();
    let json = std::fs::read(&path).map_err(|source| {
        MeshError::File(FileError {
            operation: "read",
            path,
            source,
        })
    })?;
    serde_json::from_slice(&json).map_err(MeshError::Kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_peers() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        kept_peers(&paths).unwrap_err();
        let control_plane = AddressPlan::default().node(1).unwrap();
        let peers = [MeshPeer {
            node_name: "control-plane-0".parse().unwrap(),
            role: cluster::Role::ControlPlane,
            public_key: cluster::identity::WireGuardPublicKey::new([7; 32]),
            endpoint: [10, 42, 1, 10].into(),
            mesh_ip: control_plane.mesh_ip,
            pod_cidr: control_plane.pod_cidr,
        }];
        keep_peers(&paths, &peers).unwrap();
        assert_eq!(kept_peers(&paths).unwrap(), peers);
        keep_peers(&paths, &[]).unwrap();
        assert_eq!(kept_peers(&paths).unwrap(), []);
    }

    #[test]
    fn a_node_keeps_its_key() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let first = ensure_key(&paths).unwrap().public();
        assert_eq!(ensure_key(&paths).unwrap().public(), first);
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(paths.mesh_key())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
