//! The lock of etcd's members lasts as long as its holder works and gets somewhere, and what changes while a joiner is off or waits
//! neither keeps it out for ever nor lets in who was deleted. With deadlines of seconds.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cluster::etcd::{For, Step, Why};
use k8s::etcd::{
    News,
    lock::{Asked, Deadlines, Lock},
    remove_departed,
};
use testkit::etcd::{EtcdNode, EtcdNodes};
use tokio::sync::mpsc;

use super::etcd::{PATIENCE, crash_within, join_within, learner, members, voters};

const SHORT: Deadlines = Deadlines {
    lease: Duration::from_secs(8),
    margin: Duration::from_secs(2),
    renew: Duration::from_secs(1),
    hold: Duration::from_secs(15 * 60),
};

async fn ask(nodes: &EtcdNodes, name: &str) -> Result<Asked> {
    let client = nodes.client();
    let (mut connection, _) = client.with_majority().await?;
    Ok(Lock::ask_within(&client, &mut connection, name, SHORT).await?)
}

/// Whether a node is told of something within a time.
async fn hears(
    heard: &mut mpsc::UnboundedReceiver<String>,
    news: &str,
    within: Duration,
) -> Result<bool> {
    let told = async {
        while let Some(line) = heard.recv().await {
            if line == news {
                return Ok(());
            }
        }
        anyhow::bail!("nobody tells any more")
    };
    match tokio::time::timeout(within, told).await {
        Ok(told) => told.map(|()| true),
        Err(_) => Ok(false),
    }
}

fn listen(node: &EtcdNode) -> mpsc::UnboundedReceiver<String> {
    let (told, heard) = mpsc::unbounded_channel();
    node.listen(move |news| {
        let _nobody_listens = told.send(format!("{news:?}"));
    });
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_outlives_its_lease_as_long_as_its_holder_works() -> Result<()> {
    let nodes = EtcdNodes::found(1)?;
    members(&nodes).await?;
    let Asked::Taken(lock) = ask(&nodes, "one").await? else {
        anyhow::bail!("nobody has it")
    };
    let begun = Instant::now();
    while begun.elapsed() < SHORT.lease * 3 {
        match ask(&nodes, "another").await? {
            Asked::HeldBy(holder) => ensure!(holder == "one"),
            Asked::Taken(_) => anyhow::bail!("taken after {:?}", begun.elapsed()),
        }
        ensure!(lock.is_held(), "its holder gave it up");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    drop(lock);
    let begun = Instant::now();
    loop {
        if let Asked::Taken(lock) = ask(&nodes, "another").await? {
            lock.release().await;
            break;
        }
        ensure!(begun.elapsed() < SHORT.lease * 3, "it stays behind");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // who gives it back keeps nobody waiting
    ensure!(matches!(ask(&nodes, "one").await?, Asked::Taken(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_that_gets_nowhere_lets_the_next_one_go_first() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    // its etcd does not come up: somebody else listens there
    let place = (
        Ipv4Addr::new(127, 0, 0, 12),
        nodes.node(1).node().etcd_peer_port(),
    );
    let taken = std::net::TcpListener::bind(place)?;
    let mut heard = listen(&nodes.node(1));
    let impatient = Deadlines {
        hold: SHORT.lease * 2,
        ..SHORT
    };
    let stuck = tokio::spawn(join_within(nodes.node(1), impatient));
    let startup = format!("{:?}", News::Step(Step::Wait(For::Startup)));
    ensure!(hears(&mut heard, &startup, PATIENCE).await?);
    let stale = learner(&members(&nodes).await?)?;

    let mut heard = listen(&nodes.node(2));
    join_within(nodes.node(2), SHORT).await?;
    let removed = format!("{:?}", News::Step(Step::Remove(stale, Why::StaleLearner)));
    ensure!(hears(&mut heard, &removed, Duration::ZERO).await?);
    drop(taken);
    stuck.await??;
    assert_eq!(voters(&nodes).await?.len(), 3);
    Ok(())
}

/// etcd compares the members that it is told of at its first start with those that there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_left_while_a_joiner_was_off_does_not_keep_it_out() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    join_within(nodes.node(1), SHORT).await?;
    crash_within(nodes.node(2), SHORT, |step| *step == Step::Start).await?;
    let added = learner(&members(&nodes).await?)?;
    nodes.delete_record(1);
    let first = nodes.node(0);
    let begun = Instant::now();
    while remove_departed(first.node(), &*first)
        .await?
        .removed
        .is_empty()
    {
        ensure!(begun.elapsed() < PATIENCE, "it does not go");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    join_within(nodes.node(2), SHORT).await?;
    let all = members(&nodes).await?;
    ensure!(
        all.iter().any(|member| member.id == added),
        "it began anew: {all:?}"
    );
    assert_eq!(
        voters(&nodes).await?,
        ["control-plane-1", "control-plane-3"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_deleted_while_it_waits_is_not_added() -> Result<()> {
    let nodes = EtcdNodes::found(2)?;
    members(&nodes).await?;
    let Asked::Taken(lock) = ask(&nodes, "another").await? else {
        anyhow::bail!("nobody has it")
    };
    let mut heard = listen(&nodes.node(1));
    let joining = tokio::spawn(join_within(nodes.node(1), SHORT));
    let waits = format!("{:?}", News::LockHeldBy("another"));
    ensure!(hears(&mut heard, &waits, PATIENCE).await?);
    nodes.delete_record(1);
    lock.release().await;
    let not_on_record = format!("{:?}", News::Step(Step::Wait(For::OwnRecord)));
    ensure!(hears(&mut heard, &not_on_record, PATIENCE).await?);
    ensure!(
        !hears(
            &mut heard,
            &format!("{:?}", News::Step(Step::Add)),
            Duration::from_secs(5)
        )
        .await?
    );
    assert_eq!(members(&nodes).await?.len(), 1);
    joining.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_whose_node_is_deleted_gets_no_vote_and_keeps_nobody_waiting() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    crash_within(nodes.node(1), SHORT, |step| {
        matches!(step, Step::Promote(_))
    })
    .await?;
    let deleted = learner(&members(&nodes).await?)?;
    nodes.delete_record(1);
    let mut heard = listen(&nodes.node(1));
    let joining = tokio::spawn(join_within(nodes.node(1), SHORT));
    let not_on_record = format!("{:?}", News::Step(Step::Wait(For::OwnRecord)));
    ensure!(hears(&mut heard, &not_on_record, PATIENCE).await?);
    // it runs, and could be promoted
    ensure!(nodes.node(1).runs());

    let mut others = listen(&nodes.node(2));
    join_within(nodes.node(2), SHORT).await?;
    let removed = format!("{:?}", News::Step(Step::Remove(deleted, Why::StaleLearner)));
    ensure!(hears(&mut others, &removed, Duration::ZERO).await?);
    assert_eq!(
        voters(&nodes).await?,
        ["control-plane-1", "control-plane-3"]
    );
    ensure!(!joining.is_finished(), "it became a member");
    joining.abort();
    Ok(())
}
