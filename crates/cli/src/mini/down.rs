//! `mini down`: stops everything and removes everything but the config file.

use std::path::Path;

use cloud::qemu::machine::{Machine, processes_below};
use cloud::qemu::process::{ProcessError, Running, search};
use cloud::qemu::{SEATS_PER_ROLE, Seat};
use cluster::Role;

use crate::arguments::DownArguments;
use crate::failure::Failure;
use crate::output::Terminal;
use crate::workspace::{self, Workspace};

use super::{Plan, serve, server};

pub(crate) async fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &DownArguments,
) -> Result<(), Failure> {
    let _lock = workspace.lock()?;
    // a record that can not be read must not keep anything alive: processes are found by their files and arguments
    let plan = Plan::read(workspace).unwrap_or_else(|failure| {
        terminal.note(failure);
        None
    });
    let mut directories = vec![workspace.mini(), workspace.new_run_directory()];
    directories.extend(plan.map(|plan| plan.run_directory));
    if !directories.iter().any(|path| path.exists()) && strays(workspace)?.is_empty() {
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
            .confirm("This removes the cluster with all its data and its master secret. Go on?")
            .await?
        {
            terminal.line("Nothing was changed.");
            return Ok(());
        }
    }
    stop_all(workspace, terminal)?;
    for path in [
        workspace.state_path(),
        workspace.kubeconfig_path(),
        workspace.master_secret_path(),
        workspace.cluster_log_path(),
        workspace.init_record_path(),
    ] {
        workspace::remove(&path)?;
        workspace::remove(&workspace::unfinished(&path))?;
    }
    workspace::remove(&workspace::unfinished(&workspace.config_path()))?;
    for path in &directories {
        remove_directory(path)?;
    }
    terminal.line("The local cluster is gone; constellation-conf.yaml is kept.");
    Ok(())
}

/// Stops the machines, then what serves them, then what only its arguments show to be of this workspace.
fn stop_all(workspace: &Workspace, terminal: &Terminal) -> Result<(), Failure> {
    for seat in Role::ALL.into_iter().flat_map(seats_of) {
        // the sockets go with their directory
        let machine = Machine::new(seat, &workspace.mini(), &workspace.mini());
        let was_running = machine
            .stop()
            .map_err(|error| Failure::infrastructure(format!("stop {seat}")).because(error))?;
        if was_running {
            terminal.line(format_args!("Stopped {seat}."));
        }
    }
    server(workspace)
        .stop()
        .map_err(|error| Failure::infrastructure("stop the background process").because(error))?;
    for stray in strays(workspace)? {
        let pid = stray.pid();
        stray.stop().map_err(|error| {
            Failure::infrastructure(format!("stop process {pid}")).because(error)
        })?;
        terminal.line(format_args!(
            "Stopped process {pid} of this workspace, of which there was no record."
        ));
    }
    Ok(())
}

fn seats_of(role: Role) -> impl Iterator<Item = Seat> {
    (0..usize::from(SEATS_PER_ROLE)).filter_map(move |index| Seat::new(role, index).ok())
}

/// Processes that are this workspace's by their own arguments.
fn strays(workspace: &Workspace) -> Result<Vec<Running>, Failure> {
    let search = || -> Result<Vec<Running>, ProcessError> {
        let mut found = processes_below(&workspace.mini())?;
        let wanted = serve::arguments(workspace);
        found.extend(search(|arguments| {
            arguments
                .windows(wanted.len())
                .any(|window| window == wanted)
        })?);
        Ok(found)
    };
    search().map_err(|error| {
        Failure::infrastructure("look for the processes of this workspace").because(error)
    })
}

fn remove_directory(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::infrastructure(format!("remove {}", path.display())).because(error))
        }
        _ => Ok(()),
    }
}
