//! From nothing to a verified cluster, what it proves, and back to nothing.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::commands::{run, succeed, wait};
use serde_json::Value;

use crate::world::World;

/// Starts `mini up`, and interrupts it as Ctrl-C does once `reached` holds.
fn interrupt_when(world: &World, what: &str, reached: impl Fn() -> bool) -> Result<()> {
    let mut up = world
        .mini_up()
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start constellation")?;
    // without KVM and with few processors the workers start only when the API answers
    let result = wait(what, Duration::from_secs(1800), || {
        ensure!(
            up.try_wait()?.is_none() || reached(),
            "mini up ended before it could be interrupted"
        );
        ensure!(reached(), "not yet");
        Ok(())
    });
    signal(&up, "INT")?;
    let status = up.wait()?;
    result?;
    ensure!(
        status.code() == Some(130),
        "an interrupted mini up must end with 130, not {status}"
    );
    Ok(())
}

fn signal(child: &Child, signal: &str) -> Result<()> {
    succeed(
        Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(child.id().to_string()),
    )
    .map(drop)
}

fn machine_started(world: &World, name: &str) -> bool {
    let console = world
        .workspace
        .join("constellation-mini")
        .join(name)
        .join("console.log");
    std::fs::metadata(console).is_ok_and(|metadata| metadata.len() > 0)
}

pub(crate) fn an_interrupted_up_is_taken_down_without_a_trace(world: &mut World) -> Result<()> {
    interrupt_when(world, "first machine on", || {
        machine_started(world, "control-plane-0")
    })?;
    succeed(&mut world.constellation(&["mini", "down", "--yes"]))?;
    nothing_is_left(world)
}

pub(crate) fn an_interrupted_up_is_continued_to_a_verified_cluster(
    world: &mut World,
) -> Result<()> {
    interrupt_when(world, "both machines on", || {
        machine_started(world, "worker-0")
    })?;
    let status = world.mini_up().status()?;
    if !status.success() {
        for name in ["control-plane-0", "worker-0"] {
            let console = world
                .workspace
                .join("constellation-mini")
                .join(name)
                .join("console.log");
            let text = std::fs::read(&console).unwrap_or_default();
            eprintln!("---- console of {name}\n{}", String::from_utf8_lossy(&text));
        }
        bail!("mini up ended with {status}");
    }
    let phases = std::fs::read_to_string(world.workspace.join("constellation-mini/phases.json"))?;
    eprintln!("phases: {phases}");
    Ok(())
}

pub(crate) fn both_nodes_are_ready(world: &mut World) -> Result<()> {
    let nodes = world.get(&["nodes"])?;
    let mut ready: Vec<&str> = items(&nodes)
        .filter(|node| {
            node["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        })
        .filter_map(|node| node["metadata"]["name"].as_str())
        .collect();
    ready.sort_unstable();
    ensure!(
        ready == ["control-plane-0", "worker-0"],
        "Ready nodes: {ready:?}"
    );
    Ok(())
}

pub(crate) fn status_shows_nodes_and_services_and_names_what_is_missing(
    world: &mut World,
) -> Result<()> {
    // kubelet tells of a pod that is ready a little later
    wait("every service ready", Duration::from_secs(180), || {
        let text = succeed(&mut world.constellation(&["status", "-o", "json"]))?;
        let status: Value = serde_json::from_str(&text)?;
        ensure!(
            status["nodes"].as_array().map(Vec::len) == Some(2),
            "{status}"
        );
        for (name, pods) in [
            ("join-service", 1),
            ("key-service", 1),
            ("verification-service", 2),
        ] {
            let service = status["services"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|service| service["name"] == name)
                .with_context(|| format!("no {name}: {status}"))?;
            ensure!(
                service["ready"] == pods && service["desired"] == pods,
                "{service}"
            );
        }
        Ok(())
    })?;
    wait("the table", Duration::from_secs(180), || {
        let table = succeed(&mut world.constellation(&["status"]))?;
        ensure!(
            table.contains("2 of 2 Ready") && table.contains("names of services do not resolve"),
            "{table}"
        );
        Ok(())
    })
}

/// The build wrote down what the TPM of each machine must hold; each holds just that.
pub(crate) fn the_prediction_is_what_the_tpm_holds(world: &mut World) -> Result<()> {
    let text = std::fs::read_to_string(world.image.join("measurements.json"))?;
    let predicted: Value = serde_json::from_str(&text)?;
    let predicted = predicted["list"][0]["measurements"]
        .as_object()
        .context("no measurements")?;
    let report = world.every_node_verified()?;
    for index in ["4", "9", "11"] {
        let expected = predicted[index]["expected"]
            .as_str()
            .context("no prediction")?;
        let text = report.to_string();
        // the value that was quoted, once for each node
        let seen = text.matches(expected).count();
        ensure!(
            seen >= 2,
            "PCR {index}: {expected} is not what both machines quoted: {text}"
        );
    }
    Ok(())
}

pub(crate) fn verify_names_the_image_and_says_it_is_not_confidential(
    world: &mut World,
) -> Result<()> {
    let ran = run(&mut world.constellation(&["verify"]))?;
    ensure!(
        ran.code == 0,
        "verify ended with {}: {}{}",
        ran.code,
        ran.stdout,
        ran.stderr
    );
    let all = format!("{}{}", ran.stdout, ran.stderr);
    for word in ["control-plane-0", "worker-0", "v0.1.0", "not confidential"] {
        ensure!(all.contains(word), "verify does not say {word:?}:\n{all}");
    }
    Ok(())
}

pub(crate) fn down_leaves_the_config_and_nothing_else(world: &mut World) -> Result<()> {
    succeed(&mut world.constellation(&["mini", "down", "--yes"]))?;
    nothing_is_left(world)
}

fn nothing_is_left(world: &World) -> Result<()> {
    let files = names(&world.workspace)?;
    ensure!(
        files == ["constellation-conf.yaml"],
        "left in the workspace: {files:?}"
    );
    let sockets = names(&world.runtime)?;
    ensure!(sockets.is_empty(), "left in the run directory: {sockets:?}");
    let workspace = world.workspace.to_string_lossy().into_owned();
    for process in std::fs::read_dir("/proc")?.flatten() {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let own = process.file_name().to_string_lossy() == std::process::id().to_string();
        ensure!(
            own || !contains(&arguments, workspace.as_bytes()),
            "left running: {}",
            String::from_utf8_lossy(&arguments).replace('\0', " ")
        );
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Items of a Kubernetes list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}
