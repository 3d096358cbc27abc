//! Drives the machine of [`cluster::plan`]: performs its steps on this host and tells it how they ended.

use std::sync::Arc;

use cluster::plan::{
    AwaitingMark, Building, Complete, DEADLINE, Failed, Marked, Next, NotRunning, Step,
};
use keys::ClusterId;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

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
    /// The plan waits for steps that nobody performs.
    #[error("no step runs, and not all are done")]
    Idle,
    /// It takes too long.
    #[error("not a member after {} minutes", DEADLINE.as_secs() / 60)]
    Deadline,
}

/// Takes the machine from the lock to a member. On an error no step runs any more, but for a thread that sets the disk's key.
pub async fn drive(
    machine: &MeasuredMachine,
    cluster_id: &ClusterId,
    awaiting: AwaitingMark,
    steps: Arc<dyn Steps>,
    log: &Log,
) -> Result<Complete, (Failed, DriveError)> {
    log.progress("mark", "extend PCR 15 with the cluster ID");
    let pcr15 = match machine.extend_mark(cluster_id).await {
        Ok(pcr15) => pcr15,
        Err(error) => return Err((awaiting.failed(), DriveError::Mark(error))),
    };
    let (building, marked, ready) = awaiting
        .read_back(&pcr15)
        .map_err(|failed| (failed, DriveError::ForeignMark))?;
    let mut running = JoinSet::new();
    let built = build(building, Arc::new(marked), ready, steps, log, &mut running).await;
    // a step that only was told to stop could still reach the disk after its reset
    running.shutdown().await;
    built
}

async fn build(
    mut building: Building,
    marked: Arc<Marked>,
    mut ready: Vec<Step>,
    steps: Arc<dyn Steps>,
    log: &Log,
    running: &mut JoinSet<(Step, Result<(), StepError>)>,
) -> Result<Complete, (Failed, DriveError)> {
    let end = Instant::now() + DEADLINE;
    loop {
        for step in ready.drain(..) {
            log.progress(step.title(), "begun");
            let (steps, marked) = (Arc::clone(&steps), Arc::clone(&marked));
            running.spawn(async move { (step, steps.perform(step, &marked).await) });
        }
        let ended = match tokio::time::timeout_at(end, running.join_next()).await {
            Ok(Some(Ok(ended))) => Ok(ended),
            Ok(Some(Err(lost))) => Err(DriveError::Lost(lost)),
            Ok(None) => Err(DriveError::Idle),
            Err(_) => Err(DriveError::Deadline),
        };
        let step = match ended {
            Ok((step, Ok(()))) => step,
            Ok((step, Err(source))) => {
                return Err((building.failed(), DriveError::Step { step, source }));
            }
            Err(error) => return Err((building.failed(), error)),
        };
        log.progress(step.title(), "done");
        match building
            .done(step)
            .map_err(|(failed, error)| (failed, DriveError::Order(error)))?
        {
            Next::Building(next, more) => (building, ready) = (next, more),
            Next::Complete(complete) => return Ok(complete),
        }
    }
}
