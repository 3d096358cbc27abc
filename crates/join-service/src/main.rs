//! The join service: admits attested machines to the cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::main("join-service", join_service::run)
}
