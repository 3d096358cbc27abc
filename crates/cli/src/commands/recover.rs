//! `recover`: gives every control plane that waits for its disk's key that key, and reports each.

use std::time::Duration;

use cluster::Role;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use crate::arguments::{Format, RecoverArguments};
use crate::commands;
use crate::failure::Failure;
use crate::mini;
use crate::output::{self, Terminal};
use crate::recover::{self, Ended, Recovery, Report};
use crate::text::{address, host_of};
use crate::verify::{self, Record, Target};
use crate::workspace::Workspace;

pub(crate) async fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &RecoverArguments,
) -> Result<(), Failure> {
    let config = workspace.config()?;
    let state = workspace.state()?;
    let values = state.cluster_values.as_ref().ok_or_else(|| {
        Failure::config("constellation-state.yaml names no cluster yet")
            .hint("only a machine that is a node already can be recovered")
    })?;
    let master = workspace.master_secret_if_any()?.ok_or_else(|| {
        Failure::config(format!("there is no {}", workspace.master_secret_path().display()))
            .hint("the keys of all disks come from it, and from nothing else: take it from where it was kept")
    })?;
    let keys = recover::keys(&master, values)?;
    let (addresses, expected) = addresses(workspace, arguments)?;
    let patience = Duration::from_secs(arguments.wait);
    let recovery = Recovery::new(
        &config.attestation.policy,
        keys,
        values,
        expected,
        patience,
        terminal,
    );
    let mut report = recovery.run(&addresses).await;
    find_running(&config, values, &mut report).await?;
    print(&report, arguments.output)?;
    if let Some(note) = report.majority() {
        terminal.note(note);
    }
    report.verdict()
}

/// Where to look, and how many control planes there are, if that is known.
fn addresses(
    workspace: &Workspace,
    arguments: &RecoverArguments,
) -> Result<(Vec<String>, Option<usize>), Failure> {
    if !arguments.endpoint.is_empty() {
        let given = arguments
            .endpoint
            .iter()
            .map(|endpoint| commands::with_port("--endpoint", endpoint, recover::PORT));
        return Ok((given.collect::<Result<_, _>>()?, None));
    }
    let control_planes: Vec<String> = mini::seats(workspace)?
        .into_iter()
        .filter(|seat| seat.role() == Role::ControlPlane)
        .map(|seat| address(&seat.host_address().to_string(), recover::PORT))
        .collect();
    let expected = (!control_planes.is_empty()).then_some(control_planes.len());
    let mut addresses = control_planes;
    if let Some(infrastructure) = workspace.state()?.infrastructure {
        let endpoint = address(&infrastructure.cluster_endpoint, recover::PORT);
        if !addresses.contains(&endpoint) {
            addresses.push(endpoint);
        }
    }
    if addresses.is_empty() {
        return Err(
            Failure::config("constellation-state.yaml says nothing about the machines")
                .hint("name their addresses with --endpoint"),
        );
    }
    Ok((addresses, expected))
}

/// An address at which nothing waits may be that of a node that runs: it has evidence for that.
async fn find_running(
    config: &cluster::config::Config,
    values: &cluster::state::ClusterValues,
    report: &mut Report,
) -> Result<(), Failure> {
    let silent: Vec<usize> = (0..report.endpoints.len())
        .filter(|index| {
            report.endpoints.get(*index).is_some_and(|endpoint| {
                endpoint.ended == Ended::NothingWaits
                    && endpoint.refusals.is_empty()
                    && !report.is_of_a_machine(&endpoint.address)
            })
        })
        .collect();
    let targets: Vec<Target> = silent
        .iter()
        .filter_map(|index| report.endpoints.get(*index))
        .map(|endpoint| Target {
            name: None,
            address: address(host_of(&endpoint.address), verify::PORT),
            record: Record::NotAsked,
        })
        .collect();
    let verified = commands::verify::check(config, &values.cluster_id, &targets).await?;
    for (index, node) in silent.into_iter().zip(verified) {
        if let Some(endpoint) = report.endpoints.get_mut(index)
            && node.is_accepted()
        {
            endpoint.ended = Ended::Runs;
        }
    }
    Ok(())
}

fn print(report: &Report, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(&json!({
            "machines": report.machines,
            "endpoints": report.endpoints,
            "controlPlanes": report.expected,
        })),
        Format::Table => {
            let mut table = Table::new();
            table
                .load_preset(presets::NOTHING)
                .set_content_arrangement(ContentArrangement::Disabled)
                .set_header(["MACHINE", "DISK", "ADDRESS", "OUTCOME"]);
            for line in report.lines() {
                table.add_row(line);
            }
            output::data(&format!("{table}\n"))
        }
    }
}
