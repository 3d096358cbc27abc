//! The way to the TPM: one statement at a time, a short queue, and a pause between statements.
//!
//! Whoever can reach the port can ask; what a flood can take is bounded by [`QUEUE`] and [`PACE`], and the rest is told
//! to come back. The node's own use of the TPM (a rejoin, a join service's handshake) waits for one statement at most.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use attest::{Binding, Evidence, Issue, IssueError};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::Instant,
};

/// Requests that may wait.
const QUEUE: usize = 16;
/// Least time from one statement's start to the next one's.
const PACE: Duration = Duration::from_millis(100);

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("{QUEUE} requests are waiting already")]
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
            last: Arc::default(),
            condition,
            counts,
            trouble: Arc::default(),
        }
    }

    /// Evidence over a caller's nonce.
    pub(crate) async fn make(&self, nonce: &[u8; 32]) -> Result<Evidence, EvidenceError> {
        let Ok(_place) = self.queue.try_acquire() else {
            self.counts.turned_away.inc();
            return Err(EvidenceError::Busy);
        };
        self.counts.waiting.inc();
        let outcome = self.in_turn(Binding::for_verification(nonce)).await;
        self.counts.waiting.dec();
        self.note(&outcome);
        outcome
    }

    async fn in_turn(&self, binding: Binding) -> Result<Evidence, EvidenceError> {
        let mut last = self.last.lock().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + PACE).await;
        }
        let begun = Instant::now();
        *last = Some(begun);
        let issuer = self.issuer.clone();
        // A caller that hangs up cancels the wait, not the command: the lock is held by this task, so the next statement could
        // start while the TPM still works on this one. That is harmless: the device itself takes one command at a time.
        let made = tokio::task::spawn_blocking(move || issuer.issue(&binding))
            .await
            .map_err(EvidenceError::Thread)?;
        self.counts.seconds.observe(begun.elapsed().as_secs_f64());
        made.map_err(EvidenceError::Issue)
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use attest::Variant;

    use super::*;

    /// Counts how many statements are made at once, and fails on request.
    #[derive(Default)]
    struct Device {
        now: AtomicUsize,
        most: AtomicUsize,
        broken: std::sync::atomic::AtomicBool,
    }

    impl Issue for Device {
        fn variant(&self) -> Variant {
            Variant::QemuVtpm
        }

        fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
            if self.broken.load(Ordering::SeqCst) {
                return Err(IssueError::new(Variant::QemuVtpm, "TPM_RC_FAILURE"));
            }
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            self.now.fetch_sub(1, Ordering::SeqCst);
            Ok(Evidence::new(Variant::QemuVtpm, binding.as_bytes().to_vec()).unwrap())
        }
    }

    #[tokio::test]
    async fn a_flood_is_served_one_by_one_and_the_rest_is_turned_away() {
        let device = Arc::new(Device::default());
        let evidences = Evidences::new(device.clone(), &runtime::Context::new("test"));
        let begun = Instant::now();
        let calls = (0..QUEUE as u8 * 3).map(|number| {
            let evidences = evidences.clone();
            tokio::spawn(async move { evidences.make(&[number; 32]).await.is_ok() })
        });
        let mut served = 0;
        for call in calls.collect::<Vec<_>>() {
            served += usize::from(call.await.unwrap());
        }
        assert_eq!(served, QUEUE);
        assert_eq!(
            device.most.load(Ordering::SeqCst),
            1,
            "the TPM was asked for two statements at once"
        );
        assert!(
            begun.elapsed() >= PACE * (u32::try_from(QUEUE).unwrap() - 1),
            "statements were not paced"
        );
        assert_eq!(evidences.counts.turned_away.get(), QUEUE as u64 * 2);
        assert!(
            evidences.make(&[0; 32]).await.is_ok(),
            "the queue must be free again"
        );
    }

    #[tokio::test]
    async fn the_evidence_is_over_the_callers_nonce() {
        let evidences = Evidences::new(Arc::new(Device::default()), &runtime::Context::new("test"));
        let evidence = evidences.make(&[7; 32]).await.unwrap();
        assert_eq!(
            evidence.document(),
            Binding::for_verification(&[7; 32]).as_bytes()
        );
    }

    #[tokio::test]
    async fn a_broken_tpm_is_not_ready_until_it_works_again() {
        let device = Arc::new(Device::default());
        let context = runtime::Context::new("test");
        let evidences = Evidences::new(device.clone(), &context);
        device.broken.store(true, Ordering::SeqCst);
        assert!(matches!(
            evidences.make(&[0; 32]).await,
            Err(EvidenceError::Issue(_))
        ));
        let (ready, report) = context.health.report();
        assert!(!ready && report.contains("TPM_RC_FAILURE"), "{report}");
        device.broken.store(false, Ordering::SeqCst);
        assert!(evidences.make(&[0; 32]).await.is_ok());
        assert!(context.health.report().0);
    }
}
