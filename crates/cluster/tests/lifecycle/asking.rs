//! What comes to a machine from outside: an init, answers of join services, an administrator's recovery. When they come, and in which
//! order, is up to the host.

use std::collections::BTreeSet;

use attest::{ClusterMark, Role as Party};
use cluster::admission::JoinRequest;
use cluster::identity::WireGuardPublicKey;
use cluster::init::{self, Admitted, RequestId};
use cluster::{join, rejoin};

use crate::boot::{Begun, Boot, Program};
use crate::clusters::secrets;
use crate::disk::Header;
use crate::machine::numbered;
use crate::proofs::free_or;
use crate::service::{Answer, Request};
use crate::steps::Kind;
use crate::world::{Reason, World, ip, name};

impl World {
    /// Somebody has the machine do an init for a cluster, with that cluster's init secret. `false` when it did not even ask: the
    /// machine is not what the administrator's program accepts.
    pub(crate) fn init(&mut self, at: usize, cluster: usize, attempt: u8) {
        let machine = &mut self.machines[at];
        let mark = free_or(&secrets(cluster).id);
        let Some(boot) = &mut machine.boot else {
            return;
        };
        let Some(process) = &mut boot.process else {
            return;
        };
        if machine.tpm.proves(Party::Node, &mark).is_none() {
            return;
        }
        let id = RequestId::from_wire(&[attempt; 16]).expect("16 bytes");
        let secret = &secrets(cluster).init_secret;
        let taken = process.lock.is_taken();
        match process
            .admission
            .receive(&process.lock, id, &process.hash, secret)
        {
            Ok(Admitted::New(next)) => {
                assert_eq!(process.told.hash_of, cluster, "a wrong secret was taken");
                let next = next.derived(secrets(cluster).id.clone());
                process
                    .pending
                    .push((next, Begun::Init { cluster, attempt }));
            }
            Ok(Admitted::Reattach) => {
                let last = boot.begun.last();
                let same =
                    matches!(last, Some(Begun::Init { attempt: first, .. }) if *first == attempt);
                assert!(taken && same, "an init attached to another flow");
            }
            Err(_) => assert_eq!(process.lock.is_taken(), taken, "a refusal took the lock"),
        }
    }

    /// The init gets to the lock, if nothing else did.
    pub(crate) fn begin_init(
        &mut self,
        boot: &mut Boot,
        request: init::AwaitingLock,
        begun: Begun,
    ) {
        let Begun::Init { cluster, .. } = begun else {
            return;
        };
        let Some(process) = &mut boot.process else {
            return;
        };
        let Ok(awaiting) = process.admission.begin(&process.lock, request) else {
            assert!(process.lock.is_taken(), "a free lock was refused");
            return;
        };
        boot.begun.push(begun);
        // the search ends with all that it had; if it has a ticket and comes to the lock at this moment, it is too late
        boot.held = BTreeSet::from([cluster]);
        let kind = Kind::Init(cluster, None, process.told.clone());
        let before = std::mem::replace(&mut boot.program, Program::Marking(awaiting, kind, false));
        if let Program::Admitted(ticket, _) = before {
            assert!(
                ticket.take(&process.lock).is_err(),
                "init and join have one machine"
            );
        }
    }

    /// The host leads the machine's connection to `server`.
    pub(crate) fn connect(&mut self, at: usize, server: usize) {
        let Some(boot) = &self.machines[at].boot else {
            return;
        };
        let opened = || boot.opened.as_ref().expect("a disk").clone();
        let request = match &boot.program {
            Program::Locked(header, rejoin::Next::Ask(..), None) => Request::Rejoin(header.uuid),
            Program::Asking(_, _, None) => {
                let told = &boot.process.as_ref().expect("it searches").told;
                let disk = &self.machines[at].disk;
                let key = disk
                    .read(opened().volume)
                    .map_or([1; 32], |content| content.mesh_key);
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

    /// A machine that proves itself claims whatever the host makes it claim; nobody waits for the answer.
    pub(crate) fn claim(&mut self, at: usize, claims: usize) {
        let servers = (0..self.machines.len()).filter(|server| self.served_by(*server).is_some());
        let servers: Vec<usize> = servers.collect();
        let Some(boot) = self.machines[at].boot.as_ref().map(|boot| boot.number) else {
            return;
        };
        let Some(server) = claims.checked_rem(servers.len()) else {
            return;
        };
        let instance = self.served_by(servers[server]).expect("it serves");
        let known = self.instances[instance].store.list();
        let other = &known[claims / 8 % known.len()].identity;
        let own = self.fresh();
        let mut request = JoinRequest {
            name: name(claims / 64 % 9),
            role: self.machines[at].told.role,
            disk_uuid: self.fresh_uuid(),
            node_ip: ip(claims / 1024 % 9),
            wireguard_public_key: WireGuardPublicKey::new(numbered(own)),
        };
        let request = match claims % 4 {
            0 => Request::Rejoin(other.disk_uuid),
            1 => {
                request.disk_uuid = other.disk_uuid;
                Request::Join(request)
            }
            2 => {
                request.wireguard_public_key = other.wireguard_public_key;
                Request::Join(request)
            }
            _ => Request::Join(request),
        };
        drop(self.open_session((at, boot), servers[server], request));
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

    /// The answer of a session arrives. Only the boot that opened the session, and still waits for it, can read it. `false` if there is none yet.
    pub(crate) fn deliver(&mut self, at: usize, pick: usize) -> bool {
        let Some((session, answer)) = self.answer(at) else {
            return false;
        };
        let machine = session.machine;
        let waits = |boot: &Boot| match boot.program {
            Program::Locked(_, _, id) | Program::Asking(_, _, id) => {
                boot.number == session.boot && id == Some(session.id)
            }
            _ => false,
        };
        if !self.machines[machine].boot.as_ref().is_some_and(waits) {
            return true;
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
        true
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
        let proves = self.machines[at]
            .tpm
            .proves(Party::Node, &ClusterMark::NotJoined);
        let Some(mut boot) = self.machines[at].boot.take() else {
            return;
        };
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

    fn hold(&mut self, at: usize, instance: usize) {
        let cluster = self.instances[instance].cluster;
        if let Some(boot) = &mut self.machines[at].boot {
            boot.held.insert(cluster);
        }
    }
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
    Ok(Program::LockedMarking(
        header.clone(),
        opening.opened(disk),
        false,
    ))
}
