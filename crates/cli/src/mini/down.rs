//! `mini down`: stops everything and removes everything but the config file.

use std::path::Path;

use crate::arguments::DownArguments;
use crate::failure::Failure;
use crate::output::Terminal;
use crate::workspace::{self, Workspace};

use super::{Plan, machine, server};

pub(crate) fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &DownArguments,
) -> Result<(), Failure> {
    let _lock = workspace.lock()?;
    let files = [
        workspace.state_path(),
        workspace.kubeconfig_path(),
        workspace.master_secret_path(),
        workspace.cluster_log_path(),
        workspace.init_record_path(),
    ];
    let directories = [workspace.mini(), workspace.run_directory()];
    if !directories.iter().any(|path| path.exists()) {
        terminal.line("There is no local cluster in this workspace.");
        return Ok(());
    }
    if !arguments.yes {
        if !terminal.can_ask() {
            return Err(Failure::usage(
                "`mini down` removes the cluster and its data, and nobody is there to confirm it",
            )
            .hint("say it with --yes"));
        }
        if !terminal
            .confirm("This removes the cluster with all its data and its master secret. Go on?")?
        {
            terminal.line("Nothing was changed.");
            return Ok(());
        }
    }
    stop_all(workspace, terminal)?;
    for path in &files {
        workspace::remove(path)?;
    }
    for path in &directories {
        remove_directory(path)?;
    }
    terminal.line("The local cluster is gone; constellation-conf.yaml is kept.");
    Ok(())
}

/// Stops the machines, then what serves them. A plan that can not be read must not keep anything alive: then every
/// machine that has a pid file is one of ours.
fn stop_all(workspace: &Workspace, terminal: &Terminal) -> Result<(), Failure> {
    let mut seats =
        match Plan::read(workspace).and_then(|plan| plan.map(|plan| plan.seats()).transpose()) {
            Ok(seats) => seats.unwrap_or_default(),
            Err(failure) => {
                terminal.note(failure);
                Vec::new()
            }
        };
    for role in cluster::Role::ALL {
        for index in 0..usize::from(cloud::qemu::SEATS_PER_ROLE) {
            if let Ok(seat) = cloud::qemu::Seat::new(role, index)
                && !seats.contains(&seat)
                && (machine(workspace, seat).handle().pid_file.exists()
                    || machine(workspace, seat).tpm().pid_file.exists())
            {
                seats.push(seat);
            }
        }
    }
    for seat in seats {
        let was_running = machine(workspace, seat)
            .stop()
            .map_err(|error| Failure::infrastructure(format!("stop {seat}")).because(error))?;
        if was_running {
            terminal.line(format_args!("Stopped {seat}."));
        }
    }
    server(workspace)
        .stop()
        .map_err(|error| Failure::infrastructure("stop the background process").because(error))?;
    Ok(())
}

fn remove_directory(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::infrastructure(format!("remove {}", path.display())).because(error))
        }
        _ => Ok(()),
    }
}
