//! `mini serve`: the background process of a local cluster, and how `up` starts it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloud::qemu::machine::Machine;
use cloud::qemu::metadata::{Facts, Server};
use cloud::qemu::mirror::Mirror;
use cloud::qemu::network::Switch;
use cloud::qemu::{METADATA_PORT, Seat, balancer, hang};
use cluster::Role;
use cluster::metadata::Endpoint;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::kubernetes;
use crate::workspace::{self, Workspace};

use super::{Plan, server};

/// The switch's socket in the run directory.
pub(crate) const SWITCH: &str = "switch";
/// The capture's socket in the run directory.
pub(crate) const CAPTURE: &str = "capture";
/// The process' pid file in `constellation-mini`.
pub(crate) const PID: &str = "serve.pid";
const LOG: &str = "serve.log";
const START_DEADLINE: Duration = Duration::from_secs(15);

/// The process itself: runs until it is told to stop.
pub(crate) async fn run(workspace: &Workspace) -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    // out of the session of whoever typed `up`: its end is not ours. Fails only for one who leads a session already.
    rustix::process::setsid().ok();
    let plan = Plan::read(workspace)?
        .ok_or_else(|| Failure::config("there is no local cluster in this workspace"))?;
    let seats = plan.seats()?;
    let first = seats
        .first()
        .ok_or_else(|| Failure::config("the plan has no machines"))?;
    let machines: Vec<Machine> = seats
        .iter()
        .map(|seat| plan.machine(workspace, *seat))
        .collect();
    let facts = Facts {
        endpoint: Endpoint {
            host: first.cluster_address().to_string(),
            port: kubernetes::PORT,
        },
        init_secret_hash: plan.init_secret_hash.clone(),
        seats,
    };
    let mirror = match &plan.components {
        Some(path) => Some(
            Mirror::open(path)
                .map_err(|error| Failure::config("serve the components").because(error))?,
        ),
        None => None,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, METADATA_PORT));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::infrastructure(format!("listen on {address}")).because(error))?;
    let balancer = balancer_listeners(&plan, &facts.seats).await?;
    let ports = bind(&plan.run_directory.join(SWITCH))?;
    let captures = bind(&plan.run_directory.join(CAPTURE))?;
    let pid = std::process::id().to_string();
    // last: who finds the pid file finds everything else there
    workspace::replace(&workspace.mini().join(PID), pid.as_bytes(), 0o600)?;
    tracing::info!(%address, "serving");
    let switch = Switch::new();
    let ended = tokio::select! {
        ended = Server::new(facts, mirror).serve(listener) => ended.err(),
        ended = switch.clone().serve(ports) => ended.err(),
        ended = switch.serve_captures(captures) => ended.err(),
        never = hang::look_after(&machines) => match never {},
        never = balance(balancer) => match never {},
    };
    let failure = Failure::internal("the background process ended");
    Err(match ended {
        Some(error) => failure.because(error),
        None => failure,
    })
}

/// A load balancer, where there are several control planes.
async fn balancer_listeners(
    plan: &Plan,
    seats: &[Seat],
) -> Result<Vec<(TcpListener, Vec<SocketAddr>)>, Failure> {
    if !plan.has_balancer() {
        return Ok(Vec::new());
    }
    let control_planes: Vec<Seat> = seats
        .iter()
        .copied()
        .filter(|seat| seat.role() == Role::ControlPlane)
        .collect();
    let mut listeners = Vec::new();
    for (port, servers) in balancer::ports(&control_planes) {
        let address = SocketAddr::from((balancer::ADDRESS, port));
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::infrastructure(format!("listen on {address}")).because(error)
        })?;
        listeners.push((listener, servers));
    }
    Ok(listeners)
}

async fn balance(listeners: Vec<(TcpListener, Vec<SocketAddr>)>) -> Infallible {
    let mut serving: JoinSet<Infallible> = listeners
        .into_iter()
        .map(|(listener, servers)| balancer::serve(listener, servers))
        .collect();
    while let Some(ended) = serving.join_next().await {
        match ended {
            Ok(never) => match never {},
            Err(error) => tracing::error!(%error, "a port of the load balancer is served no more"),
        }
    }
    std::future::pending().await
}

fn bind(path: &Path) -> Result<UnixListener, Failure> {
    workspace::remove(path)?;
    let failed =
        |error| Failure::infrastructure(format!("listen on {}", path.display())).because(error);
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// The end of the process' arguments, which tells it from those of other workspaces.
pub(super) fn arguments(workspace: &Workspace) -> Vec<OsString> {
    vec![workspace.root().into(), "mini".into(), "serve".into()]
}

/// Starts the process, if it does not run, and waits until it serves.
pub(crate) async fn start(workspace: &Workspace, run_directory: &Path) -> Result<(), Failure> {
    let handle = server(workspace);
    let find = || {
        handle.find().map_err(|error| {
            Failure::infrastructure("look for the background process").because(error)
        })
    };
    // a logout may have taken the sockets away; machines come back to new ones by themselves
    let has_sockets = [SWITCH, CAPTURE]
        .iter()
        .all(|name| run_directory.join(name).exists());
    if has_sockets && find()?.is_some() {
        return Ok(());
    }
    handle
        .stop()
        .map_err(|error| Failure::infrastructure("stop the background process").because(error))?;
    super::checks::metadata_port()?;
    let log = workspace.mini().join(LOG);
    let failed = |error| Failure::infrastructure("start the background process").because(error);
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(failed)?;
    let exe = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(exe)
        .arg("--workspace")
        .args(arguments(workspace))
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file)
        .spawn()
        .map_err(failed)?;
    let begun = Instant::now();
    while begun.elapsed() < START_DEADLINE {
        if find()?.is_some() {
            return Ok(());
        }
        if let Some(status) = child.try_wait().map_err(failed)? {
            let said = workspace::read_text(&log)?.unwrap_or_default();
            let last = said.lines().last().unwrap_or("it said nothing");
            return Err(Failure::infrastructure(format!(
                "the background process ended ({status}): {last}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(
        Failure::infrastructure("the background process does not start")
            .hint(format!("see {}", log.display())),
    )
}
