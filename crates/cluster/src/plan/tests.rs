//! Properties of the way from the lock to a member, driven with steps that end in any order, fail, or never end.

use std::collections::HashSet;

use keys::{MeasurementSalt, MeasurementSecret};
use proptest::prelude::*;

use super::*;
use crate::boot_lock::BootLock;

fn cluster_id(byte: u8) -> ClusterId {
    let secret = MeasurementSecret::from_slice(&[byte; 32]).unwrap();
    ClusterId::derive(&secret, &MeasurementSalt::from_slice(&[byte; 32]).unwrap())
}

/// The node computes the mark it must find from its keys, and whoever verifies it from the ID: one formula, in two crates
/// that do not know one another.
#[test]
fn a_marked_machine_is_what_a_verifier_of_its_cluster_looks_for() {
    for byte in [0, 1, 0xff] {
        let id = cluster_id(byte);
        let verified = attest::ClusterIdDigest::of(id.as_bytes());
        assert_eq!(&id.pcr15(), verified.pcr().as_bytes());
        assert_eq!(&id.mark_digest(), verified.digest().as_bytes());
    }
}

fn marked(flow: Flow) -> (Building, Vec<Step>) {
    let id = cluster_id(1);
    let mark = AwaitingMark::new(flow, &id, BootLock::new().take().unwrap());
    let (building, _marked, steps) = mark.read_back(&id.pcr15()).unwrap();
    (building, steps)
}

#[test]
fn tables_are_acyclic_and_name_only_their_own_steps() {
    for flow in [Flow::Init, Flow::JoinAsWorker, Flow::JoinAsControlPlane] {
        let mut known: HashSet<Step> = HashSet::new();
        let mut left: Vec<&Row> = flow.table().iter().collect();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|(step, needs)| {
                let ready = needs.iter().all(|need| known.contains(need));
                if ready {
                    assert!(known.insert(*step), "{step:?} has two rows");
                }
                !ready
            });
            assert!(
                left.len() < before,
                "{flow:?}: cycle or unknown step in {left:?}"
            );
        }
    }
}

/// A register with anything else measured into it, before or after, stops the node.
#[test]
fn a_foreign_mark_stops_the_node() {
    let id = cluster_id(1);
    for pcr15 in [
        [0; 32],
        cluster_id(2).pcr15(),
        *id.as_bytes(),
        id.mark_digest(),
    ] {
        let mark = AwaitingMark::new(Flow::Init, &id, BootLock::new().take().unwrap());
        assert_eq!(mark.read_back(&pcr15).unwrap_err(), Failed(()));
    }
}

#[test]
fn a_step_that_does_not_run_can_not_end() {
    let (building, _) = marked(Flow::Init);
    assert_eq!(
        building.done(Step::ApiServer).unwrap_err(),
        (Failed(()), NotRunning(Step::ApiServer))
    );
}

fn flows() -> impl Strategy<Value = Flow> {
    prop_oneof![
        Just(Flow::Init),
        Just(Flow::JoinAsWorker),
        Just(Flow::JoinAsControlPlane)
    ]
}

proptest! {
    /// Whatever the order in which steps end: each starts once and after its needs, all are performed, the disk last.
    #[test]
    fn every_order_completes(flow in flows(), order in prop::collection::vec(any::<prop::sample::Index>(), 64)) {
        let (mut building, mut started) = marked(flow);
        let mut done: Vec<Step> = Vec::new();
        for index in order {
            let step = *index.get(building.running());
            for (row, needs) in flow.table() {
                if *row == step {
                    prop_assert!(needs.iter().all(|need| done.contains(need)));
                }
            }
            done.push(step);
            match building.done(step).unwrap() {
                Next::Building(next, steps) => {
                    prop_assert!(!next.running().is_empty(), "nothing runs, and not all is done");
                    started.extend(steps);
                    building = next;
                }
                Next::Complete(_) => {
                    prop_assert_eq!(started.len(), flow.table().len());
                    prop_assert_eq!(started.iter().collect::<HashSet<_>>().len(), started.len());
                    prop_assert_eq!(done.last(), Some(&Step::DiskKey));
                    return Ok(());
                }
            }
        }
        prop_assert!(false, "64 ends were not enough");
    }
}
