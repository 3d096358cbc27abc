//! What can happen, in whole values: an event that does not fit the moment does nothing, so any part of a trace can be run again.

use attest::{ClusterMark, Role as Party};
use cluster::node_state::NodeState;
use cluster::plan::Flow;
use cluster::{DiskUuid, Role};

use crate::clusters::{THEIRS, secrets};
use crate::disk::{Content, Disk, Header, Start};
use crate::random::Random;
use crate::world::{Reason, World};

/// One event. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    PowerOn(usize),
    PowerOff(usize),
    KillProgram(usize),
    /// The machine's own next step; the number chooses among steps that run at once, and is its jitter.
    Run(usize, usize),
    /// The machine takes this many steps undisturbed, as its metadata has it, with an administrator who helps.
    Undisturbed(usize, usize),
    /// The same, and then it stops.
    Cut(usize, usize),
    /// Two machines ask at once.
    Together(usize, usize, usize),
    /// A proven machine claims what is not so.
    Claim(usize, usize),
    FailStep(usize),
    GiveUp(usize, usize),
    Init {
        machine: usize,
        cluster: usize,
        attempt: u8,
    },
    Recover {
        machine: usize,
        cluster: usize,
    },
    /// The host leads what a machine asks to another.
    Connect(usize, usize),
    Serve(usize),
    Deliver(usize, usize),
    Lose(usize),
    UseCertificate(usize),
    /// The administrator deletes a further node's record.
    DeleteRecord(usize, usize),
    ZeroDisk(usize),
    SpoilHeader(usize),
    SwapDisks(usize, usize),
    CopyDisk(usize),
    PutDiskBack(usize, usize),
    PutHeaderBack(usize, usize),
    PutSectorsBack(usize, usize),
    /// A disk with the host's cluster's key under any name and with any content.
    ForgeDisk(usize, usize),
    SwapTpms(usize, usize),
    SoilRegister(usize),
    Replay(usize),
    LieName(usize, usize),
    /// Another name and address.
    LieIdentity(usize, usize),
    LieRole(usize),
    LieAddress(usize, usize),
    LieControlPlanes(usize, usize),
    LieHash(usize),
    BendTickets(usize),
    /// The host records the disk that is in a machine, and the machine's key, in its own cluster.
    ForgeRecord(usize),
}

/// A kind of event: how often it comes, and how two random numbers make one.
type Kind = (usize, fn(usize, usize) -> Event);

/// What a node's life is made of.
const LIFE: &[Kind] = &[
    (60, Event::Undisturbed),
    (6, |a, b| Event::Together(a, a / 16 % 7 + 1, b)),
    (130, Event::Run),
    (60, |a, _| Event::Serve(a)),
    (40, Event::Connect),
    (30, Event::Deliver),
    (20, |a, _| Event::PowerOn(a)),
    (20, |a, _| Event::UseCertificate(a)),
    (8, |a, b| Event::Init {
        machine: a,
        // the host's cluster begins more seldom than the administrator's
        cluster: usize::from(b % 4 == 0),
        attempt: u8::try_from(b / 4 % 3).unwrap_or(0),
    }),
    (2, |a, b| Event::Recover {
        machine: a,
        cluster: b % 2,
    }),
];

/// What goes wrong, what the administrator changes, and the host's hand. A run has some kinds and not others, so that it does not
/// only see beginnings.
const TROUBLE: &[Kind] = &[
    (4, Event::GiveUp),
    (4, |a, _| Event::Lose(a)),
    (20, Event::Cut),
    (8, Event::Claim),
    (6, |a, _| Event::PowerOff(a)),
    (4, |a, _| Event::KillProgram(a)),
    (2, |a, _| Event::FailStep(a)),
    (3, Event::DeleteRecord),
    (3, |a, _| Event::ZeroDisk(a)),
    (2, |a, _| Event::SpoilHeader(a)),
    (3, Event::SwapDisks),
    (12, |a, _| Event::CopyDisk(a)),
    (3, Event::PutDiskBack),
    (2, Event::PutHeaderBack),
    (2, Event::PutSectorsBack),
    (4, Event::ForgeDisk),
    (3, Event::SwapTpms),
    (2, |a, _| Event::SoilRegister(a)),
    (2, |a, _| Event::Replay(a)),
    (4, Event::LieName),
    (4, Event::LieIdentity),
    (3, |a, _| Event::LieRole(a)),
    (3, Event::LieAddress),
    (4, Event::LieControlPlanes),
    (4, |a, _| Event::LieHash(a)),
    (2, |a, _| Event::BendTickets(a)),
    (4, |a, _| Event::ForgeRecord(a)),
];

