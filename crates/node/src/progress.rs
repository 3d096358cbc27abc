//! What happened in an init, from its first word on: for the caller who waits, and for the same caller who comes back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Something that happened.
#[derive(Clone)]
pub enum Event {
    /// A step began, went on or ended.
    Progress {
        /// Which step.
        phase: String,
        /// What about it.
        detail: String,
        /// How long after the beginning.
        elapsed: Duration,
    },
    /// The cluster is there.
    Success {
        /// The administrator's kubeconfig.
        kubeconfig: Vec<u8>,
        /// Which cluster.
        cluster_id: Vec<u8>,
    },
    /// The machine gave up.
    Failure {
        /// Why, with every cause.
        error: String,
        /// The journal.
        journal: Vec<u8>,
    },
}

impl Event {
    /// Nothing comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Success { .. } | Self::Failure { .. })
    }
}

/// All events of an init. Any number of readers, each from the beginning.
pub struct Log {
    begun: Instant,
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

impl Log {
    /// Begins a log, and its time.
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            events: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Adds that a step went on.
    pub fn progress(&self, phase: &str, detail: impl Into<String>) {
        let detail = detail.into();
        tracing::info!(
            phase,
            detail,
            elapsed_ms = self.elapsed().as_millis(),
            "progress"
        );
        self.add(Event::Progress {
            phase: phase.to_owned(),
            detail,
            elapsed: self.elapsed(),
        });
    }

    /// Adds an event. After a last one nothing is added.
    pub fn add(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if !events.last().is_some_and(Event::is_last) {
            events.push(event);
            self.count.send_replace(events.len());
        }
    }

    /// The event at this place, when it is there. After the last one: `None`.
    pub async fn at(&self, place: usize) -> Option<Event> {
        let mut count = self.count.subscribe();
        loop {
            {
                let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(event) = events.get(place) {
                    return Some(event.clone());
                }
                if events.last().is_some_and(Event::is_last) {
                    return None;
                }
            }
            count.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn phases(log: &Log) -> Vec<String> {
        let mut phases = Vec::new();
        let mut place = 0;
        while let Some(event) = log.at(place).await {
            place += 1;
            match event {
                Event::Progress { phase, .. } => phases.push(phase),
                Event::Success { .. } => phases.push("success".to_owned()),
                Event::Failure { .. } => phases.push("failure".to_owned()),
            }
        }
        phases
    }

    #[tokio::test]
    async fn who_comes_back_reads_everything_from_the_beginning() {
        let log = Arc::new(Log::begin());
        log.progress("one", "");
        let early = tokio::spawn({
            let log = Arc::clone(&log);
            async move { phases(&log).await }
        });
        tokio::task::yield_now().await;
        log.progress("two", "");
        log.add(Event::Success {
            kubeconfig: Vec::new(),
            cluster_id: Vec::new(),
        });
        log.progress("three", "");
        let expected = ["one", "two", "success"];
        assert_eq!(early.await.unwrap(), expected);
        assert_eq!(phases(&log).await, expected);
    }
}
