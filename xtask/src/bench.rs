//! `cargo xtask bench`: sets up like `mini`, then runs the benchmark program.

use anyhow::Result;

use crate::step::step;
use crate::{mini, workspace};

pub(crate) fn run() -> Result<()> {
    let setup = mini::set_up()?;
    step("control plane, ours and bare", || {
        workspace::run(setup.name_to(workspace::cargo().args([
            "run",
            "--package",
            "e2e",
            "--bin",
            "control-plane",
        ])))
    })
}
