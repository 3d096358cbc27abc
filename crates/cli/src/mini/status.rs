//! `mini status`: the machines and what they do, without asking the cluster.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::arguments::{Format, OutputArguments};
use crate::failure::Failure;
use crate::output;
use crate::recover;
use crate::text::address;
use crate::workspace::Workspace;

use super::{Plan, server};

const WAITS: &str = "waits for its disk's key";

pub(crate) async fn run(workspace: &Workspace, arguments: &OutputArguments) -> Result<(), Failure> {
    let Some(plan) = Plan::read(workspace)? else {
        return match arguments.output {
            Format::Table => output::data("There is no local cluster in this workspace.\n"),
            Format::Json => {
                output::json(&json!({ "machines": [], "server": null, "cluster": null }))
            }
        };
    };
    let found = |error| Failure::infrastructure("look for a process").because(error);
    let server = server(workspace)
        .find()
        .map_err(found)?
        .map(|process| process.pid());
    let mut machines = Vec::new();
    for seat in plan.seats()? {
        let machine = plan.machine(workspace, seat);
        let pid = machine
            .handle()
            .find()
            .map_err(found)?
            .map(|process| process.pid());
        let state = match (pid, machine.control().await) {
            (None, _) => "stopped".to_owned(),
            (Some(_), Ok(mut control)) => control
                .status()
                .await
                .unwrap_or_else(|error| error.to_string()),
            (Some(_), Err(error)) => error.to_string(),
        };
        machines.push((seat, pid, state));
    }
    let cluster_state = workspace.state()?;
    if cluster_state.cluster_values.is_some()
        && let Some(config) = workspace.config_if_any()?
    {
        let policy = &config.attestation.policy;
        let waiting = machines.iter_mut().map(async |(seat, pid, state)| {
            let at = address(&seat.host_address().to_string(), recover::PORT);
            if pid.is_some() && recover::is_waiting(policy, &at).await {
                WAITS.clone_into(state);
            }
        });
        futures::future::join_all(waiting).await;
    }
    let initialised = cluster_state
        .cluster_values
        .map(|values| values.cluster_id.to_string());
    match arguments.output {
        Format::Json => output::json(&json!({
            "cluster": initialised,
            "server": server,
            "machines": machines.iter().map(|(seat, pid, state)| json!({
                "name": seat.to_string(),
                "role": seat.role(),
                "address": seat.host_address(),
                "pid": pid,
                "state": state,
                "console": plan.machine(workspace, *seat).console(),
            })).collect::<Vec<_>>(),
        })),
        Format::Table => {
            let mut table = Table::new();
            table
                .load_preset(presets::NOTHING)
                .set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(["MACHINE", "STATE", "PID", "ADDRESS"]);
            let shown =
                |pid: Option<i32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            for (seat, pid, state) in &machines {
                table.add_row([
                    seat.to_string(),
                    state.clone(),
                    shown(*pid),
                    seat.host_address().to_string(),
                ]);
            }
            table.add_row([
                "(metadata, network)",
                if server.is_some() {
                    "running"
                } else {
                    "stopped"
                },
                &shown(server),
                "127.0.0.1",
            ]);
            let cluster = initialised.as_deref().unwrap_or("not initialised yet");
            let waits = machines.iter().any(|(_, _, state)| state == WAITS);
            let hint = if waits {
                "\n`constellation recover` gives a machine the key of its disk, unless another control plane does.\n"
            } else {
                ""
            };
            output::data(&format!("Cluster: {cluster}\n\n{table}\n{hint}"))
        }
    }
}