impl Event {
    /// The events of a run.
    pub(crate) fn some(random: &mut Random, length: usize) -> Vec<Self> {
        let mut kinds = LIFE.to_vec();
        let quiet = random.below(3);
        for (weight, make) in TROUBLE {
            if random.below(3) >= quiet {
                kinds.push((*weight, *make));
            }
        }
        let all = kinds.iter().map(|(weight, _)| weight).sum();
        let mut one = || {
            let mut left = random.below(all);
            let kind = kinds.iter().find(|(weight, _)| {
                let this = left < *weight;
                left = left.saturating_sub(*weight);
                this
            });
            let (_, make) = kind.expect("below the sum");
            make(random.below(1 << 16), random.below(1 << 16))
        };
        (0..length).map(|_| one()).collect()
    }
}

impl World {
    pub(crate) fn apply(&mut self, event: &Event) {
        let count = self.machines.len();
        let m = |number: &usize| number % count;
        match event {
            Event::PowerOn(at) => self.power_on(m(at)),
            Event::PowerOff(at) => self.power_off(m(at)),
            Event::KillProgram(at) => self.kill_program(m(at)),
            Event::Run(at, pick) => self.run(m(at), *pick),
            Event::Undisturbed(at, steps) => self.undisturbed(m(at), *steps),
            Event::Cut(at, steps) => self.cut(m(at), *steps),
            Event::Together(at, further, order) => {
                let other = (m(at) + 1 + further % (count - 1)) % count;
                self.together([m(at), other], *order);
            }
            Event::Claim(at, claims) => self.claim(m(at), *claims),
            Event::FailStep(at) => self.fail_step(m(at)),
            Event::GiveUp(at, pick) => self.refused(m(at), Reason::NoControlPlane, *pick),
            Event::Init {
                machine,
                cluster,
                attempt,
            } => self.init(m(machine), *cluster, *attempt),
            Event::Recover { machine, cluster } => self.recover(m(machine), *cluster),
            Event::Connect(at, to) => self.connect(m(at), m(to)),
            Event::Serve(at) | Event::Deliver(at, _) | Event::Lose(at) => {
                let Some(at) = at.checked_rem(self.sessions.len()) else {
                    return;
                };
                match event {
                    Event::Deliver(_, pick) => drop(self.deliver(at, *pick)),
                    Event::Lose(_) => drop(self.sessions.remove(at)),
                    _ => self.serve(at),
                }
            }
            Event::UseCertificate(at) => self.use_certificate(m(at)),
            Event::DeleteRecord(instance, record) => self.delete_record(*instance, *record),
            Event::SwapTpms(a, b) => self.swap_tpms(m(a), m(b)),
            Event::SoilRegister(at) => self.soil(m(at)),
            Event::Replay(at) => {
                let tpm = self.machines[m(at)].tpm;
                let accepted = tpm.replay_is_accepted(Party::Node, &ClusterMark::NotJoined);
                assert!(!accepted, "evidence of one session was accepted in another");
                let off = self.machines[m(at)].boot.is_none();
                let accepted = off && tpm.proves_with_other_software(&ClusterMark::NotJoined);
                assert!(!accepted, "evidence of other software was accepted");
            }
            // some names and addresses are no machine's
            Event::LieName(at, name) => self.machines[m(at)].told.name = name % (count + 2),
            Event::LieIdentity(at, number) => {
                let told = &mut self.machines[m(at)].told;
                (told.name, told.address) = (number % (count + 2), number % (count + 2));
            }
            Event::LieRole(at) => {
                let told = &mut self.machines[m(at)].told;
                told.role = match told.role {
                    Role::ControlPlane => Role::Worker,
                    Role::Worker => Role::ControlPlane,
                };
            }
            Event::LieAddress(at, address) => {
                self.machines[m(at)].told.address = address % (count + 2)
            }
            Event::LieControlPlanes(at, list) => {
                let named = (0..count).filter(|other| (list >> other) & 1 == 1);
                self.machines[m(at)].told.control_planes = named.collect();
            }
            Event::LieHash(at) => self.machines[m(at)].told.hash_of ^= 1,
            Event::BendTickets(how) => self.bent = *how,
            Event::ForgeRecord(at) => self.forge_record(m(at)),
            disks => self.touch_disks(disks),
        }
    }

    fn delete_record(&mut self, instance: usize, record: usize) {
        let Some(instance) = instance.checked_rem(self.instances.len()) else {
            return;
        };
        let instance = &mut self.instances[instance];
        // the first node's record goes with its cluster only
        let listed = instance.store.list();
        let further: Vec<_> = listed
            .iter()
            .filter(|object| object.identity.index > 1)
            .collect();
        if let Some(at) = record.checked_rem(further.len()) {
            let identity = &further[at].identity;
            instance
                .deleted
                .insert((identity.name.clone(), identity.disk_uuid));
            self.released.insert(identity.disk_uuid);
            instance.store.delete(further[at]);
        }
    }

