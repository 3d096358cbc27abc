//! Each case by hand, and a model of control planes that join, crash, lose their disks and leave in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn place(node: u8) -> Place {
    Place {
        name: NodeName::new(format!("control-plane-{node}")).unwrap(),
        peer: SocketAddrV4::new([10, 45, 0, node].into(), 2380),
    }
}

fn member(id: u64, node: u8) -> Member {
    let place = place(node);
    Member {
        id: MemberId(id),
        name: Some(place.name.to_string()),
        peer: Some(place.peer),
        learner: false,
        alive: true,
    }
}

fn records(nodes: &[u8]) -> ControlPlanes {
    let entry = |node: &u8| (place(*node).name.to_string(), place(*node).peer);
    nodes.iter().map(entry).collect()
}

struct Case {
    data: Data,
    running: bool,
    members: Option<Vec<Member>>,
    records: Option<ControlPlanes>,
    locked: bool,
}

/// Node 2 as it is on record among three, holding the lock, without data.
fn case(members: Vec<Member>) -> Case {
    Case {
        data: Data::None,
        running: false,
        members: Some(members),
        records: Some(records(&[1, 2, 3])),
        locked: true,
    }
}

impl Case {
    fn next(&self) -> Step {
        next(&View {
            own: &place(2),
            data: self.data,
            running: self.running,
            members: self.members.as_deref(),
            records: self.records.as_ref(),
            locked: self.locked,
        })
    }
}

#[test]
fn a_node_without_data_becomes_a_learner() {
    let mut case = case(vec![member(10, 1)]);
    assert_eq!(case.next(), Step::Add);
    case.locked = false;
    assert_eq!(case.next(), Step::Lock);
    case.records = Some(records(&[1, 3]));
    assert_eq!(case.next(), Step::Wait(For::OwnRecord));
    case.records = None;
    assert_eq!(case.next(), Step::Wait(For::Records));
    case.members = None;
    assert_eq!(case.next(), Step::Wait(For::Majority));
}

#[test]
fn a_listed_member_with_its_data_starts_without_asking() {
    let mut case = case(vec![member(10, 1), member(20, 2)]);
    (case.locked, case.records) = (false, None);
    for (data, members) in [
        (Data::Of(MemberId(20)), case.members.clone()),
        (Data::Unmarked, case.members.clone()),
        (Data::Of(MemberId(20)), None),
        (Data::Unmarked, None),
    ] {
        (case.data, case.members, case.running) = (data, members, false);
        assert_eq!(case.next(), Step::Start);
        case.running = true;
        let answered = case.members.is_some();
        let then = if answered {
            Step::Done
        } else {
            Step::Wait(For::Majority)
        };
        assert_eq!(case.next(), then);
    }
}

#[test]
fn a_member_that_was_added_starts_unless_it_started_before() {
    let fresh = Member {
        learner: true,
        name: None,
        ..member(20, 2)
    };
    let mut case = case(vec![member(10, 1), fresh.clone()]);
    case.data = Data::Fresh(MemberId(20));
    // the list must not change under its first start
    case.locked = false;
    assert_eq!(case.next(), Step::Lock);
    case.locked = true;
    assert_eq!(case.next(), Step::Start);
    case.running = true;
    assert_eq!(case.next(), Step::Wait(For::Startup));
    // its data is lost: it must not start with the number that it had
    for known in [
        Member {
            name: Some("control-plane-2".to_owned()),
            ..fresh.clone()
        },
        Member {
            learner: false,
            ..fresh
        },
    ] {
        case.members = Some(vec![member(10, 1), known]);
        assert_eq!(case.next(), Step::Discard(MemberGone(())));
    }
    case.members = None;
    assert_eq!(case.next(), Step::Wait(For::Majority));
}

