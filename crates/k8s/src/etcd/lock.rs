//! The lock of those that change etcd's list of members: a key with a lease.
//!
//! The lease ends some time after its holder stopped keeping it alive, whatever became of it, and the key goes with it. The holder
//! counts from before it asked, so that it knows of the end before etcd does. Spec: etcd's lease API.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    client::{Client, Connection, EtcdError},
    wire,
};

/// Where the lock lies: not below `/registry`, where the API server keeps its objects.
pub const KEY: &str = "/constellation.edgeless.systems/etcd-members/lock";
/// How long a holder that stopped keeps others waiting.
pub const LEASE: Duration = Duration::from_secs(60);
/// The holder stops relying on its lease this long before it ends: one answer's time.
const MARGIN: Duration = Duration::from_secs(20);
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(10);

/// The lock, held and kept. Dropping it stops keeping it: it ends after [`LEASE`].
#[derive(Debug)]
pub struct Lock {
    lease: i64,
    client: Client,
    /// Until when the lease surely lives.
    lives: watch::Receiver<Instant>,
    keeper: JoinHandle<()>,
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Asked {
    /// It is ours.
    Taken(Lock),
    /// This node has it.
    HeldBy(String),
}

impl Lock {
    /// Asks for the lock, in the name of a node.
    pub async fn ask(
        client: &Client,
        connection: &mut Connection,
        node: &str,
    ) -> Result<Asked, EtcdError> {
        let get = wire::RangeRequest {
            key: KEY.as_bytes().to_vec(),
            ..Default::default()
        };
        let there = connection
            .kv()
            .range(get.clone())
            .await
            .map_err(connection.failed("tell who has the lock"))?
            .into_inner();
        if let Some(held) = there.kvs.first() {
            return Ok(Asked::HeldBy(holder(&held.value)));
        }

        let begun = Instant::now();
        let grant = wire::LeaseGrantRequest {
            ttl: LEASE.as_secs().try_into().unwrap_or(i64::MAX),
            id: 0,
        };
        let lease = connection
            .lease()
            .lease_grant(grant)
            .await
            .map_err(connection.failed("grant a lease"))?
            .into_inner()
            .id;
        let unheld = wire::Compare {
            result: wire::compare::CompareResult::Equal.into(),
            target: wire::compare::CompareTarget::Create.into(),
            key: KEY.as_bytes().to_vec(),
            target_union: Some(wire::compare::TargetUnion::CreateRevision(0)),
        };
        let put = wire::PutRequest {
            key: KEY.as_bytes().to_vec(),
            value: node.as_bytes().to_vec(),
            lease,
        };
        let op = |request| wire::RequestOp {
            request: Some(request),
        };
        let transaction = wire::TxnRequest {
            compare: vec![unheld],
            success: vec![op(wire::request_op::Request::RequestPut(put))],
            failure: vec![op(wire::request_op::Request::RequestRange(get))],
        };
        let answer = connection
            .kv()
            .txn(transaction)
            .await
            .map_err(connection.failed("take the lock"))?
            .into_inner();
        if answer.succeeded {
            let (lives, watch) = watch::channel(begun + LEASE);
            return Ok(Asked::Taken(Self {
                lease,
                client: client.clone(),
                lives: watch,
                keeper: tokio::spawn(keep(client.clone(), lease, lives)),
            }));
        }
        // nobody waits for this one's end
        let _ends_by_itself = revoke(connection, lease).await;
        let value = answer
            .responses
            .into_iter()
            .find_map(|response| match response.response {
                Some(wire::response_op::Response::ResponseRange(range)) => {
                    range.kvs.into_iter().next()
                }
                _ => None,
            })
            .map(|held| held.value);
        Ok(Asked::HeldBy(holder(&value.unwrap_or_default())))
    }

    /// Whether the lock is ours for at least one request more.
    pub fn is_held(&self) -> bool {
        Instant::now() + MARGIN < *self.lives.borrow()
    }

    /// Gives the lock back, so that the next one need not wait. If that fails it ends by itself.
    pub async fn release(self) {
        self.keeper.abort();
        if let Ok((mut connection, _)) = self.client.with_majority().await
            && let Err(error) = revoke(&mut connection, self.lease).await
        {
            tracing::debug!(?error, "the lock ends by itself");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Renews the lease until it is lost.
async fn keep(client: Client, lease: i64, lives: watch::Sender<Instant>) {
    while Instant::now() < *lives.borrow() {
        tokio::time::sleep(RENEW).await;
        let begun = Instant::now();
        match renew(&client, lease).await {
            Ok(true) => {
                lives.send_replace(begun + LEASE);
            }
            Ok(false) => {
                lives.send_replace(begun);
            }
            Err(error) => tracing::debug!(?error, "the lock's lease is not renewed"),
        }
    }
}

/// Renews the lease once; `false` if there is no such lease any more.
async fn renew(client: &Client, lease: i64) -> Result<bool, EtcdError> {
    let (connection, _) = client.with_majority().await?;
    let asked = futures::stream::iter([wire::LeaseKeepAliveRequest { id: lease }]);
    let failed = connection.failed("renew a lease");
    let answer = connection
        .lease()
        .lease_keep_alive(asked)
        .await
        .map_err(&failed)?
        .into_inner()
        .message()
        .await
        .map_err(&failed)?;
    Ok(answer.is_some_and(|answer| answer.ttl > 0))
}

async fn revoke(connection: &mut Connection, lease: i64) -> Result<(), EtcdError> {
    connection
        .lease()
        .lease_revoke(wire::LeaseRevokeRequest { id: lease })
        .await
        .map_err(connection.failed("end a lease"))?;
    Ok(())
}

/// The name in the lock, cut to what a line can bear.
fn holder(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(63).collect()
}
