//! Places for connections, bounded in all and for each source, so that one peer cannot hold all of them.
//!
//! A place is taken at once or not at all: whoever is over a bound is turned away, and does not stand in a queue before others.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The places of one listener; clones share them.
#[derive(Clone)]
pub struct Slots {
    total: usize,
    per_source: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A taken place; given back when it is dropped.
pub struct Slot {
    slots: Slots,
    source: IpAddr,
}

impl Slots {
    /// `total` places, of which each address may have `per_source`.
    #[must_use]
    pub fn new(total: usize, per_source: usize) -> Self {
        Self {
            total,
            per_source,
            taken: Arc::default(),
        }
    }

    /// A place for a connection from `peer`, if there is one.
    #[must_use]
    pub fn take(&self, peer: SocketAddr) -> Option<Slot> {
        let source = peer.ip().to_canonical();
        let mut taken = self.lock();
        let own = taken.get(&source).copied().unwrap_or(0);
        if own >= self.per_source || taken.values().sum::<usize>() >= self.total {
            return None;
        }
        taken.insert(source, own + 1);
        Some(Slot {
            slots: self.clone(),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics while it is held.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        match taken.get_mut(&self.source) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_cannot_take_the_places_of_another() {
        let slots = Slots::new(5, 2);
        let greedy: Vec<_> = (1..10)
            .filter_map(|port| slots.take(SocketAddr::new([10, 0, 0, 1].into(), port)))
            .collect();
        assert_eq!(greedy.len(), 2);
        assert!(
            slots.take(peer("[::ffff:10.0.0.1]:1")).is_none(),
            "the same address in another form"
        );
        let other = slots.take(peer("10.0.0.2:1"));
        assert!(other.is_some());
        drop(greedy);
        assert!(slots.take(peer("10.0.0.1:1")).is_some());
        drop(other);
        assert!(slots.lock().is_empty(), "sources that left are forgotten");
    }

    #[test]
    fn all_sources_together_have_so_many_places() {
        let slots = Slots::new(3, 2);
        let held: Vec<_> = (1..10)
            .filter_map(|last| slots.take(SocketAddr::new([10, 0, 0, last].into(), 1)))
            .collect();
        assert_eq!(held.len(), 3);
    }
}
