//! Which connections a listener keeps: bounded in all, and bounded per source.
//!
//! The bounds in all are semaphores that are acquired before `accept`, so what is over them waits in the kernel's queue. The
//! bounds per source keep one address from holding all of that. Of unfinished handshakes the oldest one that has not even said
//! hello makes room for the newest; where all have, work was begun for each of them and the newest goes. A flood of
//! connections that never finish then costs one source's share, and honest peers, also behind the same address, still get
//! through. Of finished connections the newest goes.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, OwnedSemaphorePermit};

/// What a listener gives a handshake on its way; nothing where there is no listener.
#[derive(Clone, Default)]
pub(crate) struct Admission(Option<Arc<Slot>>);

/// One handshake's share of the bounds. Held by work on blocking threads too: it goes on when the connection is gone, and must
/// still count.
struct Slot {
    place: Place,
    _in_all: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(place: Place, in_all: OwnedSemaphorePermit) -> Self {
        Self(Some(Arc::new(Slot {
            place,
            _in_all: in_all,
        })))
    }

    /// The peer has shown more than an open socket: from here on the handshake keeps its place. Does not return if that was
    /// given to another one already, so no work begins that nobody counts.
    pub(crate) async fn spoke(&self) {
        if let Some(slot) = &self.0
            && slot.place.turn.taken.swap(true, Ordering::AcqRel)
        {
            std::future::pending().await
        }
    }

    /// Returns when the handshake has to make room for another one.
    pub(crate) async fn evicted(&self) {
        match &self.0 {
            Some(slot) => slot.place.turn.evicted.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// The unfinished handshakes of one listener.
#[derive(Clone, Default)]
pub(crate) struct Unfinished {
    by_source: Arc<Mutex<HashMap<Source, VecDeque<Arc<Turn>>>>>,
}

/// What a handshake and its listener agree on.
#[derive(Default)]
struct Turn {
    /// Set once, by the handshake that said hello or by the listener that ends it.
    taken: AtomicBool,
    evicted: Notify,
}

/// An unfinished handshake among those of its source, until it is dropped.
pub(crate) struct Place {
    unfinished: Unfinished,
    source: Source,
    turn: Arc<Turn>,
}

impl Unfinished {
    /// Takes a handshake in. If there are `bound` of the same source already, the oldest silent one ends; nothing, if there is
    /// no such one.
    pub(crate) fn enter(&self, source: Source, bound: usize) -> Option<Place> {
        let mut by_source = lock(&self.by_source);
        let turns = by_source.entry(source).or_default();
        if turns.len() >= bound.max(1) {
            let silent = turns
                .iter()
                .position(|turn| !turn.taken.swap(true, Ordering::AcqRel))?;
            if let Some(evicted) = turns.remove(silent) {
                evicted.evicted.notify_one();
            }
        }
        let turn = Arc::<Turn>::default();
        turns.push_back(Arc::clone(&turn));
        Some(Place {
            unfinished: self.clone(),
            source,
            turn,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_source = lock(&self.unfinished.by_source);
        if let Some(turns) = by_source.get_mut(&self.source) {
            turns.retain(|turn| !Arc::ptr_eq(turn, &self.turn));
            if turns.is_empty() {
                by_source.remove(&self.source);
            }
        }
    }
}

/// The finished connections of one listener.
#[derive(Clone, Default)]
pub(crate) struct Finished {
    by_source: Arc<Mutex<HashMap<Source, usize>>>,
}

/// A finished connection among those of its source, until it is dropped.
pub(crate) struct Seat {
    finished: Finished,
    source: Source,
}

impl Finished {
    /// Takes a connection in, unless there are `bound` of the same source already.
    pub(crate) fn enter(&self, source: Source, bound: usize) -> Option<Seat> {
        let mut by_source = lock(&self.by_source);
        let count = by_source.entry(source).or_default();
        if *count >= bound.max(1) {
            return None;
        }
        *count += 1;
        Some(Seat {
            finished: self.clone(),
            source,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_source = lock(&self.finished.by_source);
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// An IPv4 address, or the /64 an IPv6 address is from: a host has all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64, bool);

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(ip.to_bits()), false),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments().map(u64::from);
                Self(a << 48 | b << 32 | c << 16 | d, true)
            }
        }
    }
}

fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change above is complete or not begun wherever it could panic.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn sources_are_addresses_or_networks_of_64_bits() {
        assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:2"));
        assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(
            source("[2001:db8:0:1::1]:1"),
            source("[2001:db8:0:1:ffff::9]:1")
        );
        assert_ne!(source("[2001:db8:0:1::1]:1"), source("[2001:db8:0:2::1]:1"));
        assert_ne!(source("[::a00:1:0:0:0:0]:1"), source("10.0.0.1:1"));
    }

    fn is_evicted(place: &Place) -> bool {
        // Taken by nobody but the listener: none of these says hello after it was evicted.
        place.turn.taken.load(Ordering::Relaxed)
            && !lock(&place.unfinished.by_source)
                .values()
                .flatten()
                .any(|turn| Arc::ptr_eq(turn, &place.turn))
    }

    #[test]
    fn the_oldest_silent_handshake_of_a_full_source_makes_room() {
        let unfinished = Unfinished::default();
        let (flood, honest) = (source("10.0.0.1:1"), source("10.0.0.2:1"));
        let enter = |from| unfinished.enter(from, 2);
        let says_hello = |place: &Place| place.turn.taken.store(true, Ordering::Relaxed);

        let first = enter(honest).unwrap();
        let spoke = enter(flood).unwrap();
        says_hello(&spoke);
        let silent = enter(flood).unwrap();
        let next = enter(flood).expect("in the place of the silent one");
        assert!(is_evicted(&silent) && !is_evicted(&spoke) && !is_evicted(&first));
        says_hello(&next);
        assert!(enter(flood).is_none(), "work was begun for both");
        assert!(!is_evicted(&spoke) && !is_evicted(&next));
        assert!(enter(honest).is_some(), "another source has its own bound");

        // The one that was evicted is not counted a second time when it is gone.
        drop(silent);
        assert!(enter(flood).is_none());
        drop(spoke);
        let last = enter(flood).expect("a place is free");
        drop((first, next, last));
        assert!(lock(&unfinished.by_source).is_empty());
    }

    #[tokio::test]
    async fn a_handshake_that_was_evicted_begins_no_work() {
        let unfinished = Unfinished::default();
        let in_all = Arc::new(tokio::sync::Semaphore::new(2));
        let from = source("10.0.0.1:1");
        let enter = || {
            let place = unfinished.enter(from, 1).unwrap();
            Admission::new(place, Arc::clone(&in_all).try_acquire_owned().unwrap())
        };
        let evicted = enter();
        let stays = enter();
        evicted.evicted().await;
        let spoke = tokio::select! {
            biased;
            () = evicted.spoke() => true,
            () = stays.spoke() => false,
        };
        assert!(!spoke);
    }

    #[test]
    fn finished_connections_count_until_they_are_dropped() {
        let finished = Finished::default();
        let (one, other) = (source("10.0.0.1:1"), source("10.0.0.2:1"));
        let seats = [finished.enter(one, 2), finished.enter(one, 2)];
        assert!(seats.iter().all(Option::is_some));
        assert!(finished.enter(one, 2).is_none());
        assert!(finished.enter(other, 2).is_some());
        drop(seats);
        assert!(lock(&finished.by_source).is_empty());
    }
}
