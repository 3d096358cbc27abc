//! Tests that listen where a node does, each in a network of its own: two runs on one machine do not meet. Needs root, `unshare` and
//! `ip`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Set in the process that has a network of its own.
const OWN_NETWORK: &str = "CONSTELLATION_TEST_OWN_NETWORK";

/// Runs the test of this name once more in a process with its own network, and does the work there.
pub(super) fn in_own_network(test: &str, work: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os(OWN_NETWORK).is_some() {
        run("ip", &["link", "set", "lo", "up"])?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(work());
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(OWN_NETWORK, "1")
        .output()
        .context("run unshare (this test needs root)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    // a test of another name would be no test
    ensure!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{complained}"
    );
    println!("{said}");
    Ok(())
}

/// Runs a program that has to succeed.
pub(super) fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).status();
    ensure!(status.context(program.to_owned())?.success(), "{args:?}");
    Ok(())
}
