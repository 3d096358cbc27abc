//! Properties of a node's life: requests with right and wrong secrets, tickets, crashes and reboots in any order, against a
//! model of what survives what (TPM: the boot; process: nothing; disk: a reboot, if it is initialised).

use std::sync::OnceLock;

use keys::{ClusterId, MeasurementSalt, MeasurementSecret};
use proptest::prelude::*;

use super::*;
use crate::boot_lock::{AtStart, Mark, NextBoot, at_start};
use crate::node_state::NodeState;
use crate::plan::{Building, Failed, Next, Step};

const SECRET: &[u8] = b"right";

fn hash() -> &'static SecretHash {
    static HASH: OnceLock<SecretHash> = OnceLock::new();
    HASH.get_or_init(|| SecretHash::parse(&bcrypt::hash(SECRET, 4).unwrap()).unwrap())
}

fn cluster_id() -> ClusterId {
    let secret = MeasurementSecret::from_slice(&[3; 32]).unwrap();
    ClusterId::derive(&secret, &MeasurementSalt::from_slice(&[4; 32]).unwrap())
}

fn id(byte: u8) -> RequestId {
    RequestId::from_wire(&[byte; 16]).unwrap()
}

fn lock_for(
    admission: &mut Admission,
    lock: &BootLock,
    request: u8,
) -> Result<AwaitingMark, Refused> {
    match admission.receive(lock, id(request), hash(), SECRET)? {
        Admitted::New(next) => admission.begin(lock, next.derived(cluster_id())),
        Admitted::Reattach => panic!("nothing to attach to"),
    }
}

#[test]
fn a_wrong_secret_leaves_the_lock() {
    let (lock, mut admission) = (BootLock::new(), Admission::new());
    for secret in [&b""[..], b"wrong", b"right\0", b"Right", &[b'x'; 73]] {
        assert_eq!(
            admission.receive(&lock, id(1), hash(), secret).unwrap_err(),
            Refused::WrongSecret,
            "{secret:?}"
        );
    }
    assert!(!lock.is_taken());
    lock_for(&mut admission, &lock, 1).unwrap();
}

#[test]
fn before_the_lock_who_has_the_secret_may_bring_something() {
    let (lock, mut admission) = (BootLock::new(), Admission::new());
    assert_eq!(admission.may_bring(&lock, hash(), SECRET), Ok(()));
    assert_eq!(
        admission.may_bring(&lock, hash(), b"wrong"),
        Err(Refused::WrongSecret)
    );
    assert!(!lock.is_taken());
    lock_for(&mut admission, &lock, 1).unwrap();
    assert_eq!(
        admission.may_bring(&lock, hash(), SECRET),
        Err(Refused::Taken)
    );
}

#[test]
fn after_the_lock_only_the_same_request_is_heard() {
    let (lock, mut admission) = (BootLock::new(), Admission::new());
    lock_for(&mut admission, &lock, 1).unwrap();
    assert!(matches!(
        admission.receive(&lock, id(1), hash(), SECRET),
        Ok(Admitted::Reattach)
    ));
    assert_eq!(
        admission
            .receive(&lock, id(1), hash(), b"wrong")
            .unwrap_err(),
        Refused::Taken
    );
    assert_eq!(
        admission.receive(&lock, id(2), hash(), SECRET).unwrap_err(),
        Refused::Taken
    );
}

#[test]
fn of_two_racing_inits_one_goes_on() {
    let (lock, mut admission) = (BootLock::new(), Admission::new());
    let admitted = |request| match admission.receive(&lock, id(request), hash(), SECRET) {
        Ok(Admitted::New(next)) => next.derived(cluster_id()),
        other => panic!("{other:?}"),
    };
    let (first, second) = (admitted(1), admitted(2));
    admission.begin(&lock, second).unwrap();
    assert_eq!(admission.begin(&lock, first).unwrap_err(), Refused::Taken);
    assert!(matches!(
        admission.receive(&lock, id(2), hash(), SECRET),
        Ok(Admitted::Reattach)
    ));
    assert_eq!(
        admission.receive(&lock, id(1), hash(), SECRET).unwrap_err(),
        Refused::Taken
    );
}

/// A join that took the lock leaves nothing for an init, not even its own id.
#[test]
fn an_init_after_a_join_is_refused() {
    let (lock, admission) = (BootLock::new(), Admission::new());
    lock.take().unwrap();
    assert_eq!(
        admission.receive(&lock, id(1), hash(), SECRET).unwrap_err(),
        Refused::Taken
    );
}

#[test]
fn hashes_from_a_hostile_metadata_service_are_bounded() {
    let good = bcrypt::hash(SECRET, 4).unwrap();
    for bad in [
        String::new(),
        "right".to_owned(),
        format!("{good}{}", "x".repeat(100)),
        good.replacen("$04$", "$31$", 1),
    ] {
        assert_eq!(
            SecretHash::parse(&bad).unwrap_err(),
            Refused::MalformedHash,
            "{bad}"
        );
    }
    for wrong_length in [0, 15, 17] {
        assert_eq!(
            RequestId::from_wire(&vec![0; wrong_length]).unwrap_err(),
            Refused::MalformedRequestId
        );
    }
}

/// What a machine is made of, as far as these flows go.
struct Machine {
    pcr15: [u8; 32],
    /// `None`: the first boot's passphrase, which a reboot loses.
    disk_key: Option<[u8; 32]>,
    initialised: bool,
    record: Option<NodeState>,
    process: Process,
}

