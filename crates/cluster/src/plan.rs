//! The part that init and join share: from the lock to a member of the cluster.
//!
//! ```text
//! BootLock::take → AwaitingMark → Building → Complete
//!                        └───────────┴─────→ Failed
//! ```
//!
//! Each state consumes itself. [`AwaitingMark`] demands the lock, [`Building`] demands that PCR 15 holds the cluster's mark
//! and nothing else, and only `Building` names steps that depend on a secret. What may run at the same time is one table per flow.
//!
//! Guarantees: a step starts once, and after everything it needs; the disk gets its key after every other step;
//! after a failure nothing starts any more, and what is left is a [`Failed`], which the reset of the disk asks for. Does no IO: its
//! driver performs the steps.
//! Design: `cluster.md` (Init, Join), `boot-and-disk.md` (PCR 15, crash windows).

use std::time::Duration;

use keys::ClusterId;

use crate::boot_lock::Held;
use crate::role::Role;

/// Which way a node becomes a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// First node of a new cluster.
    Init,
    /// Worker of an existing cluster.
    JoinAsWorker,
    /// Control plane of an existing cluster.
    JoinAsControlPlane,
}

/// One idempotent step on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Node state file on the state disk.
    NodeState,
    /// WireGuard interface, routes, peers.
    Mesh,
    /// Certificate authorities, leaf certificates, kubeconfigs.
    Pki,
    /// etcd, which the image carries.
    Etcd,
    /// The API server's own component, ahead of the others.
    ApiServerComponent,
    /// kube-apiserver, until it says that it is ready.
    ApiServer,
    /// Every other component.
    Components,
    /// kube-controller-manager and kube-scheduler.
    Controllers,
    /// Namespaces, roles, the node's own identity, the cluster's secrets and config maps.
    ClusterRecords,
    /// containerd and the service images of the measured image.
    Images,
    /// Images that came as components.
    ComponentImages,
    /// Pod network: CNI configuration.
    PodNetwork,
    /// kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
    /// Key service, join service, verification service.
    OwnServices,
    /// Keyslot of the state disk: from the first boot's passphrase to the node's own key. From here on a reboot keeps the disk;
    /// before, it makes a new one. Last, so that a machine that stops half-way leaves no half of a node behind.
    DiskKey,
}

impl Step {
    /// What a person reads while the step runs.
    pub fn title(self) -> &'static str {
        match self {
            Self::NodeState => "record this node's state",
            Self::Mesh => "start the WireGuard mesh",
            Self::Pki => "make certificates",
            Self::Etcd => "start etcd",
            Self::ApiServerComponent => "fetch kube-apiserver",
            Self::ApiServer => "start kube-apiserver",
            Self::Components => "fetch Kubernetes components",
            Self::Controllers => "start the controllers",
            Self::ClusterRecords => "write the cluster's records",
            Self::Images => "import container images",
            Self::ComponentImages => "import fetched images",
            Self::PodNetwork => "configure the pod network",
            Self::Kubelet => "start kubelet",
            Self::KubeProxy => "start kube-proxy",
            Self::OwnServices => "apply the cluster's services",
            Self::DiskKey => "set the state disk's key",
        }
    }
}

/// A row of a flow's table: a step and what must be done before it starts.
type Row = (Step, &'static [Step]);

/// Init. etcd and the API server are on the shortest path: what they do not need comes after them, because it would only
/// take processor time from them.
const INIT: &[Row] = &[
    (Step::NodeState, &[]),
    (Step::Pki, &[]),
    (Step::Mesh, &[]),
    (Step::Etcd, &[Step::Pki, Step::Mesh]),
    (Step::ApiServerComponent, &[]),
    (Step::ApiServer, &[Step::Etcd, Step::ApiServerComponent]),
    (Step::Components, &[Step::ApiServer]),
    (Step::Controllers, &[Step::Components]),
    (Step::ClusterRecords, &[Step::ApiServer]),
    (Step::Images, &[Step::ApiServer]),
    (Step::ComponentImages, &[Step::Components, Step::Images]),
    (Step::PodNetwork, &[Step::Mesh]),
    (
        Step::Kubelet,
        &[
            Step::ClusterRecords,
            Step::Components,
            Step::ComponentImages,
            Step::PodNetwork,
        ],
    ),
    // its credentials are kubelet's, and are there when that step ends
    (Step::KubeProxy, &[Step::Kubelet]),
    (
        Step::OwnServices,
        &[
            Step::ClusterRecords,
            Step::Controllers,
            Step::ComponentImages,
        ],
    ),
    (
        Step::DiskKey,
        &[
            Step::NodeState,
            Step::Kubelet,
            Step::KubeProxy,
            Step::OwnServices,
        ],
    ),
];

/// Join of a worker.
const JOIN_AS_WORKER: &[Row] = &[
    (Step::NodeState, &[]),
    (Step::Mesh, &[]),
    (Step::Components, &[]),
    (Step::Images, &[]),
    (Step::ComponentImages, &[Step::Components, Step::Images]),
    (Step::PodNetwork, &[Step::Mesh]),
    (
        Step::Kubelet,
        &[
            Step::Components,
            Step::ComponentImages,
            Step::PodNetwork,
            Step::NodeState,
        ],
    ),
    (Step::KubeProxy, &[Step::Kubelet]),
    (
        Step::DiskKey,
        &[Step::NodeState, Step::Kubelet, Step::KubeProxy],
    ),
];

/// Join of a control plane: a member of Kubernetes first, as a worker is, with the certificates of a control plane on its disk. It takes
/// part in etcd as a member, after these steps: a vote whose disk does not outlive a reboot could cost etcd its quorum for ever.
const JOIN_AS_CONTROL_PLANE: &[Row] = &[
    (Step::NodeState, &[]),
    (Step::Pki, &[]),
    (Step::Mesh, &[]),
    (Step::Components, &[]),
    (Step::Images, &[]),
    (Step::ComponentImages, &[Step::Components, Step::Images]),
    (Step::PodNetwork, &[Step::Mesh]),
    (
        Step::Kubelet,
        &[
            Step::Components,
            Step::ComponentImages,
            Step::PodNetwork,
            Step::NodeState,
        ],
    ),
    (Step::KubeProxy, &[Step::Kubelet]),
    (
        Step::DiskKey,
        &[Step::NodeState, Step::Pki, Step::Kubelet, Step::KubeProxy],
    ),
];

/// How long all steps together may take. Software emulation needs a good part of it. A bootstrap token lives as long.
pub const DEADLINE: Duration = Duration::from_secs(60 * 60);

impl Flow {
    /// The way in of a node that joins.
    pub fn join(role: Role) -> Self {
        match role {
            Role::ControlPlane => Self::JoinAsControlPlane,
            Role::Worker => Self::JoinAsWorker,
        }
    }

    /// What the node becomes.
    pub fn role(self) -> Role {
        match self {
            Self::Init | Self::JoinAsControlPlane => Role::ControlPlane,
            Self::JoinAsWorker => Role::Worker,
        }
    }

    fn table(self) -> &'static [Row] {
        match self {
            Self::Init => INIT,
            Self::JoinAsWorker => JOIN_AS_WORKER,
            Self::JoinAsControlPlane => JOIN_AS_CONTROL_PLANE,
        }
    }
}

