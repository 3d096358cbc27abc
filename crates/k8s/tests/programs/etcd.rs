//! Control planes become members of etcd, stop in every window on the way, lose their disks and leave; and a checker that writes
//! throughout finds every write again that etcd acknowledged.
//!
//! A crash is a kill -9 of the node's etcd, together with the end of the task that joins, which leaves its lock as it is.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cluster::etcd::{Member, MemberId, Step, Why};
use k8s::etcd::{Departed, News, lock::LEASE, remove_departed, take_part, wire};
use testkit::etcd::{EtcdNode, EtcdNodes};
use tokio::{sync::mpsc, task::JoinHandle};

/// Two joins, one after the other's lease has ended, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Makes a node a member, or fails with its etcd's log.
async fn join(node: Arc<EtcdNode>) -> Result<()> {
    let first = [std::net::Ipv4Addr::new(127, 0, 0, 11)];
    tokio::time::timeout(PATIENCE, take_part(node.node(), &first, &*node))
        .await
        .map_err(|_| anyhow::anyhow!("{} is no member yet:\n{}", node.name(), node.log()))
}

/// A crash that a listener ends the joining task with.
struct Crash;

/// Lets a node join until it is told of a step, and cuts its power there.
async fn crash_at(node: Arc<EtcdNode>, window: fn(&Step) -> bool) -> Result<()> {
    node.listen(move |news| {
        if matches!(news, News::Step(step) if window(step)) {
            std::panic::resume_unwind(Box::new(Crash));
        }
    });
    let joining = tokio::spawn({
        let node = Arc::clone(&node);
        async move { join(node).await }
    });
    let crash = joining
        .await
        .err()
        .context("it joined and came to no crash")?;
    ensure!(crash.into_panic().is::<Crash>());
    node.cut_power();
    node.listen(|_| {});
    Ok(())
}

