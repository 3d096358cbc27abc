//! Parts of the tests on machines: an ordered runner, packet captures, tampered images, a pod image; and parts of the benchmarks: the
//! bare guest that one compares with, the services and machines of the other.
//!
//! The tests themselves are in `tests/machines.rs`. They share one cluster, so they run in the order they are listed.

pub mod bare;
pub mod capture;
pub mod commands;
pub mod faults;
pub mod join_load;
pub mod pod_image;
pub mod runner;
pub mod tamper;
