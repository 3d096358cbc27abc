//! The interface to the network between the machines. The host says which address it has; the network itself is the host's and
//! carries nothing but attested channels and WireGuard.

use std::net::IpAddr;
use std::time::Duration;

use cloud::qemu::CLUSTER_PREFIX_LEN;
use cloud::qemu::client::ClusterInterface;
use k8s::files::{File, FileError};

use crate::exec::{ExecError, Program};
use crate::host::Paths;

/// How long an address may take to appear.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(60);

/// The interface could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The network file.
    #[error("writing the interface's network file")]
    Write(#[source] FileError),
    /// A program.
    #[error("configuring the interface")]
    Configure(#[source] ExecError),
    /// It did not come up.
    #[error("{interface} has no address {address} after {} s", ADDRESS_DEADLINE.as_secs())]
    NoAddress {
        /// Which interface.
        interface: String,
        /// Which address.
        address: IpAddr,
    },
}

/// Gives the interface its address, and waits until it has it.
pub async fn configure(
    paths: &Paths,
    interface: &ClusterInterface,
    address: IpAddr,
) -> Result<(), NetworkError> {
    let path = paths.networks.join("10-constellation-machines.network");
    File::public(path, network_file(interface, address))
        .write()
        .map_err(NetworkError::Write)?;
    let networkctl = |arguments: &[&str]| Program::new("networkctl").args(arguments).run();
    networkctl(&["reload"])
        .await
        .map_err(NetworkError::Configure)?;
    networkctl(&["reconfigure", &interface.name])
        .await
        .map_err(NetworkError::Configure)?;

    let deadline = tokio::time::Instant::now() + ADDRESS_DEADLINE;
    while tokio::time::Instant::now() < deadline {
        let addresses = Program::new("ip")
            .args(["-o", "address", "show", "dev", &interface.name, "up"])
            .output()
            .await
            .map_err(NetworkError::Configure)?;
        if has_address(&String::from_utf8_lossy(&addresses), address) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(NetworkError::NoAddress {
        interface: interface.name.clone(),
        address,
    })
}

fn network_file(interface: &ClusterInterface, address: IpAddr) -> String {
    let mac = interface.mac;
    format!(
        "[Match]\nMACAddress={mac}\n\n[Network]\nAddress={address}/{CLUSTER_PREFIX_LEN}\n\
         DHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=no\nLLMNR=no\nMulticastDNS=no\n"
    )
}

fn has_address(listing: &str, address: IpAddr) -> bool {
    let wanted = format!("{address}/{CLUSTER_PREFIX_LEN}");
    listing.split_whitespace().any(|word| word == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_match_whole() {
        let listing = "3: ens4    inet 10.42.1.10/16 brd 10.42.255.255 scope global ens4\\  valid_lft forever";
        assert!(has_address(listing, IpAddr::from([10, 42, 1, 10])));
        assert!(!has_address(listing, IpAddr::from([10, 42, 1, 1])));
    }

    #[test]
    fn the_network_file_takes_nothing_from_the_network() {
        let mac = cloud::qemu::Mac::parse("52:54:00:42:01:0a").unwrap();
        let interface = ClusterInterface {
            name: "ens4".to_owned(),
            mac,
        };
        let content = network_file(&interface, IpAddr::from([10, 42, 1, 10]));
        for line in [
            "MACAddress=52:54:00:42:01:0a",
            "Address=10.42.1.10/16",
            "DHCP=no",
            "IPv6AcceptRA=no",
        ] {
            assert!(content.lines().any(|have| have == line), "{line}");
        }
    }
}
