//! kube-proxy: services by iptables, with the kubelet's credentials.
//!
//! The kubelet's certificate rotates by itself, and `addons` lets `system:nodes` read what kube-proxy reads: one credential per
//! node instead of a token that someone would have to carry there.

use serde_json::json;

use super::Node;
use crate::files::File;

const CONFIG: &str = "kube-proxy-config.yaml";

impl Node {
    pub(super) fn proxy_args(&self) -> Vec<String> {
        vec![Self::flag_path(
            "config",
            &self.paths.kubernetes.join(CONFIG),
        )]
    }

    pub(super) fn proxy_files(&self) -> Vec<File> {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            // also the address it takes for the node's own, so that it needs no Node object to start
            "bindAddress": self.config.addresses.mesh_ip,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "enableProfiling": false,
            "hostnameOverride": self.config.node_name,
            "clusterCIDR": self.config.plan.pods(),
            "clientConnection": { "kubeconfig": self.paths.kubelet_kubeconfig() },
            "iptables": { "masqueradeAll": false },
        });
        vec![File::public(
            self.paths.kubernetes.join(CONFIG),
            format!("{config:#}\n"),
        )]
    }
}