/// The members, by name.
async fn members(nodes: &EtcdNodes) -> Result<Vec<Member>> {
    let begun = Instant::now();
    loop {
        match nodes.client().with_majority().await {
            Ok((_, mut members)) => {
                members.sort_by_key(|member| member.peer);
                return Ok(members);
            }
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn voters(nodes: &EtcdNodes) -> Result<Vec<String>> {
    let all = members(nodes).await?;
    ensure!(all.iter().all(|member| !member.learner), "{all:?}");
    Ok(all.into_iter().filter_map(|member| member.name).collect())
}

/// Writes without a pause, and remembers what was acknowledged.
struct Checker {
    stop: mpsc::Sender<()>,
    writer: JoinHandle<BTreeMap<String, String>>,
}

const PREFIX: &str = "/checker/";

impl Checker {
    fn start(nodes: &EtcdNodes) -> Self {
        let client = nodes.client();
        let (stop, mut stopped) = mpsc::channel(1);
        let writer = tokio::spawn(async move {
            let mut acknowledged = BTreeMap::new();
            let mut number = 0_u64;
            let mut connection = None;
            while stopped.try_recv().is_err() {
                let connected = match connection.take() {
                    Some(connected) => connected,
                    None => match client.with_majority().await {
                        Ok((connected, _)) => connected,
                        Err(_) => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        }
                    },
                };
                number += 1;
                let (key, value) = (format!("{PREFIX}{number:08}"), format!("value {number}"));
                let put = wire::PutRequest {
                    key: key.clone().into_bytes(),
                    value: value.clone().into_bytes(),
                    lease: 0,
                };
                let transaction = wire::TxnRequest {
                    success: vec![wire::RequestOp {
                        request: Some(wire::request_op::Request::RequestPut(put)),
                    }],
                    ..Default::default()
                };
                let mut kv = wire::kv_client::KvClient::new(connected.channel());
                if kv.txn(transaction).await.is_ok() {
                    acknowledged.insert(key, value);
                    connection = Some(connected);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            acknowledged
        });
        Self { stop, writer }
    }

    /// Reads everything back.
    async fn check(self, nodes: &EtcdNodes) -> Result<usize> {
        self.stop.send(()).await?;
        let acknowledged = self.writer.await?;
        ensure!(!acknowledged.is_empty(), "nothing was written");
        let (connection, _) = nodes.client().with_majority().await?;
        let mut found = BTreeMap::new();
        let mut kv = wire::kv_client::KvClient::new(connection.channel());
        let mut from = PREFIX.as_bytes().to_vec();
        loop {
            let range = wire::RangeRequest {
                key: from.clone(),
                // the byte after the slash
                range_end: b"/checker0".to_vec(),
                limit: 1000,
                keys_only: false,
            };
            let page = kv.range(range).await?.into_inner();
            for pair in page.kvs {
                from = [&pair.key[..], &[0]].concat();
                found.insert(String::from_utf8(pair.key)?, String::from_utf8(pair.value)?);
            }
            if !page.more {
                break;
            }
        }
        for (key, value) in &acknowledged {
            if found.get(key) != Some(value) {
                bail!("{key} was acknowledged and is {:?}", found.get(key));
            }
        }
        Ok(acknowledged.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_control_planes_join_and_two_at_once_wait_for_each_other() -> Result<()> {
    let nodes = EtcdNodes::found(4)?;
    let checker = Checker::start(&nodes);
    // the first one's own, which is there already
    join(nodes.node(0)).await?;
    join(nodes.node(1)).await?;
    assert_eq!(
        voters(&nodes).await?,
        ["control-plane-1", "control-plane-2"]
    );

    let learners = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let both = [2, 3].map(|index| {
        let node = nodes.node(index);
        let (tell, learners) = (Arc::clone(&node), Arc::clone(&learners));
        tell.listen(move |news| match news {
            News::Step(Step::Add) => {
                let before = learners.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                assert_eq!(before, 0, "two learners at once");
            }
            News::Step(Step::Done) => {
                learners.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            }
            _ => {}
        });
        tokio::spawn(join(node))
    });
    for joining in both {
        joining.await??;
    }
    assert_eq!(voters(&nodes).await?.len(), 4);
    checker.check(&nodes).await?;
    Ok(())
}

/// Crashes the second node in a window, lets it come back, and lets a third one join after it.
async fn crash_and_come_back(window: fn(&Step) -> bool) -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    let checker = Checker::start(&nodes);
    crash_at(nodes.node(1), window).await?;
    join(nodes.node(1)).await?;
    join(nodes.node(2)).await?;
    assert_eq!(
        voters(&nodes).await?,
        ["control-plane-1", "control-plane-2", "control-plane-3"]
    );
    checker.check(&nodes).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_lock_leaves_nothing() -> Result<()> {
    crash_and_come_back(|step| *step == Step::Lock).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_learner_is_added_leaves_a_lock_that_ends() -> Result<()> {
    crash_and_come_back(|step| *step == Step::Add).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_etcd_starts_goes_on_with_what_was_added() -> Result<()> {
    crash_and_come_back(|step| *step == Step::Start).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_vote_goes_on_with_the_data() -> Result<()> {
    crash_and_come_back(|step| matches!(step, Step::Promote(_))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_vote_leaves_a_member() -> Result<()> {
    crash_and_come_back(|step| *step == Step::Done).await
}

/// Between adding the learner and noting its number: nobody knows afterwards who that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_whose_number_was_not_noted_is_replaced() -> Result<()> {
    let nodes = EtcdNodes::found(2)?;
    crash_at(nodes.node(1), |step| *step == Step::Start).await?;
    let added = learner(&members(&nodes).await?)?;
    nodes.node(1).lose_disk()?;
    join(nodes.node(1)).await?;
    let all = members(&nodes).await?;
    assert!(all.iter().all(|member| member.id != added), "{all:?}");
    assert_eq!(voters(&nodes).await?.len(), 2);
    Ok(())
}

fn learner(members: &[Member]) -> Result<MemberId> {
    let learner = members.iter().find(|member| member.learner);
    Ok(learner
        .with_context(|| format!("no learner: {members:?}"))?
        .id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_learner_goes_after_its_lease_and_its_node_joins_anew() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    let checker = Checker::start(&nodes);
    crash_at(nodes.node(1), |step| matches!(step, Step::Promote(_))).await?;
    let stale = learner(&members(&nodes).await?)?;

    let begun = Instant::now();
    let (told, mut heard) = mpsc::unbounded_channel();
    nodes.node(2).listen(move |news| {
        let _nobody_listens = told.send(format!("{news:?}"));
    });
    join(nodes.node(2)).await?;
    // the lease counts from its last renewal, ten seconds at most before the crash
    ensure!(
        begun.elapsed() + Duration::from_secs(15) > LEASE,
        "it did not wait"
    );
    let mut news = Vec::new();
    while let Ok(line) = heard.try_recv() {
        news.push(line);
    }
    let removed = format!("{:?}", News::Step(Step::Remove(stale, Why::StaleLearner)));
    ensure!(news.contains(&removed), "{news:#?}");
    ensure!(
        news.iter()
            .any(|line| line.contains("LockHeldBy(\"control-plane-2\")"))
    );
    assert_eq!(
        voters(&nodes).await?,
        ["control-plane-1", "control-plane-3"]
    );

    // its data is of no member any more
    join(nodes.node(1)).await?;
    assert_eq!(voters(&nodes).await?.len(), 3);
    assert!(
        members(&nodes)
            .await?
            .iter()
            .all(|member| member.id != stale)
    );
    checker.check(&nodes).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_nodes_member_goes_and_a_majority_stays() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    let checker = Checker::start(&nodes);
    join(nodes.node(1)).await?;
    join(nodes.node(2)).await?;
    let first = nodes.node(0);
    ensure!(remove_departed(first.node(), &*first).await? == Departed::default());

    // one is down, and another one leaves: without it no majority would be left
    nodes.node(1).cut_power();
    nodes.delete_record(2);
    let outcome = remove_departed(first.node(), &*first).await?;
    ensure!(outcome.removed.is_empty() && outcome.staying.len() == 1);
    assert_eq!(voters(&nodes).await?.len(), 3);

    join(nodes.node(1)).await?;
    // etcd itself wants to have seen the others for some seconds
    let begun = Instant::now();
    let removed = loop {
        match remove_departed(first.node(), &*first).await {
            Ok(outcome) if !outcome.removed.is_empty() => break outcome,
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    assert_eq!((removed.removed.len(), removed.staying.len()), (1, 0));
    assert_eq!(
        voters(&nodes).await?,
        ["control-plane-1", "control-plane-2"]
    );
    // it has no vote any more, and what it has it keeps: it is on record no more
    let removed = nodes.node(2);
    let waits = tokio::time::timeout(
        Duration::from_secs(5),
        take_part(removed.node(), &[], &*removed),
    );
    ensure!(waits.await.is_err());
    checker.check(&nodes).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_was_made_anew_joins_again() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    let checker = Checker::start(&nodes);
    join(nodes.node(1)).await?;
    join(nodes.node(2)).await?;
    let before = members(&nodes).await?;
    nodes.node(0).lose_disk()?;
    // the first is the one that the others joined by; now they are its elders
    let first = nodes.node(0);
    tokio::time::timeout(PATIENCE, take_part(first.node(), &[], &*first)).await?;
    let after = members(&nodes).await?;
    assert_eq!(voters(&nodes).await?.len(), 3);
    assert_ne!(before[0].id, after[0].id);
    assert_eq!(before[1..], after[1..]);
    checker.check(&nodes).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_control_planes_come_back_from_a_power_cut() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    let checker = Checker::start(&nodes);
    join(nodes.node(1)).await?;
    join(nodes.node(2)).await?;
    for index in 0..3 {
        nodes.node(index).cut_power();
    }
    let back = [0, 1, 2].map(|index| tokio::spawn(join(nodes.node(index))));
    for node in back {
        node.await??;
    }
    assert_eq!(voters(&nodes).await?.len(), 3);
    checker.check(&nodes).await?;
    Ok(())
}