#[test]
fn a_learner_is_promoted_under_the_lock_once_it_came_up() {
    let mut learner = member(20, 2);
    (learner.learner, learner.name) = (true, None);
    let mut case = case(vec![member(10, 1), learner.clone()]);
    (case.data, case.running, case.locked) = (Data::Of(MemberId(20)), true, false);
    assert_eq!(case.next(), Step::Lock);
    case.locked = true;
    assert_eq!(case.next(), Step::Wait(For::Startup));
    learner.name = Some("control-plane-2".to_owned());
    case.members = Some(vec![member(10, 1), learner]);
    assert_eq!(case.next(), Step::Promote(MemberId(20)));
    // it was deleted meanwhile: it gets no vote, and keeps nobody waiting
    for locked in [true, false] {
        case.locked = locked;
        case.records = Some(records(&[1, 3]));
        assert_eq!(case.next(), Step::Wait(For::OwnRecord));
        case.records = None;
        assert_eq!(case.next(), Step::Wait(For::Records));
    }
}

#[test]
fn data_of_a_member_that_was_removed_is_discarded() {
    let mut case = case(vec![member(10, 1)]);
    for data in [Data::Of(MemberId(20)), Data::Unmarked] {
        case.data = data;
        assert_eq!(case.next(), Step::Discard(MemberGone(())));
    }
    // a node that is removed itself keeps what it has
    case.records = Some(records(&[1, 3]));
    assert_eq!(case.next(), Step::Wait(For::OwnRecord));
}

#[test]
fn a_member_was_removed_if_its_number_is_in_the_list_no_more() {
    let listed = [member(10, 1), member(20, 2)];
    let (own, other) = (place(2), place(3));
    for (place, data, removed) in [
        (&own, Data::Of(MemberId(20)), false),
        (&own, Data::Unmarked, false),
        // another one has its name and its address by now
        (&own, Data::Of(MemberId(19)), true),
        (&other, Data::Unmarked, true),
        // nothing of a member's that ran
        (&other, Data::None, false),
        (&other, Data::Fresh(MemberId(30)), false),
    ] {
        assert_eq!(was_removed(place, data, &listed), removed, "{data:?}");
    }
}

#[test]
fn the_nodes_own_dead_entry_goes_before_a_new_one_comes() {
    let removed = Step::Remove(MemberId(20), Why::OwnDataIsGone);
    let others = [member(10, 1), member(30, 3)];
    let with = |dead: Member| {
        let mut members = others.to_vec();
        members.push(Member {
            alive: false,
            ..dead
        });
        case(members)
    };
    assert_eq!(with(member(20, 2)).next(), removed);
    // never started; another node's that had the address; the own name at another address
    let unnamed = Member {
        name: None,
        ..member(20, 2)
    };
    let elsewhere = Member {
        peer: Some(place(9).peer),
        ..member(20, 2)
    };
    let others_name = Member {
        name: Some("old".to_owned()),
        ..member(20, 2)
    };
    for dead in [unnamed, elsewhere, others_name] {
        assert_eq!(with(dead).next(), removed);
    }
    let mut stuck = with(member(20, 2));
    stuck.members.as_mut().unwrap()[0].alive = false;
    assert_eq!(stuck.next(), Step::Wait(For::Margin));
}

#[test]
fn a_learner_in_the_way_goes() {
    let mut learner = member(30, 3);
    learner.learner = true;
    assert_eq!(
        case(vec![member(10, 1), learner]).next(),
        Step::Remove(MemberId(30), Why::StaleLearner)
    );
}

#[test]
fn a_member_without_a_record_goes_if_a_majority_stays() {
    let members = [member(10, 1), member(20, 2), member(30, 3)];
    let two = records(&[1, 2]);
    assert_eq!(departed(&place(2), &members, &two), Some(MemberId(30)));
    assert_eq!(departed(&place(2), &members, &records(&[1, 2, 3])), None);
    // the own record is missing: these are not the records
    assert_eq!(departed(&place(2), &members, &records(&[1])), None);
    assert_eq!(departed(&place(2), &members, &records(&[])), None);
    let mut one_down = members.clone();
    one_down[0].alive = false;
    assert_eq!(departed(&place(2), &one_down, &two), None);
    // its node is needed as long as it stays
    assert_eq!(unrecorded(&one_down, &two), [MemberId(30)]);
    assert_eq!(unrecorded(&members, &records(&[1, 2, 3])), []);
    assert_eq!(unrecorded(&members, &two), [MemberId(30)]);
    // one whose place cannot be read is no node's
    let mut foreign = members.clone();
    (foreign[2].name, foreign[2].peer) = (None, None);
    assert_eq!(departed(&place(2), &foreign, &two), Some(MemberId(30)));
    // a node that is on record by name only, or by address only, stays
    for keep in [
        Member {
            peer: None,
            ..member(10, 1)
        },
        Member {
            name: None,
            ..member(10, 1)
        },
    ] {
        assert_eq!(departed(&place(2), &[keep, member(20, 2)], &two), None);
    }
}

