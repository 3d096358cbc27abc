//! `mini up`: from nothing to a verified cluster; every step looks first at what is there already.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cloud::qemu::accelerator::{self, Accelerator, Probe};
use cloud::qemu::machine::{Firmware, Machine, Shape};
use cluster::config::{self, Choices, Config, Provider, QemuProvider};
use cluster::state::{Infrastructure, InitSecret, State};
use cluster::{ClusterName, Role};
use image::Image;

use crate::arguments::UpArguments;
use crate::bring_up::{Cluster, Up};
use crate::commands;
use crate::components::Source;
use crate::failure::Failure;
use crate::kubernetes;
use crate::output::{self, Terminal};
use crate::verify::Verdict;
use crate::workspace::{self, Workspace};

use super::phases::Phases;
use super::{Plan, checks, machine, mirror_url, serve, server};

/// A state disk is written once as a whole, which software emulation makes slow.
const STATE_DISK_EMULATED_GB: u32 = 2;
/// bcrypt's least cost: the secret is random and long, guessing is out of the question at any cost.
const BCRYPT_COST: u32 = 4;
const WATCH: Duration = Duration::from_secs(3);

pub(crate) async fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &UpArguments,
) -> Result<(), Failure> {
    let _lock = workspace.lock()?;
    let begun = Instant::now();
    let image = commands::config::open_image(arguments.image.image_dir.as_deref())?;
    let state = workspace.state()?;
    let old_plan = Plan::read(workspace)?;

    let firmware_of = |config: Option<&Config>| match config.map(|config| &config.provider) {
        Some(Provider::Qemu(qemu)) => firmware(qemu),
        None => Firmware::debian(),
    };
    let existing = workspace.config_if_any()?;
    let firmware = firmware_of(existing.as_ref());
    checks::programs(&firmware)?;
    let probe = accelerator::probe(&firmware);
    let source = source(&state, old_plan.as_ref(), arguments, terminal)?;
    let config = match existing {
        Some(config) => config,
        None => {
            make_config(
                workspace,
                terminal,
                arguments,
                &image,
                &source,
                probe.accelerator,
            )
            .await?
        }
    };
    let plan = decide(
        workspace,
        &config,
        arguments,
        &state,
        old_plan.as_ref(),
        &source,
    )?;
    check_image(&config, &image)?;

    let seats = plan.seats()?;
    let machines: Vec<Machine> = seats.iter().map(|seat| machine(workspace, *seat)).collect();
    let stopped = stopped(&machines)?;
    check_resumable(workspace, &state, &stopped).await?;
    let Provider::Qemu(qemu) = &config.provider;
    checks::memory(stopped.len(), qemu.memory_mib, probe.accelerator)?;
    checks::disk_space(workspace.root(), &stopped)?;
    stopped
        .iter()
        .try_for_each(|machine| checks::ports(machine.seat()))?;
    announce(terminal, &config, &probe, seats.len());

    let mut phases = Phases::begin(probe.accelerator, seats.len(), old_plan.is_some());
    phases.ended(
        terminal,
        "image",
        begun,
        image.measurements().name().as_str(),
    );

    let step = terminal.begin("machines");
    let state = prepare(workspace, &config, state, plan, &stopped).await?;
    let shape = |machine: &Machine| Shape {
        firmware: firmware.clone(),
        image: image.disk().to_owned(),
        vcpus: qemu.vcpus,
        memory_mib: qemu.memory_mib,
        state_disk_gib: config
            .node_groups
            .state_disk_size_gb(machine.seat().role())
            .into(),
        accelerator: probe.accelerator,
    };
    let switch = workspace.run_directory().join(serve::SWITCH);
    let start = |machine: &Machine| {
        terminal.progress(format_args!("starting {}", machine.seat()));
        machine.start(&shape(machine), &switch).map_err(|error| {
            Failure::infrastructure(format!("start {}", machine.seat())).because(error)
        })
    };
    let (now, later) = in_order(&stopped, seats.len(), probe.accelerator);
    now.iter().try_for_each(|machine| start(machine))?;
    phases.ended(terminal, "machines", step, "");

    let running: Vec<&Machine> = machines
        .iter()
        .filter(|m| !later.iter().any(|l| l.seat() == m.seat()))
        .collect();
    let up = bring_up(
        workspace,
        terminal,
        &config,
        &state,
        &source,
        &running,
        probe.accelerator,
        &mut phases,
    )
    .await?;

    let step = terminal.begin("join to Ready");
    later.iter().try_for_each(|machine| start(machine))?;
    let names: Vec<_> = seats.iter().map(ToString::to_string).collect();
    let everyone: Vec<&Machine> = machines.iter().collect();
    tokio::select! {
        ready = kubernetes::wait_for_nodes(&up.client, &names, patience(probe.accelerator), terminal) => ready?,
        failure = watch(&everyone) => return Err(failure),
    }
    phases.ended(
        terminal,
        "join to Ready",
        step,
        &format!("{} nodes", names.len()),
    );

    verify(
        workspace,
        terminal,
        &config,
        &up,
        probe.accelerator,
        &mut phases,
    )
    .await?;
    phases.write(workspace)?;
    next_steps(workspace, terminal, &phases, &source, &config);
    Ok(())
}

