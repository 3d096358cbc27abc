//! Layer 4: a cluster of three control planes on machines, and what it survives. Tests in this order.
//!
//! Run by `cargo xtask test --layer 4`, which builds and names the programs, the image and Kubernetes.

#[expect(
    dead_code,
    reason = "shared with the tests of one cluster, which use more of it"
)]
#[path = "machines/world.rs"]
mod world;

#[path = "control_planes/tests.rs"]
mod tests;

use std::process::ExitCode;

use e2e::runner::{Test, run};
use world::World;

fn main() -> ExitCode {
    let mut world = match World::new() {
        Ok(world) => world,
        Err(error) => {
            eprintln!("the tests on machines cannot run: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let test = |name, body| Test {
        name,
        body,
        vital: false,
    };
    run(
        &mut world,
        &[
            Test {
                vital: true,
                ..test(
                    "three_control_planes_come_up_and_are_verified",
                    tests::three_control_planes_come_up_and_are_verified,
                )
            },
            test(
                "the_api_outlives_its_first_control_plane",
                tests::the_api_outlives_its_first_control_plane,
            ),
            test(
                "all_control_planes_are_recovered_and_nothing_is_lost",
                tests::all_control_planes_are_recovered_and_nothing_is_lost,
            ),
            test(
                "a_deleted_control_plane_leaves_the_cluster",
                tests::a_deleted_control_plane_leaves_the_cluster,
            ),
        ],
    )
}
