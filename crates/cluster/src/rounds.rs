//! Rounds over the control planes of a cluster: whom a node asks next, and how long it waits. Join and rejoin share them.
//!
//! The list comes from the metadata service, which is untrusted: it can only deny service. Does no IO and has no clock.

use std::net::IpAddr;
use std::time::Duration;

use attest::{Digest, PcrIndex, Verified};
use keys::ClusterId;

/// Time between two rounds, before jitter.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Deadline of one request for a ticket, attested handshake included. Software emulation needs most of it.
pub const TICKET_DEADLINE: Duration = Duration::from_secs(120);

/// Most control planes that are asked in one round.
pub(crate) const MAX_CONTROL_PLANES: usize = 16;

/// Looks for control planes.
#[derive(Debug, Default)]
pub struct Searching {
    rounds: u32,
}

/// Asks one control plane after the other.
#[derive(Debug)]
pub struct Asking {
    rounds: u32,
    left: Vec<IpAddr>,
}

/// Where a round goes on.
#[derive(Debug)]
pub enum Round {
    /// Ask this control plane.
    Ask(IpAddr, Asking),
    /// Nobody is left: wait this long and look again.
    Wait(Duration, Searching),
}

impl Searching {
    /// Before the first round.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the control planes that the metadata service names, this machine's own address excluded.
    ///
    /// `jitter` is random: nodes that start together must not ask together.
    pub fn found(self, control_planes: &[IpAddr], own: IpAddr, jitter: u16) -> Round {
        let mut left: Vec<IpAddr> = control_planes
            .iter()
            .copied()
            .filter(|address| *address != own)
            .collect();
        left.truncate(MAX_CONTROL_PLANES);
        if !left.is_empty() {
            let start = usize::from(jitter) % left.len();
            left.rotate_left(start);
        }
        Asking {
            rounds: self.rounds,
            left,
        }
        .next(jitter)
    }

    /// How many rounds went by.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }
}

impl Asking {
    /// Takes that this control plane gave nothing that can be used.
    pub fn refused(self, jitter: u16) -> Round {
        self.next(jitter)
    }

    fn next(mut self, jitter: u16) -> Round {
        if self.left.is_empty() {
            let spread = INTERVAL.as_millis() / 2 * u128::from(jitter) / u128::from(u16::MAX);
            let spread = Duration::from_millis(u64::try_from(spread).unwrap_or(0));
            return Round::Wait(
                INTERVAL + spread,
                Searching {
                    rounds: self.rounds.saturating_add(1),
                },
            );
        }
        let address = self.left.remove(0);
        Round::Ask(address, self)
    }
}

/// PCR 15 of a join service, out of its evidence: of which cluster it is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvedMark(Digest);

/// A ticket for another cluster than the one whose join service gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ticket is for another cluster than the one that the join service is a member of")]
pub struct AnotherCluster;

impl From<&Verified> for ProvedMark {
    fn from(verified: &Verified) -> Self {
        Self(verified.measurements().get(PcrIndex::CLUSTER_MARK))
    }
}

impl ProvedMark {
    /// Demands that the mark is this cluster's.
    pub fn check(self, cluster_id: &ClusterId) -> Result<(), AnotherCluster> {
        if self.0.as_bytes() == &cluster_id.pcr15() {
            Ok(())
        } else {
            Err(AnotherCluster)
        }
    }

    #[cfg(test)]
    pub(crate) fn of(cluster_id: &ClusterId) -> Self {
        Self(Digest::from_bytes(cluster_id.pcr15()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_asks_everybody_but_this_machine_and_then_waits() {
        let address = |last| IpAddr::from([10, 42, 1, last]);
        let mut asked = Vec::new();
        let mut round =
            Searching::new().found(&[address(10), address(11), address(12)], address(11), 7);
        let searching = loop {
            match round {
                Round::Ask(control_plane, next) => {
                    asked.push(control_plane);
                    round = next.refused(7);
                }
                Round::Wait(time, searching) => {
                    assert!(time >= INTERVAL && time <= INTERVAL + INTERVAL / 2);
                    break searching;
                }
            }
        };
        asked.sort();
        assert_eq!(asked, [address(10), address(12)]);
        assert_eq!(searching.rounds(), 1);
    }

    #[test]
    fn nodes_do_not_wait_in_step_and_lists_are_bounded() {
        let wait = |jitter| match Searching::new().found(&[], IpAddr::from([10, 42, 2, 10]), jitter)
        {
            Round::Wait(time, _) => time,
            Round::Ask(..) => panic!("nobody to ask"),
        };
        assert!(wait(0) < wait(u16::MAX));
        let many: Vec<IpAddr> = (0..5000u16)
            .map(|n| IpAddr::from([10, 42, n.to_be_bytes()[0], n.to_be_bytes()[1]]))
            .collect();
        let mut round = Searching::new().found(&many, IpAddr::from([10, 43, 0, 0]), 3);
        let mut asked = 0;
        while let Round::Ask(_, next) = round {
            asked += 1;
            round = next.refused(3);
        }
        assert_eq!(asked, MAX_CONTROL_PLANES);
    }
}