/// The driver told the machine something that can not be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the step \"{}\" ended without having been started", .0.title())]
pub struct NotRunning(pub Step);

/// Waits for PCR 15 to hold the cluster's mark.
#[derive(Debug)]
pub struct AwaitingMark {
    flow: Flow,
    expected: [u8; 32],
    held: Held,
}

/// Proof that PCR 15 holds this cluster's mark. Whatever handles a key of the cluster on this node asks for it.
#[derive(Debug)]
pub struct Marked {
    _held: Held,
}

/// Waits for steps to end.
#[derive(Debug)]
pub struct Building {
    flow: Flow,
    running: Vec<Step>,
    done: Vec<Step>,
}

/// Every step is done: the node is a member.
#[derive(Debug, PartialEq, Eq)]
pub struct Complete(());

/// Proof that the machine can not become a member in this boot. Taking the header off its state disk asks for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed(());

impl Failed {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

/// Where the end of a step leads.
#[derive(Debug)]
pub enum Next {
    /// More to do: the steps to perform beside those that already run.
    Building(Building, Vec<Step>),
    /// All done.
    Complete(Complete),
}

impl AwaitingMark {
    /// Starts with the lock in hand. What comes next is to extend PCR 15 with the cluster ID (`TPM2_PCR_Event`).
    pub(crate) fn new(flow: Flow, cluster_id: &ClusterId, held: Held) -> Self {
        Self {
            flow,
            expected: cluster_id.pcr15(),
            held,
        }
    }

    /// Takes PCR 15 as it was read after the extend, and names the first steps. Any other value than the one that zero and this
    /// cluster's ID make, and the node goes no further: something else was measured into the register.
    pub fn read_back(self, pcr15: &[u8; 32]) -> Result<(Building, Marked, Vec<Step>), Failed> {
        if *pcr15 != self.expected {
            return Err(self.failed());
        }
        let mut building = Building {
            flow: self.flow,
            running: Vec::new(),
            done: Vec::new(),
        };
        let steps = building.start_ready();
        Ok((building, Marked { _held: self.held }, steps))
    }

    /// Takes that the flow could not be prepared, or the register not be extended or read.
    pub fn failed(self) -> Failed {
        Failed::new()
    }
}

impl Building {
    /// Takes the end of a step that went well.
    pub fn done(mut self, step: Step) -> Result<Next, (Failed, NotRunning)> {
        let Some(at) = self.running.iter().position(|running| *running == step) else {
            return Err((self.failed(), NotRunning(step)));
        };
        self.running.swap_remove(at);
        self.done.push(step);
        if self.done.len() == self.flow.table().len() {
            return Ok(Next::Complete(Complete(())));
        }
        let steps = self.start_ready();
        Ok(Next::Building(self, steps))
    }

    /// Takes the end of a step that did not, or that the time is over.
    pub fn failed(self) -> Failed {
        Failed::new()
    }

    /// The steps that run now.
    pub fn running(&self) -> &[Step] {
        &self.running
    }

    fn start_ready(&mut self) -> Vec<Step> {
        let mut ready = Vec::new();
        for (step, needs) in self.flow.table() {
            let started = self.done.contains(step) || self.running.contains(step);
            if !started && needs.iter().all(|need| self.done.contains(need)) {
                self.running.push(*step);
                ready.push(*step);
            }
        }
        ready
    }
}

impl Complete {
    /// Takes that nobody could be told of the new member: whoever ordered it can only begin anew.
    pub fn failed(self) -> Failed {
        Failed::new()
    }
}

#[cfg(test)]
mod tests;
