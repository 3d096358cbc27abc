//! A cluster that is gone, and a new one made of its backup: other machines, another cluster ID, the same objects.

use anyhow::{Context, Result, bail, ensure};
use e2e::commands::{run, succeed, wait};
use serde_json::{Value, json};

use crate::reboot_tests::is_ready;
use crate::world::{PATIENCE, World};

const MASTER_SECRET: &str = "constellation-mastersecret.json";
const CONFIG: &str = "constellation-conf.yaml";

/// The administrator keeps a backup and the master secret, and nothing else. What was acknowledged before the backup is in the new
/// cluster, also what etcd holds encrypted; what came after it is not; no node of the old cluster is a node of the new one.
pub(crate) fn a_backup_makes_a_new_cluster_with_what_was_in_the_old(
    world: &mut World,
) -> Result<()> {
    let kept = world.scratch("kept")?;
    let file = kept.join("cluster.backup");
    let file = file.to_str().context("a path of UTF-8")?;
    world.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "backed-up"}, "stringData": {"value": "kept"},
    }))?;
    // a node that the new cluster does not get anew, and whose finalizer nobody ever removes
    world.apply(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "never-back", "finalizers": ["example.com/held"]},
    }))?;
    let old = world.get(&["nodes"])?;
    succeed(&mut world.constellation(&["backup", "create", "--output", file]))?;
    let told: Value = serde_json::from_str(&succeed(
        &mut world.constellation(&["backup", "inspect", file, "-o", "json"]),
    )?)?;
    world.apply(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "too-late"}}),
    )?;
    std::fs::copy(
        world.workspace.join(MASTER_SECRET),
        kept.join(MASTER_SECRET),
    )?;

    // into the cluster that runs it is refused, and changes nothing
    let running = run(&mut world.constellation(&["backup", "restore", file]))?;
    ensure!(
        running.code != 0 && running.stderr.contains("is made already"),
        "restore into a running cluster ended with {}: {}",
        running.code,
        running.stderr
    );

    succeed(&mut world.constellation(&["mini", "down", "--yes"]))?;
    std::fs::copy(
        kept.join(MASTER_SECRET),
        world.workspace.join(MASTER_SECRET),
    )?;
    // smaller than the old one: its worker must not be a node of it either
    std::fs::remove_file(world.workspace.join(CONFIG))?;
    let mut up = world.constellation(&["mini", "up", "--workers", "0", "--restore", file]);
    let status = up.arg("--image-dir").arg(&world.image).status()?;
    if !status.success() {
        let mini = world.workspace.join("constellation-mini");
        let console = mini.join("control-plane-0").join("console.log");
        let console = std::fs::read(console).unwrap_or_default();
        eprintln!("---- console\n{}", String::from_utf8_lossy(&console));
        bail!("mini up --restore ended with {status}");
    }

    let secret = world.get(&["secret", "backed-up"])?;
    // "kept" in base64
    ensure!(secret["data"]["value"] == "a2VwdA==", "{secret}");
    let late = world.ask(&["get", "configmap", "too-late"])?;
    ensure!(
        late.code != 0 && late.stderr.contains("NotFound"),
        "what came after the backup: {}{}",
        late.stdout,
        late.stderr
    );
    wait("the new node, and no other, Ready", PATIENCE, || {
        let nodes = world.get(&["nodes"])?;
        let items = nodes["items"].as_array().context("no nodes")?;
        ensure!(items.len() == 1, "{} nodes", items.len());
        for node in items {
            ensure!(is_ready(node), "{} is not Ready", node["metadata"]["name"]);
            ensure!(
                !old.to_string().contains(
                    node["metadata"]["uid"]
                        .as_str()
                        .context("a node without a UID")?
                ),
                "a Node object of the old cluster: {}",
                node["metadata"]["name"]
            );
        }
        Ok(())
    })?;
    world.every_node_verified()?;
    let again = kept.join("again.backup");
    let again = again.to_str().context("a path of UTF-8")?;
    succeed(&mut world.constellation(&["backup", "create", "--output", again]))?;
    let new: Value = serde_json::from_str(&succeed(
        &mut world.constellation(&["backup", "inspect", again, "-o", "json"]),
    )?)?;
    ensure!(
        new["clusterId"] != told["clusterId"] && new["clusterId"].is_string(),
        "the new cluster has the old one's ID: {new}"
    );
    Ok(())
}
