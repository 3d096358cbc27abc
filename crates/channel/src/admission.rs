//! Which connections a listener keeps: bounded in all, and bounded per source.
//!
//! Three bounds, each where its cost begins. An open socket costs a descriptor: it counts as a connection. A peer that said hello
//! is about to cost a statement of the device and room for its evidence: it waits for one of a few slots, first of its source's and then
//! of the listener's; both queues are in order. And a source has a share of what is unfinished, so that one address is never all of it.
//!
//! What has not said hello is worth the least. The oldest such connection of a source makes room for the newest of the same source
//! when the share is used up, and that of the source with the most of them makes room for anybody when the listener is full. A flood
//! of connections that never finish, from however many addresses, then costs descriptors, and honest peers, also behind the
//! same address, still get through. Where all of a source's share have said hello, the newest goes. Of finished connections the newest goes
//! where its source has its share of them; all end at an age ([`crate::lifetime`]).

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What a listener gives a handshake on its way; nothing where there is no listener.
#[derive(Clone, Default)]
pub(crate) struct Admission(Option<Arc<Share>>);

/// One handshake's share of the bounds. Held by work on blocking threads too: it goes on when the connection is gone, and must
/// still count.
struct Share {
    place: Place,
    slots: Arc<Semaphore>,
    slot: OnceLock<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Admission {
    pub(crate) fn new(place: Place, slots: Arc<Semaphore>) -> Self {
        Self(Some(Arc::new(Share {
            place,
            slots,
            slot: OnceLock::new(),
        })))
    }

    /// The peer has said hello: from here on the handshake keeps its place, and waits for a slot. Does not return if its place was
    /// given to another one already, so no work begins that nobody counts.
    pub(crate) async fn spoke(&self) {
        let Some(share) = &self.0 else { return };
        if share.place.turn.taken.swap(true, Ordering::AcqRel) {
            std::future::pending().await
        }
        // its source's first: one source is never all of the queue for the listener's
        let own = acquire(&share.place.slots).await;
        let slot = acquire(&share.slots).await;
        // said once in an exchange
        let _first = share.slot.set((own, slot));
    }

    /// Returns when the handshake has to make room for another one.
    pub(crate) async fn evicted(&self) {
        match &self.0 {
            Some(share) => share.place.turn.evicted.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for one of a bounded number.
pub(crate) async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_owned()
        .await
        .expect("nobody closes this semaphore")
}

/// How many handshakes of a source are kept for each one that work is begun for.
const QUEUE: usize = 4;

/// The unfinished handshakes of one listener.
#[derive(Clone, Default)]
pub(crate) struct Unfinished {
    by_source: Arc<Mutex<HashMap<Source, OfSource>>>,
}

/// The unfinished handshakes of one source.
struct OfSource {
    turns: VecDeque<Arc<Turn>>,
    /// For the work; tokio's semaphores are fair.
    slots: Arc<Semaphore>,
}

/// What a handshake and its listener agree on.
#[derive(Default)]
struct Turn {
    /// Set once, by the handshake that said hello or by the listener that ends it.
    taken: AtomicBool,
    evicted: Notify,
}

impl Turn {
    fn is_silent(&self) -> bool {
        !self.taken.load(Ordering::Acquire)
    }
}

/// An unfinished handshake among those of its source, until it is dropped.
pub(crate) struct Place {
    unfinished: Unfinished,
    source: Source,
    turn: Arc<Turn>,
    slots: Arc<Semaphore>,
}

impl Unfinished {
    /// Takes a handshake in. Work is done for `bound` of a source at once; if there are [`QUEUE`] times as many already, the oldest
    /// silent one ends; nothing, if there is no such one.
    pub(crate) fn enter(&self, source: Source, bound: usize) -> Option<Place> {
        let bound = bound.max(1);
        let mut by_source = lock(&self.by_source);
        let of_source = by_source.entry(source).or_insert_with(|| OfSource {
            turns: VecDeque::new(),
            slots: Arc::new(Semaphore::new(bound)),
        });
        let turns = &mut of_source.turns;
        if turns.len() >= QUEUE * bound && !evict_oldest_silent(turns) {
            return None;
        }
        let turn = Arc::<Turn>::default();
        turns.push_back(Arc::clone(&turn));
        Some(Place {
            unfinished: self.clone(),
            source,
            turn,
            slots: Arc::clone(&of_source.slots),
        })
    }

    /// Ends the oldest silent handshake of the source that has the most of them, if there is one.
    pub(crate) fn make_room(&self) {
        let mut by_source = lock(&self.by_source);
        let silent = |of: &OfSource| of.turns.iter().filter(|t| t.is_silent()).count();
        if let Some(most) = by_source.values_mut().max_by_key(|of| silent(of)) {
            evict_oldest_silent(&mut most.turns);
        }
    }
}

/// Whether there was one that could be evicted.
fn evict_oldest_silent(turns: &mut VecDeque<Arc<Turn>>) -> bool {
    let silent = turns
        .iter()
        .position(|turn| !turn.taken.swap(true, Ordering::AcqRel));
    if let Some(evicted) = silent.and_then(|at| turns.remove(at)) {
        evicted.evicted.notify_one();
    }
    silent.is_some()
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_source = lock(&self.unfinished.by_source);
        if let Some(OfSource { turns, .. }) = by_source.get_mut(&self.source) {
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
    use std::time::Duration;

    use tokio::time::timeout;

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
                .flat_map(|of| &of.turns)
                .any(|turn| Arc::ptr_eq(turn, &place.turn))
    }

    #[test]
    fn the_oldest_silent_handshake_of_a_full_source_makes_room() {
        let unfinished = Unfinished::default();
        let (flood, honest) = (source("10.0.0.1:1"), source("10.0.0.2:1"));
        let enter = |from| unfinished.enter(from, 1);
        let says_hello = |place: &Place| place.turn.taken.store(true, Ordering::Relaxed);

        let first = enter(honest).unwrap();
        let spoke: Vec<Place> = (1..QUEUE).map(|_| enter(flood).unwrap()).collect();
        spoke.iter().for_each(says_hello);
        let silent = enter(flood).unwrap();
        let next = enter(flood).expect("in the place of the silent one");
        assert!(is_evicted(&silent) && !spoke.iter().any(is_evicted) && !is_evicted(&first));
        says_hello(&next);
        assert!(enter(flood).is_none(), "all of them have said hello");
        assert!(!spoke.iter().any(is_evicted) && !is_evicted(&next));
        assert!(enter(honest).is_some(), "another source has its own bound");

        // The one that was evicted is not counted a second time when it is gone.
        drop(silent);
        assert!(enter(flood).is_none());
        drop(spoke);
        let last = enter(flood).expect("a place is free");
        drop((first, next, last));
        assert!(lock(&unfinished.by_source).is_empty());
    }

    /// Whoever comes again and again is no sooner served than who came once.
    #[tokio::test]
    async fn hellos_of_one_source_are_served_in_their_order_and_only_so_many_at_once() {
        let unfinished = Unfinished::default();
        let slots = Arc::new(Semaphore::new(8));
        let from = source("10.0.0.1:1");
        let enter = |from| {
            let place = unfinished.enter(from, 1).unwrap();
            Admission::new(place, Arc::clone(&slots))
        };
        let (served, patient, again) = (enter(from), enter(from), enter(from));
        served.spoke().await;
        let (mut second, mut third) = (Box::pin(patient.spoke()), Box::pin(again.spoke()));
        assert!(timeout(Duration::ZERO, &mut second).await.is_err());
        assert!(timeout(Duration::ZERO, &mut third).await.is_err());
        let other = enter(source("10.0.0.2:1"));
        other.spoke().await;
        drop(served);
        assert!(timeout(Duration::ZERO, &mut third).await.is_err());
        timeout(Duration::ZERO, &mut second)
            .await
            .expect("it was first");
        assert!(timeout(Duration::ZERO, &mut third).await.is_err());
        drop(second);
        drop(patient);
        third.await;
    }

    #[tokio::test]
    async fn a_handshake_that_was_evicted_begins_no_work() {
        let unfinished = Unfinished::default();
        let slots = Arc::new(Semaphore::new(2));
        let from = source("10.0.0.1:1");
        let enter = || {
            let place = unfinished.enter(from, 1).unwrap();
            Admission::new(place, Arc::clone(&slots))
        };
        let evicted = enter();
        let stays = enter();
        unfinished.make_room();
        evicted.evicted().await;
        let spoke = tokio::select! {
            biased;
            () = evicted.spoke() => true,
            () = stays.spoke() => false,
        };
        assert!(!spoke);
    }

    #[tokio::test]
    async fn who_says_hello_waits_for_a_slot_and_who_does_not_has_none() {
        let unfinished = Unfinished::default();
        let slots = Arc::new(Semaphore::new(1));
        let enter = |from| {
            Admission::new(
                unfinished.enter(source(from), 8).unwrap(),
                Arc::clone(&slots),
            )
        };
        let _silent = enter("10.0.0.1:1");
        let (first, second) = (enter("10.0.0.2:1"), enter("10.0.0.3:1"));
        first.spoke().await;
        let waiting = second.spoke();
        tokio::pin!(waiting);
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        // work on another thread still counts
        let at_work = first.clone();
        drop(first);
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        drop(at_work);
        waiting.await;
    }

    #[test]
    fn room_is_made_by_the_source_that_is_silent_most_often() {
        let unfinished = Unfinished::default();
        let enter = |from| unfinished.enter(source(from), 8).unwrap();
        let one = enter("10.0.0.1:1");
        let spoke: Vec<_> = (0..3).map(|_| enter("10.0.0.2:1")).collect();
        for place in &spoke {
            place.turn.taken.store(true, Ordering::Relaxed);
        }
        let (older, newer) = (enter("10.0.0.3:1"), enter("10.0.0.3:1"));
        unfinished.make_room();
        assert!(is_evicted(&older) && !is_evicted(&newer) && !is_evicted(&one));
        unfinished.make_room();
        unfinished.make_room();
        assert!(is_evicted(&newer) && is_evicted(&one));
        // nobody is left who has not said hello
        unfinished.make_room();
        assert!(!spoke.iter().any(is_evicted));
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
