//! Who is a member of etcd: what a control plane does next to become one or to stay one, and which members have to go.
//!
//! A member joins as a learner, which has no vote, and is promoted when it has caught up. One learner at a time: whoever changes
//! the list of members holds a lock that ends by itself when its holder stops. The decisions look at everything anew each time, so
//! that a crash between any two steps needs no memory of what was under way.
//!
//! What must hold: a member with a vote goes only if its node is on record no more, or if it is this node's own old entry, whose
//! data is gone; and only if those that remain are a majority without it. Does no IO and has no clock.
//! Design: `cluster.md` (Join).

use std::{collections::BTreeMap, net::SocketAddrV4};

use crate::{NodeName, Role, identity::NodeIdentity};

/// etcd's number of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl std::fmt::Display for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // as etcd writes it
        write!(f, "{:x}", self.0)
    }
}

/// An entry of etcd's list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number; a node that is added again gets another.
    pub id: MemberId,
    /// The node's name. A member has none until it has started once.
    pub name: Option<String>,
    /// Where the other members reach it; `None` if that is no address of this project's making.
    pub peer: Option<SocketAddrV4>,
    /// Whether it is without a vote.
    pub learner: bool,
    /// Whether it answers now.
    pub alive: bool,
}

/// A node's name, and where its member is reached by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name, which is the member's as well.
    pub name: NodeName,
    /// Mesh address and port.
    pub peer: SocketAddrV4,
}

/// The control planes on record. Whoever makes one vouches that no record is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlanes(BTreeMap<String, SocketAddrV4>);

/// What etcd's directory holds on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing that etcd would start from.
    None,
    /// A member's data, of which only the node is known: the cluster's first.
    Unmarked,
    /// This member was added, and has never started.
    Fresh(MemberId),
    /// This member's data.
    Of(MemberId),
}

/// Everything that a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// This node.
    pub own: &'a Place,
    /// What its disk holds.
    pub data: Data,
    /// Whether its etcd was started since the machine booted.
    pub running: bool,
    /// The list of members as a majority knows it now; `None` if no member could be asked that has a majority.
    pub members: Option<&'a [Member]>,
    /// The records as they are now, if they could be read whole.
    pub records: Option<&'a ControlPlanes>,
    /// Whether this node holds the lock.
    pub locked: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start etcd with the data that is there; without any, with the members as they are now.
    Start,
    /// Take the lock: what follows changes the list of members.
    Lock,
    /// Delete what the directory holds: the member that it belonged to was removed.
    Discard(MemberGone),
    /// Remove an entry.
    Remove(MemberId, Why),
    /// Add this node as a learner, note its number on the disk, and start etcd.
    Add,
    /// Give the learner its vote. etcd refuses while it has not caught up.
    Promote(MemberId),
    /// Look again in a moment.
    Wait(For),
    /// This node is a member with a vote; the lock, if it is held, is not needed any more.
    Done,
}

/// The proof that a majority knows this node's old member no more. Made by [`next`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberGone(());

/// Why an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is this node's own, from before its disk was made anew.
    OwnDataIsGone,
    /// A learner whose joining has stopped: its node does not hold the lock.
    StaleLearner,
    /// Its node is on record no more.
    Departed,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A member that answers and has a majority.
    Majority,
    /// The records of the nodes.
    Records,
    /// A record of this node. The lock, if it is held, is not needed meanwhile.
    OwnRecord,
    /// The own member to come up.
    Startup,
    /// More members to answer: now a removal would leave too few.
    Margin,
}

impl ControlPlanes {
    /// Takes all records of the cluster and keeps the control planes among them.
    pub fn of_all_records<'a>(
        records: impl IntoIterator<Item = &'a NodeIdentity>,
        peer_port: u16,
    ) -> Self {
        records
            .into_iter()
            .filter(|record| record.role == Role::ControlPlane)
            .map(|record| {
                let peer = SocketAddrV4::new(record.mesh_ip, peer_port);
                (record.name.as_str().to_owned(), peer)
            })
            .collect()
    }

    /// Where their members are.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.0.values().copied()
    }

    fn has(&self, own: &Place) -> bool {
        self.0.get(own.name.as_str()) == Some(&own.peer)
    }

    /// Whether a record names this member's node. By name or by address: in doubt it has one.
    fn speaks_of(&self, member: &Member) -> bool {
        let by_name = member.name.as_deref();
        by_name.is_some_and(|name| self.0.contains_key(name))
            || member
                .peer
                .is_some_and(|peer| self.peers().any(|recorded| recorded == peer))
    }
}

