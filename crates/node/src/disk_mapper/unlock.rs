//! Gets the key of a node's disk from whoever has it first, opens the disk, and marks the machine.
//!
//! Two ways at once: the join services are asked ([`super::rejoin`]), and recovery is served ([`super::recovery`]). What happens when is
//! decided by [`cluster::rejoin`]. There is no end to the waiting: a disk that no key opens stays as it is, and the console says what
//! the machine waits for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::DiskUuid;
use cluster::rejoin::{
    AlreadyMarked, AwaitingMark, CheckedTicket, ForeignMark, Locked, Next, Opening, Rejoined,
    TicketError,
};
use disk::{ProgramError, StateDiskError};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use keys::DiskKey;
use tokio_util::task::AbortOnDropHandle;

use super::recovery::{Giver, Offered, RecoveryServer, Refused};
use super::rejoin::Rejoin;
use crate::bootstrapper::machine::{MachineError, MeasuredMachine};
use crate::console::Console;
use crate::join_services::{AskError, JoinServices, jitter};

/// A machine whose disk is locked.
pub struct Unlock {
    /// What it runs.
    pub machine: MeasuredMachine,
    /// The person in front of it.
    pub console: Console,
    /// Its disk.
    pub disk_uuid: DiskUuid,
    /// The join services, when the network and the provider are there.
    pub join_services: BoxFuture<'static, JoinServices>,
    /// The other way, unless it can not be served.
    pub recovery: Option<RecoveryServer>,
}

