//! kill -9 into a control plane that runs, at random moments, while its certificates rotate.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s::control_plane::Service;
use k8s::pki::{Credential, Lifetime};
use kube::Client;
use testkit::kubernetes::ControlPlane;

use super::checker::Checker;
use super::random::Random;
use super::rotation::{Renewals, Rotation};
use super::table::Row;

/// Certificates are renewed some times in a run that takes a minute.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long everything runs at the most before something is killed, and how long that is gone.
const UP: Duration = Duration::from_secs(3);
const DOWN: Duration = Duration::from_secs(1);
/// How long a control plane may take to come back.
const BACK: Duration = Duration::from_secs(120);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store.
    Etcd,
    /// The API.
    ApiServer,
    /// Both in one moment, as in a power cut.
    Both,
    /// Both, and the process that is issuing certificates with them.
    Rotation,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::Both, Self::Rotation];

    const fn words(self) -> &'static str {
        match self {
            Self::Etcd => "kill -9 of etcd",
            Self::ApiServer => "kill -9 of kube-apiserver",
            Self::Both => "kill -9 of etcd and kube-apiserver at once",
            Self::Rotation => "the same, and of the process that issues certificates",
        }
    }

    const fn killed(self) -> &'static [Service] {
        match self {
            Self::Etcd => &[Service::Etcd],
            Self::ApiServer => &[Service::ApiServer],
            Self::Both | Self::Rotation => &[Service::Etcd, Service::ApiServer],
        }
    }
}

/// Kills so often, and waits each time until writes are acknowledged again.
///
/// # Errors
/// When the control plane does not start, or is not to be asked what it holds. What it lost is in the row.
pub async fn run(fault: Fault, runs: u64, seed: u64) -> Result<Row> {
    let mut random = Random::new(seed);
    let lifetime = Lifetime::at_most_a_day(LIFETIME);
    let mut control_plane = ControlPlane::prepare_with(Timestamp::now(), lifetime)?;
    let mut renewals = Renewals::start(&control_plane);
    for service in [Service::Etcd, Service::ApiServer] {
        control_plane.spawn(service)?;
    }
    control_plane.ready().await?;
    let checker = Checker::start(vec![client(&control_plane).await?], random.next());

    let mut row = Row {
        fault: fault.words().to_owned(),
        window: "a running control plane with one member".to_owned(),
        ..Row::default()
    };
    for run in 1..=runs {
        tokio::time::sleep(random.time_below(UP)).await;
        if fault == Fault::Rotation {
            renewals.stop().await?;
            let rotation = Rotation::start(&control_plane.node().paths().pki())?;
            tokio::time::sleep(random.time_below(UP)).await;
            kill(&mut control_plane, fault)?;
            row.losses.extend(rotation.kill(run)?);
            // what a node does before it starts anything
            control_plane.pki().renew(Timestamp::now())?;
            renewals = Renewals::start(&control_plane);
        } else {
            kill(&mut control_plane, fault)?;
        }
        tokio::time::sleep(random.time_below(DOWN)).await;
        for service in fault.killed() {
            control_plane.spawn(*service)?;
        }
        if let Err(error) = acknowledges_again(&checker, &mut control_plane).await {
            row.losses.push(format!("run {run}: {error:#}"));
            break;
        }
        row.runs = run;
    }
    control_plane.ready().await?;
    renewals.stop().await?;
    let verdict = checker.finish().await?;
    row.acknowledged = Some(verdict.acknowledged);
    row.unanswered = verdict.unanswered;
    row.longest_pause = verdict.longest_pause;
    let losses = verdict.violations.iter().map(ToString::to_string);
    row.losses.extend(losses);
    Ok(row)
}

fn kill(control_plane: &mut ControlPlane, fault: Fault) -> Result<()> {
    for service in fault.killed() {
        control_plane.kill(*service)?;
    }
    Ok(())
}

/// A client whose certificate outlives the run.
async fn client(control_plane: &ControlPlane) -> Result<Client> {
    let authorities = control_plane.pki().authorities();
    let admin = authorities.issue_admin("test", Timestamp::now())?;
    let agent = k8s::api::client(&control_plane.agent_kubeconfig()).await?;
    // who the administrator is, the first roles say
    k8s::api::Applier::new(agent)
        .manifest(k8s::addons::ROLES)
        .await?;
    let kubeconfig = control_plane.kubeconfig(Credential::Embedded(&admin));
    Ok(k8s::api::client_from(&kubeconfig).await?)
}

async fn acknowledges_again(checker: &Checker, control_plane: &mut ControlPlane) -> Result<()> {
    let (begun, before) = (Instant::now(), checker.acknowledged());
    // more than were on their way when it was killed
    while checker.acknowledged() < before + 20 {
        control_plane.check_alive()?;
        if begun.elapsed() > BACK {
            anyhow::bail!(
                "no writes are acknowledged {} s after the restart:\n{}",
                BACK.as_secs(),
                control_plane.log(Service::ApiServer)
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The checker itself, against a store that loses a write: it has to say so.
///
/// # Errors
/// When the control plane does not start, or the loss is not found.
pub async fn a_loss_is_found(seed: u64) -> Result<()> {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams};
    let control_plane = ControlPlane::start().await?;
    let client = client(&control_plane).await?;
    let checker = Checker::start(vec![client.clone()], seed);
    while checker.acknowledged() < 100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    maps.delete("object-0-1", &DeleteParams::default())
        .await
        .context("lose a write")?;
    let found = checker.finish().await?.violations;
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    anyhow::ensure!(
        found == ["object-0-1 is gone; it held 1"],
        "the checker found {found:?}"
    );
    Ok(())
}
