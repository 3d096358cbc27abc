//! A client of etcd: one connection to one member, TLS with the API server's client certificate.
//!
//! A connection does not move on to another member by itself: an answer is known to be of the member that was asked, and a list of
//! members is asked for right after a read that a majority confirmed there. [`Client::with_majority`] tries members in turn.
//! Spec: etcd v3.4 and v3.5, api/etcdserverpb/rpc.proto.

use std::{net::SocketAddrV4, path::Path, path::PathBuf, time::Duration};

use cluster::etcd::{Member, MemberId};
use tonic::{
    Code, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use zeroize::Zeroizing;

use super::wire::{
    self, cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
};
use crate::{
    files::FileError,
    pki::{AuthorityName, Leaf},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take. etcd itself gives up on what needs a majority after five to ten seconds.
const ANSWER: Duration = Duration::from_secs(15);
/// How long the next part of a snapshot may take.
const PART: Duration = Duration::from_secs(60);
/// Finds a member that is gone in the middle of something.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Most bytes of an answer; etcd sends snapshots in parts of 32 KiB.
const MAX_ANSWER: usize = 1 << 20;

/// Why etcd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A certificate or key.
    #[error("the client certificate for etcd")]
    File(#[from] FileError),
    /// No connection.
    #[error("etcd at {endpoint} can not be reached")]
    Connect {
        /// Which member.
        endpoint: SocketAddrV4,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// An answer that says no, or none.
    #[error("etcd at {endpoint} did not {operation}")]
    Request {
        /// Which member.
        endpoint: SocketAddrV4,
        /// What was asked.
        operation: &'static str,
        /// What it says.
        #[source]
        source: Box<tonic::Status>,
    },
    /// An answer that makes no sense.
    #[error("etcd at {endpoint} answered without {what}")]
    Answer {
        /// Which member.
        endpoint: SocketAddrV4,
        /// What is missing.
        what: &'static str,
    },
    /// Nobody to ask.
    #[error("no member of etcd is known")]
    NobodyToAsk,
    /// A member that this project did not make.
    #[error("member {0} of etcd has no name or address that a node can have")]
    ForeignMember(MemberId),
}

/// The files with which a control plane asks etcd. Read again for each connection, since certificates renew.
#[derive(Clone, Debug)]
pub struct Access {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Asks one member or the other.
#[derive(Clone, Debug)]
pub struct Client {
    access: Access,
    endpoints: Vec<SocketAddrV4>,
}

/// A connection to one member.
#[derive(Clone, Debug)]
pub struct Connection {
    endpoint: SocketAddrV4,
    channel: Channel,
}

/// What a member says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub id: MemberId,
    /// Version of the program.
    pub version: String,
    /// The leader it knows, if it knows one.
    pub leader: Option<MemberId>,
    /// Whether it is without a vote.
    pub learner: bool,
    /// The last entry of the log that it applied.
    pub applied_index: u64,
    /// The store's revision.
    pub revision: i64,
}

/// A snapshot of the store, part by part.
pub struct Snapshot {
    endpoint: SocketAddrV4,
    parts: Streaming<wire::SnapshotResponse>,
    remaining: Option<u64>,
}

impl Access {
    /// The API server's access, from the node's PKI.
    pub fn of(pki: &Path) -> Self {
        Self {
            ca: pki.join(format!("{}.crt", AuthorityName::Etcd.stem())),
            certificate: pki.join(Leaf::ApiServerEtcdClient.certificate()),
            key: pki.join(Leaf::ApiServerEtcdClient.key()),
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig, FileError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map(Zeroizing::new)
                .map_err(|source| FileError {
                    operation: "read",
                    path: path.to_owned(),
                    source,
                })
        };
        let identity = Identity::from_pem(read(&self.certificate)?, read(&self.key)?);
        Ok(ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca)?))
            .identity(identity))
    }
}

impl Client {
    /// A client of these members, the first tried first.
    pub fn new(access: Access, endpoints: Vec<SocketAddrV4>) -> Self {
        Self { access, endpoints }
    }

    /// Who is asked.
    pub fn endpoints(&self) -> &[SocketAddrV4] {
        &self.endpoints
    }

