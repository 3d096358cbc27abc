//! One machine from power-on: the initrd's program, then the bootstrapper, one small step at a time, so that it can stop between
//! any two. What decides are the machines of `cluster`; the order in which they are asked is that of `constellation-node`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use attest::{ClusterIdDigest, ClusterMark, Role as Party};
use cluster::admission::JoinRequest;
use cluster::boot_lock::{AtStart, BootLock, Mark, NextBoot, at_start};
use cluster::identity::WireGuardPublicKey;
use cluster::init::{Admission, Admitted, RequestId, SecretHash};
use cluster::plan::{self, Failed};
use cluster::rounds::{self, Round, Searching};
use cluster::{NodeName, Role};
use cluster::{join, rejoin};

use crate::clusters::secrets;
use crate::disk::{Content, Disk, Header, Start};
use crate::proofs::free_or;
use crate::service::{Answer, Request};
use crate::steps::{Kind, Performed};
use crate::world::{Reason, Told, World, ip, name};

/// The memory of a machine that runs.
pub(crate) struct Boot {
    pub(crate) number: u64,
    /// How often a program extended PCR 15.
    pub(crate) extends: u32,
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
    lock: BootLock,
    admission: Admission,
    hash: SecretHash,
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
        if std::mem::take(&mut machine.soiled) {
            machine.tpm.soil();
        }
        machine.boot = Some(Boot {
            number,
            extends: 0,
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
                Program::Probe
                | Program::Locked(..)
                | Program::LockedMarking(..) => Program::Probe,
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

    /// The machine's own next step.
    pub(crate) fn run(&mut self, at: usize, pick: usize) {
        let Some(mut boot) = self.machines[at].boot.take() else {
            return;
        };
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
                match awaiting.read_back(&machine.tpm.pcr15()) {
                    Ok(rejoined) => {
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
                assert_ne!(address, own(&boot.process.as_ref().expect("it searches").told));
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
                    Err(join::Taken) => unreachable!("an init ends the search"),
                }
            }
            Program::Marking(awaiting, kind, false) => {
                machine.tpm.extend(kind.cluster_id());
                boot.extends += 1;
                Program::Marking(awaiting, kind, true)
            }
            Program::Marking(awaiting, kind, true) => {
                match awaiting.read_back(&machine.tpm.pcr15()) {
                    Ok((building, marked, _)) => Program::Building(building, marked, kind),
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
                    self.machines[at].disk.write(volume, |content| content.complete = true);
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
                boot.opened = Some(Header { uuid, key, volume: serial });
                boot.first_boot = true;
                Program::Start
            }
            Start::Refused => self.halt(at, Reason::Disk("header")),
            Start::Header(header) => match rejoin::Locked::begin(&self.machines[at].tpm.pcr15()) {
                Ok(locked) => {
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
                assert_eq!(machine.tpm.pcr15(), [0; 32], "a marked machine looks for a cluster");
                let told = machine.told.clone();
                boot.process = Some(Process {
                    lock: BootLock::new(),
                    admission: Admission::new(),
                    hash: secrets(told.hash_of).hash(),
                    told,
                });
                Program::Searching(Round::Wait(Duration::ZERO, Searching::new()))
            }
            AtStart::Resume(state) => {
                boot.name = NodeName::new(state.node_name()).ok();
                machine.console = None;
                // it may have stopped between the last write and the word that it is done
                machine.disk.write(opened.volume, |content| content.complete = true);
                self.see("a program went on as a node");
                Program::Member
            }
            AtStart::Reset(failed) => self.fail(at, boot, failed, Reason::StartsAnew),
        }
    }

    /// Somebody has the machine do an init for a cluster, with that cluster's init secret. `false` when it did not even ask: the
    /// machine is not what the administrator's program accepts.
    pub(crate) fn init(&mut self, at: usize, cluster: usize, attempt: u8) {
        let machine = &mut self.machines[at];
        let mark = free_or(&secrets(cluster).id);
        let Some(boot) = &mut machine.boot else { return };
        let Some(process) = &mut boot.process else { return };
        if machine.tpm.proves(Party::Node, &mark).is_none() {
            return;
        }
        let id = RequestId::from_wire(&[attempt; 16]).expect("16 bytes");
        let secret = &secrets(cluster).init_secret;
        let taken = process.lock.is_taken();
        match process.admission.receive(&process.lock, id, &process.hash, secret) {
            Ok(Admitted::New(next)) => {
                assert_eq!(process.told.hash_of, cluster, "a wrong secret was taken");
                let next = next.derived(secrets(cluster).id.clone());
                let awaiting = process.admission.begin(&process.lock, next).expect("it is free");
                let told = process.told.clone();
                // whatever the search had is dropped with it
                boot.held = BTreeSet::from([cluster]);
                boot.begun.push(Begun::Init { cluster, attempt });
                boot.program = Program::Marking(awaiting, Kind::Init(cluster, None, told), false);
            }
            Ok(Admitted::Reattach) => {
                let last = boot.begun.last();
                let same = matches!(last, Some(Begun::Init { attempt: first, .. }) if *first == attempt);
                assert!(taken && same, "an init attached to another flow");
            }
            Err(_) => assert_eq!(process.lock.is_taken(), taken, "a refusal took the lock"),
        }
    }

    /// The host leads the machine's connection to `server`.
    pub(crate) fn connect(&mut self, at: usize, server: usize) {
        let Some(boot) = &self.machines[at].boot else { return };
        let opened = || boot.opened.as_ref().expect("a disk").clone();
        let request = match &boot.program {
            Program::Locked(header, rejoin::Next::Ask(..), None) => Request::Rejoin(header.uuid),
            Program::Asking(_, _, None) => {
                let told = &boot.process.as_ref().expect("it searches").told;
                let disk = &self.machines[at].disk;
                let key = disk.read(opened().volume).map_or([1; 32], |content| content.mesh_key);
                Request::Join(JoinRequest {
                    name: name(told.name),
                    role: told.role,
                    disk_uuid: opened().uuid,
                    node_ip: ip(told.address),
                    wireguard_public_key: WireGuardPublicKey::new(key),
                })
            }
            _ => return,
        };
        let number = boot.number;
        match self.open_session((at, number), server, request) {
            Ok(session) => {
                let boot = self.machines[at].boot.as_mut().expect("it runs");
                match &mut boot.program {
                    Program::Locked(_, _, waits) | Program::Asking(_, _, waits) => {
                        *waits = Some(session);
                    }
                    _ => unreachable!("it asks"),
                }
            }
            Err(why) => self.refused(at, why, 0),
        }
    }

    /// Nothing usable came from whom the machine asked, or nothing in time.
    pub(crate) fn refused(&mut self, at: usize, why: Reason, pick: usize) {
        let jitter = u16::try_from(pick % 65536).unwrap_or(0);
        let Some(mut boot) = self.machines[at].boot.take() else {
            return;
        };
        boot.program = match std::mem::replace(&mut boot.program, Program::Halted) {
            Program::Locked(header, rejoin::Next::Ask(_, asking), _) => {
                self.machines[at].console = Some(why);
                Program::Locked(header, asking.refused(jitter), None)
            }
            Program::Asking(asking, ..) => {
                self.machines[at].console = Some(why);
                Program::Searching(asking.refused(jitter))
            }
            other => other,
        };
        self.machines[at].boot = Some(boot);
    }

    /// The answer of a session arrives. Only the boot that opened the session, and still waits for it, can read it.
    pub(crate) fn deliver(&mut self, at: usize, pick: usize) {
        let Some((session, answer)) = self.answer(at) else {
            return;
        };
        let machine = session.machine;
        let waits = |boot: &Boot| match boot.program {
            Program::Locked(_, _, id) | Program::Asking(_, _, id) => {
                boot.number == session.boot && id == Some(session.id)
            }
            _ => false,
        };
        if !self.machines[machine].boot.as_ref().is_some_and(waits) {
            return;
        }
        let instance = session.instance();
        match answer {
            Answer::No(why) => {
                match &why {
                    Reason::Denied(_) => self.see("a join was denied"),
                    Reason::Unrecognised(_) => self.see("a rejoin was denied"),
                    _ => {}
                }
                self.refused(machine, why, pick);
            }
            Answer::Join(ticket) => {
                let boot = self.machines[machine].boot.as_ref().expect("it waits");
                let told = &boot.process.as_ref().expect("it searches").told;
                let checked = ticket.check(told.role);
                let fits = |ticket: &join::CheckedTicket| session.mark.check(&ticket.cluster_id);
                match checked {
                    Ok(ticket) if fits(&ticket).is_ok() => {
                        self.hold(machine, instance);
                        let boot = self.machines[machine].boot.as_mut().expect("it waits");
                        boot.program = Program::Admitted(join::AwaitingLock::new(ticket), instance);
                    }
                    _ => self.refused(machine, Reason::UselessTicket, pick),
                }
            }
            Answer::Rejoin(ticket) => match ticket.check(session.mark) {
                Ok(ticket) => self.open(machine, instance, ticket, pick),
                Err(_) => self.refused(machine, Reason::UselessTicket, pick),
            },
        }
    }

    fn open(&mut self, at: usize, instance: usize, ticket: rejoin::CheckedTicket, pick: usize) {
        let jitter = u16::try_from(pick % 65536).unwrap_or(0);
        let cluster = self.instances[instance].cluster;
        let mut boot = self.machines[at].boot.take().expect("it waits");
        let program = std::mem::replace(&mut boot.program, Program::Halted);
        let Program::Locked(header, rejoin::Next::Ask(_, asking), _) = program else {
            unreachable!("it waits")
        };
        boot.program = match attempt(&mut boot, &header, cluster, asking.received(ticket)) {
            Ok(marking) => {
                self.see("a machine came back by rejoin");
                marking
            }
            Err(asking) => {
                self.machines[at].console = Some(Reason::UselessTicket);
                Program::Locked(header, asking.refused(jitter), None)
            }
        };
        self.machines[at].boot = Some(boot);
    }

    /// Somebody offers the keys of a cluster to a machine that waits for its disk's, which has to prove itself first.
    pub(crate) fn recover(&mut self, at: usize, cluster: usize) {
        let proves = self.machines[at].tpm.proves(Party::Node, &ClusterMark::NotJoined);
        let Some(mut boot) = self.machines[at].boot.take() else { return };
        boot.program = match std::mem::replace(&mut boot.program, Program::Halted) {
            Program::Locked(header, next, session) if proves.is_some() => {
                let was = format!("{next:?}");
                let opening = next.offered(secrets(cluster).offer(header.uuid));
                match attempt(&mut boot, &header, cluster, opening) {
                    Ok(marking) => {
                        self.see("a machine came back by recovery");
                        marking
                    }
                    Err(next) => {
                        assert_eq!(format!("{next:?}"), was, "a wrong key cost something");
                        Program::Locked(header, next, session)
                    }
                }
            }
            other => other,
        };
        self.machines[at].boot = Some(boot);
    }

    /// A control plane takes part in etcd, and its join service answers from then on.
    fn take_part(&mut self, at: usize, boot: &mut Boot) {
        let volume = boot.opened.as_ref().expect("a disk").volume;
        let Some(content) = self.machines[at].disk.read(volume).cloned() else {
            return;
        };
        let role = Disk::state(&content).ok().flatten().map(|state| state.role());
        if role != Some(Role::ControlPlane) || boot.records.is_some() {
            return;
        }
        let joined = content.certificate.map(|(instance, _)| instance);
        let records = content.records.or(joined.filter(|instance| self.is_served(*instance)));
        boot.records = records;
        self.machines[at].disk.write(volume, |content| content.records = records);
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

    fn hold(&mut self, at: usize, instance: usize) {
        let cluster = self.instances[instance].cluster;
        if let Some(boot) = &mut self.machines[at].boot {
            boot.held.insert(cluster);
        }
    }

    /// Its attestation key, as a marked machine shows it to whoever verifies it.
    pub(crate) fn key_id(&self, at: usize, cluster: usize) -> String {
        let mark = ClusterMark::Cluster(ClusterIdDigest::of(secrets(cluster).id.as_bytes()));
        let verified = self.machines[at].tpm.proves(Party::Node, &mark);
        verified.expect("a marked machine").ak_id().to_string()
    }
}

fn numbered(number: u64) -> [u8; 32] {
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

/// The disk is opened, if the key is its own. It is out of reach until the machine is marked.
fn attempt<S>(
    boot: &mut Boot,
    header: &Header,
    cluster: usize,
    opening: rejoin::Opening<S>,
) -> Result<Program, S> {
    if opening.key().expose_bytes() != &header.key {
        return Err(opening.not_opened());
    }
    boot.held.insert(cluster);
    let disk = header.clone();
    Ok(Program::LockedMarking(header.clone(), opening.opened(disk), false))
}
