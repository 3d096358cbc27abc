//! The interface to the network between the machines. The host says which address it has; the network itself is the host's and
//! carries nothing but attested channels and WireGuard.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use cloud::qemu::CLUSTER_PREFIX_LEN;
use cloud::qemu::client::ClusterInterface;
use k8s::files::{File, FileError};

use crate::exec::{ExecError, Program};
use crate::host::Paths;
use crate::systemd::{self, SystemdError};

/// What manages the interfaces, in the initrd as in the root.
pub const UNIT: &str = "systemd-networkd.service";

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
    /// The service manager.
    #[error("starting the network's manager anew")]
    Restart(#[source] SystemdError),
    /// It did not come up.
    #[error("{interface} has no address {address} after {} s", ADDRESS_DEADLINE.as_secs())]
    NoAddress {
        /// Which interface.
        interface: String,
        /// Which address.
        address: IpAddr,
    },
}

/// How the network's manager hears of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// In the root: over the bus.
    Told,
    /// In the initrd, where there is no bus: it is started anew, and keeps the addresses that there are.
    Restarted,
}

/// Gives the interface its address, and waits until it has it. An address that is there already is left alone.
pub async fn configure(
    paths: &Paths,
    manager: Manager,
    interface: &ClusterInterface,
    address: IpAddr,
) -> Result<(), NetworkError> {
    if is_there(address) {
        return Ok(());
    }
    let path = paths.networks.join("10-constellation-machines.network");
    File::public(path, network_file(interface, address))
        .write()
        .map_err(NetworkError::Write)?;
    match manager {
        Manager::Told => tell(interface).await.map_err(NetworkError::Configure)?,
        Manager::Restarted => systemd::restart(UNIT)
            .await
            .map_err(NetworkError::Restart)?,
    }
    let deadline = tokio::time::Instant::now() + ADDRESS_DEADLINE;
    while tokio::time::Instant::now() < deadline {
        if is_there(address) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(NetworkError::NoAddress {
        interface: interface.name.clone(),
        address,
    })
}

async fn tell(interface: &ClusterInterface) -> Result<(), ExecError> {
    let networkctl = |arguments: &[&str]| Program::new("networkctl").args(arguments).run();
    networkctl(&["reload"]).await?;
    networkctl(&["reconfigure", &interface.name]).await
}

/// Whether the machine has the address: what it has not it can not bind.
fn is_there(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn network_file(interface: &ClusterInterface, address: IpAddr) -> String {
    let mac = interface.mac;
    format!(
        "[Match]\nMACAddress={mac}\n\n[Network]\nAddress={address}/{CLUSTER_PREFIX_LEN}\n\
         DHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=no\nLLMNR=no\nMulticastDNS=no\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_when_it_can_be_bound() {
        assert!(is_there(IpAddr::from([127, 0, 0, 1])));
        // for documentation only: nobody has it
        assert!(!is_there(IpAddr::from([192, 0, 2, 1])));
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
