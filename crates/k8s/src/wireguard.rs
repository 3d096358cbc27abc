//! The mesh between nodes: keys, interface configuration, routes.
//!
//! A node's key is made on the node and never leaves it; its public half travels inside the attested channel, so that only admitted
//! nodes are peers. Renders texts for `wg` and arguments for `ip`; runs neither.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use aws_lc_rs::{
    agreement::{PrivateKey, X25519},
    encoding::{AsBigEndian as _, Curve25519SeedBin},
    error::Unspecified,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use cluster::{
    identity::{NodeIdentity, WireGuardPublicKey},
    network::{AddressPlan, MESH_CIDR, MESH_INTERFACE, MeshPeer, NodeAddresses, WIREGUARD_PORT},
};
use zeroize::Zeroizing;

use crate::{cni::MTU, files::SecretText};

/// Keeps the path through stateful devices open; nodes of a cluster rarely sit behind any, but a silent peer looks dead otherwise.
const KEEPALIVE_SECONDS: u16 = 25;
/// Lower than any real route: counts only when the interface is gone.
const BLACKHOLE_METRIC: &str = "4278198272";

/// A node's WireGuard key.
pub struct Key {
    private: Zeroizing<[u8; 32]>,
    public: WireGuardPublicKey,
}

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The crypto library failed.
    #[error("make a WireGuard key")]
    Make(#[source] Unspecified),
    /// Not a key as `wg` writes it.
    #[error("the text is not a WireGuard private key")]
    Malformed,
}

impl Key {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        let key = PrivateKey::generate(&X25519).map_err(KeyError::Make)?;
        Self::from_agreement(&key)
    }

    /// Reads a key that [`Key::to_secret`] wrote.
    pub fn from_secret(text: &SecretText) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(
            BASE64
                .decode(text.expose().trim())
                .map_err(|_| KeyError::Malformed)?,
        );
        let key = PrivateKey::from_private_key(&X25519, &bytes).map_err(|_| KeyError::Malformed)?;
        Self::from_agreement(&key)
    }

    fn from_agreement(key: &PrivateKey) -> Result<Self, KeyError> {
        let seed: Curve25519SeedBin<'_> = key.as_be_bytes().map_err(KeyError::Make)?;
        let public = key.compute_public_key().map_err(KeyError::Make)?;
        let mut private = Zeroizing::new([0; 32]);
        let (Ok(()), Ok(public)) = (
            copy(seed.as_ref(), &mut private),
            WireGuardPublicKey::try_from(public.as_ref()),
        ) else {
            return Err(KeyError::Malformed);
        };
        Ok(Self { private, public })
    }

    /// The public half.
    pub const fn public(&self) -> WireGuardPublicKey {
        self.public
    }

    /// The key as `wg` reads it, for a file on the encrypted disk.
    pub fn to_secret(&self) -> SecretText {
        SecretText::new(BASE64.encode(self.private.as_slice()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

fn copy(from: &[u8], to: &mut [u8; 32]) -> Result<(), KeyError> {
    *to = from.try_into().map_err(|_| KeyError::Malformed)?;
    Ok(())
}

/// The peers of node `own` by the records of the cluster: every other node, in the order of their names.
pub fn peers<'a>(
    identities: impl IntoIterator<Item = &'a NodeIdentity>,
    own: WireGuardPublicKey,
) -> Vec<MeshPeer> {
    let mut peers: Vec<_> = identities
        .into_iter()
        .filter(|identity| identity.wireguard_public_key != own)
        .map(|identity| MeshPeer {
            node_name: identity.name.clone(),
            role: identity.role,
            public_key: identity.wireguard_public_key,
            endpoint: identity.node_ip,
            mesh_ip: identity.mesh_ip,
            pod_cidr: identity.pod_cidr,
        })
        .collect();
    peers.sort();
    peers
}

/// Renders the configuration for `wg setconf` and `wg syncconf`. A peer may use its own addresses and no others.
pub fn config(key: &Key, peers: &[MeshPeer]) -> SecretText {
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {WIREGUARD_PORT}\n",
        key.to_secret().expose()
    );
    for peer in peers {
        // writing to a String cannot fail
        let _infallible = write!(
            text,
            "\n# {}\n[Peer]\nPublicKey = {}\nAllowedIPs = {}/32, {}\nEndpoint = {}:{WIREGUARD_PORT}\nPersistentKeepalive = {KEEPALIVE_SECONDS}\n",
            peer.node_name, peer.public_key, peer.mesh_ip, peer.pod_cidr, peer.endpoint
        );
    }
    SecretText::new(text)
}

/// The calls of `ip` that bring the interface up once it has its configuration; each may be repeated.
///
/// The ranges are routed into the mesh as a whole: which peer gets a packet is WireGuard's decision by key, and one without a peer is
/// dropped. Should the interface vanish, the blackholes keep the traffic from leaving in the clear.
pub fn interface_setup(plan: &AddressPlan, addresses: &NodeAddresses) -> Vec<Vec<String>> {
    let call = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let (mesh, pods) = (MESH_CIDR.to_string(), plan.pods().to_string());
    let own = addresses.mesh_ip.to_string();
    let mut calls = Vec::new();
    for range in [&mesh, &pods] {
        calls.push(call(&[
            "route",
            "replace",
            "blackhole",
            range,
            "metric",
            BLACKHOLE_METRIC,
        ]));
    }
    calls.push(call(&[
        "address",
        "replace",
        &format!("{own}/32"),
        "dev",
        MESH_INTERFACE,
    ]));
    calls.push(call(&[
        "link",
        "set",
        "dev",
        MESH_INTERFACE,
        "mtu",
        &MTU.to_string(),
        "up",
    ]));
    for range in [&mesh, &pods] {
        calls.push(call(&[
            "route",
            "replace",
            range,
            "dev",
            MESH_INTERFACE,
            "src",
            &own,
        ]));
    }
    calls
}

/// Peers whose records claim an address that another record has too: neither may be believed.
pub fn conflicting(peers: &[MeshPeer]) -> Vec<Ipv4Addr> {
    let mut count: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    for peer in peers {
        *count.entry(peer.mesh_ip).or_default() += 1;
    }
    count
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(ip, _)| ip)
        .collect()
}

