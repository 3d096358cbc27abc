//! Everything there is in a run: machines with their disks and TPMs, two clusters on one image, what is on the way between them,
//! and what the run must remember to judge it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use cluster::{DiskUuid, NodeName, Role};
use uuid::Uuid;

use crate::boot::Boot;
use crate::clusters::{OURS, Store, THEIRS};
use crate::disk::Disk;
use crate::proofs::Tpm;
use crate::service::Session;

/// What the metadata service says to one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) name: usize,
    pub(crate) role: Role,
    pub(crate) address: usize,
    /// Addresses of control planes.
    pub(crate) control_planes: Vec<usize>,
    /// Whose init secret has the hash that is told.
    pub(crate) hash_of: usize,
}

/// A machine, its disk and its TPM; the program that runs on it, if it runs.
pub(crate) struct Machine {
    pub(crate) tpm: Tpm,
    pub(crate) disk: Disk,
    pub(crate) told: Told,
    /// What an honest host would tell, and which cluster the machine is meant for.
    pub(crate) truth: Told,
    pub(crate) meant_for: usize,
    pub(crate) boot: Option<Boot>,
    /// Measured by the host before the next boot's first program.
    pub(crate) soiled: bool,
    /// What the console says it waits for, or why it started anew.
    pub(crate) console: Option<Reason>,
}

/// Why a machine is not a node, as its console says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A control plane without an init.
    WaitsForInit,
    /// The metadata service names nobody else, or nobody there answers.
    NoControlPlane,
    /// One of the two machines could not prove itself.
    NotProved,
    /// The join service has a reason.
    Denied(cluster::admission::Denial),
    /// The same, for a disk.
    Unrecognised(cluster::admission::Unrecognised),
    /// The records could not be written, or the service's own node has none.
    ServiceFailed,
    /// A ticket that is not its giver's or does not open the disk.
    UselessTicket,
    /// The disk: a header that is not accepted, sectors that do not authenticate, a file that can not be read.
    Disk(&'static str),
    /// Somebody measured something into PCR 15.
    ForeignMark,
    /// A step failed, or the program stopped in the middle: the disk is reset.
    StartsAnew,
}

/// What one init made: the records live on the disk of its first node.
pub(crate) struct Instance {
    pub(crate) cluster: usize,
    pub(crate) store: Store,
    /// Which records the administrator of the cluster deleted, ever.
    pub(crate) deleted: BTreeSet<(NodeName, DiskUuid)>,
}

/// How often something happened.
pub(crate) type Seen = BTreeMap<&'static str, u64>;

/// What has to happen for a number of runs to say anything.
pub(crate) const TO_BE_SEEN: [&str; 9] = [
    "a cluster was initialised",
    "a worker joined",
    "a further control plane joined",
    "a machine came back by rejoin",
    "a machine came back by recovery",
    "a program went on as a node",
    "a machine on its way in started anew",
    "a join was denied",
    "a rejoin was denied",
];

pub(crate) struct World {
    pub(crate) seen: Seen,
    pub(crate) machines: Vec<Machine>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) sessions: Vec<Session>,
    /// Copies of disks that the host keeps.
    pub(crate) copies: Vec<Disk>,
    /// How the host's own cluster bends its tickets: see [`crate::service`].
    pub(crate) bent: usize,
    /// To which TPM's machine a key of the administrator's cluster was given, by the disk it opens.
    pub(crate) given: BTreeMap<DiskUuid, Vec<Tpm>>,
    /// Disks whose records the administrator deleted: another machine may be admitted with them.
    pub(crate) released: BTreeSet<DiskUuid>,
    serial: u64,
}

impl World {
    /// Machines that were never switched on: the first is the administrator's first control plane; of four or more the last is the host's.
    pub(crate) fn new(size: usize) -> Self {
        let machines = (0..size).map(|at| machine(at, size)).collect();
        Self {
            seen: Seen::new(),
            machines,
            instances: Vec::new(),
            sessions: Vec::new(),
            copies: Vec::new(),
            bent: 0,
            given: BTreeMap::new(),
            released: BTreeSet::new(),
            serial: 0,
        }
    }

    /// Counts something of [`TO_BE_SEEN`].
    pub(crate) fn see(&mut self, what: &'static str) {
        assert!(TO_BE_SEEN.contains(&what), "{what}");
        *self.seen.entry(what).or_default() += 1;
    }

    /// A number that nothing else in the run has.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn fresh_uuid(&mut self) -> DiskUuid {
        DiskUuid::new(Uuid::from_u128(u128::from(self.fresh()))).expect("not nil")
    }

    /// The machine at an address, if the host is honest.
    pub(crate) fn at(&self, address: IpAddr) -> Option<usize> {
        self.machines
            .iter()
            .position(|machine| IpAddr::V4(ip(machine.truth.address)) == address)
    }

    /// Whose records a running control plane serves.
    pub(crate) fn served_by(&self, machine: usize) -> Option<usize> {
        self.machines[machine].boot.as_ref().and_then(Boot::serves)
    }

    /// Whether anybody serves these records now.
    pub(crate) fn is_served(&self, instance: usize) -> bool {
        (0..self.machines.len()).any(|machine| self.served_by(machine) == Some(instance))
    }
}

fn machine(at: usize, size: usize) -> Machine {
    let theirs = size >= 4 && at == size - 1;
    // of five or more machines two are the administrator's control planes
    let control_planes: Vec<usize> = match (theirs, size) {
        (true, _) => vec![at],
        (false, 5..) => vec![0, 1],
        (false, _) => vec![0],
    };
    let meant_for = if theirs { THEIRS } else { OURS };
    let truth = Told {
        name: at,
        role: if control_planes.contains(&at) {
            Role::ControlPlane
        } else {
            Role::Worker
        },
        address: at,
        control_planes,
        hash_of: meant_for,
    };
    Tpm(at).begin();
    Machine {
        tpm: Tpm(at),
        disk: Disk::default(),
        told: truth.clone(),
        truth,
        meant_for,
        boot: None,
        soiled: false,
        console: None,
    }
}

pub(crate) fn ip(address: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, 0, u8::try_from(10 + address).expect("few machines"))
}

pub(crate) fn name(number: usize) -> NodeName {
    NodeName::new(format!("node-{number}")).expect("a name")
}
