//! Which unfinished handshakes a listener keeps: bounded in all, and bounded per source.
//!
//! The bound in all is a semaphore that is acquired before `accept`, so what is over it waits in the kernel's queue. The bound
//! per source keeps one address from holding all of that: its oldest unfinished handshake makes room for its newest, one that
//! has not even said hello first. A flood of connections that never finish then costs one handshake's memory times the bound,
//! and honest peers, also behind the same address, still get through.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::AbortHandle;

/// The unfinished handshakes of one listener.
#[derive(Clone, Default)]
pub(crate) struct Unfinished {
    by_source: Arc<Mutex<HashMap<Source, VecDeque<Entry>>>>,
}

struct Entry {
    number: u64,
    spoke: Arc<AtomicBool>,
    task: AbortHandle,
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

impl Unfinished {
    /// Starts a handshake and takes it in, and ends another one of the same source if there are `bound` already.
    pub(crate) fn enter(
        &self,
        source: Source,
        number: u64,
        spoke: Arc<AtomicBool>,
        bound: usize,
        start: impl FnOnce() -> AbortHandle,
    ) {
        // Held while the handshake starts, so that it cannot leave before it is in.
        let mut by_source = self.lock();
        let entries = by_source.entry(source).or_default();
        while entries.len() >= bound.max(1) {
            let silent = entries
                .iter()
                .position(|entry| !entry.spoke.load(Ordering::Relaxed));
            if let Some(evicted) = entries.remove(silent.unwrap_or(0)) {
                evicted.task.abort();
            }
        }
        entries.push_back(Entry {
            number,
            spoke,
            task: start(),
        });
    }

    /// The handshake came to an end.
    pub(crate) fn leave(&self, source: Source, number: u64) {
        let mut by_source = self.lock();
        if let Some(entries) = by_source.get_mut(&source) {
            entries.retain(|entry| entry.number != number);
            if entries.is_empty() {
                by_source.remove(&source);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(VecDeque::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, VecDeque<Entry>>> {
        // Every change above is complete or not begun wherever it could panic.
        self.by_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
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

    #[tokio::test]
    async fn the_oldest_silent_handshake_of_a_full_source_ends_first() {
        let unfinished = Unfinished::default();
        let (flood, honest) = (source("10.0.0.1:1"), source("10.0.0.2:1"));
        let mut tasks = Vec::new();
        let mut enter = |from, number, spoke| {
            let task = tokio::spawn(std::future::pending::<()>());
            unfinished.enter(from, number, Arc::new(AtomicBool::new(spoke)), 2, || {
                task.abort_handle()
            });
            tasks.push(task);
        };
        enter(honest, 0, false);
        enter(flood, 1, true);
        enter(flood, 2, false);
        enter(flood, 3, false);
        enter(flood, 4, true);
        enter(flood, 5, true);
        let mut ended = Vec::new();
        for (number, task) in tasks.into_iter().enumerate() {
            tokio::task::yield_now().await;
            if task.is_finished() {
                ended.push(number);
            } else {
                task.abort();
            }
        }
        assert_eq!(ended, [1, 2, 3]);
        assert_eq!(unfinished.count(), 3);
        unfinished.leave(flood, 5);
        unfinished.leave(flood, 4);
        unfinished.leave(honest, 0);
        assert_eq!(unfinished.count(), 0);
        assert!(unfinished.lock().is_empty());
    }
}