/// The machine can not be marked in this boot. Its disk was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The TPM.
    #[error("using this machine's TPM")]
    Machine(#[source] MachineError),
    /// The register was not zero at the start.
    #[error("asking for the state disk's key")]
    AlreadyMarked(#[source] AlreadyMarked),
    /// The register holds something else.
    #[error("marking this machine as a member of the cluster")]
    ForeignMark(#[source] ForeignMark),
}

/// What a step on the way over the join services gave.
enum Step {
    Found {
        control_planes: Vec<IpAddr>,
        own: IpAddr,
    },
    Asked(Result<CheckedTicket, AskError<TicketError>>),
}

/// Where the join services are, once anybody knows.
type Asks = Shared<BoxFuture<'static, Arc<Rejoin>>>;

impl Unlock {
    /// Waits until `open` has opened the disk, and marks the machine. `open` must change nothing on a disk that a key does not open.
    pub async fn run<D>(
        mut self,
        open: impl FnMut(&DiskKey) -> Result<D, StateDiskError>,
    ) -> Result<Rejoined<D>, UnlockError> {
        let pcr15 = self.machine.pcr15().await.map_err(UnlockError::Machine)?;
        let locked = Locked::begin(&pcr15).map_err(UnlockError::AlreadyMarked)?;
        let (opened, giver) = self.open(locked, open).await;
        let marked = mark(&self.machine, opened).await;
        if let Some(giver) = giver {
            giver.tell(match &marked {
                Ok(_) => Ok(()),
                Err(error) => Err(Refused::NotMarked(runtime::chain(error).to_string())),
            });
        }
        if let Some(recovery) = self.recovery {
            recovery.end().await;
        }
        marked
    }

    /// Tries keys, one at a time, until one opens the disk.
    async fn open<D>(
        &mut self,
        locked: Locked,
        mut open: impl FnMut(&DiskKey) -> Result<D, StateDiskError>,
    ) -> (AwaitingMark<D>, Option<Giver>) {
        let asks = self.asks();
        let mut next = Next::Wait(Duration::ZERO, locked);
        let mut step = begin(&asks, &next);
        loop {
            let offered = tokio::select! {
                offered = next_offer(&mut self.recovery) => offered,
                // a task that ended without its result gave nothing
                done = &mut step => {
                    match self.after(next, done.ok(), &mut open) {
                        Ok(opened) => return (opened, None),
                        Err(then) => next = then,
                    }
                    step = begin(&asks, &next);
                    continue;
                }
            };
            if !offered.is_wanted() {
                continue;
            }
            let (offer, giver) = offered.into_parts();
            match self.attempt(next.offered(offer), giver.from, &mut open) {
                Ok(opened) => return (opened, Some(giver)),
                Err((before, refused)) => {
                    giver.tell(Err(refused));
                    next = before;
                }
            }
        }
    }

    fn asks(&mut self) -> Asks {
        let join_services =
            std::mem::replace(&mut self.join_services, std::future::pending().boxed());
        let disk_uuid = self.disk_uuid;
        join_services
            .map(move |services| {
                Arc::new(Rejoin {
                    services,
                    disk_uuid,
                })
            })
            .boxed()
            .shared()
    }

    /// Where the machine goes on after a step, if it does not have its disk.
    fn after<D>(
        &self,
        next: Next,
        done: Option<Step>,
        open: &mut impl FnMut(&DiskKey) -> Result<D, StateDiskError>,
    ) -> Result<AwaitingMark<D>, Next> {
        match (next, done) {
            (
                Next::Wait(_, locked),
                Some(Step::Found {
                    control_planes,
                    own,
                }),
            ) => {
                if control_planes.is_empty() || locked.rounds() > 0 {
                    self.say_what_it_waits_for(&control_planes);
                }
                Err(locked.found(&control_planes, own, jitter()))
            }
            (Next::Wait(time, locked), _) => Err(Next::Wait(time, locked)),
            (Next::Ask(address, asking), Some(Step::Asked(Ok(ticket)))) => self
                .attempt(asking.received(ticket), address, open)
                .map_err(|(asking, _)| asking.refused(jitter())),
            (Next::Ask(_, asking), _) => Err(asking.refused(jitter())),
        }
    }

    fn attempt<S, D>(
        &self,
        opening: Opening<S>,
        from: IpAddr,
        open: &mut impl FnMut(&DiskKey) -> Result<D, StateDiskError>,
    ) -> Result<AwaitingMark<D>, (S, Refused)> {
        match open(opening.key()) {
            Ok(disk) => {
                let console = &self.console;
                console.say(format_args!("{from} gave the key of the state disk"));
                Ok(opening.opened(disk))
            }
            Err(error) => {
                let why = runtime::chain(&error).to_string();
                self.console.say_once(format_args!(
                    "the key from {from} does not open the state disk, which stays as it is: {why}"
                ));
                let refused = match error {
                    StateDiskError::Program {
                        source: ProgramError::WrongKey,
                        ..
                    } => Refused::WrongKey,
                    _ => Refused::NotOpened(why),
                };
                Err((opening.not_opened(), refused))
            }
        }
    }

    fn say_what_it_waits_for(&self, control_planes: &[IpAddr]) {
        let whom = if control_planes.is_empty() {
            "the provider names no other control plane"
        } else {
            "no other control plane gave it yet, and they are asked again"
        };
        let (disk, console) = (self.disk_uuid, &self.console);
        match self.recovery {
            Some(_) => console.say_once(format_args!(
                "waiting for the key of the state disk {disk}: {whom}; an administrator gives it with `constellation recover`"
            )),
            None => console.say_once(format_args!(
                "waiting for the key of the state disk {disk}: {whom}"
            )),
        }
    }
}

/// Begins what the machine is to do next on the way over the join services. On a task of its own, so that a key that is tried meanwhile does not keep a
/// join service waiting; dropping it ends it.
fn begin(asks: &Asks, next: &Next) -> AbortOnDropHandle<Step> {
    let asks = asks.clone();
    AbortOnDropHandle::new(match *next {
        Next::Wait(time, _) => tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let rejoin = asks.await;
            Step::Found {
                control_planes: rejoin.services.control_planes().await.unwrap_or_default(),
                own: rejoin.services.own,
            }
        }),
        Next::Ask(address, _) => tokio::spawn(async move {
            let rejoin = asks.await;
            let asked = rejoin.ask(address).await;
            if let Err(error) = &asked {
                rejoin.services.say_why(address, error);
            }
            Step::Asked(asked)
        }),
    })
}

async fn next_offer(recovery: &mut Option<RecoveryServer>) -> Offered {
    match recovery {
        Some(recovery) => recovery.next().await,
        None => std::future::pending().await,
    }
}

async fn mark<D>(
    machine: &MeasuredMachine,
    opened: AwaitingMark<D>,
) -> Result<Rejoined<D>, UnlockError> {
    let pcr15 = machine
        .extend_mark(opened.cluster_id())
        .await
        .map_err(UnlockError::Machine)?;
    opened.read_back(&pcr15).map_err(UnlockError::ForeignMark)
}
