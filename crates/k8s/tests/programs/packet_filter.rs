//! The pod network in network namespaces: our CNI configuration with the real plugins, our packet filter with real packets.
//!
//! Needs root, `ip`, `nft`, `ping`, and Debian's containernetworking-plugins. The mesh is not here (that needs the guest's kernel):
//! what is shown is that a pod reaches the outside, and that nothing else passes between inside and outside when routes are wrong.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use cluster::network::{AddressPlan, MESH_CIDR, NodeAddresses};
use k8s::cni;

/// Three namespaces, removed when dropped: a node, a pod on it, and a host outside the cluster.
struct Net {
    node: String,
    pod: String,
    outside: String,
}

impl Net {
    fn new() -> Result<Self> {
        static NETS: AtomicU32 = AtomicU32::new(0);
        let net = NETS.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("constellation-{role}-{}-{net}", std::process::id());
        let net = Self {
            node: name("node"),
            pod: name("pod"),
            outside: name("outside"),
        };
        for namespace in [&net.node, &net.pod, &net.outside] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        // the provider's network
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            &net.node,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &net.outside,
        ])?;
        for (namespace, address) in [(&net.node, "10.42.0.1/24"), (&net.outside, "10.42.0.2/24")] {
            ip(&["-n", namespace, "address", "add", address, "dev", "eth0"])?;
            ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
        }
        run(Command::new("ip").args([
            "netns",
            "exec",
            &net.node,
            "sysctl",
            "-q",
            "-w",
            "net.ipv4.ip_forward=1",
        ]))?;
        Ok(net)
    }

    fn ping(&self, from: &str, args: &[&str]) -> Result<bool> {
        let output = Command::new("ip")
            .args([
                "netns", "exec", from, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1",
            ])
            .args(args)
            .output()?;
        // 1: no answer; 2: no route
        ensure!(
            matches!(output.status.code(), Some(0..=2)),
            "ping (Debian: iputils-ping): {output:?}"
        );
        Ok(output.status.success())
    }

    fn nft(&self, input: &str) -> Result<String> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.node, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("nft's input")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "nft (Debian: nftables): {output:?}"
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// How many packets a chain dropped.
    fn dropped(&self, chain: &str) -> Result<u64> {
        let text = self.nft(&format!("list chain ip constellation {chain}\n"))?;
        let count = text
            .split("packets ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .context("a counter")?;
        Ok(count.parse()?)
    }

    /// Lets the real plugin connect the pod, and returns its address.
    fn connect_pod(&self, addresses: &NodeAddresses, ipam: &std::path::Path) -> Result<String> {
        let file = cni::conflist(addresses);
        let list: serde_json::Value = serde_json::from_slice(file.bytes())?;
        let mut bridge = list["plugins"][0].clone();
        bridge["cniVersion"] = list["cniVersion"].clone();
        bridge["name"] = list["name"].clone();
        bridge["ipam"]["dataDir"] = ipam.display().to_string().into();
        let mut child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.node,
                &format!("{}/bridge", cni::PLUGIN_DIR),
            ])
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "pod")
            .env("CNI_NETNS", format!("/run/netns/{}", self.pod))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", cni::PLUGIN_DIR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("the plugin's input")?
            .write_all(bridge.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "the plugin (Debian: containernetworking-plugins): {output:?}"
        );
        let result: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let address = result["ips"][0]["address"].as_str();
        let address = address
            .and_then(|address| address.split('/').next())
            .filter(|address| address.starts_with("10.244.1."));
        Ok(address.with_context(|| result.to_string())?.to_owned())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.pod, &self.outside] {
            let _may_not_exist = ip(&["netns", "delete", namespace]);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args)).map(|_| ())
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} (this test needs root): {output:?}"
    );
    Ok(output)
}

