//! The lock that lets one flow, init or join, have this node for the life of the boot, and what a starting
//! bootstrapper may do at all.
//!
//! The lock is never given back. A bootstrapper that is restarted finds the lock's trace in PCR 15: whoever took the
//! lock extends that register before any step that depends on a secret, and nothing can set it back but a reboot.
//!
//! Does not read the register; its caller does. Design: `cluster.md` (Init), `boot-and-disk.md` (Reboot).

use std::sync::atomic::{AtomicBool, Ordering};

use crate::node_state::NodeState;
use crate::plan::Failed;

/// The lock. One per process, shared by the init server and the join client.
#[derive(Debug, Default)]
pub struct BootLock {
    taken: AtomicBool,
}

/// Proof that its owner took the lock. There is one in the life of a process, and it can not be copied or given back.
#[derive(Debug)]
pub struct Held(());

impl BootLock {
    /// A lock that nobody has taken.
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
        }
    }

    /// Takes the lock, for good. The second caller, and every later one, gets nothing.
    pub fn take(&self) -> Option<Held> {
        self.taken
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| Held(()))
    }

    /// Says whether the lock is gone.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }
}

/// What PCR 15 says about this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// All zero: no cluster has this machine.
    Zero,
    /// Extended: in this boot the machine became a member of a cluster, or was on its way to it.
    Set,
}

impl Mark {
    /// Reads the mark off the register's value.
    pub fn of(pcr15: &[u8; 32]) -> Self {
        if pcr15.iter().all(|byte| *byte == 0) {
            Self::Zero
        } else {
            Self::Set
        }
    }
}

/// What the next boot makes of the state disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextBoot {
    /// A new one: there is no header on it, and nobody else has what opens it now.
    NewDisk,
    /// The same again: the node's own key opens it.
    SameDisk,
}

/// What a bootstrapper does when it starts.
#[derive(Debug, PartialEq, Eq)]
pub enum AtStart {
    /// Wait for an init or find a cluster to join.
    WaitForCluster,
    /// The machine is a member: go on with the agent, never join or init again.
    Resume(NodeState),
    /// The machine was on its way into a cluster when the program stopped. The secrets it was given are gone with the
    /// program, so the disk is reset and the machine starts anew.
    Reset(Failed),
}

/// Decides what a starting bootstrapper does, from PCR 15, what the state disk has recorded, and what the next boot makes of it.
///
/// The record alone counts for nothing: without the mark the machine is a new one, and on a disk that has not got its key a complete
/// record is that of a program that stopped between the two. Going on there would make a node that the next boot forgets.
pub fn at_start(mark: Mark, recorded: Option<NodeState>, disk: NextBoot) -> AtStart {
    match (mark, recorded, disk) {
        (Mark::Zero, ..) => AtStart::WaitForCluster,
        (Mark::Set, Some(state), NextBoot::SameDisk) if state.is_member() => AtStart::Resume(state),
        (Mark::Set, ..) => AtStart::Reset(Failed::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Flow;

    #[test]
    fn the_lock_is_taken_once() {
        let lock = BootLock::new();
        assert!(!lock.is_taken());
        {
            let held = lock.take();
            assert!(held.is_some());
        }
        assert!(
            lock.take().is_none(),
            "dropping the proof must not free the lock"
        );
        assert!(lock.is_taken());
    }

    #[test]
    fn racing_threads_get_one_lock() {
        let lock = BootLock::new();
        let winners: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(lock.take().is_some())))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
    }

    /// Whatever is recorded, going on takes the mark, the whole record and the disk's key.
    #[test]
    fn a_node_goes_on_only_where_the_next_boot_does_too() {
        let becoming = || Some(NodeState::becoming(Flow::Init, "control-plane-0", [4; 32]));
        let member = || becoming().map(NodeState::into_member);
        for disk in [NextBoot::NewDisk, NextBoot::SameDisk] {
            for recorded in [None, becoming(), member()] {
                let zero = at_start(Mark::Zero, recorded, disk);
                assert_eq!(zero, AtStart::WaitForCluster);
            }
            for half in [None, becoming()] {
                let start = at_start(Mark::Set, half, disk);
                assert_eq!(start, AtStart::Reset(Failed::new()));
            }
        }
        assert_eq!(
            at_start(Mark::Set, member(), NextBoot::NewDisk),
            AtStart::Reset(Failed::new())
        );
        assert!(matches!(
            at_start(Mark::Set, member(), NextBoot::SameDisk),
            AtStart::Resume(_)
        ));
    }

    #[test]
    fn one_bit_makes_a_mark() {
        assert_eq!(Mark::of(&[0; 32]), Mark::Zero);
        let mut value = [0; 32];
        value[31] = 1;
        assert_eq!(Mark::of(&value), Mark::Set);
    }
}
