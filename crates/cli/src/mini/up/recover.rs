//! Control planes that stopped after the init: they are started again, and given their disk's key if no other control plane gives it.

use std::time::Duration;

use cloud::qemu::machine::Machine;
use cluster::Role;
use cluster::config::Config;
use cluster::state::State;

use crate::failure::Failure;
use crate::output::Terminal;
use crate::recover::{self, Recovery};
use crate::text::address;
use crate::workspace::Workspace;

const ROUND: Duration = Duration::from_secs(20);

/// Without the master secret nobody gives a stopped control plane its disk, unless enough others run.
pub(super) fn check_recoverable(
    workspace: &Workspace,
    state: &State,
    running: &[&Machine],
    stopped: &[&Machine],
) -> Result<(), Failure> {
    let control_planes = |machines: &[&Machine]| {
        machines
            .iter()
            .filter(|machine| machine.seat().role() == Role::ControlPlane)
            .count()
    };
    let (running, lost) = (control_planes(running), control_planes(stopped));
    let majority = running > (running + lost) / 2;
    let secret = workspace.master_secret_path();
    if state.cluster_values.is_none() || lost == 0 || majority || secret.exists() {
        return Ok(());
    }
    Err(Failure::config(format!(
        "{lost} control plane(s) stopped, and {} is gone, from which the keys of their disks come",
        secret.display()
    ))
    .hint("put the file back; without it the cluster is lost: `constellation mini down`, then `up`, begins anew"))
}

/// Gives every control plane that waits its key, for as long as whoever waits for the API asks. Ends only with a failure.
pub(super) async fn recover_who_waits(
    workspace: &Workspace,
    config: &Config,
    state: &State,
    machines: &[&Machine],
    terminal: &Terminal,
) -> Failure {
    let Some(values) = &state.cluster_values else {
        return std::future::pending().await;
    };
    let master = match workspace.master_secret_if_any() {
        Ok(Some(master)) => master,
        // checked before: then the others give the keys
        Ok(None) => return std::future::pending().await,
        Err(failure) => return failure,
    };
    let addresses: Vec<String> = machines
        .iter()
        .filter(|machine| machine.seat().role() == Role::ControlPlane)
        .map(|machine| address(&machine.seat().host_address().to_string(), recover::PORT))
        .collect();
    let policy = &config.attestation.policy;
    // in rounds: a machine that starts again waits again
    loop {
        let keys = match recover::keys(&master, values) {
            Ok(keys) => keys,
            Err(failure) => return failure,
        };
        let recovery = Recovery::new(policy, keys, values, None, ROUND, terminal);
        let report = recovery.run(&addresses).await;
        // who was not reached, or runs, is the business of whoever waits for the API
        if let Some(failure) = report.refused() {
            return failure;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cloud::qemu::Seat;
    use cluster::state::ClusterValues;
    use keys::{ClusterId, MeasurementSalt};

    use super::*;

    #[test]
    fn stopped_control_planes_need_the_master_secret_or_a_majority() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(directory.path()).unwrap();
        let machine = |role, index| {
            let seat = Seat::new(role, index).unwrap();
            Machine::new(seat, Path::new("workspace"), Path::new("run"))
        };
        let planes: Vec<Machine> = (0..3).map(|n| machine(Role::ControlPlane, n)).collect();
        let [a, b, c] = planes.as_slice() else {
            panic!("three")
        };
        let worker = machine(Role::Worker, 0);
        let fresh = State {
            infrastructure: None,
            cluster_values: None,
        };
        let member = State {
            cluster_values: Some(ClusterValues {
                cluster_id: ClusterId::from_slice(&[1; 32]).unwrap(),
                owner_id: String::new(),
                measurement_salt: MeasurementSalt::from_slice(&[1; 32]).unwrap(),
            }),
            ..fresh.clone()
        };
        check_recoverable(&workspace, &fresh, &[], &[a, &worker]).unwrap();
        check_recoverable(&workspace, &member, &[a], &[&worker]).unwrap();
        check_recoverable(&workspace, &member, &[a, b], &[c]).unwrap();
        for (running, stopped) in [(vec![], vec![a, &worker]), (vec![a], vec![b, c])] {
            let failure = check_recoverable(&workspace, &member, &running, &stopped).unwrap_err();
            assert!(
                failure.to_string().contains("is gone, from which"),
                "{failure}"
            );
        }
        workspace.master_secret().unwrap();
        check_recoverable(&workspace, &member, &[], &[a, b, c]).unwrap();
    }
}
