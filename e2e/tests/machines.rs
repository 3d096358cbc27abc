//! Layer 3: the real image on machines. One cluster, made by the real `constellation`, and tests on it in this order.
//!
//! Run by `cargo xtask test --layer 3`, which builds and names the programs, the image and Kubernetes.

#[path = "machines/world.rs"]
mod world;

#[path = "machines/pods.rs"]
mod pods;

#[path = "machines/backup.rs"]
mod backup_tests;
#[path = "machines/cluster.rs"]
mod cluster_tests;
#[path = "machines/network.rs"]
mod network_tests;
#[path = "machines/reboot.rs"]
mod reboot_tests;
#[path = "machines/secrets.rs"]
mod secrets_tests;
#[path = "machines/tampered.rs"]
mod tampered_tests;

use std::process::ExitCode;

use e2e::runner::{Test, run};
use world::World;

macro_rules! test {
    ($module:ident::$name:ident) => {
        Test {
            name: stringify!($name),
            body: $module::$name,
            vital: false,
        }
    };
    (vital $module:ident::$name:ident) => {
        Test {
            name: stringify!($name),
            body: $module::$name,
            vital: true,
        }
    };
}

fn main() -> ExitCode {
    let mut world = match World::new() {
        Ok(world) => world,
        Err(error) => {
            eprintln!("the tests on machines cannot run: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    run(
        &mut world,
        &[
            test!(cluster_tests::an_interrupted_up_is_taken_down_without_a_trace),
            test!(vital cluster_tests::an_interrupted_up_is_continued_to_a_verified_cluster),
            test!(cluster_tests::both_nodes_are_ready),
            test!(cluster_tests::status_shows_nodes_and_services_and_names_what_is_missing),
            test!(cluster_tests::the_prediction_is_what_the_tpm_holds),
            test!(cluster_tests::verify_names_the_image_and_says_it_is_not_confidential),
            test!(secrets_tests::no_secret_is_in_a_log_an_argument_or_an_environment),
            test!(network_tests::a_pod_on_the_worker_reaches_a_pod_on_the_control_plane_through_wireguard_only),
            test!(reboot_tests::the_only_control_plane_comes_back_by_recovery),
            test!(reboot_tests::a_cluster_that_was_switched_off_is_brought_back_by_mini_up),
            test!(tampered_tests::each_changed_part_of_the_image_is_refused_by_name),
            test!(backup_tests::a_backup_makes_a_new_cluster_with_what_was_in_the_old),
            test!(cluster_tests::down_leaves_the_config_and_nothing_else),
        ],
    )
}
