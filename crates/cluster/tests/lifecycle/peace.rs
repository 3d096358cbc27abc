//! The end of a run: the host is honest from here on, nothing crashes, messages arrive. In a bounded number of steps every machine
//! is a node, or says why not; and the administrator, doing what the consoles say, makes nodes of all of them.

use cluster::Role;
use cluster::admission::{Denial, Unrecognised};

use crate::clusters::{OURS, secrets};
use crate::disk::{Disk, Start};
use crate::machine::Program;
use crate::world::{Reason, World};

/// Steps of a machine that boots, asks and becomes a node. An init has 16 steps, the last of four writes.
const STEPS: usize = 80;

impl World {
    pub(crate) fn end(&mut self) {
        self.make_peace();
        // control planes first: whoever waits for one finds it in a later round
        for _ in 0..3 {
            self.settle();
        }
        let expected: Vec<bool> = (0..self.machines.len()).map(|at| self.must_be_back(at)).collect();
        for (at, must) in expected.into_iter().enumerate() {
            self.judge(at, must);
        }
        self.repair();
        for _ in 0..3 {
            self.settle();
        }
        for at in 0..self.machines.len() {
            assert!(self.is_node(at), "machine {at} is no node after repair: {:?}", self.machines[at].console);
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
                !matches!(program, Program::Member | Program::Building(..) | Program::Marking(..))
            };
            let boot = self.machines[at].boot.as_ref();
            if boot.is_some_and(|boot| searches(&boot.program)) {
                self.power_off(at);
            }
            self.power_on(at);
        }
    }

    /// Lets every machine take its steps, and leads every connection where it is meant to go.
    fn settle(&mut self) {
        for at in 0..self.machines.len() {
            self.say_nothing(at);
            for step in 0..STEPS {
                self.step_in_peace(at, step);
                self.check();
            }
        }
    }

    fn say_nothing(&mut self, at: usize) {
        let is_member = self.is_node(at);
        if is_member {
            self.machines[at].console = None;
        }
    }

    fn step_in_peace(&mut self, at: usize, step: usize) {
        let asked = match self.machines[at].boot.as_ref().map(|boot| &boot.program) {
            Some(Program::LockedAsking(_, _, address, _) | Program::Asking(_, address, _)) => {
                Some(*address)
            }
            _ => None,
        };
        let Some(address) = asked else {
            self.init_if_meant(at);
            self.run(at, step);
            self.use_certificate(at);
            return;
        };
        match self.at(address) {
            Some(server) if self.served_by(server).is_some() => {
                self.connect(at, server);
                // list, decide and write, look again, ticket; the answer stays as it is
                for _ in 0..5 {
                    if !self.sessions.is_empty() {
                        self.serve(0);
                    }
                }
                if !self.sessions.is_empty() {
                    self.deliver(0, step);
                }
            }
            _ => self.refused(at, Reason::NoControlPlane, step),
        }
    }

    /// The administrator runs init where a control plane waits for it, and no cluster of his is there.
    fn init_if_meant(&mut self, at: usize) {
        let machine = &self.machines[at];
        let waits = machine.boot.as_ref().is_some_and(|boot| {
            matches!(boot.program, Program::Searching(_)) && boot.process.is_some()
        });
        let there = (0..self.instances.len()).any(|instance| {
            self.instances[instance].cluster == machine.meant_for && self.is_served(instance)
        });
        if waits && machine.truth.role == Role::ControlPlane && !there {
            self.init(at, machine.meant_for, 200);
        }
    }

    /// Its cluster has it on record, with this disk and this TPM, a control plane answers, and the host left the disk alone.
    fn must_be_back(&self, at: usize) -> bool {
        let machine = &self.machines[at];
        let (Some(header), Some(ours)) = (machine.disk.header(), self.ours()) else {
            return false;
        };
        let control_plane = self.at(crate::world::ip(machine.truth.control_planes[0]).into());
        let answers = control_plane.is_some_and(|server| server != at && self.served_by(server) == Some(ours));
        let recorded = self.instances[ours].store.list().iter().any(|object| {
            object.identity.disk_uuid == header.uuid && self.given.get(&header.uuid) == Some(&machine.tpm)
        });
        !machine.disk.touched && answers && recorded
    }

    /// A machine is a node, or waits for something that its console names and that is so.
    fn judge(&self, at: usize, must_be_back: bool) {
        let machine = &self.machines[at];
        let node = self.is_node(at);
        let why = machine.console.clone();
        if node {
            return;
        }
        assert!(!must_be_back, "machine {at} is on record with its disk and does not come back: {why:?}");
        match why.as_ref() {
            None => panic!("machine {at} is no node and says nothing"),
            Some(Reason::WaitsForInit) => assert_eq!(machine.truth.role, Role::ControlPlane),
            Some(Reason::NoControlPlane) => {
                let named = machine.truth.control_planes[0];
                let server = self.at(crate::world::ip(named).into());
                let answers = server.is_some_and(|server| server != at && self.served_by(server).is_some());
                assert!(!answers, "machine {at} waits for a control plane that answers");
            }
            Some(Reason::Denied(denial)) => self.judge_denial(at, denial),
            Some(Reason::Unrecognised(why)) => {
                let header = machine.disk.header().expect("a locked disk");
                let (Unrecognised::UnknownDisk(disk) | Unrecognised::OtherMachine { disk, .. }) = why;
                assert_eq!(*disk, header.uuid);
            }
            Some(Reason::Disk(_) | Reason::UselessTicket) => {
                assert!(machine.disk.touched, "machine {at}: its disk was never touched: {why:?}");
            }
            Some(Reason::NotProved | Reason::ServiceFailed | Reason::ForeignMark | Reason::StartsAnew) => {
                panic!("machine {at} does not get over {why:?}, with an honest host")
            }
        }
    }

    /// Who is refused meets a record that is there, and is the one that is named.
    fn judge_denial(&self, at: usize, denial: &Denial) {
        let named = match denial {
            Denial::Taken { other, .. } => other,
            Denial::AlreadyJoined(name) | Denial::RoleFixed { name, .. } => name,
            other => panic!("machine {at} is refused for what it is: {other}"),
        };
        let there = self.instances.iter().any(|instance| instance.store.get(named).is_some());
        assert!(there, "machine {at} is refused for a record that is not there: {denial}");
    }

    /// A member of the cluster that it is meant for, under its name, with its disk on record.
    fn is_node(&self, at: usize) -> bool {
        let machine = &self.machines[at];
        let Some(boot) = machine.boot.as_ref().filter(|boot| boot.is_member()) else {
            return false;
        };
        let marked = machine.tpm.pcr15() == secrets(machine.meant_for).id.pcr15();
        let content = boot.opened.as_ref().and_then(|opened| machine.disk.read(opened.volume));
        let Some(content) = content else { return false };
        let of = content.records.or(content.certificate.as_ref().map(|(of, _)| *of));
        let recorded = of.is_some_and(|of| {
            let record = boot.node_name().and_then(|name| self.instances[of].store.get(&name).cloned());
            self.is_served(of)
                && record.is_some_and(|record| {
                    Some(record.identity.disk_uuid) == machine.disk.header().map(|header| header.uuid)
                })
        });
        marked && recorded && boot.node_name() == Some(crate::world::name(machine.truth.name))
    }

    /// What a person does who reads the consoles: of machines that are no nodes the records go and the disks are wiped; a cluster
    /// without a control plane begins anew.
    fn repair(&mut self) {
        let founders: Vec<usize> = (0..self.machines.len())
            .filter(|at| self.machines[*at].truth.role == Role::ControlPlane && !self.is_node(*at))
            .map(|at| self.machines[at].meant_for)
            .collect();
        let wiped: Vec<usize> = (0..self.machines.len())
            .filter(|at| !self.is_node(*at) || founders.contains(&self.machines[*at].meant_for))
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
        let (name, address) = (crate::world::name(machine.truth.name), crate::world::ip(machine.truth.address));
        let tpm = machine.tpm;
        let given = self.given.clone();
        for instance in &mut self.instances {
            for object in instance.store.list() {
                let identity = &object.identity;
                let own = identity.name == name
                    || identity.node_ip == address
                    || given.get(&identity.disk_uuid) == Some(&tpm)
                    || (instance.cluster != OURS && identity.index > 1);
                if own {
                    instance.deleted.insert((identity.name.clone(), identity.disk_uuid));
                    instance.store.delete(&object);
                }
            }
        }
    }
}
