//! The verification service: hands out evidence of the node it runs on.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::main("verification-service", verification_service::run)
}