#[test]
fn workers_records_keep_no_member() {
    let record = |role| NodeIdentity {
        name: place(1).name,
        role,
        disk_uuid: "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54".parse().unwrap(),
        attestation_variant: "qemu-vtpm".to_owned(),
        attestation_key_id: "ab".repeat(32),
        measurements: BTreeMap::new(),
        index: 1,
        mesh_ip: *place(1).peer.ip(),
        pod_cidr: "10.244.1.0/24".parse().unwrap(),
        node_ip: [10, 42, 1, 10].into(),
        wireguard_public_key: crate::identity::WireGuardPublicKey::new([1; 32]),
        admitted_at: "2026-11-22T06:00:00Z".to_owned(),
        reset_count: None,
    };
    let all = [record(Role::Worker)];
    assert_eq!(ControlPlanes::of_all_records(&all, 2380), records(&[]));
    let all = [record(Role::ControlPlane)];
    assert_eq!(ControlPlanes::of_all_records(&all, 2380), records(&[1]));
}

/// A control plane in the model.
#[derive(Clone, Debug)]
struct Node {
    place: Place,
    data: Data,
    running: bool,
    /// Off; whatever it had in hand is forgotten.
    off: bool,
    /// Whether its record exists.
    recorded: bool,
}

#[derive(Clone, Debug)]
enum Event {
    /// The program on a node looks and does what it decides.
    Step(u8),
    /// The same, and it stops in the middle of what it does.
    StopWithin(u8),
    /// Power off, and on again.
    Off(u8),
    On(u8),
    /// The lease of whoever has the lock ends, though its holder goes on.
    LeaseEnds,
    /// The state disk is made anew.
    NewDisk(u8),
    /// The node is removed: its record goes.
    RemoveNode(u8),
    /// Its member is removed and its record stays: by hand, or by a request from when it was on record no more.
    RemoveMember(u8),
    /// A control plane looks for members whose node is gone.
    LookForDeparted(u8),
}

fn events(nodes: u8) -> impl Strategy<Value = Event> {
    let node = 0..nodes;
    prop_oneof![
        12 => node.clone().prop_map(Event::Step),
        3 => node.clone().prop_map(Event::StopWithin),
        2 => node.clone().prop_map(Event::Off),
        4 => node.clone().prop_map(Event::On),
        1 => Just(Event::LeaseEnds),
        1 => node.clone().prop_map(Event::NewDisk),
        1 => node.clone().prop_map(Event::RemoveNode),
        1 => node.clone().prop_map(Event::RemoveMember),
        3 => node.prop_map(Event::LookForDeparted),
    ]
}

struct Model {
    nodes: Vec<Node>,
    members: Vec<Member>,
    lock: Option<usize>,
    next_id: u64,
    /// Members that were ever promoted, and the records, by which removals are judged.
    violations: Vec<String>,
}

impl Model {
    fn new(nodes: u8) -> Self {
        let node = |index: u8| Node {
            place: place(index + 1),
            data: Data::None,
            running: false,
            off: false,
            recorded: true,
        };
        let mut model = Self {
            nodes: (0..nodes).map(node).collect(),
            members: vec![member(100, 1)],
            lock: None,
            next_id: 101,
            violations: Vec::new(),
        };
        (model.nodes[0].data, model.nodes[0].running) = (Data::Unmarked, true);
        model
    }

    /// The node whose disk has this member's data.
    fn holder(&self, member: &Member) -> Option<&Node> {
        self.nodes.iter().find(|node| match node.data {
            Data::None => false,
            Data::Fresh(id) | Data::Of(id) => id == member.id,
            // the first node's, which was added by nobody
            Data::Unmarked => member.id == MemberId(100),
        })
    }

