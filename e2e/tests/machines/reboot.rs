//! Nodes that lose their power and come back: the only control plane by its administrator, a worker by a join service.

use anyhow::{Context, Result, bail, ensure};
use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use cluster::Role;
use e2e::commands::{Ran, run, wait};
use serde_json::{Value, json};

use crate::pods::{output, pod, remove};
use crate::world::{PATIENCE, World};

const CONTROL_PLANE: &str = "control-plane-0";
/// The pod that makes the damage.
const LOSES_NOTES: &str = "loses-notes";
const NODES: [&str; 2] = [CONTROL_PLANE, "worker-0"];

/// The only control plane is reset in the moment in which the API has acknowledged a write. It waits, says so, and comes back as it was
/// when `constellation recover` has given it its key; the write is there.
pub(crate) fn the_only_control_plane_comes_back_by_recovery(world: &mut World) -> Result<()> {
    let machine = machine(world, Role::ControlPlane)?;
    let before = [world.get(&["node", CONTROL_PLANE])?];
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

/// The host of both machines loses its power, and what was not synced is lost. `mini up` starts both and recovers the control plane; its
/// join service gives the worker the key of its disk, and each is the node that it was: its record, its disk, its certificates, in another boot.
pub(crate) fn a_cluster_that_was_switched_off_is_brought_back_by_mini_up(
    world: &mut World,
) -> Result<()> {
    let machines = [
        machine(world, Role::ControlPlane)?,
        machine(world, Role::Worker)?,
    ];
    let before = NODES.map(|name| world.get(&["node", name]));
    let before = before.into_iter().collect::<Result<Vec<_>>>()?;
    let value = write(world, "switched-off")?;
    lose_notes_of_sandboxes(world)?;
    for machine in &machines {
        ensure!(machine.stop()?, "{} did not run", machine.seat());
    }

    let status = world.mini_up().status()?;
    let console = |machine: &Machine| {
        let text = std::fs::read(machine.console()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    };
    if !status.success() {
        for machine in &machines {
            eprintln!("---- console of {}\n{}", machine.seat(), console(machine));
        }
        bail!("mini up ended with {status}");
    }
    is_back(world, &before, "switched-off", &value)?;
    for machine in &machines {
        let (seat, console) = (machine.seat(), console(machine));
        ensure!(
            console.contains("gave the key of the state disk")
                && !console.contains("becomes a new state disk"),
            "{seat} has another disk:\n{console}"
        );
    }
    remove(world, &[LOSES_NOTES])
}

/// Makes of libcni's notes of the control plane's sandboxes what a loss of power can: files with their names and without their contents, because
/// libcni does not sync them. Kubelet cannot stop a sandbox with such a note, and starts no other for its pod.
fn lose_notes_of_sandboxes(world: &World) -> Result<()> {
    let lose = "set -e; cd /results; for note in *; do /bin/busybox test -s \"$note\"; : > \"$note\"; echo \"$note\"; done; /bin/busybox sync";
    let command = ["/bin/busybox", "sh", "-c", lose];
    let mut pod = pod(LOSES_NOTES, CONTROL_PLANE, &command);
    let spec = &mut pod["spec"];
    spec["volumes"] = json!([{"name": "results", "hostPath": {"path": "/var/lib/cni/results", "type": "Directory"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "results", "mountPath": "/results"}]);
    world.apply(&pod)?;
    let lost = output(world, LOSES_NOTES)?;
    // two of each sandbox (eth0, lo): this pod's, and the key service's, which has to run again
    ensure!(lost.lines().count() >= 4, "too few sandboxes: {lost:?}");
    Ok(())
}

fn machine(world: &World, role: Role) -> Result<Machine> {
    let mini = world.workspace.join("constellation-mini");
    Ok(Machine::new(
        Seat::new(role, 0)?,
        &mini,
        &world.run_directory()?,
    ))
}

/// A write that the API acknowledges; gives what was written.
fn write(world: &World, name: &str) -> Result<String> {
    let value = format!("{name}-{}", std::process::id());
    world.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value},
    }))?;
    Ok(value)
}

/// The API answers with what was written, both nodes are Ready, those of `before` the same nodes in another boot, and every machine proves
/// itself.
fn is_back(world: &World, before: &[Value], name: &str, value: &str) -> Result<()> {
    wait("the acknowledged write", PATIENCE, || {
        let kept = world.get(&["configmap", name])?;
        ensure!(kept["data"]["value"] == value, "{kept}");
        Ok(())
    })?;
    // the last boot's status counts until kubelet says otherwise
    wait("every node Ready", PATIENCE, || {
        for before in before {
            let name = before["metadata"]["name"].as_str().context("no name")?;
            let now = world.get(&["node", name])?;
            let boot = |node: &Value| node["status"]["nodeInfo"]["bootID"].clone();
            ensure!(boot(&now) != boot(before), "{name}: same boot");
            ensure!(
                now["metadata"]["uid"] == before["metadata"]["uid"],
                "another node under the old name {name}"
            );
        }
        for name in NODES {
            ensure!(
                is_ready(&world.get(&["node", name])?),
                "{name} is not Ready"
            );
        }
        Ok(())
    })?;
    // every register, and PCR 15 with this cluster's mark
    let report = world.every_node_verified()?.to_string();
    for name in NODES {
        ensure!(report.contains(name), "not verified: {name}: {report}");
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
