//! Test pods, each on the node that it is for.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::commands::wait;
use serde_json::{Value, json};

use crate::world::World;

/// A pod of busybox that runs once.
pub(crate) fn pod(name: &str, node: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main", "image": e2e::pod_image::REFERENCE, "imagePullPolicy": "Never", "command": command,
            }],
        },
    })
}

/// What a pod printed, once it has succeeded.
pub(crate) fn output(world: &World, name: &str) -> Result<String> {
    let phase = wait(
        &format!("the end of pod {name}"),
        Duration::from_secs(300),
        || {
            let pod = world.get(&["pod", name])?;
            let phase = pod["status"]["phase"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            ensure!(phase == "Succeeded" || phase == "Failed", "{phase}");
            Ok(phase)
        },
    )?;
    let log = world.answer(&["logs", name])?;
    ensure!(phase == "Succeeded", "pod {name} {phase}: {log:?}");
    Ok(log)
}

/// Does not wait for the pods' end.
pub(crate) fn remove(world: &World, names: &[&str]) -> Result<()> {
    let options = [
        "--ignore-not-found",
        "--wait=false",
        "--grace-period=0",
        "--force",
    ];
    world
        .answer(&[&["delete", "pod"], names, &options].concat())
        .map(drop)
}
