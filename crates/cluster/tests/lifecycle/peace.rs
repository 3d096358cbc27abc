//! The end of a run: the host is honest from here on, nothing crashes, messages arrive. In a bounded number of steps every machine
//! is a node, or says why not; and the administrator, doing what the consoles say, makes nodes of all of them.

use std::collections::BTreeSet;

use cluster::admission::{Denial, Unique, Unrecognised};
use cluster::{Role, rejoin};

use crate::boot::{Boot, Program};
use crate::clusters::{OURS, THEIRS, secrets};
use crate::disk::{Content, Disk, Start};
use crate::world::{Reason, World};

/// Steps of a machine that boots, asks and becomes a node. An init has 16 steps, the last of four writes.
const STEPS: usize = 80;

impl World {
    pub(crate) fn end(&mut self) {
        self.make_peace();
        // control planes first: whoever waits for one finds it in a later round
        let never = (0..2).map(|cluster| self.instances.iter().all(|one| one.cluster != cluster));
        let never: Vec<bool> = never.collect();
        for _ in 0..4 {
            self.settle(never[OURS]);
        }
        let expected: Vec<bool> = (0..self.machines.len())
            .map(|at| self.must_be_back(at))
            .collect();
        for (at, must) in expected.into_iter().enumerate() {
            self.judge(at, must);
        }
        for all in [false, true] {
            self.repair(all);
            for _ in 0..4 {
                self.settle(true);
            }
            if (0..self.machines.len()).all(|at| self.is_node(at)) {
                return;
            }
        }
        for at in 0..self.machines.len() {
            assert!(
                self.is_node(at),
                "machine {at} is no node after repair: {} {:?}",
                self.doing(at),
                self.machines[at].console
            );
        }
    }

    fn make_peace(&mut self) {
        self.sessions.clear();
        self.bent = 0;
        for at in 0..self.machines.len() {
            self.machines[at].told = self.machines[at].truth.clone();
            self.machines[at].soiled = false;
            // a program asks the metadata service once, when it starts
            let searches = |program: &Program| {
                !matches!(
                    program,
                    Program::Member | Program::Building(..) | Program::Marking(..)
                )
            };
            let boot = self.machines[at].boot.as_ref();
            if boot.is_some_and(|boot| boot.soiled || searches(&boot.program)) {
                self.power_off(at);
            }
            self.power_on(at);
        }
    }

    /// The same, and then it stops in one of three ways.
    pub(crate) fn cut(&mut self, at: usize, steps: usize) {
        self.undisturbed(at, steps);
        match steps / STEPS % 3 {
            0 => self.power_off(at),
            1 => self.kill_program(at),
            _ => self.fail_step(at),
        }
    }

    /// Two machines ask at once; the bits of `order` say whose service goes on.
    pub(crate) fn together(&mut self, machines: [usize; 2], order: usize) {
        for at in machines {
            self.power_on(at);
            for step in 0..STEPS {
                if self.asked(at).is_some() {
                    break;
                }
                self.step_in_peace(at, step, false);
            }
        }
        let before = self.sessions.len();
        for at in machines {
            let server = self.asked(at).and_then(|address| self.at(address));
            if let Some(server) = server.filter(|server| self.served_by(*server).is_some()) {
                self.connect(at, server);
            }
        }
        for bit in 0..16 {
            let open = self.sessions.len() - before;
            if let Some(one) = (order >> bit & 1).checked_rem(open) {
                self.serve(before + one);
                self.check();
            }
        }
        while self.sessions.len() > before && self.deliver(before, order) {}
        self.sessions.truncate(before);
    }

    /// Lets every machine take its steps, and leads every connection where it is meant to go.
    fn settle(&mut self, may_init: bool) {
        for at in 0..self.machines.len() {
            for step in 0..STEPS {
                self.step_in_peace(at, step, may_init);
                self.check_machine(at);
                let boot = self.machines[at].boot.as_ref();
                if boot.is_some_and(|boot| boot.is_member() && step > STEPS / 2) {
                    break;
                }
            }
            // whom it waits for may be gone for good: the deadline of all steps passes
            if self.doing(at) == "becomes a node" {
                self.fail_step(at);
            }
            self.check();
        }
    }

    fn step_in_peace(&mut self, at: usize, step: usize, may_init: bool) {
        let Some(address) = self.asked(at) else {
            self.help(at, may_init);
            self.run(at, step);
            self.use_certificate(at);
            return;
        };
        match self.at(address) {
            Some(server) if self.served_by(server).is_some() => self.converse(at, server, step),
            _ => self.refused(at, Reason::NoControlPlane, step),
        }
    }

