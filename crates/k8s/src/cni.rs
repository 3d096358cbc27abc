//! The pod network of one node: CNI configuration and packet filter.
//!
//! Debian's standard plugins: a bridge with the node's own pod CIDR, which comes from its identity. Between nodes pods' packets are
//! routed into the WireGuard mesh. The filter keeps that closed: nothing for or from an address of a pod, the mesh or a service passes
//! any other interface, in or out, whatever routes say. Renders only. Spec: design/cluster.md.

use cluster::network::{AddressPlan, MESH_CIDR, MESH_INTERFACE, NodeAddresses};
use serde_json::json;

use crate::files::File;

/// The bridge of the node's pods.
pub const BRIDGE: &str = "cni0";
/// WireGuard takes 80 bytes of a packet on Ethernet.
pub const MTU: u16 = 1420;
/// Where the plugins lie in the image.
pub const PLUGIN_DIR: &str = "/usr/lib/cni";
/// Where the container runtime looks for the configuration.
pub const CONFIG_DIR: &str = "/etc/cni/net.d";
/// Name of nftables' table.
const TABLE: &str = "constellation";

/// Renders the CNI configuration. Writing it is what makes the node ready for pods.
pub fn conflist(addresses: &NodeAddresses) -> File {
    let config = json!({
        "cniVersion": "0.4.0",
        "name": "constellation",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "isDefaultGateway": true,
                "hairpinMode": true,
                // the packet filter below knows better what leaves the cluster
                "ipMasq": false,
                "mtu": MTU,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": addresses.pod_cidr }]], "dataDir": "/run/cni-ipam" },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    });
    File::public(
        format!("{CONFIG_DIR}/10-constellation.conflist"),
        format!("{config:#}\n"),
    )
}

/// Renders the packet filter, for `nft -f -`. Applying it again replaces it in one transaction.
///
/// - pods reach the outside under the node's address;
/// - packets to addresses inside the cluster leave through the mesh, the bridge or the loopback, or not at all;
/// - packets from such addresses come in the same way, or not at all: nobody outside can claim one;
/// - packets to them as well: nobody outside can reach a pod, a service, or what listens on the mesh, by a route of his own.
///
/// What comes in is looked at before any address is translated: a node port and the answers to a masqueraded packet still have the
/// node's own address there.
pub fn packet_filter(plan: &AddressPlan, addresses: &NodeAddresses) -> String {
    let (pods, services, own_pods) = (plan.pods(), plan.services(), addresses.pod_cidr);
    let inside = format!("{{ \"{MESH_INTERFACE}\", \"{BRIDGE}\", \"lo\" }}");
    format!(
        "\
table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
\tset cluster {{
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = {{ {MESH_CIDR}, {pods}, {services} }}
\t}}
\tchain spoofed {{
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tip saddr @cluster iifname != {inside} counter drop
\t}}
\tchain entering {{
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tip daddr @cluster iifname != {inside} counter drop
\t}}
\tchain leaked {{
\t\ttype filter hook postrouting priority filter; policy accept;
\t\tip daddr @cluster oifname != {inside} counter drop
\t}}
\tchain outside {{
\t\ttype nat hook postrouting priority srcnat + 10; policy accept;
\t\tip saddr {own_pods} ip daddr != @cluster oifname != {inside} masquerade
\t}}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_has_the_nodes_own_pods() {
        let addresses = AddressPlan::default().node(3).unwrap();
        let file = conflist(&addresses);
        let config: serde_json::Value = serde_json::from_slice(file.bytes()).unwrap();
        assert_eq!(
            config["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.244.3.0/24"
        );
        assert_eq!(config["plugins"][0]["ipMasq"], false);
        let types: Vec<_> = config["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .map(|plugin| plugin["type"].clone())
            .collect();
        assert_eq!(types, ["bridge", "portmap"]);
    }

    #[test]
    fn the_filter_names_every_range_once_as_data() {
        let plan = AddressPlan::default();
        let filter = packet_filter(&plan, &plan.node(3).unwrap());
        assert!(filter.contains("elements = { 10.45.0.0/16, 10.244.0.0/16, 10.96.0.0/12 }"));
        assert!(filter.contains("ip saddr 10.244.3.0/24 ip daddr != @cluster"));
        assert_eq!(filter.matches('{').count(), filter.matches('}').count());
    }
}
