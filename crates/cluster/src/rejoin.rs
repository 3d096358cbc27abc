//! The rejoin flow of a machine whose state disk has a node's key: from a locked disk to a marked machine, in the initrd.
//!
//! ```text
//! Locked ─ control planes ─→ Asking ─ ticket ─→ Opening ─ disk ─→ AwaitingMark ─ PCR 15 ─→ Rejoined
//!    ↑─── none, refused, unreachable ─┤            ↑│
//!    │                                └─── offer ──┘│
//!    └────────── the key opens another disk ────────┘
//! ```
//!
//! A key comes from a join service that was asked, or from an administrator who offers it at any moment ([`crate::recovery`]).
//! Whichever it is, [`Opening`] holds all of the machine: one key is tried at a time, and the first that opens the disk ends both
//! ways, so the disk is opened once and the machine marked once. A key that does not open the disk leaves the machine where it was.
//!
//! Nothing here formats or resets a disk: a disk that no key opens stays as it is, and the machine goes on asking. The cluster
//! of a ticket must be the one whose mark its join service proved, and that is seen before the disk is opened. The opened disk is
//! out of reach until PCR 15 holds the mark: what lies on it is read by a machine that can not join any other cluster. A machine
//! whose register is set before has had its one mark and does not begin.
//!
//! Does no IO. Design: `boot-and-disk.md` (Reboot).

use std::net::IpAddr;
use std::time::Duration;

use keys::{ClusterId, DiskKey, LengthError, MeasurementSalt, MeasurementSecret};

use crate::boot_lock::Mark;
use crate::join::BootstrapToken;
use crate::recovery::Offer;
use crate::rounds::{self, AnotherCluster, ProvedMark, Round, Searching};

/// A rejoin ticket as it was received: lengths unchecked.
pub struct Ticket {
    /// Key of this node's state disk.
    pub state_disk_key: Vec<u8>,
    /// Salt of the cluster ID.
    pub measurement_salt: Vec<u8>,
    /// Secret of the cluster ID.
    pub measurement_secret: Vec<u8>,
    /// Bootstrap token; empty where there is none.
    pub bootstrap_token: String,
}

/// What is wrong with a rejoin ticket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TicketError {
    /// A key, a secret or the salt has the wrong length.
    #[error("the ticket's keys are malformed")]
    Secret(#[source] LengthError),
    /// It is for another cluster than its giver's.
    #[error("the ticket can not be this join service's")]
    Cluster(#[source] AnotherCluster),
}

/// A ticket for the cluster of its giver. Made by [`Ticket::check`] only.
#[derive(Debug)]
pub struct CheckedTicket {
    disk_key: DiskKey,
    cluster_id: ClusterId,
    token: Option<BootstrapToken>,
}

/// A ticket of the right form, for whatever cluster. Good for nothing but [`ParsedTicket::check`].
#[derive(Debug)]
pub struct ParsedTicket(CheckedTicket);

impl ParsedTicket {
    /// Demands that the ticket's cluster is its giver's.
    pub fn check(self, proved: ProvedMark) -> Result<CheckedTicket, TicketError> {
        let cluster = proved.check(&self.0.cluster_id);
        cluster.map(|()| self.0).map_err(TicketError::Cluster)
    }
}

impl Ticket {
    /// Checks everything that can be checked without the disk.
    pub fn check(self, proved: ProvedMark) -> Result<CheckedTicket, TicketError> {
        self.parse()?.check(proved)
    }

    /// Checks the form of its parts.
    pub fn parse(self) -> Result<ParsedTicket, TicketError> {
        let disk_key = DiskKey::from_vec(self.state_disk_key);
        let secret = MeasurementSecret::from_vec(self.measurement_secret);
        let salt = MeasurementSalt::from_slice(&self.measurement_salt);
        let (disk_key, secret) = (
            disk_key.map_err(TicketError::Secret)?,
            secret.map_err(TicketError::Secret)?,
        );
        let cluster_id = ClusterId::derive(&secret, &salt.map_err(TicketError::Secret)?);
        // the disk is what matters: a token that is none is as good as no token
        let token = BootstrapToken::parse(self.bootstrap_token).ok();
        Ok(ParsedTicket(CheckedTicket {
            disk_key,
            cluster_id,
            token,
        }))
    }
}

/// PCR 15 is set already: in this boot the machine was marked, or something else was measured into the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PCR 15 is not zero: no join service gives a key to a machine that is marked already")]
pub struct AlreadyMarked;

/// PCR 15 holds something else than the cluster's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PCR 15 does not hold this cluster's mark: something else was measured into it")]
pub struct ForeignMark;

/// A disk whose key nobody has given yet; looks for control planes.
#[derive(Debug)]
pub struct Locked {
    searching: Searching,
}

/// Asks one control plane after the other.
#[derive(Debug)]
pub struct Asking {
    asking: rounds::Asking,
}

/// Has a key; waits for the disk to be opened with it. `S` is where the machine was, and goes on if the key is another disk's.
#[derive(Debug)]
pub struct Opening<S> {
    before: S,
    disk_key: DiskKey,
    cluster_id: ClusterId,
    token: Option<BootstrapToken>,
}

/// Has the opened disk; waits for PCR 15 to hold the cluster's mark.
#[derive(Debug)]
pub struct AwaitingMark<D> {
    disk: D,
    cluster_id: ClusterId,
    token: Option<BootstrapToken>,
}

/// The machine is marked, and its disk may be used. Only [`AwaitingMark::read_back`] makes one.
#[derive(Debug)]
pub struct Rejoined<D> {
    disk: D,
    token: Option<BootstrapToken>,
}

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Ask this control plane for a ticket.
    Ask(IpAddr, Asking),
    /// Nobody is left: wait this long and look again.
    Wait(Duration, Locked),
}

