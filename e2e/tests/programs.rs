//! Layer 2: faults into a control plane of real programs, few of each (many are `cargo xtask faults`), and recovery from the command to
//! the disk.
//!
//! Needs `etcd` (Debian: etcd-server) and the programs of Kubernetes (see `testkit::kubernetes`).

#![expect(
    clippy::unwrap_used,
    reason = "the whole crate is a test; clippy exempts only the functions marked as one"
)]

#[path = "programs/recovery.rs"]
mod recovery;

use e2e::faults::control_plane::{self, Fault};
use e2e::faults::rotation;
use e2e::faults::table::Row;

const RUNS: u64 = 2;
const SEED: u64 = 42;

fn assert_nothing_lost(row: &Row, runs: u64) {
    assert_eq!(row.losses, [""; 0], "{row}");
    assert_eq!(row.runs, runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_acknowledged_outlives_every_kill_of_etcd_and_kube_apiserver() {
    for fault in Fault::ALL {
        let row = control_plane::run(fault, RUNS, SEED).await.unwrap();
        assert_nothing_lost(&row, RUNS);
        assert!(row.acknowledged > Some(RUNS * 20), "{row}");
    }
}

#[test]
fn a_rotation_killed_at_any_moment_is_made_whole_by_the_next() {
    assert_nothing_lost(&rotation::run(30, SEED).unwrap(), 30);
}

/// Else the tests above could not fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_a_write_is_found_out() {
    control_plane::a_loss_is_found(SEED).await.unwrap();
}
