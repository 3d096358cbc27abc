//! Nodes that lose their power and come back: a worker by a join service, the only control plane by its administrator.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use cluster::Role;
use e2e::commands::{Ran, run, wait};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World};

const WORKER: &str = "worker-0";
const CONTROL_PLANE: &str = "control-plane-0";
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
        ensure!(is_ready(&now), "not Ready");
        ensure!(text(&now, "/status/nodeInfo/bootID")? != boot, "same boot");
        ensure!(
            text(&now, "/metadata/uid")? == text(&before, "/metadata/uid")?,
            "another node under the old name"
        );
        Ok(())
    })?;
    // every register, and PCR 15 with this cluster's mark
    every_node_verified(world)
}

/// The only control plane is reset in the moment in which the API has acknowledged a write. It waits, says so, and comes back as it was
/// when `constellation recover` has given it its key; the write is there.
pub(crate) fn the_only_control_plane_comes_back_by_recovery(world: &mut World) -> Result<()> {
    let machine = control_plane(world)?;
    let before = world.get(&["node", CONTROL_PLANE])?;
    let said = std::fs::read(machine.console())?.len();
    let value = write(world, "recovered")?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut control = machine.control().await?;
        control.reset().await.context("reset the control plane")
    })?;

    let arguments = ["recover", "--wait", "1800", "-o", "json"];
    let Ran {
        code,
        stdout,
        stderr,
    } = run(&mut world.constellation(&arguments))?;
    let console = std::fs::read(machine.console())?;
    let console = String::from_utf8_lossy(console.get(said..).unwrap_or_default()).into_owned();
    ensure!(
        code == 0,
        "recover ended with {code}: {stdout}{stderr}\n---- console\n{console}"
    );
    let report: Value = serde_json::from_str(&stdout)?;
    ensure!(
        report["machines"][0]["outcome"] == "recovered" && report["machines"][1].is_null(),
        "{report}"
    );
    ensure!(
        console.contains("constellation recover")
            && console.contains("gave the key of the state disk"),
        "the console does not say what happens:\n{console}"
    );
    is_back(world, &before, "recovered", &value)?;
    // who has its disk is left alone
    let again = run(&mut world.constellation(&["recover", "-o", "json"]))?;
    let report: Value = serde_json::from_str(&again.stdout)?;
    ensure!(again.code == 0, "{}{}", again.stdout, again.stderr);
    ensure!(report["machines"][0].is_null(), "{report}");
    ensure!(report["endpoints"][0]["status"] == "runs", "{report}");
    Ok(())
}

/// Its machine is switched off; `mini up` starts and recovers it.
pub(crate) fn a_control_plane_that_was_switched_off_is_recovered_by_mini_up(
    world: &mut World,
) -> Result<()> {
    let machine = control_plane(world)?;
    let before = world.get(&["node", CONTROL_PLANE])?;
    let value = write(world, "switched-off")?;
    ensure!(machine.stop()?, "{CONTROL_PLANE} did not run");
    let status = world.mini_up().status()?;
    if !status.success() {
        let console = std::fs::read(machine.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        bail!("mini up ended with {status}\n---- console of {CONTROL_PLANE}\n{console}");
    }
    is_back(world, &before, "switched-off", &value)
}

fn control_plane(world: &World) -> Result<Machine> {
    let mini = world.workspace.join("constellation-mini");
    let seat = Seat::new(Role::ControlPlane, 0)?;
    Ok(Machine::new(seat, &mini, &world.run_directory()?))
}

/// A write that the API acknowledges; gives what was written.
fn write(world: &World, name: &str) -> Result<String> {
    let value = format!("{name}-{}", std::process::id());
    world.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value},
    }))?;
    Ok(value)
}

/// The API answers with what was written, both nodes are Ready, the control plane in another boot, and every machine proves itself.
fn is_back(world: &World, before: &Value, name: &str, value: &str) -> Result<()> {
    wait("the acknowledged write", PATIENCE, || {
        let kept = world.get(&["configmap", name])?;
        ensure!(kept["data"]["value"] == value, "{kept}");
        Ok(())
    })?;
    wait("every node Ready", PATIENCE, || {
        let now = world.get(&["node", CONTROL_PLANE])?;
        let boot = |node: &Value| node["status"]["nodeInfo"]["bootID"].clone();
        ensure!(boot(&now) != boot(before), "same boot");
        ensure!(
            now["metadata"]["uid"] == before["metadata"]["uid"],
            "another node under the old name"
        );
        for node in [CONTROL_PLANE, WORKER] {
            ensure!(
                is_ready(&world.get(&["node", node])?),
                "{node} is not Ready"
            );
        }
        Ok(())
    })?;
    every_node_verified(world)
}

fn every_node_verified(world: &World) -> Result<()> {
    let report = world.every_node_verified()?.to_string();
    for node in [CONTROL_PLANE, WORKER] {
        ensure!(report.contains(node), "not verified: {node}: {report}");
    }
    Ok(())
}

pub(crate) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}