impl From<Round> for Next {
    fn from(round: Round) -> Self {
        match round {
            Round::Ask(address, asking) => Self::Ask(address, Asking { asking }),
            Round::Wait(time, searching) => Self::Wait(time, Locked { searching }),
        }
    }
}

impl Locked {
    /// Begins, on a machine that nothing has marked in this boot.
    pub fn begin(pcr15: &[u8; 32]) -> Result<Self, AlreadyMarked> {
        match Mark::of(pcr15) {
            Mark::Zero => Ok(Self {
                searching: Searching::new(),
            }),
            Mark::Set => Err(AlreadyMarked),
        }
    }

    /// Takes the control planes that the metadata service names. `own` is this machine's address, which is left out.
    pub fn found(self, control_planes: &[IpAddr], own: IpAddr, jitter: u16) -> Next {
        self.searching.found(control_planes, own, jitter).into()
    }

    /// How many rounds went by.
    pub fn rounds(&self) -> u32 {
        self.searching.rounds()
    }
}

impl Asking {
    /// Takes that this control plane gave no ticket that can be used.
    pub fn refused(self, jitter: u16) -> Next {
        self.asking.refused(jitter).into()
    }

    /// Takes a ticket that passed its checks. What comes next is to open the disk with its key.
    pub fn received(self, ticket: CheckedTicket) -> Opening<Self> {
        Opening {
            before: self,
            disk_key: ticket.disk_key,
            cluster_id: ticket.cluster_id,
            token: ticket.token,
        }
    }
}

impl Next {
    /// Takes a key that an administrator offers, whatever the machine is about. What comes next is to open the disk with it.
    pub fn offered(self, offer: Offer) -> Opening<Self> {
        let (disk_key, cluster_id) = offer.into_parts();
        Opening {
            before: self,
            disk_key,
            cluster_id,
            token: None,
        }
    }
}

impl<S> Opening<S> {
    /// The key to open the disk with.
    pub fn key(&self) -> &DiskKey {
        &self.disk_key
    }

    /// Takes that the disk did not open. It is as it was, and so is the machine.
    pub fn not_opened(self) -> S {
        self.before
    }

    /// Takes the opened disk. What comes next is to extend PCR 15 with the cluster ID (`TPM2_PCR_Event`).
    pub fn opened<D>(self, disk: D) -> AwaitingMark<D> {
        AwaitingMark {
            disk,
            cluster_id: self.cluster_id,
            token: self.token,
        }
    }
}

impl<D> AwaitingMark<D> {
    /// The cluster whose mark the machine is to have.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// Takes PCR 15 as it was read after the extend. With any other value than the one that zero and this cluster's ID make, the
    /// disk is not used in this boot.
    pub fn read_back(self, pcr15: &[u8; 32]) -> Result<Rejoined<D>, ForeignMark> {
        if *pcr15 == self.cluster_id.pcr15() {
            Ok(Rejoined {
                disk: self.disk,
                token: self.token,
            })
        } else {
            Err(ForeignMark)
        }
    }
}

impl<D> Rejoined<D> {
    /// Gives the disk to whoever mounts it, and the token to the kubelet that may need it.
    pub fn into_parts(self) -> (D, Option<BootstrapToken>) {
        (self.disk, self.token)
    }
}

#[cfg(test)]
mod tests;