#[test]
fn pods_reach_the_outside_and_their_addresses_do_not() -> Result<()> {
    let net = Net::new()?;
    let ipam = tempfile::tempdir()?;
    let plan = AddressPlan::default();
    let addresses = plan.node(1)?;
    net.connect_pod(&addresses, ipam.path())?;
    ensure!(
        net.ping(&net.pod, &["10.244.1.1"])?,
        "the pod reaches its node"
    );
    ensure!(
        !net.ping(&net.pod, &["10.42.0.2"])?,
        "without the filter nobody outside knows where to answer"
    );

    let filter = cni::packet_filter(&plan, &addresses);
    net.nft(&filter)?;
    net.nft(&filter)?;
    ensure!(
        net.ping(&net.pod, &["10.42.0.2"])?,
        "the pod reaches the outside under its node's address"
    );

    // a route that leads pods' traffic out in the clear
    ip(&[
        "-n",
        &net.outside,
        "address",
        "add",
        "10.244.2.1/32",
        "dev",
        "lo",
    ])?;
    ip(&[
        "-n",
        &net.outside,
        "address",
        "add",
        "10.45.0.2/32",
        "dev",
        "lo",
    ])?;
    for range in ["10.244.2.0/24", "10.45.0.0/16"] {
        ip(&["-n", &net.node, "route", "add", range, "via", "10.42.0.2"])?;
    }
    for address in ["10.244.2.1", "10.45.0.2"] {
        let before = net.dropped("leaked")?;
        ensure!(!net.ping(&net.node, &[address])?, "{address} from the node");
        ensure!(!net.ping(&net.pod, &[address])?, "{address} from the pod");
        ensure!(
            net.dropped("leaked")? >= before + 4,
            "the filter dropped them"
        );
    }

    // someone outside who says that they are a node
    let before = net.dropped("spoofed")?;
    ensure!(!net.ping(&net.outside, &["-I", "10.45.0.2", "10.42.0.1"])?);
    ensure!(
        net.dropped("spoofed")? >= before + 2,
        "the filter dropped them"
    );

    // all of this is the filter's work
    net.nft("delete table ip constellation\n")?;
    ensure!(
        net.ping(&net.node, &["10.244.2.1"])? && net.ping(&net.node, &["10.45.0.2"])?,
        "without it they arrive"
    );
    Ok(())
}

/// Someone outside who says that he is nobody else, and knows the way.
#[test]
fn nobody_outside_reaches_an_address_inside_by_a_route_of_his_own() -> Result<()> {
    let net = Net::new()?;
    let ipam = tempfile::tempdir()?;
    let plan = AddressPlan::default();
    let addresses = plan.node(1)?;
    let pod = net.connect_pod(&addresses, ipam.path())?;
    let mesh = addresses.mesh_ip.to_string();
    // the mesh's interface is not here, but its address is; a service's is wherever kube-proxy leads it
    let service = "10.96.0.1";
    for address in [&mesh, service] {
        let address = format!("{address}/32");
        ip(&["-n", &net.node, "address", "add", &address, "dev", "lo"])?;
    }
    for range in [
        plan.pods().to_string(),
        plan.services().to_string(),
        MESH_CIDR.to_string(),
    ] {
        ip(&[
            "-n",
            &net.outside,
            "route",
            "add",
            &range,
            "via",
            "10.42.0.1",
        ])?;
    }
    net.nft(&cni::packet_filter(&plan, &addresses))?;
    for address in [pod.as_str(), &mesh, service] {
        let before = net.dropped("entering")?;
        ensure!(!net.ping(&net.outside, &[address])?, "{address}");
        ensure!(
            net.dropped("entering")? >= before + 2,
            "the filter dropped what went to {address}"
        );
    }
    for (from, address) in [
        (&net.outside, "10.42.0.1"),
        (&net.node, pod.as_str()),
        (&net.node, &mesh),
        (&net.pod, &mesh),
        (&net.pod, service),
        (&net.pod, "10.42.0.2"),
    ] {
        ensure!(net.ping(from, &[address])?, "{address} from {from}");
    }

    // all of this is that chain's work
    net.nft("flush chain ip constellation entering\n")?;
    for address in [pod.as_str(), &mesh, service] {
        ensure!(net.ping(&net.outside, &[address])?, "{address} without it");
    }
    Ok(())
}
