//! A queue before one service: whoever waits gets a turn in the order they came, and turns are apart by an interval.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

pub(crate) struct Lane {
    interval: Duration,
    /// How many may wait.
    places: Semaphore,
    /// The one who is next holds it. tokio's mutex is fair.
    front: tokio::sync::Mutex<()>,
    /// When the next turn begins at the earliest.
    next: Mutex<Option<Instant>>,
}

impl Lane {
    pub(crate) fn new(interval: Duration, longest: usize) -> Self {
        Self {
            interval,
            places: Semaphore::new(longest.min(Semaphore::MAX_PERMITS)),
            front: tokio::sync::Mutex::new(()),
            next: Mutex::new(None),
        }
    }

    /// Waits for a turn. Whoever gives up while it waits takes no turn from anybody.
    pub(crate) async fn turn(&self) -> Result<(), Full> {
        let _place = self.places.try_acquire().map_err(|_| Full)?;
        let _front = self.front.lock().await;
        // what is next may move while we sleep
        loop {
            let now = Instant::now();
            let begins = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                match *next {
                    Some(begins) if begins > now => begins,
                    _ => {
                        *next = now.checked_add(self.interval);
                        return Ok(());
                    }
                }
            };
            sleep_until(begins).await;
        }
    }

    /// The service asked to be left alone for so long.
    pub(crate) fn hold_off(&self, pause: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now().checked_add(pause));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_and_ten_seconds_apart() {
        let lane = Arc::new(Lane::new(INTERVAL, 16));
        let begun = Instant::now();
        let mut waiting = Vec::new();
        for number in 0..5_u64 {
            let lane = Arc::clone(&lane);
            waiting.push(tokio::spawn(async move {
                lane.turn().await.unwrap();
                (number, begun.elapsed())
            }));
            tokio::task::yield_now().await;
        }
        for (number, turn) in waiting.into_iter().enumerate() {
            let (who, when) = turn.await.unwrap();
            assert_eq!(who, number as u64);
            let expected = INTERVAL * u32::try_from(number).unwrap();
            assert!(
                when >= expected && when < expected + Duration::from_millis(10),
                "{who}: {when:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_no_turn() {
        let lane = Arc::new(Lane::new(INTERVAL, 16));
        let begun = Instant::now();
        lane.turn().await.unwrap();
        let quitter = tokio::time::timeout(Duration::from_secs(3), lane.turn());
        assert!(quitter.await.is_err());
        lane.turn().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_asks_for_a_pause_gets_it_from_whoever_waits() {
        let lane = Arc::new(Lane::new(INTERVAL, 16));
        let begun = Instant::now();
        lane.turn().await.unwrap();
        let waiting = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.turn().await.unwrap() }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        lane.hold_off(Duration::from_secs(30));
        // a shorter one does not end the longer one
        lane.hold_off(Duration::from_secs(1));
        waiting.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 35);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_says_so_at_once() {
        let lane = Arc::new(Lane::new(INTERVAL, 2));
        lane.turn().await.unwrap();
        let turn = || {
            let lane = Arc::clone(&lane);
            tokio::spawn(async move { lane.turn().await })
        };
        let waiting = [turn(), turn()];
        tokio::task::yield_now().await;
        let begun = Instant::now();
        assert_eq!(lane.turn().await, Err(Full));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Ok(()));
        }
    }
}
