//! One machine from power-on: the initrd's program, then the bootstrapper, one small step at a time, so that it can stop between
//! any two. What decides are the machines of `cluster`; the order in which they are asked is that of `constellation-node`.

use std::net::IpAddr;
use std::time::Duration;

use cluster::boot_lock::{AtStart, BootLock, Mark, NextBoot, at_start};
use cluster::init::Admission;
use cluster::plan::{self, Failed};
use cluster::rounds::{Round, Searching};
use cluster::{NodeName, Role};
use cluster::{join, rejoin};

use crate::boot::{Begun, Boot, Process, Program};
use crate::clusters::secrets;
use crate::disk::{Content, Disk, Header, Start};
use crate::steps::{Kind, Performed};
use crate::world::{Reason, Told, World, ip};
impl World {
    /// The machine's own next step.
    pub(crate) fn run(&mut self, at: usize, pick: usize) {
        let Some(mut boot) = self.machines[at].boot.take() else {
            return;
        };
        let pending = boot
            .process
            .as_mut()
            .and_then(|process| process.pending.pop());
        if let Some((request, begun)) = pending {
            self.begin_init(&mut boot, request, begun);
            self.machines[at].boot = Some(boot);
            return;
        }
        let program = std::mem::replace(&mut boot.program, Program::Halted);
        if matches!(program, Program::Halted) {
            self.power_off(at);
            self.power_on(at);
            return;
        }
        boot.program = self.step(at, &mut boot, program, pick);
        self.machines[at].boot = Some(boot);
    }

    fn step(&mut self, at: usize, boot: &mut Boot, program: Program, pick: usize) -> Program {
        let jitter = u16::try_from(pick % 65536).unwrap_or(0);
        let machine = &mut self.machines[at];
        match program {
            Program::Probe => self.probe(at, boot),
            Program::Locked(header, rejoin::Next::Wait(_, locked), _) => {
                let (list, own) = (addresses(&machine.told), own(&machine.told));
                if list.iter().all(|address| *address == own) {
                    machine.console = Some(Reason::NoControlPlane);
                }
                let next = locked.found(&list, own, jitter);
                if let rejoin::Next::Ask(address, _) = next {
                    assert_ne!(address, own, "a machine asks itself for its key");
                }
                Program::Locked(header, next, None)
            }
            Program::LockedMarking(header, awaiting, false) => {
                machine.tpm.extend(awaiting.cluster_id());
                boot.extends += 1;
                Program::LockedMarking(header, awaiting, true)
            }
            Program::LockedMarking(_, awaiting, true) => {
                let soiled = boot.soiled;
                match awaiting.read_back(&machine.tpm.pcr15()) {
                    Ok(rejoined) => {
                        assert!(!soiled, "a disk is used under a mark that is no cluster's");
                        boot.opened = Some(rejoined.into_parts().0);
                        boot.first_boot = false;
                        Program::Start
                    }
                    Err(rejoin::ForeignMark) => self.halt(at, Reason::ForeignMark),
                }
            }
            Program::Start => self.start(at, boot),
            Program::Searching(Round::Wait(_, searching)) => {
                let told = &boot.process.as_ref().expect("it searches").told;
                let list = addresses(&machine.told);
                if list.iter().all(|address| *address == own(told)) {
                    machine.console = Some(match told.role {
                        Role::ControlPlane => Reason::WaitsForInit,
                        Role::Worker => Reason::NoControlPlane,
                    });
                }
                Program::Searching(searching.found(&list, own(told), jitter))
            }
            Program::Searching(Round::Ask(address, asking)) => {
                assert_ne!(
                    address,
                    own(&boot.process.as_ref().expect("it searches").told)
                );
                Program::Asking(asking, address, None)
            }
            Program::Admitted(awaiting, instance) => {
                let process = boot.process.as_ref().expect("it searches");
                match awaiting.take(&process.lock) {
                    Ok((awaiting, ticket)) => {
                        boot.begun.push(Begun::Join);
                        let told = process.told.clone();
                        let kind = Kind::Join(Box::new(ticket), instance, told);
                        Program::Marking(awaiting, kind, false)
                    }
                    // an init that took the lock has ended the search
                    Err(join::Taken) => unreachable!("nobody else has the lock"),
                }
            }
            Program::Marking(awaiting, kind, false) => {
                machine.tpm.extend(kind.cluster_id());
                boot.extends += 1;
                Program::Marking(awaiting, kind, true)
            }
            Program::Marking(awaiting, kind, true) => {
                match awaiting.read_back(&machine.tpm.pcr15()) {
                    Ok((building, marked, _)) => {
                        assert!(
                            !boot.soiled,
                            "steps begin under a mark that is no cluster's"
                        );
                        Program::Building(building, marked, kind)
                    }
                    Err(failed) => self.fail(at, boot, failed, Reason::ForeignMark),
                }
            }
            Program::Building(building, marked, kind) => {
                self.build(at, boot, (building, marked, kind), pick)
            }
            Program::Resetting(_) => {
                machine.disk.lose("reset");
                self.see("a machine on its way in started anew");
                boot.first_boot = true;
                Program::Halted
            }
            Program::Member => {
                self.take_part(at, boot);
                Program::Member
            }
            waiting @ (Program::Locked(..) | Program::Asking(..)) => waiting,
            Program::Halted => Program::Halted,
        }
    }

