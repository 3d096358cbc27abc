//! `mini up`: from nothing to a verified cluster; every step looks first at what is there already.

mod decide;
mod prepare;
mod recover;
mod wait;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cloud::qemu::accelerator::{self, Accelerator, Probe};
use cloud::qemu::machine::{Firmware, Machine, Shape};
use cluster::Role;
use cluster::config::{Config, Provider, QemuProvider};
use cluster::state::State;

use crate::arguments::UpArguments;
use crate::backup::Restore;
use crate::bring_up::{Cluster, Up};
use crate::commands;
use crate::components::Source;
use crate::failure::Failure;
use crate::output::{self, Terminal};
use crate::verify::Verdict;
use crate::workspace::Workspace;

use super::phases::Phases;
use super::{Plan, checks, mirror_url, serve};

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
    let source = decide::source(&state, old_plan.as_ref(), arguments, terminal)?;
    let config = match existing {
        Some(config) => config,
        None => {
            decide::make_config(
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
    let plan = decide::plan(
        workspace,
        &config,
        arguments,
        &state,
        old_plan.as_ref(),
        &source,
    )?;
    decide::check_image(&config, &image)?;
    let restore =
        commands::backup::check(workspace, &config, terminal, arguments.restore.as_ref())?;

    let seats = plan.seats()?;
    let machines: Vec<Machine> = seats
        .iter()
        .map(|seat| plan.machine(workspace, *seat))
        .collect();
    let switch = plan.run_directory.join(serve::SWITCH);
    let (running, stopped) = prepare::running_and_stopped(&machines)?;
    recover::check_recoverable(workspace, &state, &running, &stopped)?;
    let Provider::Qemu(qemu) = &config.provider;
    checks::memory(stopped.len(), qemu.memory_mib, probe.accelerator)?;
    let disk_gib = |machine: &Machine| -> u64 {
        config
            .node_groups
            .state_disk_size_gb(machine.seat().role())
            .into()
    };
    let disks: Vec<_> = stopped
        .iter()
        .map(|machine| (machine.state_disk(), disk_gib(machine)))
        .collect();
    checks::disk_space(workspace.root(), &disks)?;
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
    let state = prepare::prepare(workspace, &config, state, plan, &stopped).await?;
    prepare::resume_paused(&running).await?;
    let shape = |machine: &Machine| Shape {
        firmware: firmware.clone(),
        image: image.disk().to_owned(),
        vcpus: qemu.vcpus,
        memory_mib: qemu.memory_mib,
        state_disk_gib: disk_gib(machine),
        accelerator: probe.accelerator,
    };
    let start = |machine: &Machine| {
        terminal.progress(format_args!("starting {}", machine.seat()));
        machine.start(&shape(machine), &switch).map_err(|error| {
            Failure::infrastructure(format!("start {}", machine.seat())).because(error)
        })
    };
    let fresh = state.cluster_values.is_none();
    let (now, later) = in_order(&stopped, seats.len(), probe.accelerator, fresh);
    now.iter().try_for_each(|machine| start(machine))?;
    phases.ended(terminal, "machines", step, "");

    let started: Vec<&Machine> = machines
        .iter()
        .filter(|m| !later.iter().any(|l| l.seat() == m.seat()))
        .collect();
    let up = bring_up(
        workspace,
        terminal,
        &config,
        &state,
        &source,
        &started,
        probe.accelerator,
        restore.as_ref(),
        &mut phases,
    )
    .await?;

    let step = terminal.begin("join to Ready");
    later.iter().try_for_each(|machine| start(machine))?;
    let everyone: Vec<&Machine> = machines.iter().collect();
    tokio::select! {
        ready = wait::for_nodes(&up.client, &everyone, patience(probe.accelerator), terminal) => ready?,
        failure = wait::for_a_halt(&everyone) => return Err(failure),
    }
    phases.ended(
        terminal,
        "join to Ready",
        step,
        &format!("{} nodes", seats.len()),
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
    next_steps(workspace, terminal, arguments, &phases, &source, &config)
}

fn firmware(qemu: &QemuProvider) -> Firmware {
    let debian = Firmware::debian();
    Firmware {
        code: qemu.firmware.clone().unwrap_or(debian.code),
        variables: qemu.nvram.clone().unwrap_or(debian.variables),
    }
}

fn announce(terminal: &Terminal, config: &Config, probe: &Probe, machines: usize) {
    commands::config::tell_without_effect(config, terminal);
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

/// Machines to start now and later. With fewer processors than machines want, emulated ones that wait for a control plane would only
/// slow it down: workers, and before the init every control plane but the first. After it a majority of them has to be there.
fn in_order<'a>(
    stopped: &[&'a Machine],
    machines: usize,
    accelerator: Accelerator,
    fresh: bool,
) -> (Vec<&'a Machine>, Vec<&'a Machine>) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let staggered = accelerator.is_emulated() && processors < 2 * machines;
    stopped.iter().copied().partition(|machine| {
        let seat = machine.seat();
        let waited_for = seat.role() == Role::ControlPlane && (!fresh || seat.index() == 0);
        !staggered || waited_for
    })
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
    restore: Option<&Restore>,
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
        restore,
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
        failure = wait::for_a_halt(machines) => return Err(failure),
        failure = recover::recover_who_waits(workspace, config, state, machines, terminal) => return Err(failure),
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
        let late = step.elapsed() > deadline;
        let left = deadline.saturating_sub(step.elapsed());
        let targets =
            wait::for_an_answer(left, terminal, "the list of the cluster's nodes", || {
                commands::verify::every_node(workspace)
            })
            .await?;
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
        if waiting.is_empty() || late {
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
    arguments: &UpArguments,
    phases: &Phases,
    source: &Source,
    config: &Config,
) -> Result<(), Failure> {
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
    commands::tell_kubeconfig(workspace, terminal, arguments.merge_kubeconfig)?;
    terminal.line(format_args!("  {} get nodes -o wide", kubectl.display()));
    terminal.line(format_args!(
        "  constellation{place} verify        # what every node runs, proved anew"
    ));
    terminal.line(format_args!(
        "  constellation{place} mini down     # removes everything but the config"
    ));
    Ok(())
}
