//! Which connections a listener keeps: bounded in all, and bounded per source.
//!
//! Three bounds, each where its cost begins. An open socket costs a descriptor: it counts as a connection. A peer that said hello
//! is about to cost a statement of the device and room for its evidence: it waits for one of a few slots, first of its source's and then
//! of the listener's; both queues are in order. And a source has a share of what is unfinished, so that one address is never all of it.
//!
//! What has not said hello is worth the least. The oldest such connection of a source makes room for the newest of the same source
//! when the share is used up, and that of the source with the most of them makes room for anybody when the listener is full. A flood
//! of connections that never finish, from however many addresses, then costs descriptors, and honest peers, also behind the
//! same address, still get through. Where all of a source's share have said hello, the newest goes.
//!
//! A peer that was accepted, and owes nothing but its own verdict, rests: the work for it is over, so slot and place are free. From then
//! on it counts among the finished of its source, and still ends at the deadline. What rests is worth less than what
//! finishes: where a source has its share of both, its oldest that rests makes room for its next, and where there is none, the next
//! goes; when the listener is full and nobody in it is silent, the oldest of the source that has the most of them goes. A peer that was
//! refused keeps its slot, for the two seconds that it has to read that. Of finished connections none makes room; all end at an age
//! ([`crate::lifetime`]).

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

/// One handshake's share of the bounds.
struct Share {
    turn: Arc<Turn>,
    slots: Arc<Semaphore>,
    seats: Seats,
    /// Nothing once the handshake rests.
    work: Mutex<Option<Work>>,
    /// Since it rests, until it is finished.
    seat: Mutex<Option<Seat>>,
}

/// What a handshake counts for while there is work to do for it. Held by work on blocking threads too: it goes on when the connection
/// is gone, and must still count.
#[derive(Clone)]
pub(crate) struct Work(Arc<Working>);

struct Working {
    place: Place,
    slot: OnceLock<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// Where the connections of a source sit when they are finished, or as good as that.
pub(crate) struct Seats {
    pub(crate) finished: Finished,
    pub(crate) source: Source,
    pub(crate) bound: usize,
}

impl Admission {
    pub(crate) fn new(place: Place, slots: Arc<Semaphore>, seats: Seats) -> Self {
        let turn = Arc::clone(&place.turn);
        let slot = OnceLock::new();
        Self(Some(Arc::new(Share {
            turn,
            slots,
            seats,
            work: Mutex::new(Some(Work(Arc::new(Working { place, slot })))),
            seat: Mutex::default(),
        })))
    }

    /// For work that may outlive the handshake.
    pub(crate) fn work(&self) -> Option<Work> {
        self.0.as_ref().and_then(|share| lock(&share.work).clone())
    }

    /// The peer has said hello: from here on the handshake keeps its place, and waits for a slot. Does not return if its place was
    /// given to another one already, so no work begins that nobody counts.
    pub(crate) async fn spoke(&self) {
        let Some(share) = &self.0 else { return };
        let Some(Work(work)) = self.work() else {
            return;
        };
        if share.turn.taken.swap(true, Ordering::AcqRel) {
            std::future::pending().await
        }
        // its source's first: one source is never all of the queue for the listener's
        let own = acquire(&work.place.slots).await;
        let slot = acquire(&share.slots).await;
        // said once in an exchange
        let _first = work.slot.set((own, slot));
    }

    /// Nothing is left but what the peer owes: place and slot are free as soon as no thread works for the handshake any more, and it
    /// counts among the finished of its source. `false` if there are too many of them.
    #[must_use]
    pub(crate) fn rests(&self) -> bool {
        let Some(share) = &self.0 else { return true };
        let Seats {
            finished,
            source,
            bound,
        } = &share.seats;
        let Some(seat) = finished.enter(*source, *bound, &share.turn) else {
            return false;
        };
        *lock(&share.seat) = Some(seat);
        drop(lock(&share.work).take());
        true
    }

    /// The seat of a handshake that is finished; nothing if it did not rest, or made room for another one.
    pub(crate) fn finish(&self) -> Option<Seat> {
        let seat = lock(&self.0.as_ref()?.seat).take()?;
        seat.settle()
    }

    /// Returns when the handshake has to make room for another one.
    pub(crate) async fn evicted(&self) {
        match &self.0 {
            Some(share) => share.turn.evicted.notified().await,
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

    /// Ends the oldest silent handshake of the source that has the most of them. Whether there was one.
    pub(crate) fn make_room(&self) -> bool {
        let mut by_source = lock(&self.by_source);
        let silent = |of: &OfSource| of.turns.iter().filter(|t| t.is_silent()).count();
        by_source
            .values_mut()
            .max_by_key(|of| silent(of))
            .is_some_and(|most| evict_oldest_silent(&mut most.turns))
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

/// The connections of one listener that are finished, or rest.
#[derive(Clone, Default)]
pub(crate) struct Finished {
    by_source: Arc<Mutex<HashMap<Source, Seated>>>,
}

/// Those of one source.
#[derive(Default)]
struct Seated {
    finished: usize,
    resting: VecDeque<Arc<Turn>>,
}

/// A connection among the finished of its source, until it is dropped.
pub(crate) struct Seat {
    all: Finished,
    source: Source,
    turn: Arc<Turn>,
    settled: bool,
}

impl Finished {
    /// Takes in a handshake that rests. If there are `bound` of its source already, the oldest that rests ends; nothing, if there is no
    /// such one.
    fn enter(&self, source: Source, bound: usize, turn: &Arc<Turn>) -> Option<Seat> {
        let mut by_source = lock(&self.by_source);
        let seated = by_source.entry(source).or_default();
        if seated.finished + seated.resting.len() >= bound.max(1) && !seated.evict_oldest_resting()
        {
            return None;
        }
        seated.resting.push_back(Arc::clone(turn));
        Some(Seat {
            all: self.clone(),
            source,
            turn: Arc::clone(turn),
            settled: false,
        })
    }

    /// Ends the oldest handshake that rests of the source that has the most of them, if there is one.
    pub(crate) fn make_room(&self) {
        let mut by_source = lock(&self.by_source);
        if let Some(most) = by_source.values_mut().max_by_key(|of| of.resting.len()) {
            most.evict_oldest_resting();
        }
    }
}

impl Seated {
    /// Whether there was one that could be evicted.
    fn evict_oldest_resting(&mut self) -> bool {
        let evicted = self.resting.pop_front();
        if let Some(turn) = &evicted {
            turn.evicted.notify_one();
        }
        evicted.is_some()
    }

    /// Whether it rested, and was not evicted.
    fn remove(&mut self, turn: &Arc<Turn>) -> bool {
        let at = self.resting.iter().position(|one| Arc::ptr_eq(one, turn));
        at.is_some_and(|at| self.resting.remove(at).is_some())
    }
}

impl Seat {
    /// The handshake is finished, and makes room for nobody any more; nothing if it did already.
    fn settle(mut self) -> Option<Self> {
        if let Some(seated) = lock(&self.all.by_source).get_mut(&self.source)
            && seated.remove(&self.turn)
        {
            seated.finished += 1;
            self.settled = true;
        }
        self.settled.then_some(self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_source = lock(&self.all.by_source);
        if let Some(seated) = by_source.get_mut(&self.source) {
            if self.settled {
                seated.finished -= 1;
            } else {
                seated.remove(&self.turn);
            }
            if seated.finished == 0 && seated.resting.is_empty() {
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
mod tests;
