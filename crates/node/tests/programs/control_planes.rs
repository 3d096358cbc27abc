//! Three control planes on loopback, and the proxy through which a node's programs reach them, in a network of their own. Each in turn
//! loses its power, or its member of etcd, while a client writes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster::Role;
use cluster::etcd::Member;
use cluster::network::{API_PORT, MeshPeer};
use k8s::etcd::stay;
use node::api_proxy::ApiServers;
use testkit::etcd::EtcdNodes;
use tokio::net::{TcpListener, TcpStream};

use super::own_network::in_own_network;
use super::several::{Checker, ControlPlane, PATIENCE, prepare};

#[test]
fn the_api_outlives_each_of_three_control_planes_and_loses_no_write() -> Result<()> {
    in_own_network(
        "programs::control_planes::the_api_outlives_each_of_three_control_planes_and_loses_no_write",
        each_of_three_loses_its_power,
    )
}

async fn each_of_three_loses_its_power() -> Result<()> {
    let (_etcds, mut control_planes) = prepare(3)?;
    let peers: Vec<MeshPeer> = control_planes.iter().map(ControlPlane::peer).collect();
    let elders: Vec<Ipv4Addr> = peers.iter().map(|peer| peer.mesh_ip).collect();

    // a worker's way to the API
    let servers = ApiServers::default();
    let _proxy = servers.listen().await.context("listen as the proxy")?;
    let kubeconfig = control_planes[0].node.paths().node_agent_kubeconfig();
    servers.follow(Role::Worker, &peers, kubeconfig.clone());
    control_planes[0].bring_up(&elders).await?;
    let checker = Checker::start(k8s::api::client(&kubeconfig).await?);
    checker.goes_on().await?;

    // the others become members while it is used
    for control_plane in &mut control_planes[1..] {
        control_plane.bring_up(&elders).await?;
    }
    for control_plane in &mut control_planes {
        control_plane.cut_power()?;
        checker.goes_on().await?;
        control_plane.bring_up(&elders).await?;
        checker.goes_on().await?;
    }

    let acknowledged = checker.finish().await?;
    for control_plane in &control_planes {
        control_plane.has(&acknowledged).await?;
    }
    Ok(())
}

/// The members of etcd, as a majority knows them.
async fn members(etcds: &EtcdNodes) -> Result<Vec<Member>> {
    Ok(etcds.client().with_majority().await?.1)
}

#[test]
fn a_control_plane_whose_member_is_removed_while_it_runs_gets_its_vote_again() -> Result<()> {
    in_own_network(
        "programs::control_planes::a_control_plane_whose_member_is_removed_while_it_runs_gets_its_vote_again",
        each_of_three_is_removed,
    )
}

/// By a request that comes past this project: of an administrator, or held back by the host until it was wrong.
async fn each_of_three_is_removed() -> Result<()> {
    let (etcds, mut control_planes) = prepare(3)?;
    let peers: Vec<MeshPeer> = control_planes.iter().map(ControlPlane::peer).collect();
    let elders: Vec<Ipv4Addr> = peers.iter().map(|peer| peer.mesh_ip).collect();
    let servers = ApiServers::default();
    let _proxy = servers.listen().await.context("listen as the proxy")?;
    let kubeconfig = control_planes[0].node.paths().node_agent_kubeconfig();
    servers.follow(Role::Worker, &peers, kubeconfig.clone());
    for control_plane in &mut control_planes {
        control_plane.bring_up(&elders).await?;
    }
    let checker = Checker::start(k8s::api::client(&kubeconfig).await?);
    checker.goes_on().await?;

    for control_plane in &mut control_planes {
        let etcd = Arc::clone(&control_plane.etcd);
        let (mut connection, before) = etcds.client().with_majority().await?;
        let name = Some(etcd.name());
        let own = before.iter().find(|member| member.name.as_deref() == name);
        let id = own.context("it is a member")?.id;
        let removal = async {
            // etcd wants to have seen the others for some seconds
            while connection.remove(id).await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, removal).await?;

        let again =
            |member: &Member| member.name.as_deref() == name && !member.learner && member.id != id;
        let back = async {
            while !members(&etcds).await.is_ok_and(|all| all.iter().any(again)) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        // as `bootstrapper/control_plane.rs` does it
        let stays = stay(
            etcd.node(),
            || elders.clone(),
            async || {
                let came_back = async {
                    control_plane.end_api_server()?;
                    control_plane.bring_up(&elders).await
                };
                came_back.await.expect("its programs start");
            },
        );
        tokio::select! {
            () = back => {}
            () = stays => {}
            () = tokio::time::sleep(PATIENCE) => bail!("it has no vote:\n{}", etcd.log()),
        }
        control_plane.end_api_server()?;
        control_plane.bring_up(&elders).await?;
        checker.goes_on().await?;
    }
    ensure!(members(&etcds).await?.len() == 3);

    let acknowledged = checker.finish().await?;
    for control_plane in &control_planes {
        control_plane.has(&acknowledged).await?;
    }
    Ok(())
}

#[test]
fn an_api_server_whose_etcd_has_gone_keeps_no_program_of_its_node() -> Result<()> {
    in_own_network(
        "programs::control_planes::an_api_server_whose_etcd_has_gone_keeps_no_program_of_its_node",
        etcd_of_the_own_control_plane_is_killed,
    )
}

async fn etcd_of_the_own_control_plane_is_killed() -> Result<()> {
    let (_etcds, mut control_planes) = prepare(3)?;
    let peers: Vec<MeshPeer> = control_planes.iter().map(ControlPlane::peer).collect();
    let elders: Vec<Ipv4Addr> = peers.iter().map(|peer| peer.mesh_ip).collect();
    let kubeconfig = control_planes[0].node.paths().node_agent_kubeconfig();

    // the first one's own way to the API: on a node its API server listens on loopback as well
    let (own, others) = (peers[0].mesh_ip, &peers[1..]);
    let loopback = TcpListener::bind((Ipv4Addr::LOCALHOST, API_PORT)).await?;
    let _forwarding = tokio::spawn(async move {
        while let Ok((mut client, _)) = loopback.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect((own, API_PORT)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let servers = ApiServers::default();
    let _proxy = servers.listen().await.context("listen as the proxy")?;
    servers.follow(Role::ControlPlane, others, kubeconfig.clone());
    for control_plane in &mut control_planes {
        control_plane.bring_up(&elders).await?;
    }
    let checker = Checker::start(k8s::api::client(&kubeconfig).await?);
    checker.goes_on().await?;

    control_planes[0].etcd.cut_power();
    checker
        .goes_on()
        .await
        .context("its API server still accepts, and answers nothing")?;
    let acknowledged = checker.finish().await?;
    for control_plane in &control_planes[1..] {
        control_plane.has(&acknowledged).await?;
    }
    Ok(())
}