impl FromIterator<(String, SocketAddrV4)> for ControlPlanes {
    fn from_iter<I: IntoIterator<Item = (String, SocketAddrV4)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Place {
    /// Whether a member is, or was, this node's.
    fn is_of(&self, member: &Member) -> bool {
        member.name.as_deref() == Some(self.name.as_str()) || member.peer == Some(self.peer)
    }
}

/// What a control plane does next to be a member with a vote.
pub fn next(view: &View<'_>) -> Step {
    let Some(members) = view.members else {
        return match view.data {
            // a majority may need this one
            Data::Unmarked | Data::Of(_) if !view.running => Step::Start,
            Data::None | Data::Unmarked | Data::Fresh(_) | Data::Of(_) => Step::Wait(For::Majority),
        };
    };
    match own_member(view.own, view.data, members) {
        // At its first start etcd compares the members that it is told of with those that there are: the list must not change.
        Some(_) if !view.running && matches!(view.data, Data::Fresh(_)) => {
            may_change(view).unwrap_or(Step::Start)
        }
        Some(_) if !view.running => Step::Start,
        Some(member) if member.learner => may_change(view).unwrap_or(match member.name {
            Some(_) => Step::Promote(member.id),
            None => Step::Wait(For::Startup),
        }),
        Some(member) => match member.name {
            Some(_) => Step::Done,
            None => Step::Wait(For::Startup),
        },
        None => may_change(view).unwrap_or_else(|| become_learner(view, members)),
    }
}

/// What is missing before this node may change the list of members: its record first, since a node that was deleted must get no vote
/// and need not keep others waiting, then the lock.
fn may_change(view: &View<'_>) -> Option<Step> {
    match view.records {
        None => Some(Step::Wait(For::Records)),
        Some(records) if !records.has(view.own) => Some(Step::Wait(For::OwnRecord)),
        Some(_) if !view.locked => Some(Step::Lock),
        Some(_) => None,
    }
}

/// Whether the member that a node's data belongs to was removed, though etcd may run with that data still. `members` is the list as a
/// majority knew it once, however long ago: a number that was removed is never given again.
pub fn was_removed(own: &Place, data: Data, members: &[Member]) -> bool {
    match data {
        // no member has run with it
        Data::None | Data::Fresh(_) => false,
        Data::Unmarked | Data::Of(_) => own_member(own, data, members).is_none(),
    }
}

/// The entry that the data on the disk belongs to.
fn own_member<'a>(own: &Place, data: Data, members: &'a [Member]) -> Option<&'a Member> {
    members.iter().find(|member| match data {
        Data::None => false,
        Data::Of(id) => member.id == id,
        // one that did start had data, and without it must not start again: it would have forgotten what it promised
        Data::Fresh(id) => member.id == id && member.learner && member.name.is_none(),
        Data::Unmarked => {
            member.peer == Some(own.peer) && member.name.as_deref() == Some(own.name.as_str())
        }
    })
}

fn become_learner(view: &View<'_>, members: &[Member]) -> Step {
    if view.data != Data::None {
        return Step::Discard(MemberGone(()));
    }
    if let Some(dead) = members.iter().find(|member| view.own.is_of(member)) {
        return if may_go(dead, members) {
            Step::Remove(dead.id, Why::OwnDataIsGone)
        } else {
            Step::Wait(For::Margin)
        };
    }
    match members.iter().find(|member| member.learner) {
        Some(learner) => Step::Remove(learner.id, Why::StaleLearner),
        None => Step::Add,
    }
}

/// Which member has to go because its node is on record no more. `own` is the node that asks, which has to be on record itself:
/// otherwise the records are not those of this cluster as it is.
pub fn departed(own: &Place, members: &[Member], records: &ControlPlanes) -> Option<MemberId> {
    if !records.has(own) {
        return None;
    }
    members
        .iter()
        .filter(|member| !records.speaks_of(member))
        // one without a vote first: it costs nothing
        .filter(|member| may_go(member, members))
        .min_by_key(|member| (!member.learner, member.id))
        .map(|member| member.id)
}

/// Every member whose node is on record no more, whether it may go now or not.
pub fn unrecorded(members: &[Member], records: &ControlPlanes) -> Vec<MemberId> {
    let unrecorded = members.iter().filter(|member| !records.speaks_of(member));
    unrecorded.map(|member| member.id).collect()
}

/// Whether a majority stays without this member: of those that remain with a vote, more than half answer now.
fn may_go(member: &Member, members: &[Member]) -> bool {
    if member.learner {
        return true;
    }
    let voters = || {
        members
            .iter()
            .filter(|other| !other.learner && other.id != member.id)
    };
    let (all, alive) = (
        voters().count(),
        voters().filter(|other| other.alive).count(),
    );
    alive * 2 > all
}

#[cfg(test)]
mod tests;
