//! The life of a process: arguments, logs, `run`, a request to stop, a drain with a deadline.

use std::{future::Future, process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Health, Metrics, logs};

/// How long `run` may take to finish after the process was asked to stop. Below the kubelet's grace period of 30 s.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// What every program gets from its frame.
#[derive(Clone)]
pub struct Context {
    /// Cancelled on SIGTERM or SIGINT: take no new work, finish what is begun, return.
    pub shutdown: CancellationToken,
    /// The readiness conditions.
    pub health: Health,
    /// The metrics registry.
    pub metrics: Metrics,
}

impl Context {
    /// A context of its own, for tests that run a whole program in process.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Self {
            shutdown: CancellationToken::new(),
            health: Health::default(),
            metrics: Metrics::new(program, env!("CARGO_PKG_VERSION")),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("start the async runtime")]
    Runtime(#[source] std::io::Error),
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("still busy {0:?} after the request to stop")]
    Drain(Duration),
}

/// Runs a program: parses `A` from the arguments, sets up logs, calls `run`, waits for it or for a signal.
///
/// Exit code 0 when `run` returns `Ok`, 1 on an error or a missed drain deadline, 2 on wrong arguments (as clap does).
pub fn main<A, F, R>(name: &'static str, run: F) -> ExitCode
where
    A: clap::Parser,
    F: FnOnce(A, Context) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let arguments = A::parse();
    logs::start(name, std::env::var("CONSTELLATION_LOG").ok().as_deref());
    let context = Context::new(name);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ProcessError::Runtime(error).into())
        .and_then(|runtime| {
            let outcome = runtime.block_on(until_done(
                context.clone(),
                run(arguments, context),
                DRAIN_DEADLINE,
            ));
            // Blocking work (a TPM command) cannot be cancelled; do not wait for it for ever.
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        });
    match outcome {
        Ok(()) => {
            tracing::info!(program = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(program = name, error = %crate::chain(error.as_ref()), "failed");
            ExitCode::FAILURE
        }
    }
}

/// Drives `run` to its end; a signal cancels the token and starts the deadline.
async fn until_done(
    context: Context,
    run: impl Future<Output = anyhow::Result<()>>,
    deadline: Duration,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ProcessError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ProcessError::Signals)?;
    tokio::pin!(run);
    tokio::select! {
        outcome = &mut run => return outcome,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = context.shutdown.cancelled() => {}
    }
    tracing::info!("asked to stop, draining");
    context.shutdown.cancel();
    tokio::time::timeout(deadline, run)
        .await
        .map_err(|_| ProcessError::Drain(deadline))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_drains_in_time_ends_well() {
        let context = Context::new("test");
        let token = context.shutdown.clone();
        let run = async move {
            token.cancelled().await;
            Ok(())
        };
        context.shutdown.cancel();
        until_done(context, run, Duration::from_secs(5))
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_does_not_drain_is_given_up() {
        let context = Context::new("test");
        context.shutdown.cancel();
        let error = until_done(context, std::future::pending(), Duration::from_secs(20))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "still busy 20s after the request to stop"
        );
    }

    #[tokio::test]
    async fn the_error_of_run_is_the_error_of_the_process() {
        let run = async { Err(anyhow::anyhow!("no policy")) };
        let error = until_done(Context::new("test"), run, Duration::from_secs(1))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "no policy");
    }
}
