//! Everything up to the start of the first machine, so that an interrupted run can be taken up again.

use cloud::qemu::balancer;
use cloud::qemu::machine::Machine;
use cluster::Role;
use cluster::config::Config;
use cluster::state::{Infrastructure, InitSecret, State};

use crate::failure::Failure;
use crate::mini::{Plan, serve, server};
use crate::workspace::{self, Workspace};

use super::wait::is_paused;

/// bcrypt's least cost: the secret is random and long, guessing is out of the question at any cost.
const BCRYPT_COST: u32 = 4;

/// The machines that run and those that have to be started.
pub(super) fn running_and_stopped(
    machines: &[Machine],
) -> Result<(Vec<&Machine>, Vec<&Machine>), Failure> {
    let (mut running, mut stopped) = (Vec::new(), Vec::new());
    for machine in machines {
        let found = machine.handle().find().map_err(|error| {
            Failure::infrastructure(format!("look for {}", machine.seat())).because(error)
        })?;
        match found {
            Some(_) => running.push(machine),
            None => stopped.push(machine),
        }
    }
    Ok((running, stopped))
}

/// Lets machines go on that an earlier run left paused, such as when the host's disk was full.
pub(super) async fn resume_paused(machines: &[&Machine]) -> Result<(), Failure> {
    for machine in machines {
        // a control socket has one user at a time: no answer says nothing about the machine
        let Ok(mut control) = machine.control().await else {
            continue;
        };
        if control
            .status()
            .await
            .is_ok_and(|status| is_paused(&status))
        {
            control.resume().await.map_err(|error| {
                Failure::infrastructure(format!("let {} go on", machine.seat())).because(error)
            })?;
        }
    }
    Ok(())
}

/// Everything that must be there before a machine starts. Ordered so that an interruption leaves what `up` and `down`
/// understand: the directories, then the state with the secret, then the plan, then the process.
pub(super) async fn prepare(
    workspace: &Workspace,
    config: &Config,
    state: State,
    mut plan: Plan,
    stopped: &[&Machine],
) -> Result<State, Failure> {
    workspace.make_mini()?;
    workspace::make_run_directory(&plan.run_directory)?;
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
    serve::start(workspace, &plan.run_directory).await?;
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
        cluster_endpoint: if plan.has_balancer() {
            balancer::ADDRESS.to_string()
        } else {
            first.host_address().to_string()
        },
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