    /// Whom a machine asks now.
    fn asked(&self, at: usize) -> Option<std::net::IpAddr> {
        match self.machines[at].boot.as_ref().map(|boot| &boot.program) {
            Some(
                Program::Locked(_, rejoin::Next::Ask(address, _), _)
                | Program::Asking(_, address, _),
            ) => Some(*address),
            _ => None,
        }
    }

    /// A whole session, in which nobody else does anything.
    fn converse(&mut self, at: usize, server: usize, pick: usize) {
        let before = self.sessions.len();
        self.connect(at, server);
        // list, decide and write, look again, ticket; the answer stays as it is
        for _ in 0..5 {
            if self.sessions.len() > before {
                self.serve(before);
            }
        }
        if self.sessions.len() > before {
            self.deliver(before, pick);
        }
    }

    /// Some steps of a machine in a moment of peace, in the middle of a run.
    pub(crate) fn undisturbed(&mut self, at: usize, steps: usize) {
        let cluster = self.machines[at].meant_for;
        let never = self.instances.iter().all(|one| one.cluster != cluster);
        self.power_on(at);
        for step in 0..1 + steps % (STEPS / 2) {
            self.step_in_peace(at, steps.wrapping_add(step), never);
            self.check_machine(at);
        }
    }

    /// The administrator runs what the console says: init where a control plane waits for it and there never was a cluster, recovery
    /// where no control plane answers.
    fn help(&mut self, at: usize, may_init: bool) {
        let machine = &self.machines[at];
        let cluster = machine.meant_for;
        let program = machine.boot.as_ref().map(|boot| &boot.program);
        match program {
            Some(Program::Locked(..)) if machine.console == Some(Reason::NoControlPlane) => {
                self.recover(at, cluster);
            }
            Some(Program::Searching(_)) if machine.truth.role == Role::ControlPlane && may_init => {
                let mut instances = 0..self.instances.len();
                let there = instances.any(|instance| {
                    self.instances[instance].cluster == cluster && self.is_served(instance)
                });
                if !there {
                    self.init(at, cluster, 200);
                }
            }
            _ => {}
        }
    }

    /// Its cluster has it on record, the host left its disk alone, and no control plane of another init answers in its place. If none
    /// answers, the administrator recovers it.
    fn must_be_back(&self, at: usize) -> bool {
        let machine = &self.machines[at];
        let content = &machine.disk.content;
        let Some(header) = machine
            .disk
            .header()
            .filter(|header| header.volume == content.volume)
        else {
            return false;
        };
        let Some(of) = of(content) else { return false };
        let instance = &self.instances[of];
        let recorded = instance.store.list().iter().any(|object| {
            object.identity.disk_uuid == header.uuid
                && object.identity.attestation_key_id == machine.tpm.key_id()
        });
        let others = self
            .named(at)
            .any(|server| self.served_by(server).is_some_and(|other| other != of));
        let meant = instance.cluster == machine.meant_for && instance.cluster == OURS;
        !machine.disk.touched && content.complete && recorded && meant && !others
    }

    /// The other machines that an honest host names to it as control planes.
    fn named(&self, at: usize) -> impl Iterator<Item = usize> {
        let list = self.machines[at].truth.control_planes.iter().copied();
        list.filter(move |server| *server != at)
    }

    /// A machine is a node, or waits for something that its console names and that is so.
    fn judge(&self, at: usize, must_be_back: bool) {
        let machine = &self.machines[at];
        let why = machine.console.clone();
        // of which cluster and under which name is the host's doing; that it is whole was checked
        if machine.boot.as_ref().is_some_and(Boot::is_member) {
            return;
        }
        assert!(
            !must_be_back,
            "machine {at} is on record with its disk and does not come back: {why:?}"
        );
        match why.as_ref() {
            None => panic!(
                "machine {at} is no node and says nothing: {}",
                self.doing(at)
            ),
            Some(Reason::WaitsForInit) => assert_eq!(machine.truth.role, Role::ControlPlane),
            Some(Reason::NoControlPlane) => {
                let answers = self
                    .named(at)
                    .all(|server| self.served_by(server).is_some());
                let answers = answers && self.named(at).next().is_some();
                assert!(
                    !answers,
                    "machine {at} waits for a control plane that answers"
                );
            }
            Some(Reason::Denied(denial)) => self.judge_denial(at, denial),
            Some(Reason::Unrecognised(why)) => {
                let header = machine.disk.header().expect("a locked disk");
                let (Unrecognised::UnknownDisk(disk) | Unrecognised::OtherMachine { disk, .. }) =
                    why;
                assert_eq!(*disk, header.uuid);
            }
            Some(why @ (Reason::Disk(_) | Reason::UselessTicket)) => {
                let bent = *why == Reason::UselessTicket && self.is_sent_forged_records(at);
                assert!(
                    machine.disk.touched || bent,
                    "machine {at}: its disk was never touched: {why:?}"
                );
            }
            Some(
                Reason::NotProved
                | Reason::ServiceFailed
                | Reason::ForeignMark
                | Reason::StartsAnew,
            ) => {
                panic!("machine {at} does not get over {why:?}, with an honest host")
            }
        }
    }

