//! The memory of a machine that runs, and the ways in which it loses it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cluster::boot_lock::BootLock;
use cluster::init::{self, Admission, SecretHash};
use cluster::plan::{self, Failed};
use cluster::rounds::{self, Round};
use cluster::{NodeName, join, rejoin};

use crate::disk::Header;
use crate::steps::Kind;
use crate::world::{Told, World};

/// The memory of a machine that runs.
pub(crate) struct Boot {
    pub(crate) number: u64,
    /// How often a program extended PCR 15.
    pub(crate) extends: u32,
    /// Somebody else extended it.
    pub(crate) soiled: bool,
    /// Flows that took a lock in this boot.
    pub(crate) begun: Vec<Begun>,
    /// Clusters with a key or a ticket in memory.
    pub(crate) held: BTreeSet<usize>,
    pub(crate) program: Program,
    pub(crate) process: Option<Process>,
    /// The opened disk: its header as it was read, or as it was made. In `/run`, as is whether it was made in this boot.
    pub(crate) opened: Option<Header>,
    pub(crate) first_boot: bool,
    /// How far the last step has come.
    pub(crate) disk_key_writes: u8,
    /// Records that its join service reads, and the node that it is.
    pub(crate) records: Option<usize>,
    pub(crate) name: Option<NodeName>,
}

/// What took the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Init { cluster: usize, attempt: u8 },
    Join,
}

/// The bootstrapper's process. Its lock and the init server live as long as it does.
pub(crate) struct Process {
    pub(crate) lock: BootLock,
    pub(crate) admission: Admission,
    pub(crate) hash: SecretHash,
    /// Inits with the right secret that did not get to the lock yet.
    pub(crate) pending: Vec<(init::AwaitingLock, Begun)>,
    pub(crate) told: Told,
}

pub(crate) enum Program {
    Probe,
    /// What it does next, and the session in which it asks.
    Locked(Header, rejoin::Next, Option<u64>),
    LockedMarking(Header, rejoin::AwaitingMark<Header>, bool),
    Start,
    Searching(Round),
    Asking(rounds::Asking, IpAddr, Option<u64>),
    Admitted(join::AwaitingLock, usize),
    Marking(plan::AwaitingMark, Kind, bool),
    Building(plan::Building, plan::Marked, Kind),
    Resetting(Failed),
    Member,
    /// It goes no further in this boot; the machine restarts by itself.
    Halted,
}

impl Boot {
    /// The records that a control plane's join service answers with.
    pub(crate) fn serves(&self) -> Option<usize> {
        self.records
    }

    pub(crate) fn node_name(&self) -> Option<NodeName> {
        self.name.clone()
    }

    pub(crate) fn is_member(&self) -> bool {
        matches!(self.program, Program::Member)
    }
}

impl World {
    pub(crate) fn power_on(&mut self, at: usize) {
        if self.machines[at].boot.is_some() {
            return;
        }
        let number = self.fresh();
        let machine = &mut self.machines[at];
        machine.tpm.reset();
        let soiled = std::mem::take(&mut machine.soiled);
        if soiled {
            machine.tpm.soil();
        }
        machine.boot = Some(Boot {
            number,
            extends: 0,
            soiled,
            begun: Vec::new(),
            held: BTreeSet::new(),
            program: Program::Probe,
            process: None,
            opened: None,
            first_boot: false,
            disk_key_writes: 0,
            records: None,
            name: None,
        });
    }

    /// Memory and registers are gone; the disk is as the last write left it.
    pub(crate) fn power_off(&mut self, at: usize) {
        self.machines[at].boot = None;
        self.machines[at].tpm.reset();
    }

    /// The program is killed and started again in the same boot.
    pub(crate) fn kill_program(&mut self, at: usize) {
        if let Some(boot) = &mut self.machines[at].boot {
            boot.program = match boot.program {
                Program::Probe | Program::Locked(..) | Program::LockedMarking(..) => Program::Probe,
                Program::Halted => Program::Halted,
                _ => Program::Start,
            };
            boot.process = None;
            boot.held.clear();
            boot.disk_key_writes = 0;
            // who had the lock of a process that is gone, and did not get to the mark, has done nothing
            if boot.extends == 0 {
                boot.begun.clear();
            }
            (boot.records, boot.name) = (None, None);
        }
    }
}
