//! `backup`: makes a backup of the cluster, says what one is, and makes a cluster of one.

use std::path::{Path, PathBuf};

use cluster::Role;
use serde_json::json;

use crate::arguments::{
    ApplyArguments, BackupCreateArguments, BackupFileArguments, BackupRestoreArguments, Format,
};
use crate::backup::{self, Creation};
use crate::commands;
use crate::failure::Failure;
use crate::init;
use crate::mini;
use crate::output::{self, Terminal};
use crate::text::address;
use crate::workspace::Workspace;

pub(crate) async fn create(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &BackupCreateArguments,
) -> Result<(), Failure> {
    let config = workspace.config()?;
    let state = workspace.state()?;
    let values = state.cluster_values.as_ref().ok_or_else(|| {
        Failure::config("constellation-state.yaml names no cluster yet")
            .hint("`constellation apply` or `constellation mini up` makes one")
    })?;
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => workspace.root().join(format!(
            "constellation-backup-{}-{}.backup",
            config.name,
            jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")
        )),
    };
    let creation = Creation {
        policy: &config.attestation.policy,
        cluster_id: &values.cluster_id,
        key: backup::key(workspace)?,
        terminal,
    };
    let begun = terminal.begin("backup");
    let header = creation
        .run(&addresses(workspace, arguments)?, &path)
        .await?;
    terminal.end("backup", begun, "");
    terminal.line(format_args!(
        "{} has the cluster as of {}, checked.",
        path.display(),
        backup::begun(&header)
    ));
    terminal.line(format_args!(
        "  Keep it apart from {}: who has both has every secret of the cluster, and without the second the first is worth nothing.",
        workspace.master_secret_path().display()
    ));
    Ok(())
}

fn addresses(
    workspace: &Workspace,
    arguments: &BackupCreateArguments,
) -> Result<Vec<String>, Failure> {
    if !arguments.endpoint.is_empty() {
        let given = arguments
            .endpoint
            .iter()
            .map(|endpoint| commands::with_port("--endpoint", endpoint, init::PORT));
        return given.collect();
    }
    let mut addresses: Vec<String> = mini::seats(workspace)?
        .into_iter()
        .filter(|seat| seat.role() == Role::ControlPlane)
        .map(|seat| address(&seat.host_address().to_string(), init::PORT))
        .collect();
    if let Some(infrastructure) = workspace.state()?.infrastructure {
        let endpoint = address(&infrastructure.cluster_endpoint, init::PORT);
        if !addresses.contains(&endpoint) {
            addresses.push(endpoint);
        }
    }
    if addresses.is_empty() {
        return Err(
            Failure::config("constellation-state.yaml says nothing about the machines")
                .hint("name the address of a control plane with --endpoint"),
        );
    }
    Ok(addresses)
}

pub(crate) fn inspect(
    workspace: &Workspace,
    arguments: &BackupFileArguments,
) -> Result<(), Failure> {
    let (header, essentials) = backup::open(workspace, &arguments.file)?;
    match arguments.output {
        Format::Json => output::json(&json!({
            "clusterId": header.cluster_id.to_string(),
            "begun": backup::begun(&header),
            "revision": header.revision,
            "etcd": header.etcd_version,
            "kubernetes": essentials.version.to_string(),
            "podCIDR": essentials.networks.pods().to_string(),
            "serviceCIDR": essentials.networks.services().to_string(),
        })),
        Format::Table => output::data(&format!(
            "cluster     {}\nbegun       {}\nrevision    {}\netcd        {}\nKubernetes  {}\npods        {}\nservices    {}\n",
            header.cluster_id,
            backup::begun(&header),
            header.revision,
            header.etcd_version,
            essentials.version,
            essentials.networks.pods(),
            essentials.networks.services(),
        )),
    }
}

pub(crate) async fn restore(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: BackupRestoreArguments,
) -> Result<(), Failure> {
    let apply = ApplyArguments {
        components: arguments.components,
        merge_kubeconfig: arguments.merge_kubeconfig,
        skip_phases: Vec::new(),
        yes: false,
        restore: Some(arguments.file),
    };
    commands::apply::run(workspace, terminal, &apply).await
}

/// Checks a backup before anything is done with it.
pub(crate) fn check(
    workspace: &Workspace,
    config: &cluster::config::Config,
    terminal: &Terminal,
    file: Option<&PathBuf>,
) -> Result<Option<backup::Restore>, Failure> {
    let Some(file) = file.map(Path::new) else {
        return Ok(None);
    };
    if workspace.state()?.cluster_values.is_some() {
        return Err(Failure::config("the cluster of this workspace is made already")
            .hint("a backup is restored into a new cluster: new machines, and a workspace with the old constellation-mastersecret.json and no cluster in its state file"));
    }
    let restore = backup::Restore::check(workspace, config, file)?;
    terminal.note(format_args!(
        "the new cluster is made of the backup of {} that was begun at {}",
        restore.header.cluster_id,
        backup::begun(&restore.header)
    ));
    Ok(Some(restore))
}