    /// A connection to the first member that has a majority, and the list of members that goes with it.
    pub async fn with_majority(&self) -> Result<(Connection, Vec<Member>), EtcdError> {
        let mut last = EtcdError::NobodyToAsk;
        for endpoint in &self.endpoints {
            match self.members_at(*endpoint).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::debug!(%endpoint, ?error, "another member is asked");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn members_at(
        &self,
        endpoint: SocketAddrV4,
    ) -> Result<(Connection, Vec<Member>), EtcdError> {
        let mut connection = Connection::open(&self.access, endpoint).await?;
        let members = connection.members().await?;
        Ok((connection, members))
    }
}

impl Connection {
    /// Connects to one member.
    pub async fn open(access: &Access, endpoint: SocketAddrV4) -> Result<Self, EtcdError> {
        let connect = |source| EtcdError::Connect { endpoint, source };
        let tls = access.tls()?;
        let channel = Endpoint::from_shared(format!("https://{endpoint}"))
            .and_then(|channel| {
                channel
                    .connect_timeout(CONNECT)
                    .timeout(ANSWER)
                    .http2_keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(ANSWER)
                    .tls_config(tls)
            })
            .map_err(connect)?
            .connect()
            .await
            .map_err(connect)?;
        Ok(Self { endpoint, channel })
    }

    /// Which member this is.
    pub const fn endpoint(&self) -> SocketAddrV4 {
        self.endpoint
    }

    /// For a request of etcd's API that has no function here.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The members, as a majority knows them now. Whether they are alive nobody was asked yet.
    pub async fn members(&mut self) -> Result<Vec<Member>, EtcdError> {
        // Old versions answer from what they happen to know. A read that a majority confirmed brings this member up to date,
        // its list of members included, and a learner or a member without a majority refuses it.
        let read = wire::RangeRequest {
            key: super::lock::KEY.as_bytes().to_vec(),
            keys_only: true,
            ..Default::default()
        };
        self.kv()
            .range(read)
            .await
            .map_err(self.failed("confirm that it has a majority"))?;
        let list = self
            .cluster()
            .member_list(wire::MemberListRequest { linearizable: true })
            .await
            .map_err(self.failed("list its members"))?;
        Ok(list.into_inner().members.iter().map(member).collect())
    }

    /// Adds a member without a vote. Its number, and all members after it.
    pub async fn add_learner(
        &mut self,
        peer: SocketAddrV4,
    ) -> Result<(MemberId, Vec<Member>), EtcdError> {
        let request = wire::MemberAddRequest {
            peer_ur_ls: vec![format!("https://{peer}")],
            is_learner: true,
        };
        let added = self
            .cluster()
            .member_add(request)
            .await
            .map_err(self.failed("add this node as a learner"))?
            .into_inner();
        let id = added.member.ok_or(EtcdError::Answer {
            endpoint: self.endpoint,
            what: "the member that it added",
        })?;
        Ok((MemberId(id.id), added.members.iter().map(member).collect()))
    }

    /// Gives a learner its vote; `false` if etcd does not find it ready for that.
    pub async fn promote(&mut self, id: MemberId) -> Result<bool, EtcdError> {
        let request = wire::MemberPromoteRequest { id: id.0 };
        match self.cluster().member_promote(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::FailedPrecondition => {
                tracing::debug!(%status, "not promoted yet");
                Ok(false)
            }
            Err(status) => Err(self.failed("promote the learner")(status)),
        }
    }

    /// Removes a member. One that is not there is removed.
    pub async fn remove(&mut self, id: MemberId) -> Result<(), EtcdError> {
        let request = wire::MemberRemoveRequest { id: id.0 };
        match self.cluster().member_remove(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.failed("remove a member")(status)),
        }
    }

    /// What the member says about itself.
    pub async fn status(&mut self) -> Result<Status, EtcdError> {
        let status = self
            .maintenance()
            .status(wire::StatusRequest {})
            .await
            .map_err(self.failed("tell its status"))?
            .into_inner();
        let header = status.header.ok_or(EtcdError::Answer {
            endpoint: self.endpoint,
            what: "its number",
        })?;
        Ok(Status {
            id: MemberId(header.member_id),
            version: status.version,
            leader: (status.leader != 0).then_some(MemberId(status.leader)),
            learner: status.is_learner,
            applied_index: status.raft_applied_index,
            revision: header.revision,
        })
    }

    /// Begins a snapshot of the member's store.
    pub async fn snapshot(&mut self) -> Result<Snapshot, EtcdError> {
        let parts = self
            .maintenance()
            .snapshot(wire::SnapshotRequest {})
            .await
            .map_err(self.failed("begin a snapshot"))?
            .into_inner();
        Ok(Snapshot {
            endpoint: self.endpoint,
            parts,
            remaining: None,
        })
    }

    pub(super) fn failed(
        &self,
        operation: &'static str,
    ) -> impl Fn(tonic::Status) -> EtcdError + use<> {
        let endpoint = self.endpoint;
        move |source| EtcdError::Request {
            endpoint,
            operation,
            source: Box::new(source),
        }
    }

    pub(super) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

impl Snapshot {
    /// The next part; `None` after the last. The parts end with SHA-256 of all that was before.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, EtcdError> {
        let failed = |source| EtcdError::Request {
            endpoint: self.endpoint,
            operation: "send the next part of the snapshot",
            source: Box::new(source),
        };
        let part = tokio::time::timeout(PART, self.parts.message())
            .await
            .map_err(|_| failed(tonic::Status::deadline_exceeded("no part came in time")))?
            .map_err(failed)?;
        match part {
            Some(part) => {
                self.remaining = Some(part.remaining_bytes);
                Ok(Some(part.blob))
            }
            None if self.remaining == Some(0) => Ok(None),
            None => Err(EtcdError::Answer {
                endpoint: self.endpoint,
                what: "the rest of the snapshot",
            }),
        }
    }
}

fn member(member: &wire::Member) -> Member {
    let peer = match member.peer_ur_ls.as_slice() {
        [url] => url
            .strip_prefix("https://")
            .and_then(|address| address.parse().ok()),
        _ => None,
    };
    Member {
        id: MemberId(member.id),
        name: (!member.name.is_empty()).then(|| member.name.clone()),
        peer,
        learner: member.is_learner,
        alive: false,
    }
}
