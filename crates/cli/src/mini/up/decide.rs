//! What there is to be: the config, the source of the components, the plan, each checked against what there was.

use cloud::qemu::accelerator::Accelerator;
use cluster::config::{self, Choices, Config};
use cluster::state::State;
use cluster::{ClusterName, Role};
use image::Image;

use crate::arguments::UpArguments;
use crate::commands;
use crate::components::Source;
use crate::failure::Failure;
use crate::mini::Plan;
use crate::output::Terminal;
use crate::workspace::{self, Workspace};

/// As etcd advises.
const CONTROL_PLANES_MAX: usize = 7;

/// A state disk is written once as a whole, which software emulation makes slow.
const STATE_DISK_EMULATED_GB: u32 = 2;

/// After the init the source is settled: joining nodes fetch from where the first one did.
pub(super) fn source(
    state: &State,
    plan: Option<&Plan>,
    arguments: &UpArguments,
    terminal: &Terminal,
) -> Result<Source, Failure> {
    match (state.cluster_values.is_some(), plan) {
        (
            true,
            Some(Plan {
                components: Some(path),
                ..
            }),
        ) => Ok(Source::Directory(path.clone())),
        _ => Source::choose(arguments.components.as_deref(), terminal),
    }
}

pub(super) async fn make_config(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &UpArguments,
    image: &Image,
    source: &Source,
    accelerator: Accelerator,
) -> Result<Config, Failure> {
    let version = source
        .versions()?
        .into_iter()
        .find(|version| version.support().is_ok())
        .unwrap_or_else(commands::config::default_kubernetes);
    let name = ClusterName::new("mini")
        .map_err(|error| Failure::internal("the name of the cluster").because(error))?;
    let text = config::generate(&Choices {
        name: &name,
        kubernetes_version: version,
        policy: &commands::config::policy(image)?,
        control_planes: arguments.control_planes.unwrap_or(1),
        workers: arguments.workers.unwrap_or(1),
        state_disk_size_gb: if accelerator.is_emulated() {
            STATE_DISK_EMULATED_GB
        } else {
            commands::config::STATE_DISK_GB
        },
    });
    // checked before it is written: a number of workers beyond the bound must not leave a file behind
    let config = Config::parse(config::FILE_NAME, &text).map_err(|problems| {
        Failure::usage("a cluster of this shape is not possible").detail(problems)
    })?;
    workspace::create(&workspace.config_path(), text.as_bytes(), 0o644)?;
    terminal.line(format_args!("Wrote {}.", config::FILE_NAME));
    Ok(config)
}

/// What there is to be, checked against what there was.
pub(super) fn plan(
    workspace: &Workspace,
    config: &Config,
    arguments: &UpArguments,
    state: &State,
    old: Option<&Plan>,
    source: &Source,
) -> Result<Plan, Failure> {
    let control_planes = config.node_groups.initial_count(Role::ControlPlane);
    let workers = config.node_groups.initial_count(Role::Worker);
    for (flag, given, in_config) in [
        ("control-planes", arguments.control_planes, control_planes),
        ("workers", arguments.workers, workers),
    ] {
        if let Some(given) = given
            && usize::try_from(given) != Ok(in_config)
        {
            return Err(Failure::config(format!(
                "--{flag} {given} was given, and constellation-conf.yaml says initialCount: {in_config}"
            ))
            .hint("change the file, or leave the flag out"));
        }
    }
    if control_planes > CONTROL_PLANES_MAX {
        return Err(Failure::config(format!(
            "{control_planes} control planes are too many for etcd; allowed: 1 to {CONTROL_PLANES_MAX}"
        ))
        .hint("three survive the loss of one, five of two"));
    }
    if let Some(old) = old
        && (old.control_planes, old.workers) != (control_planes, workers)
    {
        return Err(Failure::config(format!(
            "the local cluster has {} control plane(s) and {} worker(s), and constellation-conf.yaml says {control_planes} and {workers}",
            old.control_planes, old.workers
        ))
        .hint("set it back, or begin anew with `constellation mini down`"));
    }
    // `up` makes its directory before it writes the state: one that was stopped in between has it
    if !workspace.mini().exists() && state.infrastructure.is_some() {
        return Err(Failure::config(format!("{} describes machines that are not a local cluster", workspace.state_path().display()))
            .hint("`constellation apply` uses them; remove the file, or take another workspace with -C, for a local cluster"));
    }
    let components = match source {
        Source::Directory(path) => Some(path.clone()),
        Source::Url(_) => None,
    };
    let hash = match (old, &state.infrastructure) {
        (Some(old), Some(_)) => old.init_secret_hash.clone(),
        _ => String::new(),
    };
    Ok(Plan {
        control_planes,
        workers,
        run_directory: old.map_or_else(
            || workspace.new_run_directory(),
            |old| old.run_directory.clone(),
        ),
        init_secret_hash: hash,
        components,
    })
}

/// The image on disk must be the one whose measurements the config accepts, and be called what it calls it: else
/// machines boot for nothing, or verdicts name another image than the one that runs.
pub(super) fn check_image(config: &Config, image: &Image) -> Result<(), Failure> {
    let built = commands::config::policy(image)?;
    let accepted = &config.attestation.policy;
    if built.measurements() == accepted.measurements() {
        let name = built.image_name().unwrap_or_default();
        if name == config.image {
            return Ok(());
        }
        return Err(Failure::config(format!(
            "the image in {} is called {name}, and constellation-conf.yaml says image: {}",
            image.disk().display(),
            config.image
        ))
        .hint("`constellation config fetch-measurements` takes the image's own name"));
    }
    let differing: Vec<_> = built
        .measurements()
        .iter()
        .filter(|(index, measurement)| accepted.measurements().get(index) != Some(measurement))
        .map(|(index, _)| format!("PCR {index}"))
        .collect();
    Err(Failure::config(format!(
        "the image in {} is not the one constellation-conf.yaml accepts (differs in {})",
        image.disk().display(),
        differing.join(", ")
    ))
    .hint("if the image was rebuilt on purpose: `constellation config fetch-measurements`"))
}
