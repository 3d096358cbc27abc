//! Drives the machine of [`cluster::plan`]: performs its actions on this host and tells it how they ended.

use std::sync::Arc;

use cluster::plan::{Action, AwaitingMark, Building, Complete, Marked, Next, NotRunning, Step};
use keys::ClusterId;
use tokio::task::{JoinError, JoinSet};

use super::machine::{MachineError, MeasuredMachine};
use super::steps::StepError;
use crate::progress::Log;

/// What a flow does to the host, step by step. A step may be performed again after it failed half-way.
#[async_trait::async_trait]
pub trait Steps: Send + Sync + 'static {
    /// Performs one step. Whatever handles a key of the cluster asks for the proof that PCR 15 holds its mark.
    async fn perform(&self, step: Step, marked: &Marked) -> Result<(), StepError>;
}

/// The machine can not become a member in this boot.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The register could not be extended.
    #[error("marking this machine as a member of the cluster")]
    Mark(#[source] MachineError),
    /// The register holds something else.
    #[error("PCR 15 does not hold this cluster's mark: something else was measured into it")]
    ForeignMark,
    /// A step failed.
    #[error("{}", .step.title())]
    Step {
        /// Which.
        step: Step,
        /// Why.
        #[source]
        source: StepError,
    },
    /// A step panicked.
    #[error("a step did not end")]
    Lost(#[source] JoinError),
    /// A step that does not run ended.
    #[error("the order of steps")]
    Order(#[source] NotRunning),
}

/// Takes the machine from the lock to a member. On an error nothing runs any more, and the caller resets the disk and reboots.
pub async fn drive(
    machine: &MeasuredMachine,
    cluster_id: &ClusterId,
    awaiting: AwaitingMark,
    steps: Arc<dyn Steps>,
    log: &Log,
) -> Result<Complete, DriveError> {
    log.progress("mark", "extend PCR 15 with the cluster ID");
    let pcr15 = match machine.extend_mark(cluster_id).await {
        Ok(pcr15) => pcr15,
        Err(error) => {
            awaiting.failed();
            return Err(DriveError::Mark(error));
        }
    };
    let (building, marked, actions) = awaiting
        .read_back(&pcr15)
        .map_err(|_| DriveError::ForeignMark)?;
    build(building, Arc::new(marked), actions, steps, log).await
}

async fn build(
    mut building: Building,
    marked: Arc<Marked>,
    mut actions: Vec<Action>,
    steps: Arc<dyn Steps>,
    log: &Log,
) -> Result<Complete, DriveError> {
    // dropping the set stops what still runs
    let mut running = JoinSet::new();
    loop {
        for action in actions.drain(..) {
            if let Action::Perform(step) = action {
                log.progress(step.title(), "begun");
                let (steps, marked) = (Arc::clone(&steps), Arc::clone(&marked));
                running.spawn(async move { (step, steps.perform(step, &marked).await) });
            }
        }
        let Some(ended) = running.join_next().await else {
            building.failed();
            return Err(DriveError::ForeignMark);
        };
        let (step, ended) = ended.map_err(DriveError::Lost)?;
        if let Err(source) = ended {
            building.failed();
            return Err(DriveError::Step { step, source });
        }
        log.progress(step.title(), "done");
        match building.done(step).map_err(DriveError::Order)? {
            Next::Building(next, more) => (building, actions) = (next, more),
            Next::Complete(complete) => return Ok(complete),
        }
    }
}