    /// At once if the machine runs, else at its next start.
    fn soil(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        match &mut machine.boot {
            Some(boot) => {
                machine.tpm.soil();
                boot.soiled = true;
            }
            None => machine.soiled = true,
        }
    }

    fn swap_tpms(&mut self, a: usize, b: usize) {
        // under a running machine its measurements would be missing, and it could prove nothing
        if self.machines[a].boot.is_none() && self.machines[b].boot.is_none() {
            let tpm = self.machines[a].tpm;
            self.machines[a].tpm = self.machines[b].tpm;
            self.machines[b].tpm = tpm;
        }
    }

    fn touch_disks(&mut self, event: &Event) {
        let count = self.machines.len();
        let m = |number: &usize| number % count;
        match event {
            Event::ZeroDisk(at) => {
                self.machines[m(at)].disk = Disk {
                    touched: true,
                    ..Disk::default()
                };
            }
            Event::SpoilHeader(at) => {
                self.machines[m(at)].disk.start = Start::Refused;
                self.machines[m(at)].disk.touched = true;
            }
            Event::SwapDisks(a, b) => {
                let (a, b) = (m(a), m(b));
                let disk = std::mem::take(&mut self.machines[a].disk);
                self.machines[a].disk = std::mem::replace(&mut self.machines[b].disk, disk);
                self.machines[a].disk.touched = true;
                self.machines[b].disk.touched = true;
            }
            Event::CopyDisk(at) => self.copies.push(self.machines[m(at)].disk.clone()),
            Event::PutDiskBack(at, copy)
            | Event::PutHeaderBack(at, copy)
            | Event::PutSectorsBack(at, copy) => {
                let Some(copy) = copy.checked_rem(self.copies.len()) else {
                    return;
                };
                let disk = &mut self.machines[m(at)].disk;
                // an older state of the same disk, where there is one
                let own = |copy: &&Disk| copy.content.volume == disk.content.volume;
                let own: Vec<&Disk> = self.copies.iter().filter(own).collect();
                let older = copy.checked_rem(own.len()).map(|copy| own[copy]);
                let copy = older.unwrap_or(&self.copies[copy]).clone();
                if !matches!(event, Event::PutSectorsBack(..)) {
                    disk.start = copy.start;
                }
                if !matches!(event, Event::PutHeaderBack(..)) {
                    disk.content = copy.content;
                }
                disk.touched = true;
            }
            Event::ForgeDisk(at, how) => self.forge_disk(m(at), *how),
            _ => unreachable!("every other event has its own arm"),
        }
    }

    /// Every disk that the administrator's cluster knows of.
    fn known_disks(&self) -> Vec<DiskUuid> {
        self.given.keys().copied().collect()
    }

    fn forge_disk(&mut self, at: usize, how: usize) {
        let (volume, known) = (self.fresh(), self.known_disks());
        let uuid = match known.len() {
            0 => self.fresh_uuid(),
            some => known[how % some],
        };
        let salt_of = how / 7 % 2;
        let flow = if how.is_multiple_of(2) {
            Flow::Init
        } else {
            Flow::JoinAsWorker
        };
        let salt = *secrets(salt_of).measurement_salt.as_bytes();
        let state = NodeState::becoming(flow, "node-0", salt).into_member();
        let theirs = self.instances.iter().position(|one| one.cluster == THEIRS);
        self.machines[at].disk = Disk {
            start: Start::Header(Header {
                uuid,
                key: *secrets(THEIRS).disk_key(uuid).expose_bytes(),
                volume,
            }),
            content: Content {
                volume,
                node_state: state.to_json().ok(),
                mesh_key: [250; 32],
                records: theirs,
                ..Content::default()
            },
            touched: true,
        };
    }

    fn forge_record(&mut self, at: usize) {
        let Some(theirs) = self.instances.iter().position(|one| one.cluster == THEIRS) else {
            return;
        };
        let (uuid, tpm) = match (self.machines[at].disk.header(), &self.machines[at].boot) {
            (Some(header), None) => (header.uuid, self.machines[at].tpm),
            _ => return,
        };
        tpm.reset();
        let verified = tpm.proves(Party::Node, &ClusterMark::NotJoined);
        let store = &mut self.instances[theirs].store;
        let listed = store.list();
        if let (Some(verified), Some(first)) = (verified, listed.first()) {
            let identity = cluster::identity::NodeIdentity {
                name: cluster::NodeName::new(format!("forged-{at}")).expect("a name"),
                disk_uuid: uuid,
                attestation_key_id: verified.ak_id().to_string(),
                index: u16::try_from(100 + at).expect("few machines"),
                ..first.identity.clone()
            };
            // whose record of the same name is there keeps it
            drop(store.create(identity, None));
        }
    }
}