    fn is_alive(&self, member: &Member) -> bool {
        self.holder(member)
            .is_some_and(|node| node.running && !node.off)
    }

    fn list(&self) -> Vec<Member> {
        let mut members = self.members.clone();
        for member in &mut members {
            member.alive = self.is_alive(member);
        }
        members
    }

    fn majority(&self, counts: impl Fn(&Member) -> bool) -> bool {
        let voters = || self.members.iter().filter(|member| !member.learner);
        let counted = voters().filter(|member| counts(member)).count();
        counted * 2 > voters().count()
    }

    fn has_majority(&self) -> bool {
        self.majority(|member| self.is_alive(member))
    }

    fn records(&self) -> ControlPlanes {
        let recorded = self.nodes.iter().filter(|node| node.recorded);
        recorded
            .map(|node| (node.place.name.to_string(), node.place.peer))
            .collect()
    }

    fn apply(&mut self, event: &Event) {
        let at = |node: &u8| usize::from(*node);
        match event {
            Event::Step(node) => self.step(at(node), false),
            Event::StopWithin(node) => self.step(at(node), true),
            Event::Off(node) => self.off(at(node)),
            Event::On(node) => self.nodes[at(node)].off = false,
            Event::LeaseEnds => self.lock = None,
            Event::NewDisk(node) => {
                // as long as the data outlives it: the rest is for a backup
                if self.outlives(at(node)) {
                    self.off(at(node));
                    self.nodes[at(node)].data = Data::None;
                }
            }
            Event::RemoveNode(node) => {
                if self.outlives(at(node)) {
                    self.nodes[at(node)].recorded = false;
                }
            }
            Event::RemoveMember(node) => {
                if self.outlives(at(node)) {
                    let data = self.nodes[at(node)].data;
                    let before = self.members.clone();
                    self.members.retain(|member| match data {
                        Data::None => true,
                        Data::Fresh(id) | Data::Of(id) => member.id != id,
                        Data::Unmarked => member.id != MemberId(100),
                    });
                    // etcd itself refuses what would leave it without a majority
                    if !self.has_majority() {
                        self.members = before;
                    }
                }
            }
            Event::LookForDeparted(node) => {
                let node = &self.nodes[at(node)];
                if node.off || !self.has_majority() || self.lock.is_some() {
                    return;
                }
                let list = self.list();
                if let Some(id) = departed(&node.place, &list, &self.records()) {
                    let member = list.iter().find(|member| member.id == id).unwrap();
                    if self.records().speaks_of(member) {
                        self.violations
                            .push(format!("{member:?} is on record and went"));
                    }
                    self.remove(id);
                }
            }
        }
        if self.members.iter().filter(|member| member.learner).count() > 1 {
            self.violations.push("two learners".to_owned());
        }
    }

    /// Whether a majority's data, of nodes on record, lies elsewhere than on this node.
    fn outlives(&self, without: usize) -> bool {
        let name = &self.nodes[without].place.name;
        self.majority(|member| {
            self.holder(member)
                .is_some_and(|node| node.recorded && node.place.name != *name)
        })
    }

    fn off(&mut self, node: usize) {
        (self.nodes[node].off, self.nodes[node].running) = (true, false);
        if self.lock == Some(node) {
            self.lock = None;
        }
    }

    fn remove(&mut self, id: MemberId) {
        self.members.retain(|member| member.id != id);
        if !self.has_majority() {
            self.violations.push(format!("without {id} no majority"));
        }
    }

    fn step(&mut self, at: usize, stops: bool) {
        if self.nodes[at].off {
            return;
        }
        let node = self.nodes[at].clone();
        let list = self.has_majority().then(|| self.list());
        let records = self.records();
        let decided = next(&View {
            own: &node.place,
            data: node.data,
            running: node.running,
            members: list.as_deref(),
            records: list.is_some().then_some(&records),
            locked: self.lock == Some(at),
        });
        self.act(at, decided, stops);
        if stops {
            self.off(at);
        }
    }