    /// A control plane that is named to it was led into the host's cluster, and answers with records of one place that the host made:
    /// no machine takes a ticket with two nodes of one address.
    fn is_sent_forged_records(&self, at: usize) -> bool {
        self.named(at)
            .filter_map(|server| self.served_by(server))
            .filter(|instance| self.instances[*instance].cluster == THEIRS)
            .any(|instance| {
                let records = self.instances[instance].store.list();
                let places: BTreeSet<_> = (records.iter())
                    .map(|object| object.identity.mesh_ip)
                    .collect();
                places.len() < records.len()
            })
    }

    /// Who is refused meets a record that is there, and is the one that is named.
    fn judge_denial(&self, at: usize, denial: &Denial) {
        let named = match denial {
            Denial::Taken { what, other } if *what != Unique::Index => other,
            Denial::AlreadyJoined(name) | Denial::RoleFixed { name, .. } => name,
            other => panic!("machine {at} is refused for nothing that it did: {other}"),
        };
        let there = self
            .instances
            .iter()
            .any(|instance| instance.store.get(named).is_some());
        assert!(
            there,
            "machine {at} is refused for a record that is not there: {denial}"
        );
    }

    /// A member of the cluster that it is meant for, under its name and address, with its disk on record.
    fn is_node(&self, at: usize) -> bool {
        let machine = &self.machines[at];
        let Some(boot) = machine.boot.as_ref().filter(|boot| boot.is_member()) else {
            return false;
        };
        let marked = machine.tpm.pcr15() == secrets(machine.meant_for).mark;
        let content = boot
            .opened
            .as_ref()
            .and_then(|opened| machine.disk.read(opened.volume));
        let Some(content) = content else { return false };
        let recorded = of(content).is_some_and(|of| {
            let record = boot
                .node_name()
                .and_then(|name| self.instances[of].store.get(&name).cloned());
            self.is_served(of)
                && record.is_some_and(|record| {
                    let disk = machine.disk.header().map(|header| header.uuid);
                    let address = crate::world::ip(machine.truth.address);
                    Some(record.identity.disk_uuid) == disk && record.identity.node_ip == address
                })
        });
        marked && recorded && boot.node_name() == Some(crate::world::name(machine.truth.name))
    }

    /// What a person does who reads the consoles: of machines that are no nodes the records go and the disks are wiped; a cluster
    /// without a control plane begins anew, and so do all where what the host left is not worth sorting out.
    fn repair(&mut self, all: bool) {
        let lost = |cluster: usize| {
            let mut all = 0..self.machines.len();
            !all.any(|at| {
                let machine = &self.machines[at];
                machine.meant_for == cluster
                    && machine.truth.role == Role::ControlPlane
                    && self.is_node(at)
            })
        };
        let lost = [lost(0), lost(1)];
        let wiped: Vec<usize> = (0..self.machines.len())
            .filter(|at| all || !self.is_node(*at) || lost[self.machines[*at].meant_for])
            .collect();
        for at in wiped {
            self.forget(at);
            self.power_off(at);
            self.machines[at].disk = Disk {
                start: Start::Nothing,
                touched: true,
                ..Disk::default()
            };
            self.power_on(at);
        }
    }

    fn forget(&mut self, at: usize) {
        let machine = &self.machines[at];
        let (name, address) = (
            crate::world::name(machine.truth.name),
            crate::world::ip(machine.truth.address),
        );
        let key_id = machine.tpm.key_id();
        for instance in &mut self.instances {
            for object in instance.store.list() {
                let identity = &object.identity;
                let own = identity.name == name
                    || identity.node_ip == address
                    || identity.attestation_key_id == key_id
                    || (instance.cluster != OURS && identity.index > 1);
                if own {
                    instance
                        .deleted
                        .insert((identity.name.clone(), identity.disk_uuid));
                    self.released.insert(identity.disk_uuid);
                    instance.store.delete(&object);
                }
            }
        }
    }
}

/// The records that a node's disk belongs to.
fn of(content: &Content) -> Option<usize> {
    content
        .records
        .or(content.certificate.as_ref().map(|(of, _)| *of))
}
