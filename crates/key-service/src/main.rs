//! The key service: derives data keys for callers it knows.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::main("key-service", key_service::run)
}
