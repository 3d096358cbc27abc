//! The node program. See [`node`].

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::main("constellation-node", node::run)
}
