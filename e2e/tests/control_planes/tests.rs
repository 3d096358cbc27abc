//! A second cluster, of three control planes and nothing else: what it survives.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use cluster::Role;
use e2e::commands::{run, succeed, wait};

use serde_json::Value;

use crate::world::World;

const CONTROL_PLANES: usize = 3;
/// Every ConfigMap that the tests write has it.
const LABEL: &str = "written-by=control-planes-test";
/// Emulated machines on few processors take their time for everything.
const PATIENCE: Duration = Duration::from_secs(1800);

fn up(world: &World) -> Result<()> {
    let mut command = world.constellation(&[
        "mini",
        "up",
        "--control-planes",
        "3",
        "--workers",
        "0",
        "--image-dir",
    ]);
    let status = command.arg(&world.image).status()?;
    if status.success() {
        return Ok(());
    }
    for index in 0..CONTROL_PLANES {
        let machine = machine(world, index)?;
        let console = std::fs::read(machine.console()).unwrap_or_default();
        eprintln!(
            "---- console of control-plane-{index}\n{}",
            String::from_utf8_lossy(&console)
        );
    }
    bail!("mini up ended with {status}")
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn machine(world: &World, index: usize) -> Result<Machine> {
    let mini = world.workspace.join("constellation-mini");
    let seat = Seat::new(Role::ControlPlane, index)?;
    Ok(Machine::new(seat, &mini, &world.run_directory()?))
}

fn ready(world: &World) -> Result<BTreeSet<String>> {
    let nodes = world.get(&["nodes"])?;
    let is_ready = |node: &&Value| {
        node["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    Ok(items(&nodes)
        .filter(is_ready)
        .filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned))
        .collect())
}

fn all_are_ready(world: &World) -> Result<()> {
    wait("three Ready control planes", PATIENCE, || {
        let ready = ready(world)?;
        ensure!(ready.len() == CONTROL_PLANES, "Ready: {ready:?}");
        Ok(())
    })
}

/// Writes until the API acknowledges it, and gives the name that it acknowledged. A write without an answer may be there or not, so
/// each attempt has a name of its own.
fn write(world: &World, name: &str) -> Result<String> {
    let mut attempts = 0;
    wait("an acknowledged write", PATIENCE, || {
        attempts += 1;
        write_once(world, &format!("{name}-{attempts}"))
    })
}

fn write_once(world: &World, name: &str) -> Result<String> {
    succeed(&mut world.kubectl(&[
        "--request-timeout=20s",
        "create",
        "configmap",
        name,
        &format!("--from-literal=name={name}"),
    ]))?;
    succeed(&mut world.kubectl(&["--request-timeout=20s", "label", "configmap", name, LABEL]))?;
    Ok(name.to_owned())
}

fn nothing_is_lost(world: &World, acknowledged: &[String]) -> Result<()> {
    let list = wait("the list of what was written", PATIENCE, || {
        world.get(&["configmaps", "-l", LABEL])
    })?;
    let found: BTreeSet<&str> = items(&list)
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|name| !found.contains(name.as_str()))
        .collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    Ok(())
}

/// Three machines, each a voter of etcd with an API server, each verified.
pub(crate) fn three_control_planes_come_up_and_are_verified(world: &mut World) -> Result<()> {
    up(world)?;
    all_are_ready(world)?;
    // an API server on a busy host is late with its lease, and is no endpoint for a moment
    wait("three API servers", PATIENCE, || {
        let endpoints = world.get(&["endpoints", "kubernetes"])?;
        let addresses = endpoints["subsets"][0]["addresses"].as_array();
        ensure!(
            addresses.map(Vec::len) == Some(CONTROL_PLANES),
            "API servers: {endpoints}"
        );
        Ok(())
    })?;
    let report = world.every_node_verified()?.to_string();
    for index in 0..CONTROL_PLANES {
        let name = format!("control-plane-{index}");
        ensure!(report.contains(&name), "{name}: {report}");
    }
    Ok(())
}

/// The first one, which made the cluster, loses its power. The administrator's kubeconfig goes on working, and the machine comes
/// back with the key that another control plane's join service gives it.
pub(crate) fn the_api_outlives_its_first_control_plane(world: &mut World) -> Result<()> {
    let mut acknowledged = vec![write(world, "before-the-first-is-off")?];
    let first = machine(world, 0)?;
    ensure!(first.stop()?, "control-plane-0 did not run");
    acknowledged.push(write(world, "without-the-first")?);
    nothing_is_lost(world, &acknowledged)?;

    up(world)?;
    let console = std::fs::read(first.console()).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    ensure!(
        console.contains("gave the key of the state disk")
            && !console.contains("becomes a new state disk"),
        "control-plane-0 did not come back as itself:\n{console}"
    );
    all_are_ready(world)?;
    acknowledged.push(write(world, "with-the-first-again")?);
    nothing_is_lost(world, &acknowledged)
}

/// All of them lose their power at once. Nobody is left who could give a key, until the administrator does.
pub(crate) fn all_control_planes_are_recovered_and_nothing_is_lost(
    world: &mut World,
) -> Result<()> {
    let mut acknowledged = vec![write(world, "before-all-are-off")?];
    for index in 0..CONTROL_PLANES {
        let machine = machine(world, index)?;
        ensure!(machine.stop()?, "control-plane-{index} did not run");
    }
    up(world)?;
    all_are_ready(world)?;
    nothing_is_lost(world, &acknowledged)?;
    acknowledged.push(write(world, "after-all-were-recovered")?);
    nothing_is_lost(world, &acknowledged)?;
    let again = run(&mut world.constellation(&["recover"]))?;
    ensure!(
        again.code == 0,
        "a recovery that nobody waits for ended with {}: {}{}",
        again.code,
        again.stdout,
        again.stderr
    );
    Ok(())
}

/// A node that is deleted is on record no more: it has no place in the mesh, and gets no key. That its member of etcd goes with it is shown
/// with real programs, by `a_departed_member_goes_and_the_rest_keeps_its_quorum`.
pub(crate) fn a_deleted_control_plane_leaves_the_cluster(world: &mut World) -> Result<()> {
    const GONE: &str = "control-plane-2";
    let machine = machine(world, 2)?;
    ensure!(machine.stop()?, "{GONE} did not run");
    wait("the API takes the deletion", PATIENCE, || {
        succeed(&mut world.kubectl(&["delete", "node", GONE, "--wait=false", "--ignore-not-found"]))
    })?;
    wait("the record is gone", PATIENCE, || {
        let records = world.get(&["configmaps", "-n", "constellation-nodes"])?;
        let left = items(&records).any(|record| record["metadata"]["name"] == GONE);
        ensure!(!left, "{GONE} is still on record");
        let nodes = world.get(&["nodes"])?;
        let left = items(&nodes).any(|node| node["metadata"]["name"] == GONE);
        ensure!(!left, "the Node object is still there");
        Ok(())
    })?;
    nothing_is_lost(world, &[write(world, "after-one-was-deleted")?])
}
