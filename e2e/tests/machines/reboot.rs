//! A node that loses its power and comes back.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use cluster::Role;
use e2e::commands::wait;
use serde_json::Value;

use crate::world::World;

const WORKER: &str = "worker-0";

/// The plug is pulled; the next `mini up` starts the machine, the join service gives it its disk's key, and it is the same node: its
/// record, its disk, its certificates, in another boot.
pub(crate) fn a_rebooted_worker_comes_back_ready(world: &mut World) -> Result<()> {
    let mini = world.workspace.join("constellation-mini");
    let seat = Seat::new(Role::Worker, 0)?;
    let machine = Machine::new(seat, &mini, &world.run_directory()?);
    let before = world.get(&["node", WORKER])?;
    let text = |node: &Value, pointer: &str| -> Result<String> {
        let text = node.pointer(pointer).and_then(Value::as_str);
        Ok(text
            .with_context(|| format!("no {pointer}: {node}"))?
            .to_owned())
    };
    let boot = text(&before, "/status/nodeInfo/bootID")?;
    ensure!(machine.stop()?, "{WORKER} did not run");

    let status = world.mini_up().status()?;
    let console = std::fs::read(machine.console()).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    if !status.success() {
        eprintln!("---- console of {WORKER}\n{console}");
        bail!("mini up ended with {status}");
    }
    ensure!(
        console.contains("gave the key of the state disk")
            && !console.contains("becomes a new state disk"),
        "{WORKER} has another disk:\n{console}"
    );
    // the last boot's status counts until kubelet says otherwise
    wait("Ready in another boot", Duration::from_secs(900), || {
        let now = world.get(&["node", WORKER])?;
        let conditions = now["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        ensure!(ready, "not Ready");
        ensure!(text(&now, "/status/nodeInfo/bootID")? != boot, "same boot");
        ensure!(
            text(&now, "/metadata/uid")? == text(&before, "/metadata/uid")?,
            "another node under the old name"
        );
        Ok(())
    })?;
    // every register, and PCR 15 with this cluster's mark
    let (code, report) = world.verify(None)?;
    ensure!(code == 0, "verify ended with {code}: {report}");
    ensure!(report.to_string().contains(WORKER), "{report}");
    Ok(())
}