    fn act(&mut self, at: usize, decided: Step, stops: bool) {
        if matches!(decided, Step::Add | Step::Promote(_)) && !self.nodes[at].recorded {
            self.violations
                .push(format!("{decided:?} of a node that was deleted"));
        }
        match decided {
            Step::Start => {
                if matches!(self.nodes[at].data, Data::Fresh(_)) && self.lock != Some(at) {
                    self.violations
                        .push("a first start while the list may change".to_owned());
                }
                self.nodes[at].running = true;
                let place = self.nodes[at].place.clone();
                if let Data::Fresh(id) = self.nodes[at].data {
                    self.nodes[at].data = Data::Of(id);
                }
                let data = self.nodes[at].data;
                if self.has_majority() {
                    for member in &mut self.members {
                        if data == Data::Of(member.id) {
                            member.name = Some(place.name.to_string());
                        }
                    }
                }
            }
            Step::Lock => {
                self.lock.get_or_insert(at);
            }
            Step::Discard(MemberGone(())) => {
                let data = self.nodes[at].data;
                if self.members.iter().any(|member| {
                    data == Data::Of(member.id)
                        || data == Data::Unmarked && member.id == MemberId(100)
                }) {
                    self.violations
                        .push("data of a listed member is discarded".to_owned());
                }
                (self.nodes[at].data, self.nodes[at].running) = (Data::None, false);
            }
            Step::Remove(id, why) => {
                let member = self.members.iter().find(|member| member.id == id).unwrap();
                let fine = match why {
                    Why::OwnDataIsGone => self.holder(member).is_none(),
                    Why::StaleLearner => member.learner,
                    Why::Departed => false,
                };
                if !fine {
                    self.violations.push(format!("{member:?} removed: {why:?}"));
                }
                self.remove(id);
            }
            Step::Add => {
                let id = MemberId(self.next_id);
                self.next_id += 1;
                self.members.push(Member {
                    id,
                    name: None,
                    peer: Some(self.nodes[at].place.peer),
                    learner: true,
                    alive: false,
                });
                // it stops before or after the number is noted
                if !stops || id.0.is_multiple_of(2) {
                    self.nodes[at].data = Data::Fresh(id);
                }
            }
            Step::Promote(id) => {
                for member in &mut self.members {
                    if member.id == id {
                        member.learner = false;
                    }
                }
            }
            Step::Wait(For::Startup) => self.act(at, Step::Start, false),
            Step::Done | Step::Wait(For::OwnRecord) => {
                if self.lock == Some(at) {
                    self.lock = None;
                }
            }
            Step::Wait(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// In any order of steps, crashes, lost locks, lost disks and removed nodes: one learner at most, nobody goes who must not, a
    /// majority stays; and when all are on again, every node on record is a member with a vote, and nobody else is.
    #[test]
    fn members_come_and_go_one_at_a_time_and_a_majority_stays(
        nodes in 1..6u8,
        joined in 0..6u8,
        events in prop::collection::vec(events(5), 0..120),
    ) {
        let mut model = Model::new(nodes);
        for node in 0..joined.min(nodes) {
            (0..8).for_each(|_| model.apply(&Event::Step(node)));
        }
        for event in &events {
            let (Event::Step(node) | Event::StopWithin(node) | Event::Off(node) | Event::On(node)
                | Event::NewDisk(node) | Event::RemoveNode(node) | Event::RemoveMember(node)
                | Event::LookForDeparted(node)) = event
            else {
                model.apply(event);
                continue;
            };
            if *node < nodes {
                model.apply(event);
            }
            prop_assert!(model.violations.is_empty(), "{:?}", model.violations);
        }
        for round in 0..60 {
            for node in 0..nodes {
                model.apply(&Event::On(node));
                model.apply(&Event::Step(node));
                model.apply(&Event::LookForDeparted(node));
            }
            // whoever is removed holds no lock for ever: it is away, or its lease ends
            if round % 10 == 9 {
                model.apply(&Event::LeaseEnds);
            }
        }
        prop_assert!(model.violations.is_empty(), "{:?}", model.violations);
        let on_record: BTreeSet<_> = model.nodes.iter().filter(|node| node.recorded).map(|node| node.place.peer).collect();
        let with_a_vote: BTreeSet<_> = model.members.iter().filter(|member| !member.learner).filter_map(|member| member.peer).collect();
        prop_assert_eq!(on_record, with_a_vote);
        prop_assert!(model.has_majority());
    }
}
