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
//! after a failure nothing starts any more and the disk is reset. Does no IO: its driver performs the actions.
//! Design: `cluster.md` (Init, Join), `boot-and-disk.md` (PCR 15, crash windows).

use std::time::Duration;

use keys::ClusterId;

use crate::boot_lock::Held;

/// Which way a node becomes a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// First node of a new cluster.
    Init,
    /// Worker of an existing cluster.
    JoinAsWorker,
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
    /// Custom resources, roles, the node's own identity, the cluster's secrets and config maps.
    ClusterRecords,
    /// containerd and the service images of the measured image.
    Images,
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
    (Step::Images, &[Step::Components]),
    (Step::PodNetwork, &[Step::Mesh]),
    (
        Step::Kubelet,
        &[
            Step::ClusterRecords,
            Step::Components,
            Step::Images,
            Step::PodNetwork,
        ],
    ),
    // its credentials are kubelet's, and are there when that step ends
    (Step::KubeProxy, &[Step::Kubelet]),
    (
        Step::OwnServices,
        &[Step::ClusterRecords, Step::Controllers, Step::Images],
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
    (Step::Images, &[Step::Components]),
    (Step::PodNetwork, &[Step::Mesh]),
    (
        Step::Kubelet,
        &[
            Step::Components,
            Step::Images,
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

impl Flow {
    fn table(self) -> &'static [Row] {
        match self {
            Self::Init => INIT,
            Self::JoinAsWorker => JOIN_AS_WORKER,
        }
    }
}

/// How long a machine stays up after a failure, so that a person can read its console.
pub const REBOOT_AFTER: Duration = Duration::from_secs(60);

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Extend PCR 15 with the cluster ID (`TPM2_PCR_Event`), then read the register back.
    ExtendMark,
    /// Perform this step, beside those that already run.
    Perform(Step),
    /// Mark the state disk for reset.
    MarkDiskForReset,
    /// Say so on the console and reboot.
    RebootAfter(Duration),
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

/// The machine can not become a member in this boot.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed(());

/// Where the end of a step leads.
#[derive(Debug)]
pub enum Next {
    /// More to do.
    Building(Building, Vec<Action>),
    /// All done.
    Complete(Complete),
}

/// What follows from an attempt to extend PCR 15: the machine is marked and builds, or it failed; with the actions to take.
pub type MarkOutcome = Result<(Building, Marked, Vec<Action>), (Failed, Vec<Action>)>;

impl AwaitingMark {
    /// Starts with the lock in hand.
    pub(crate) fn new(flow: Flow, cluster_id: &ClusterId, held: Held) -> (Self, Vec<Action>) {
        (
            Self {
                flow,
                expected: cluster_id.pcr15(),
                held,
            },
            vec![Action::ExtendMark],
        )
    }

    /// Takes PCR 15 as it was read after the extend. Any other value than the one that zero and this cluster's ID make, and
    /// the node goes no further: something else was measured into the register.
    pub fn read_back(self, pcr15: &[u8; 32]) -> MarkOutcome {
        if *pcr15 != self.expected {
            return Err(self.failed());
        }
        let mut building = Building {
            flow: self.flow,
            running: Vec::new(),
            done: Vec::new(),
        };
        let actions = building.start_ready();
        Ok((building, Marked { _held: self.held }, actions))
    }

    /// Takes that the register could not be extended or read.
    pub fn failed(self) -> (Failed, Vec<Action>) {
        failure()
    }
}

impl Building {
    /// Takes the end of a step that went well.
    pub fn done(mut self, step: Step) -> Result<Next, NotRunning> {
        let at = self
            .running
            .iter()
            .position(|running| *running == step)
            .ok_or(NotRunning(step))?;
        self.running.swap_remove(at);
        self.done.push(step);
        if self.done.len() == self.flow.table().len() {
            return Ok(Next::Complete(Complete(())));
        }
        let actions = self.start_ready();
        Ok(Next::Building(self, actions))
    }

    /// Takes the end of a step that did not.
    pub fn failed(self) -> (Failed, Vec<Action>) {
        failure()
    }

    /// The steps that run now.
    pub fn running(&self) -> &[Step] {
        &self.running
    }

    fn start_ready(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (step, needs) in self.flow.table() {
            let started = self.done.contains(step) || self.running.contains(step);
            if !started && needs.iter().all(|need| self.done.contains(need)) {
                self.running.push(*step);
                actions.push(Action::Perform(*step));
            }
        }
        actions
    }
}

fn failure() -> (Failed, Vec<Action>) {
    (
        Failed(()),
        vec![Action::MarkDiskForReset, Action::RebootAfter(REBOOT_AFTER)],
    )
}

#[cfg(test)]
mod tests;
