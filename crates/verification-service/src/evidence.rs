//! The way to the TPM: one statement at a time, a short queue, and a pause between statements.
//!
//! Whoever can reach the port can ask; what a flood can take is bounded by [`QUEUE`] and [`PACE`], what one source can take
//! by [`PER_SOURCE`], and the rest is told to come back. The node's own use of the TPM (a rejoin, a join service's handshake) waits for one statement at most.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use attest::{Binding, Evidence, Issue, IssueError};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use runtime::{Shares, Source};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    task::spawn_blocking,
    time::Instant,
};

/// Requests that may wait.
const QUEUE: usize = 16;
/// Those of one source among them.
const PER_SOURCE: usize = 4;
/// Least time from one statement's start to the next one's.
const PACE: Duration = Duration::from_millis(100);

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("too many requests are waiting already")]
    Busy,
    #[error("ask the TPM")]
    Issue(#[source] IssueError),
    #[error("the thread that asks the TPM ended")]
    Thread(#[source] tokio::task::JoinError),
}

/// Makes evidence for whoever asks; clones share the queue.
#[derive(Clone)]
pub(crate) struct Evidences {
    issuer: Arc<dyn Issue>,
    queue: Arc<Semaphore>,
    shares: Shares,
    last: Arc<AsyncMutex<Option<Instant>>>,
    condition: runtime::Condition,
    counts: Counts,
    trouble: Arc<Mutex<Option<String>>>,
}

#[derive(Clone)]
struct Counts {
    made: Counter,
    turned_away: Counter,
    failed: Counter,
    waiting: Gauge,
    seconds: Histogram,
}

/// Counts a request in the gauge of those that wait, until it is dropped.
struct Waiting(Gauge);

impl Waiting {
    fn one_more(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Evidences {
    pub(crate) fn new(issuer: Arc<dyn Issue>, context: &runtime::Context) -> Self {
        let counts = Counts {
            made: Counter::default(),
            turned_away: Counter::default(),
            failed: Counter::default(),
            waiting: Gauge::default(),
            seconds: Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
        };
        let metrics = &context.metrics;
        metrics.register(
            "statements_made",
            "Statements made for callers",
            counts.made.clone(),
        );
        metrics.register(
            "statements_turned_away",
            "Requests refused because too many waited",
            counts.turned_away.clone(),
        );
        metrics.register(
            "statements_failed",
            "Statements the TPM did not make",
            counts.failed.clone(),
        );
        metrics.register(
            "statements_waiting",
            "Requests that wait for the TPM",
            counts.waiting.clone(),
        );
        metrics.register(
            "statement_seconds",
            "Time the TPM took",
            counts.seconds.clone(),
        );
        let condition = context.health.condition("tpm");
        condition.met();
        Self {
            issuer,
            queue: Arc::new(Semaphore::new(QUEUE)),
            shares: Shares::new(PER_SOURCE),
            last: Arc::default(),
            condition,
            counts,
            trouble: Arc::default(),
        }
    }

    /// Evidence over a caller's nonce.
    pub(crate) async fn make(
        &self,
        nonce: &[u8; 32],
        from: Source,
    ) -> Result<Evidence, EvidenceError> {
        let place = Arc::clone(&self.queue).try_acquire_owned();
        let (Ok(place), Some(share)) = (place, self.shares.take(from)) else {
            self.counts.turned_away.inc();
            return Err(EvidenceError::Busy);
        };
        let waiting = Waiting::one_more(&self.counts.waiting);
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + PACE).await;
        }
        let (this, binding) = (self.clone(), Binding::for_verification(nonce));
        // A caller that hangs up from here on stops nothing: the TPM makes the statement to its end. So the turn and the places
        // belong to the thread, and who hangs up a hundred times has them only once.
        let made = spawn_blocking(move || {
            let begun = Instant::now();
            *last = Some(begun);
            let made = this.issuer.issue(&binding).map_err(EvidenceError::Issue);
            this.counts.seconds.observe(begun.elapsed().as_secs_f64());
            this.note(&made);
            drop((last, place, share, waiting));
            made
        });
        made.await.unwrap_or_else(|panicked| {
            let outcome = Err(EvidenceError::Thread(panicked));
            self.note(&outcome);
            outcome
        })
    }

    /// Counts, and keeps readiness true to the last statement. The same trouble is logged once.
    fn note(&self, outcome: &Result<Evidence, EvidenceError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) => {
                self.counts.made.inc();
                self.condition.met();
                *trouble = None;
            }
            Err(error) => {
                self.counts.failed.inc();
                let error = runtime::chain(error).to_string();
                self.condition.missing(error.clone());
                if trouble.as_ref() != Some(&error) {
                    tracing::error!(error, "cannot make evidence");
                    *trouble = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