fn firmware(qemu: &QemuProvider) -> Firmware {
    let debian = Firmware::debian();
    Firmware {
        code: qemu.firmware.clone().unwrap_or(debian.code),
        variables: qemu.nvram.clone().unwrap_or(debian.variables),
    }
}

/// After the init the source is settled: joining nodes fetch from where the first one did.
fn source(
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

async fn make_config(
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
fn decide(
    workspace: &Workspace,
    config: &Config,
    arguments: &UpArguments,
    state: &State,
    old: Option<&Plan>,
    source: &Source,
) -> Result<Plan, Failure> {
    let control_planes = arguments.control_planes.map_or_else(
        || config.node_groups.initial_count(Role::ControlPlane),
        |count| usize::try_from(count).unwrap_or(usize::MAX),
    );
    let in_config = config.node_groups.initial_count(Role::Worker);
    if control_planes != 1 {
        return Err(Failure::config(format!("{control_planes} control planes are not in this release; allowed: 1"))
            .hint("set initialCount of control_plane_default to 1; more than one comes with the next release"));
    }
    if let Some(workers) = arguments.workers
        && usize::try_from(workers) != Ok(in_config)
    {
        return Err(Failure::config(format!(
            "--workers {workers} was given, and constellation-conf.yaml says initialCount: {in_config} for workers"
        ))
        .hint("change the file, or leave the flag out"));
    }
    if let Some(old) = old
        && (old.control_planes, old.workers) != (control_planes, in_config)
    {
        return Err(Failure::config(format!(
            "the local cluster has {} worker(s), and constellation-conf.yaml says {in_config}",
            old.workers
        ))
        .hint("set it back, or begin anew with `constellation mini down`"));
    }
    if old.is_none() && state.infrastructure.is_some() {
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
        workers: in_config,
        init_secret_hash: hash,
        components,
    })
}

/// The image on disk must be the one whose measurements the config accepts: else machines boot for nothing.
fn check_image(config: &Config, image: &Image) -> Result<(), Failure> {
    let built = commands::config::policy(image)?;
    let accepted = &config.attestation.policy;
    if built.measurements() == accepted.measurements() {
        return Ok(());
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

fn stopped(machines: &[Machine]) -> Result<Vec<&Machine>, Failure> {
    let mut stopped = Vec::new();
    for machine in machines {
        let found = machine.handle().find().map_err(|error| {
            Failure::infrastructure(format!("look for {}", machine.seat())).because(error)
        })?;
        if found.is_none() {
            stopped.push(machine);
        }
    }
    Ok(stopped)
}

/// A machine that was part of a cluster needs its key back when it boots; handing it out is the next release's.
async fn check_resumable(
    workspace: &Workspace,
    state: &State,
    stopped: &[&Machine],
) -> Result<(), Failure> {
    if state.cluster_values.is_none() || stopped.is_empty() {
        return Ok(());
    }
    let lost = |name: &dyn std::fmt::Display| {
        Failure::infrastructure(format!("{name} was part of the cluster and does not run any more"))
            .hint("starting such a machine again comes with the next release; `constellation mini down`, then `up`, begins anew")
    };
    if let Some(machine) = stopped
        .iter()
        .find(|machine| machine.seat().role() == Role::ControlPlane)
    {
        return Err(lost(&machine.seat()));
    }
    let client = kubernetes::client(&workspace.kubeconfig_path()).await?;
    let joined = k8s::api::records::node_identities(&client)
        .await
        .map_err(|error| Failure::cluster("list the nodes that joined").because(error))?;
    match stopped.iter().find(|machine| {
        joined
            .iter()
            .any(|record| record.name == machine.seat().name())
    }) {
        Some(machine) => Err(lost(&machine.seat())),
        None => Ok(()),
    }
}

fn announce(terminal: &Terminal, config: &Config, probe: &Probe, machines: usize) {
    terminal.line(config.summary());
    terminal.line(format_args!(
        "Machines run on {}: {}.",
        probe.accelerator, probe.reason
    ));
    if probe.accelerator.is_emulated() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // the order of magnitude of the runs in docs/performance.md
        let minutes = (machines * 12).div_ceil(processors).max(4);
        terminal.line(format_args!(
            "Software emulation is slow but real: expect {minutes} to {} minutes on {processors} processor(s).",
            minutes * 2
        ));
    }
}

/// Everything that must be there before a machine starts. Ordered so that an interruption leaves what `up` and `down`
/// understand: the directories, then the state with the secret, then the plan, then the process.
async fn prepare(
    workspace: &Workspace,
    config: &Config,
    state: State,
    mut plan: Plan,
    stopped: &[&Machine],
) -> Result<State, Failure> {
    let mini = workspace.mini();
    std::fs::create_dir_all(&mini).map_err(|error| {
        Failure::infrastructure(format!("make the directory {}", mini.display())).because(error)
    })?;
    workspace.make_run_directory()?;
    if state.cluster_values.is_none() {
        forget_failed_attempts(workspace, stopped)?;
    }
    let state = if state.infrastructure.is_some() {
        state
    } else {
        new_infrastructure(workspace, config, state, &plan)?
    };
    let Some(infrastructure) = &state.infrastructure else {
        return Err(Failure::internal("there is no infrastructure in the state"));
    };
    if plan.init_secret_hash.is_empty() {
        plan.init_secret_hash =
            bcrypt::hash(infrastructure.init_secret.expose_bytes(), BCRYPT_COST)
                .map_err(|error| Failure::internal("hash the init secret").because(error))?;
    }
    if Plan::read(workspace)?.as_ref() != Some(&plan) {
        plan.write(workspace)?;
        // a process that runs knows the old plan
        server(workspace).stop().map_err(|error| {
            Failure::infrastructure("stop the background process").because(error)
        })?;
    }
    serve::start(workspace).await?;
    Ok(state)
}

/// Before the init a machine that stopped has nothing worth keeping: its disk's key was in its memory.
fn forget_failed_attempts(workspace: &Workspace, stopped: &[&Machine]) -> Result<(), Failure> {
    for machine in stopped {
        workspace::remove(&machine.state_disk())?;
        if machine.seat().role() == Role::ControlPlane {
            workspace::remove(&workspace.init_record_path())?;
        }
    }
    Ok(())
}

fn new_infrastructure(
    workspace: &Workspace,
    config: &Config,
    state: State,
    plan: &Plan,
) -> Result<State, Failure> {
    let seats = plan.seats()?;
    let first = seats
        .first()
        .ok_or_else(|| Failure::internal("a plan without machines"))?;
    let infrastructure = Infrastructure {
        uid: "mini".to_owned(),
        cluster_endpoint: first.host_address().to_string(),
        in_cluster_endpoint: first.cluster_address().to_string(),
        init_secret: new_init_secret()?,
        api_server_cert_sans: vec!["localhost".to_owned()],
        name: config.name.to_string(),
        ip_cidr_node: "10.42.0.0/16".parse().ok(),
    };
    let state = State {
        infrastructure: Some(infrastructure),
        ..state
    };
    workspace.save_state(&state)?;
    Ok(state)
}

/// 32 random bytes, none of them zero: the hash in the metadata could not see past one.
fn new_init_secret() -> Result<InitSecret, Failure> {
    let mut bytes = Vec::with_capacity(32);
    while bytes.len() < 32 {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte).map_err(|_| Failure::internal("make the init secret"))?;
        bytes.extend(byte.into_iter().filter(|byte| *byte != 0));
    }
    InitSecret::new(bytes).map_err(|error| Failure::internal("make the init secret").because(error))
}

/// Machines to start now and later. With fewer processors than machines want, emulated workers would only slow down the
/// control plane that they wait for.
fn in_order<'a>(
    stopped: &[&'a Machine],
    machines: usize,
    accelerator: Accelerator,
) -> (Vec<&'a Machine>, Vec<&'a Machine>) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let staggered = accelerator.is_emulated() && processors < 2 * machines;
    stopped
        .iter()
        .copied()
        .partition(|machine| !staggered || machine.seat().role() == Role::ControlPlane)
}