#[cfg(test)]
mod tests {
    use cluster::Role;

    use super::*;
    use crate::identities::tests::identity;

    #[test]
    fn keys_survive_their_text_form() {
        let key = Key::generate().unwrap();
        let copy = Key::from_secret(&key.to_secret()).unwrap();
        assert_eq!(copy.public(), key.public());
        assert_ne!(Key::generate().unwrap().public(), key.public());
        assert!(!format!("{key:?}").contains(key.to_secret().expose()));
        for text in ["", "AAAA", "no base64"] {
            assert!(Key::from_secret(&SecretText::new(text.into())).is_err());
        }
    }

    #[test]
    fn public_key_is_x25519_of_the_private_one() {
        // RFC 7748, 6.1, Alice
        let private =
            hex::decode("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
                .unwrap();
        let key = Key::from_secret(&SecretText::new(BASE64.encode(private))).unwrap();
        let public = hex::encode(key.public().as_bytes());
        assert_eq!(
            public,
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
        );
    }

    #[test]
    fn every_other_node_is_a_peer_with_its_own_addresses_only() {
        let nodes = [
            identity("b", 2, Role::Worker),
            identity("a", 1, Role::ControlPlane),
            identity("c", 3, Role::Worker),
        ];
        let peers = peers(&nodes, nodes[0].wireguard_public_key);
        assert_eq!(
            peers
                .iter()
                .map(|peer| peer.node_name.as_str())
                .collect::<Vec<_>>(),
            ["a", "c"]
        );
        let key = Key::generate().unwrap();
        let text = config(&key, &peers);
        let text = text.expose();
        assert!(text.contains(&format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = 10.45.0.3/32, 10.244.3.0/24\nEndpoint = 10.42.2.12:51820\n",
            nodes[2].wireguard_public_key
        )));
        assert_eq!(text.matches("[Peer]").count(), 2);
        assert!(!text.contains("0.0.0.0/0"));
    }

    #[test]
    fn two_records_with_one_address_are_seen() {
        let (a, mut b) = (
            identity("a", 1, Role::Worker),
            identity("b", 2, Role::Worker),
        );
        b.mesh_ip = a.mesh_ip;
        let found = conflicting(&peers([&a, &b], WireGuardPublicKey::new([9; 32])));
        assert_eq!(found, [a.mesh_ip]);
    }

    #[test]
    fn blackholes_come_before_the_interface() {
        let plan = AddressPlan::default();
        let calls: Vec<_> = interface_setup(&plan, &plan.node(2).unwrap())
            .iter()
            .map(|call| call.join(" "))
            .collect();
        assert_eq!(
            calls[0],
            "route replace blackhole 10.45.0.0/16 metric 4278198272"
        );
        assert_eq!(
            calls[1],
            "route replace blackhole 10.244.0.0/16 metric 4278198272"
        );
        assert_eq!(calls[2], "address replace 10.45.0.2/32 dev wg0");
        assert_eq!(
            calls.last().unwrap(),
            "route replace 10.244.0.0/16 dev wg0 src 10.45.0.2"
        );
    }
}