    fn build(
        &mut self,
        at: usize,
        boot: &mut Boot,
        (building, marked, mut kind): (plan::Building, plan::Marked, Kind),
        pick: usize,
    ) -> Program {
        let step = building.running()[pick % building.running().len()];
        match self.perform(at, boot, &mut kind, step) {
            Performed::Done => match building.done(step).expect("it runs") {
                plan::Next::Building(building, _) => Program::Building(building, marked, kind),
                plan::Next::Complete(_) => {
                    self.see(match &kind {
                        Kind::Init(..) => "a cluster was initialised",
                        Kind::Join(ticket, ..) if ticket.role == Role::ControlPlane => {
                            "a further control plane joined"
                        }
                        Kind::Join(..) => "a worker joined",
                    });
                    let volume = boot.opened.as_ref().expect("a disk").volume;
                    self.machines[at]
                        .disk
                        .write(volume, |content| content.complete = true);
                    boot.name = Some(kind.name());
                    Program::Member
                }
            },
            Performed::NotYet => Program::Building(building, marked, kind),
            Performed::Failed => self.fail(at, boot, building.failed(), Reason::StartsAnew),
        }
    }

    /// A step ends badly, or a deadline passes.
    pub(crate) fn fail_step(&mut self, at: usize) {
        let Some(mut boot) = self.machines[at].boot.take() else {
            return;
        };
        boot.program = match std::mem::replace(&mut boot.program, Program::Halted) {
            Program::Building(building, ..) => {
                self.fail(at, &mut boot, building.failed(), Reason::StartsAnew)
            }
            Program::Marking(awaiting, ..) => {
                self.fail(at, &mut boot, awaiting.failed(), Reason::StartsAnew)
            }
            // the header can not be taken off: the machine reboots all the same
            Program::Resetting(_) => Program::Halted,
            other => other,
        };
        self.machines[at].boot = Some(boot);
    }

    fn fail(&mut self, at: usize, boot: &mut Boot, failed: Failed, why: Reason) -> Program {
        (boot.records, boot.name) = (None, None);
        self.machines[at].console = Some(why);
        Program::Resetting(failed)
    }

    fn halt(&mut self, at: usize, why: Reason) -> Program {
        self.machines[at].console = Some(why);
        Program::Halted
    }

    fn probe(&mut self, at: usize, boot: &mut Boot) -> Program {
        match self.machines[at].disk.start.clone() {
            Start::Nothing => {
                let (uuid, serial) = (self.fresh_uuid(), self.fresh());
                let disk = &mut self.machines[at].disk;
                let lost = disk.content.complete && !disk.touched;
                assert!(!lost, "the disk of a complete node is formatted");
                *disk = Disk::default();
                disk.content = Content {
                    volume: serial,
                    mesh_key: numbered(serial),
                    ..Content::default()
                };
                // what opens it lies in memory and is nobody else's
                let key = numbered(serial);
                boot.opened = Some(Header {
                    uuid,
                    key,
                    volume: serial,
                });
                boot.first_boot = true;
                Program::Start
            }
            Start::Refused => self.halt(at, Reason::Disk("header")),
            Start::Header(header) => match rejoin::Locked::begin(&self.machines[at].tpm.pcr15()) {
                Ok(locked) => {
                    let pcr15 = self.machines[at].tpm.pcr15();
                    assert_eq!(pcr15, [0; 32], "a marked machine asks for a disk's key");
                    let wait = rejoin::Next::Wait(Duration::ZERO, locked);
                    Program::Locked(header, wait, None)
                }
                Err(rejoin::AlreadyMarked) => self.halt(at, Reason::ForeignMark),
            },
        }
    }