fn patience(accelerator: Accelerator) -> Duration {
    Duration::from_secs(if accelerator.is_emulated() { 3600 } else { 900 })
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one run, named; a struct would only hide them"
)]
async fn bring_up(
    workspace: &Workspace,
    terminal: &Terminal,
    config: &Config,
    state: &State,
    source: &Source,
    machines: &[&Machine],
    accelerator: Accelerator,
    phases: &mut Phases,
) -> Result<Up, Failure> {
    let infrastructure = state
        .infrastructure
        .as_ref()
        .ok_or_else(|| Failure::internal("there is no infrastructure in the state"))?;
    let mirror = mirror_url();
    let cluster = Cluster {
        workspace,
        config,
        infrastructure,
        source,
        local_mirror: Some(&mirror),
        patience: patience(accelerator),
    };
    let fresh = state.cluster_values.is_none();
    let step = RefCell::new(terminal.begin(if fresh {
        "boot to bootstrapper"
    } else {
        "API server"
    }));
    let shared = RefCell::new(phases);
    let reached = || {
        let begun = *step.borrow();
        shared.borrow_mut().ended(
            terminal,
            "boot to bootstrapper",
            begun,
            "the first node proved what it runs",
        );
        *step.borrow_mut() = terminal.begin("init");
    };
    let up = tokio::select! {
        up = cluster.up(state, terminal, reached) => up?,
        failure = watch(machines) => return Err(failure),
    };
    let phases = shared.into_inner();
    let begun = step.into_inner();
    match &up.fresh {
        Some(times) => {
            phases.took("init to API ready", times.api_ready - times.reached);
            phases.took("API ready to init done", times.complete - times.api_ready);
            let cluster = &up.cluster_values.cluster_id;
            phases.ended(terminal, "init", begun, &format!("cluster {cluster}"));
            phases.node_progress(times.progress.clone());
        }
        None => phases.ended(terminal, "API server", begun, "initialised before"),
    }
    Ok(up)
}