struct Process {
    lock: BootLock,
    admission: Admission,
    building: Option<Building>,
    ended: bool,
}

impl Process {
    fn start() -> Self {
        Self {
            lock: BootLock::new(),
            admission: Admission::new(),
            building: None,
            ended: false,
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Init {
        request: u8,
        right: bool,
    },
    Step(prop::sample::Index),
    Fail,
    /// The program stops between the two halves of the last step, if that is what runs.
    CrashBeforeHeader,
    ProcessCrash,
    Reboot,
}

impl Machine {
    fn new() -> Self {
        Self {
            pcr15: [0; 32],
            disk_key: None,
            initialised: false,
            record: None,
            process: Process::start(),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Init { request, right } => self.init(request, right),
            Event::Step(index) => {
                if let Some(building) = self.process.building.take() {
                    let step = *index.get(building.running());
                    self.perform(step);
                    match building.done(step).unwrap() {
                        Next::Building(next, _) => self.process.building = Some(next),
                        Next::Complete(_) => self.process.ended = true,
                    }
                }
            }
            Event::Fail => {
                if let Some(building) = self.process.building.take() {
                    self.reset(building.failed());
                }
            }
            Event::CrashBeforeHeader => {
                let running = self.process.building.as_ref().map(Building::running);
                if running == Some(&[Step::DiskKey]) {
                    self.complete_record();
                    self.crash();
                }
            }
            Event::ProcessCrash => self.crash(),
            Event::Reboot => {
                self.pcr15 = [0; 32];
                self.process = Process::start();
                if self.initialised {
                    // a rejoin finds what it needs: the disk opens with the node's key and knows the cluster's salt
                    assert_eq!(self.disk_key, Some([9; 32]));
                    assert!(self.record.as_ref().is_some_and(NodeState::is_member));
                    // which the initrd does, and marks the machine before anything else runs
                    self.pcr15 = cluster_id().pcr15();
                    assert!(matches!(self.at_start(), AtStart::Resume(_)));
                    self.process.ended = true;
                } else {
                    self.disk_key = None;
                    self.record = None;
                }
            }
        }
    }

    fn init(&mut self, request: u8, right: bool) {
        if self.process.ended || self.pcr15 != [0; 32] && self.process.building.is_none() {
            return;
        }
        let lock_was_taken = self.process.lock.is_taken();
        let secret: &[u8] = if right { SECRET } else { b"wrong" };
        match self
            .process
            .admission
            .receive(&self.process.lock, id(request), hash(), secret)
        {
            Ok(Admitted::New(next)) => {
                assert!(right && !lock_was_taken);
                let mark = self
                    .process
                    .admission
                    .begin(&self.process.lock, next.derived(cluster_id()))
                    .unwrap();
                assert_eq!(
                    self.pcr15, [0; 32],
                    "the register is extended once in a boot"
                );
                self.pcr15 = cluster_id().pcr15();
                let (building, _marked, _) = mark.read_back(&self.pcr15).unwrap();
                self.process.building = Some(building);
            }
            Ok(Admitted::Reattach) => assert!(right && lock_was_taken),
            Err(Refused::WrongSecret) => {
                assert!(!right && !lock_was_taken && !self.process.lock.is_taken())
            }
            Err(Refused::Taken) => assert!(lock_was_taken),
            Err(other) => panic!("{other}"),
        }
    }

    fn perform(&mut self, step: Step) {
        assert_eq!(self.pcr15, cluster_id().pcr15(), "no step before the mark");
        match step {
            Step::NodeState => {
                self.record = Some(NodeState::becoming(Flow::Init, "control-plane-0", [4; 32]))
            }
            Step::DiskKey => {
                self.complete_record();
                self.disk_key = Some([9; 32]);
                self.initialised = true;
            }
            _ => {}
        }
    }

    fn complete_record(&mut self) {
        self.record = self.record.take().map(NodeState::into_member);
    }

    fn reset(&mut self, _failed: Failed) {
        self.initialised = false;
        self.process.ended = true;
    }

    fn at_start(&self) -> AtStart {
        let disk = if self.initialised {
            NextBoot::SameDisk
        } else {
            NextBoot::NewDisk
        };
        at_start(Mark::of(&self.pcr15), self.record.clone(), disk)
    }

    /// The service manager starts the program again.
    fn crash(&mut self) {
        self.process = Process::start();
        match self.at_start() {
            AtStart::WaitForCluster => assert_eq!(self.pcr15, [0; 32]),
            AtStart::Resume(state) => {
                assert!(state.is_member() && self.pcr15 != [0; 32]);
                assert!(
                    self.initialised,
                    "a node goes on, and the next boot forgets it"
                );
                self.process.ended = true;
            }
            AtStart::Reset(failed) => self.reset(failed),
        }
    }
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0u8..3, any::<bool>()).prop_map(|(request, right)| Event::Init { request, right }),
        40 => any::<prop::sample::Index>().prop_map(Event::Step),
        8 => Just(Event::CrashBeforeHeader),
        1 => Just(Event::Fail),
        1 => Just(Event::ProcessCrash),
        1 => Just(Event::Reboot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No order of requests, step ends, failures, crashes and reboots breaks an invariant that the model asserts, and in the end
    /// a reboot finds either an initialised disk with all it needs or a disk to be reset.
    #[test]
    fn crashes_and_replays_leave_a_clean_machine(events in prop::collection::vec(events(), 1..200)) {
        let mut machine = Machine::new();
        for event in events {
            machine.apply(event);
        }
        machine.apply(Event::Reboot);
    }
}
