//! Where things lie on a node. One value, made in `main` and handed down; tests make their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api_proxy::ApiServers;
use crate::console::Console;

/// The machine that the program runs on.
#[derive(Clone)]
pub struct Host {
    /// Places.
    pub paths: Arc<Paths>,
    /// The person in front of it.
    pub console: Console,
    /// Where the API is, for this node's proxy.
    pub api_servers: ApiServers,
}

/// Places on a node. See `boot-and-disk.md` and the image's units for who makes them.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The mounted state disk.
    pub state: PathBuf,
    /// Memory-backed directory of this project's programs, kept over the switch to the root file system.
    pub run: PathBuf,
    /// Units that are made at run time.
    pub units: PathBuf,
    /// Network files that are made at run time.
    pub networks: PathBuf,
    /// Network interfaces.
    pub interfaces: PathBuf,
    /// Kubernetes' configuration, on the state disk.
    pub kubernetes: PathBuf,
    /// The pod network's configuration, on the state disk.
    pub cni: PathBuf,
    /// Service images of the measured image.
    pub service_images: PathBuf,
}

impl Host {
    /// This machine.
    pub fn this_machine() -> Self {
        Self {
            paths: Arc::new(Paths::of_the_image()),
            console: Console::of_this_machine(),
            api_servers: ApiServers::default(),
        }
    }
}

impl Paths {
    /// As the image lays them out.
    pub fn of_the_image() -> Self {
        Self {
            state: "/run/state".into(),
            run: "/run/constellation".into(),
            units: "/run/systemd/system".into(),
            networks: "/run/systemd/network".into(),
            interfaces: "/sys/class/net".into(),
            kubernetes: "/etc/kubernetes".into(),
            cni: "/etc/cni/net.d".into(),
            service_images: "/usr/lib/constellation/images/services.tar".into(),
        }
    }

    /// The same places below another root, for tests.
    pub fn below(root: &Path) -> Self {
        let image = Self::of_the_image();
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        Self {
            state: below(&image.state),
            run: below(&image.run),
            units: below(&image.units),
            networks: below(&image.networks),
            interfaces: below(&image.interfaces),
            kubernetes: below(&image.kubernetes),
            cni: below(&image.cni),
            service_images: below(&image.service_images),
        }
    }

    /// The token that came with the key of the disk, for a kubelet whose certificate has ended. In memory.
    pub fn rejoin_token(&self) -> PathBuf {
        self.run.join("rejoin-token")
    }

    /// The node state file.
    pub fn node_state(&self) -> PathBuf {
        self.state.join(cluster::node_state::PATH)
    }

    /// This node's private key in the mesh. On the encrypted disk, so that a rebooted node is the same peer.
    pub fn mesh_key(&self) -> PathBuf {
        self.state.join("constellation/wireguard.key")
    }

    /// The peers that this node had last. On the encrypted disk, for the next boot.
    pub fn mesh_peers(&self) -> PathBuf {
        self.state.join("constellation/peers.json")
    }
}