    fn start(&mut self, at: usize, boot: &mut Boot) -> Program {
        let machine = &mut self.machines[at];
        let opened = boot.opened.as_ref().expect("the initrd opened it");
        let Some(content) = machine.disk.read(opened.volume).cloned() else {
            return self.halt(at, Reason::Disk("sectors"));
        };
        let Ok(state) = Disk::state(&content) else {
            return self.halt(at, Reason::Disk("node state"));
        };
        let next_boot = if boot.first_boot {
            NextBoot::NewDisk
        } else {
            NextBoot::SameDisk
        };
        match at_start(Mark::of(&machine.tpm.pcr15()), state, next_boot) {
            AtStart::WaitForCluster => {
                assert_eq!(
                    machine.tpm.pcr15(),
                    [0; 32],
                    "a marked machine looks for a cluster"
                );
                let told = machine.told.clone();
                boot.process = Some(Process {
                    lock: BootLock::new(),
                    admission: Admission::new(),
                    hash: secrets(told.hash_of).hash(),
                    pending: Vec::new(),
                    told,
                });
                Program::Searching(Round::Wait(Duration::ZERO, Searching::new()))
            }
            AtStart::Resume(state) => {
                assert!(state.is_member(), "a half node goes on");
                boot.name = NodeName::new(state.node_name()).ok();
                machine.console = None;
                // it may have stopped between the last write and the word that it is done
                machine
                    .disk
                    .write(opened.volume, |content| content.complete = true);
                self.see("a program went on as a node");
                Program::Member
            }
            AtStart::Reset(failed) => self.fail(at, boot, failed, Reason::StartsAnew),
        }
    }

    /// A control plane takes part in etcd, and its join service answers from then on.
    fn take_part(&mut self, at: usize, boot: &mut Boot) {
        let volume = boot.opened.as_ref().expect("a disk").volume;
        let Some(content) = self.machines[at].disk.read(volume).cloned() else {
            return;
        };
        let role = Disk::state(&content)
            .ok()
            .flatten()
            .map(|state| state.role());
        if role != Some(Role::ControlPlane) || boot.records.is_some() {
            return;
        }
        let joined = content.certificate.map(|(instance, _)| instance);
        let records = content
            .records
            .or(joined.filter(|instance| self.is_served(*instance)));
        boot.records = records;
        self.machines[at]
            .disk
            .write(volume, |content| content.records = records);
    }

    /// In a word, for who reads why a run failed.
    pub(crate) fn doing(&self, at: usize) -> &'static str {
        match self.machines[at].boot.as_ref().map(|boot| &boot.program) {
            None => "off",
            Some(Program::Probe) => "probes its disk",
            Some(Program::Locked(..)) => "waits for its disk's key",
            Some(Program::LockedMarking(..) | Program::Marking(..)) => "is being marked",
            Some(Program::Start) => "starts",
            Some(Program::Searching(_) | Program::Asking(..) | Program::Admitted(..)) => "searches",
            Some(Program::Building(..)) => "becomes a node",
            Some(Program::Resetting(_)) => "resets its disk",
            Some(Program::Member) => "is a node",
            Some(Program::Halted) => "restarts",
        }
    }
}

pub(crate) fn numbered(number: u64) -> [u8; 32] {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn own(told: &Told) -> IpAddr {
    IpAddr::V4(ip(told.address))
}

fn addresses(told: &Told) -> Vec<IpAddr> {
    let list = told.control_planes.iter();
    list.map(|address| IpAddr::V4(ip(*address))).collect()
}
