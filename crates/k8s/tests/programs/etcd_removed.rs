//! A member that is removed while its etcd runs, and a node that nobody may bring back.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cluster::etcd::{Data, For, Step};
use k8s::etcd::{Directory, News, lock::Deadlines, stay};
use testkit::etcd::EtcdNodes;
use tokio::sync::mpsc;

use super::etcd::{PATIENCE, join_within, voters};

/// More than two looks.
const LOOKS: Duration = Duration::from_secs(25);

fn elders() -> Vec<Ipv4Addr> {
    vec![[127, 0, 0, 11].into(), [127, 0, 0, 12].into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_members_data_stays_without_a_majority_or_a_record() -> Result<()> {
    let nodes = EtcdNodes::found(3)?;
    for index in 0..3 {
        join_within(nodes.node(index), Deadlines::default()).await?;
    }
    let removed = nodes.node(2);
    let holds = || Directory::new(&removed.node().paths().etcd_data).holds();
    let Data::Of(id) = holds()? else {
        anyhow::bail!("it has joined")
    };
    let (mut connection, _) = nodes.client().with_majority().await?;
    let removal = async {
        // etcd wants to have seen the others for some seconds
        while connection.remove(id).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removal).await?;
    for index in [0, 1] {
        nodes.node(index).cut_power();
    }

    // nobody has a majority
    let nobody = async || panic!("nobody can say that it was removed");
    let looks = tokio::time::timeout(LOOKS, stay(removed.node(), elders, nobody));
    ensure!(looks.await.is_err());
    ensure!(holds()? == Data::Of(id));

    // now somebody has, and its node was deleted
    nodes.delete_record(2);
    let others = [0, 1].map(|index| {
        let node = nodes.node(index);
        tokio::spawn(async move { join_within(node, Deadlines::default()).await })
    });
    for other in others {
        other.await??;
    }
    let (told, mut heard) = mpsc::unbounded_channel();
    removed.listen(move |news| {
        if matches!(news, News::Step(Step::Wait(For::OwnRecord))) {
            let _nobody_listens = told.send(());
        }
    });
    let comes_back = async || {
        let joined = join_within(nodes.node(2), Deadlines::default()).await;
        joined.expect("somebody ends this before");
    };
    tokio::select! {
        () = stay(removed.node(), elders, comes_back) => {}
        waits = tokio::time::timeout(PATIENCE, heard.recv()) => waits?.context("it waits for its record")?,
    }
    ensure!(holds()? == Data::Of(id));
    ensure!(voters(&nodes).await? == ["control-plane-1", "control-plane-2"]);
    Ok(())
}
