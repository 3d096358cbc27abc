//! How long a connection of a listener lives.
//!
//! Whoever finished an exchange may hold its connection and ask for nothing, with or without a first request, and answer every ping. So it
//! ends, whatever it does, unless a handler has heard from it what is worth its time. gRPC's own ages know requests and not their
//! worth, and one that has a grace period lets idle connections live to its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// When a connection ends: known to the connection and to those who handle its requests.
#[derive(Clone, Debug)]
pub(crate) struct Lifetime {
    began: Instant,
    millis: Arc<AtomicU64>,
}

impl Lifetime {
    pub(crate) fn begin(age: Duration) -> Self {
        Self {
            began: Instant::now(),
            millis: Arc::new(AtomicU64::new(millis(age))),
        }
    }

    /// Lets the connection reach an age. Never shortens its life.
    pub(crate) fn extend(&self, age: Duration) {
        self.millis.fetch_max(millis(age), Ordering::AcqRel);
    }

    fn end(&self) -> Instant {
        self.began + Duration::from_millis(self.millis.load(Ordering::Acquire))
    }
}

/// A year is for ever here, and can be added to any moment.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn millis(age: Duration) -> u64 {
    let millis = age.min(LONGEST).as_millis();
    u64::try_from(millis).expect("a year in milliseconds")
}

/// The connection's side: says when it is over.
pub(crate) struct Ending {
    lifetime: Lifetime,
    sleep: Pin<Box<Sleep>>,
}

impl Ending {
    pub(crate) fn of(lifetime: Lifetime) -> Self {
        let sleep = Box::pin(sleep_until(lifetime.end()));
        Self { lifetime, sleep }
    }

    /// Ready at the end of the connection; wakes the task then.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(context).is_ready() {
            let end = self.lifetime.end();
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_at_its_age_or_at_the_one_it_was_given() {
        let lifetime = Lifetime::begin(Duration::from_secs(60));
        let mut ending = Ending::of(lifetime.clone());
        let mut ended = async |within| {
            timeout(
                Duration::from_secs(within),
                poll_fn(|context| ending.poll(context)),
            )
            .await
            .is_ok()
        };
        assert!(!ended(59).await);
        lifetime.extend(Duration::from_secs(100));
        // nobody's life is made shorter
        lifetime.extend(Duration::from_secs(10));
        assert!(!ended(40).await);
        assert!(ended(2).await);
        Lifetime::begin(Duration::MAX).extend(Duration::MAX);
        let mut endless = Ending::of(Lifetime::begin(Duration::MAX));
        let ended = poll_fn(|context| endless.poll(context));
        assert!(timeout(Duration::from_secs(3600), ended).await.is_err());
    }
}