/// Resolves when a machine has stopped by itself.
async fn watch(machines: &[&Machine]) -> Failure {
    loop {
        tokio::time::sleep(WATCH).await;
        for machine in machines {
            if matches!(machine.handle().find(), Ok(None)) {
                return Failure::infrastructure(format!("{} stopped by itself", machine.seat()))
                    .hint(format!(
                        "`constellation mini logs {}` shows its console",
                        machine.seat()
                    ));
            }
        }
    }
}

async fn verify(
    workspace: &Workspace,
    terminal: &Terminal,
    config: &Config,
    up: &Up,
    accelerator: Accelerator,
    phases: &mut Phases,
) -> Result<(), Failure> {
    let step = terminal.begin("verify");
    let deadline = patience(accelerator);
    let reports = loop {
        let targets = commands::verify::every_node(workspace).await?;
        let reports =
            commands::verify::check(config, &up.cluster_values.cluster_id, &targets).await?;
        // a pod of the verification service that is not up yet is no refusal
        let waiting: Vec<_> = reports
            .iter()
            .filter_map(|report| match &report.verdict {
                Verdict::Unreachable { reason } => Some(format!("{}: {reason}", report.title())),
                Verdict::Verified { .. } | Verdict::Refused { .. } => None,
            })
            .collect();
        if waiting.is_empty() || step.elapsed() > deadline {
            break reports;
        }
        terminal.progress(waiting.join("; "));
        tokio::time::sleep(WATCH).await;
    };
    phases.ended(terminal, "verify", step, "");
    let trees: Vec<_> = reports.iter().map(commands::verify::tree).collect();
    output::data(&trees.join("\n"))?;
    commands::verify::verdict(&reports, terminal)
}

fn next_steps(
    workspace: &Workspace,
    terminal: &Terminal,
    phases: &Phases,
    source: &Source,
    config: &Config,
) {
    let kubectl = match source {
        Source::Directory(path) => Some(path.join(cluster::catalogue::program_path(
            "kubectl",
            config.kubernetes_version,
        )))
        .filter(|path| path.is_file()),
        Source::Url(_) => None,
    };
    let kubectl = kubectl.unwrap_or_else(|| PathBuf::from("kubectl"));
    let place = if std::env::current_dir().is_ok_and(|here| here == workspace.root()) {
        String::new()
    } else {
        format!(" -C {}", workspace.root().display())
    };
    terminal.line(format_args!(
        "\nThe cluster is up, after {:.0} s. Next:",
        phases.total().as_secs_f64()
    ));
    terminal.line(format_args!(
        "  export KUBECONFIG={}",
        workspace.kubeconfig_path().display()
    ));
    terminal.line(format_args!("  {} get nodes -o wide", kubectl.display()));
    terminal.line(format_args!(
        "  constellation{place} verify        # what every node runs, proved anew"
    ));
    terminal.line(format_args!(
        "  constellation{place} mini down     # removes everything but the config"
    ));
}
