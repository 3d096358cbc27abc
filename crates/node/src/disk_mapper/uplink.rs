//! The network of a machine in the initrd. It is brought up only when a disk's key has to be asked for, so that a first boot does not
//! wait for it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cloud::qemu::client::{ClusterInterface, QemuMetadata, SetUpError};
use cluster::{Metadata, NodeName};
use tokio::time::Instant;

use crate::console::Console;
use crate::host::Paths;
use crate::network::{self, Manager, NetworkError};
use crate::provider::insist;
use crate::systemd::{self, SystemdError};

/// How long the interface may take to appear: its driver is loaded when the device is seen.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);
/// Pause before everything is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// There is no network yet.
#[derive(Debug, thiserror::Error)]
enum UplinkError {
    /// The service manager.
    #[error("starting the network")]
    Start(#[source] SystemdError),
    /// The provider.
    #[error("setting up the provider's client")]
    Provider(#[source] SetUpError),
    /// The interface.
    #[error("setting up the network between the machines")]
    Network(#[source] NetworkError),
}

/// Tries until there is a network and the provider has answered: without it no join service can be asked, but an administrator
/// may find a way to the machine.
pub(super) async fn insist_on(
    paths: &Paths,
    console: &Console,
    name: &OnceLock<NodeName>,
) -> (Arc<dyn Metadata>, IpAddr) {
    loop {
        match bring_up(paths, console, name).await {
            Ok(up) => return up,
            Err(error) => console.say_once(format_args!(
                "no join service can be asked for the state disk's key, and it is tried again: {}",
                runtime::chain(&error)
            )),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Brings both interfaces up: the way out by DHCP, the other with the address that the provider names. Gives the provider and that
/// address, and notes what it calls the machine.
async fn bring_up(
    paths: &Paths,
    console: &Console,
    name: &OnceLock<NodeName>,
) -> Result<(Arc<dyn Metadata>, IpAddr), UplinkError> {
    systemd::start(&[network::UNIT])
        .await
        .map_err(UplinkError::Start)?;
    let interface = interface().await.map_err(UplinkError::Provider)?;
    let metadata = QemuMetadata::of_this_machine().map_err(UplinkError::Provider)?;
    let instance = insist(console, || metadata.this_instance()).await;
    // only the first name counts, should it change
    let _known = name.set(instance.name);
    let own = instance.vpc_ip;
    network::configure(paths, Manager::Restarted, &interface, own)
        .await
        .map_err(UplinkError::Network)?;
    Ok((Arc::new(metadata), own))
}

async fn interface() -> Result<ClusterInterface, SetUpError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ClusterInterface::find() {
            Err(SetUpError::NoInterface) if Instant::now() < end => {
                tokio::time::sleep(POLL).await;
            }
            found => return found,
        }
    }
}
