//! Makes this node's etcd a member with a vote: looks, lets `cluster::etcd` decide, does the one step, and looks again.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use cluster::{
    NodeName,
    etcd::{ControlPlanes, Data, For, Member, MemberId, Step, View, Why, next},
};
use tokio::time::Instant;

use super::{
    Access, Client, Connection, Directory, DirectoryError, EtcdError, LocalError, LocalEtcd,
    lock::{Asked, Deadlines, Lock},
};
use crate::control_plane::{EtcdMembership, Node};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens on the way.
#[derive(Debug)]
pub enum News<'a> {
    /// A step begins. Steps that wait are told once.
    Step(Step),
    /// Another node has the lock.
    LockHeldBy(&'a str),
    /// The lock was lost or given back: what is under way begins anew.
    LockLost,
    /// A step did not work; it is tried again.
    Failed(&'a TakePartError),
}

/// Why a step did not work.
#[derive(Debug, thiserror::Error)]
pub enum TakePartError {
    /// etcd.
    #[error("asking etcd")]
    Etcd(#[from] EtcdError),
    /// The directory.
    #[error("etcd's directory")]
    Directory(#[from] DirectoryError),
    /// The node.
    #[error("etcd on this node")]
    Local(#[source] LocalError),
}

impl std::fmt::Display for News<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            News::Step(Step::Start) => f.write_str("etcd starts"),
            News::Step(Step::Lock) => f.write_str("asking for the lock of etcd's members"),
            News::Step(Step::Discard(_)) => f.write_str(
                "this node's member of etcd was removed, and the others have what it had: its copy of the data is DELETED, and it joins again",
            ),
            News::Step(Step::Remove(id, why)) => {
                let why = match why {
                    Why::OwnDataIsGone => "this node's own from before its disk was made anew",
                    Why::StaleLearner => "a learner whose node has stopped joining",
                    Why::Departed => "its node is on record no more",
                };
                write!(f, "removing the member {id} from etcd: {why}")
            }
            News::Step(Step::Add) => f.write_str("joining etcd as a learner"),
            News::Step(Step::Promote(_)) => {
                f.write_str("etcd gives this node its vote once it has caught up")
            }
            News::Step(Step::Wait(wait)) => f.write_str(match wait {
                For::Majority => "waiting for a majority of etcd's members to answer",
                For::Records => "waiting for the records of the cluster's nodes",
                For::OwnRecord => "waiting for this node's record: without one, or while it is being deleted, it can not join etcd",
                For::Startup => "waiting for etcd to come up",
                For::Margin => "waiting for more of etcd's members to answer: without them none may be removed",
            }),
            News::Step(Step::Done) => f.write_str("this node is a member of etcd"),
            News::LockHeldBy(node) => write!(f, "waiting for {node}, which is joining etcd"),
            News::LockLost => f.write_str("the lock of etcd's members was lost; joining begins anew"),
            News::Failed(error) => {
                write!(f, "joining etcd is tried again: {error}")?;
                match std::error::Error::source(error) {
                    Some(source) => write!(f, ": {source}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What is known on the way. Nothing of it has to outlive a crash.
struct Participation<'a> {
    node: &'a Node,
    elders: &'a [Ipv4Addr],
    local: &'a dyn LocalEtcd,
    access: Access,
    directory: Directory,
    deadlines: Deadlines,
    running: bool,
    lock: Option<(Lock, Instant)>,
    /// Who was on record when the records were last read: whom to ask.
    recorded: Option<ControlPlanes>,
    /// Whether that was in this turn: only then it says whether this node still belongs.
    current: bool,
    told: Option<Step>,
    told_since: Option<String>,
}

/// Runs until this node's etcd is a member with a vote and answers. Does not give up: whoever calls it may stop waiting at any time,
/// and a lock that is held then ends by itself. To be called after every boot, and whenever etcd may have been removed.
///
/// `elders` are mesh addresses of other control planes, as far as they are known without the API.
pub async fn take_part(node: &Node, elders: &[Ipv4Addr], local: &dyn LocalEtcd) {
    take_part_within(node, elders, local, Deadlines::default()).await;
}

/// The same with other deadlines.
pub async fn take_part_within(
    node: &Node,
    elders: &[Ipv4Addr],
    local: &dyn LocalEtcd,
    deadlines: Deadlines,
) {
    let mut participation = Participation {
        node,
        elders,
        local,
        access: Access::of(&node.paths().pki()),
        directory: Directory::new(&node.paths().etcd_data),
        deadlines,
        running: false,
        lock: None,
        recorded: None,
        current: false,
        told: None,
        told_since: None,
    };
    loop {
        match participation.turn().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                participation.tell_once(News::Failed(&error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Participation<'_> {
    /// Tells what would be told again and again, once for each step.
    fn tell_once(&mut self, news: News<'_>) {
        let text = Some(format!("{news:?}"));
        if self.told_since != text {
            self.local.tell(news);
            self.told_since = text;
        }
    }

    /// One look and one step; `true` at the end.
    async fn turn(&mut self) -> Result<bool, TakePartError> {
        self.check_lock().await?;
        let (connection, step) = self.look().await?;
        if self.told != Some(step) {
            self.local.tell(News::Step(step));
            (self.told, self.told_since) = (Some(step), None);
        }
        self.act(connection, step).await
    }

    /// Forgets a lock that was lost, and lets others go first after a while.
    async fn check_lock(&mut self) -> Result<(), TakePartError> {
        let Some((lock, since)) = &self.lock else {
            return Ok(());
        };
        let overdue = since.elapsed() > self.deadlines.hold;
        if lock.is_held() && !overdue {
            return Ok(());
        }
        self.local.tell(News::LockLost);
        let lock = self.lock.take();
        if let Some((lock, _)) = lock
            && overdue
        {
            lock.release().await;
        }
        // From now on the list may change, which a first start does not bear: it is begun anew, with the list as it is then.
        if matches!(self.directory.holds()?, Data::Fresh(_)) {
            self.local.stop().await.map_err(TakePartError::Local)?;
            self.running = false;
        }
        if overdue {
            tokio::time::sleep(self.deadlines.lease).await;
        }
        Ok(())
    }

    /// What to do next, and the member that was asked about it.
    async fn look(&mut self) -> Result<(Option<Connection>, Step), TakePartError> {
        self.current = false;
        let mut found = self.ask().await;
        let mut step = self.decide(found.as_ref().ok())?;
        // The records are in the API, which may be down as long as etcd is: they are read only when they are needed.
        if matches!(
            step,
            Step::Wait(For::Majority | For::Records | For::OwnRecord)
        ) {
            match tokio::time::timeout(self.deadlines.lease, self.local.control_planes()).await {
                Ok(Ok(records)) => (self.recorded, self.current) = (Some(records), true),
                // the API answers once etcd does, and etcd may need this node for that
                Ok(Err(error)) => tracing::debug!(error, "the records can not be read"),
                Err(_) => tracing::debug!("the records are not read in time"),
            }
            if found.is_err() {
                found = self.ask().await;
            }
            step = self.decide(found.as_ref().ok())?;
        }
        if step == Step::Wait(For::Margin)
            && let Ok((_, members)) = &mut found
        {
            look_for_life(self.node, members).await;
            step = self.decide(found.as_ref().ok())?;
        }
        if let (Err(error), Step::Wait(_)) = (&found, step) {
            tracing::debug!(?error, "no member of etcd with a majority answers");
        }
        Ok((found.ok().map(|(connection, _)| connection), step))
    }

    fn decide(&self, found: Option<&(Connection, Vec<Member>)>) -> Result<Step, TakePartError> {
        Ok(next(&View {
            own: &self.node.etcd_place(),
            data: self.directory.holds()?,
            running: self.running,
            members: found.map(|(_, members)| members.as_slice()),
            records: self.recorded.as_ref().filter(|_| self.current),
            locked: self.lock.as_ref().is_some_and(|(lock, _)| lock.is_held()),
        }))
    }

    async fn ask(&self) -> Result<(Connection, Vec<Member>), EtcdError> {
        self.client().with_majority().await
    }

    /// The members that may be asked, the own one first.
    fn client(&self) -> Client {
        let place = self.node.etcd_place();
        let recorded = self.recorded.iter().flat_map(ControlPlanes::peers);
        let others = self
            .elders
            .iter()
            .copied()
            .chain(recorded.map(|peer| *peer.ip()))
            .filter(|ip| ip != place.peer.ip())
            .map(|ip| self.node.etcd_client_of(ip));
        let own = self.running.then(|| self.node.etcd_own_client());
        let mut endpoints: Vec<SocketAddrV4> = Vec::new();
        for endpoint in own.into_iter().chain(others) {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        Client::new(self.access.clone(), endpoints)
    }

    async fn act(
        &mut self,
        connection: Option<Connection>,
        step: Step,
    ) -> Result<bool, TakePartError> {
        match (step, connection) {
            (Step::Start, connection) => self.start(connection).await?,
            (Step::Lock, Some(mut connection)) => self.take_lock(&mut connection).await?,
            (Step::Discard(_), _) => self.clear().await?,
            (Step::Remove(id, _), Some(mut connection)) => connection.remove(id).await?,
            (Step::Add, Some(mut connection)) => {
                // what a start that went wrong may have left
                self.clear().await?;
                let place = self.node.etcd_place();
                let (id, members) = connection.add_learner(place.peer).await?;
                self.directory.mark(id, all(&place.name, id, &members)?)?;
            }
            (Step::Promote(id), Some(mut connection)) => {
                if !connection.promote(id).await? {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            (Step::Done, _) if self.own_answers().await => {
                if let Some((lock, _)) = self.lock.take() {
                    lock.release().await;
                }
                return Ok(true);
            }
            (Step::Wait(For::OwnRecord), _) => {
                if let Some((lock, _)) = self.lock.take() {
                    lock.release().await;
                }
                tokio::time::sleep(PAUSE).await;
            }
            // without a connection there is no such step
            (Step::Wait(_) | Step::Done, _)
            | (Step::Lock | Step::Remove(..) | Step::Add | Step::Promote(_), None) => {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(false)
    }

    async fn start(&mut self, connection: Option<Connection>) -> Result<(), TakePartError> {
        if let (Data::Fresh(id), Some(mut connection)) = (self.directory.holds()?, connection) {
            // it may run with what was true before
            self.local.stop().await.map_err(TakePartError::Local)?;
            let members = connection.members().await?;
            let own = &self.node.config.node_name;
            self.directory.mark(id, all(own, id, &members)?)?;
        }
        let alone = || {
            let (ip, _) = self.node.listen.etcd_peer;
            EtcdMembership::Existing(vec![(self.node.config.node_name.clone(), ip)])
        };
        let membership = self.directory.membership()?.unwrap_or_else(alone);
        self.local
            .start(membership)
            .await
            .map_err(TakePartError::Local)?;
        self.running = true;
        Ok(())
    }

    async fn take_lock(&mut self, connection: &mut Connection) -> Result<(), TakePartError> {
        let name = self.node.config.node_name.as_str();
        match Lock::ask_within(&self.client(), connection, name, self.deadlines).await? {
            Asked::Taken(lock) => self.lock = Some((lock, Instant::now())),
            Asked::HeldBy(node) => {
                self.tell_once(News::LockHeldBy(&node));
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<(), TakePartError> {
        self.local.stop().await.map_err(TakePartError::Local)?;
        self.running = false;
        Ok(self.directory.discard()?)
    }

    /// Whether the own member answers and knows a leader.
    async fn own_answers(&self) -> bool {
        let own = async {
            let mut connection =
                Connection::open(&self.access, self.node.etcd_own_client()).await?;
            connection.status().await
        };
        own.await.is_ok_and(|status| status.leader.is_some())
    }
}

/// Everybody's name and address, this node's included, which has no name there yet.
fn all(
    own: &NodeName,
    own_id: MemberId,
    members: &[Member],
) -> Result<Vec<(NodeName, Ipv4Addr)>, EtcdError> {
    members
        .iter()
        .map(|member| {
            let foreign = || EtcdError::ForeignMember(member.id);
            let name = if member.id == own_id {
                own.clone()
            } else {
                let name = member.name.as_deref().ok_or_else(foreign)?;
                name.parse().map_err(|_| foreign())?
            };
            Ok((name, *member.peer.ok_or_else(foreign)?.ip()))
        })
        .collect()
}

/// Asks every member whether it is there, and notes it in the list.
pub(super) async fn look_for_life(node: &Node, members: &mut [Member]) {
    let access = Access::of(&node.paths().pki());
    let looks = members.iter_mut().map(async |member| {
        let Some(peer) = member.peer else { return };
        let endpoint = node.etcd_client_of(*peer.ip());
        let asked = async {
            let mut connection = Connection::open(&access, endpoint).await?;
            connection.status().await
        };
        // somebody else may be at its address now
        member.alive = asked
            .await
            .is_ok_and(|status| status.id == member.id && status.leader.is_some());
    });
    futures::future::join_all(looks).await;
}
