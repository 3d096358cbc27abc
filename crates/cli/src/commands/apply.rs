//! `apply`: makes a cluster on machines that somebody else made.

use std::time::Duration;

use crate::arguments::ApplyArguments;
use crate::bring_up::Cluster;
use crate::commands;
use crate::components::Source;
use crate::failure::Failure;
use crate::output::Terminal;
use crate::workspace::Workspace;

const PATIENCE: Duration = Duration::from_secs(900);

pub(crate) async fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &ApplyArguments,
) -> Result<(), Failure> {
    let _lock = workspace.lock()?;
    let config = workspace.config()?;
    commands::config::tell_without_effect(&config, terminal);
    let state = workspace.state()?;
    let infrastructure = state.infrastructure.clone().ok_or_else(|| {
        Failure::config("constellation-state.yaml says nothing about the machines").hint(
            "fill in infrastructure.clusterEndpoint and infrastructure.initSecret; `constellation mini up` makes machines on this host",
        )
    })?;
    if state.cluster_values.is_some() && workspace.master_secret_if_any()?.is_none() {
        terminal.note("constellation-mastersecret.json is gone: without it no node of this cluster can be recovered");
    }
    let restore =
        commands::backup::check(workspace, &config, terminal, arguments.restore.as_ref())?;
    let source = Source::choose(arguments.components.as_deref(), terminal)?;
    // the machines of a local cluster have a mirror of their own
    let mirror = crate::mini::mirror_url();
    let local_mirror = workspace.mini().is_dir().then_some(mirror.as_str());
    let begun = terminal.begin("init");
    let cluster = Cluster {
        workspace,
        config: &config,
        infrastructure: &infrastructure,
        source: &source,
        local_mirror,
        patience: PATIENCE,
        restore: restore.as_ref(),
    };
    let up = cluster.up(&state, terminal, || {}).await?;
    terminal.end("init", begun, "");
    let said = if up.fresh.is_some() {
        "is made"
    } else {
        "was made before"
    };
    terminal.line(format_args!(
        "Cluster {} {said}.",
        up.cluster_values.cluster_id
    ));
    commands::tell_kubeconfig(workspace, terminal, arguments.merge_kubeconfig)?;
    terminal.line("  constellation verify");
    Ok(())
}
