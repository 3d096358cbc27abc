//! The proxy that leads a node's programs to the API, when a control plane loses its power: no end of a connection arrives, only
//! silence. Needs root, `unshare`, `ip` and `nft`; the network is the test's own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster::Role;
use cluster::identity::WireGuardPublicKey;
use cluster::network::{API_PORT, API_PROXY_PORT, AddressPlan, MeshPeer};
use node::api_proxy::ApiServers;

use super::own_network::{in_own_network, run};

const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PROXY_PORT);
/// Until the silence of a control plane has ended a connection; a kubelet that says nothing for 40 s is given up.
const NOTICED: Duration = Duration::from_secs(15);
/// Until a control plane that is back is asked again.
const BACK: Duration = Duration::from_secs(15);

fn peer(index: u16) -> Result<MeshPeer> {
    let addresses = AddressPlan::default().node(index)?;
    Ok(MeshPeer {
        node_name: format!("control-plane-{index}").parse()?,
        role: Role::ControlPlane,
        public_key: WireGuardPublicKey::new([7; 32]),
        endpoint: [10, 42, 1, 10].into(),
        mesh_ip: addresses.mesh_ip,
        pod_cidr: addresses.pod_cidr,
    })
}

/// Stands where an API server is: says which one it is, and repeats what it hears.
fn serve(address: Ipv4Addr) -> Result<()> {
    let listener = TcpListener::bind((address, API_PORT)).context("listen as an API server")?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                stream.write_all(&address.octets())?;
                let mut back = stream.try_clone()?;
                std::io::copy(&mut stream, &mut back)
            });
        }
    });
    Ok(())
}

/// A connection through the proxy, and whom it reached.
fn connect() -> Result<(TcpStream, Ipv4Addr)> {
    let mut stream = TcpStream::connect(PROXY)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut name = [0; 4];
    stream.read_exact(&mut name).context("hear who it is")?;
    Ok((stream, name.into()))
}

fn connect_to(server: Ipv4Addr) -> Result<TcpStream> {
    for _ in 0..4 {
        let (stream, reached) = connect()?;
        if reached == server {
            return Ok(stream);
        }
    }
    anyhow::bail!("no connection reached {server}")
}

fn repeats(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"still there?")?;
    let mut heard = [0; 12];
    stream.read_exact(&mut heard)?;
    ensure!(&heard == b"still there?");
    Ok(())
}

/// How long the connection takes to end.
fn ends(mut stream: TcpStream) -> Result<Duration> {
    let begun = Instant::now();
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => anyhow::bail!("not the end: {other:?}"),
    }
    Ok(begun.elapsed())
}

/// No packet from or to it any more, and nobody who says so.
fn cut_power(server: Ipv4Addr) -> Result<()> {
    let rules = format!(
        "table ip power {{\nchain cut {{\ntype filter hook input priority 0\n\
         ip saddr {server} drop\nip daddr {server} drop\n}}\n}}\n"
    );
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("nft")?;
    nft.stdin
        .take()
        .context("standard input")?
        .write_all(rules.as_bytes())?;
    ensure!(nft.wait()?.success(), "nft took no rules");
    Ok(())
}

async fn without_power() -> Result<()> {
    let (dark, lit) = (peer(1)?, peer(2)?);
    for peer in [&dark, &lit] {
        // in one network the first address would be the source of what goes to the second
        let address = format!("{}/32", peer.mesh_ip);
        run("ip", &["address", "add", &address, "dev", "lo"])?;
        serve(peer.mesh_ip)?;
    }
    let servers = ApiServers::default();
    let _proxy = servers.listen().await?;
    // nobody here speaks TLS: without credentials a connection says all there is
    let no_credentials = "/no/such/kubeconfig".into();
    servers.follow(Role::Worker, &[dark.clone(), lit.clone()], no_credentials);

    let idle = connect_to(dark.mesh_ip)?;
    let mut busy = connect_to(dark.mesh_ip)?;
    let mut other = connect_to(lit.mesh_ip)?;
    repeats(&mut busy)?;

    cut_power(dark.mesh_ip)?;
    busy.write_all(b"is anybody there?")?;
    let waits = [("idle", idle), ("busy", busy)]
        .map(|(name, stream)| (name, thread::spawn(move || ends(stream))));
    // whoever connects meanwhile reaches the other one
    for _ in 0..4 {
        let begun = Instant::now();
        let (_stream, reached) = connect()?;
        ensure!(reached == lit.mesh_ip, "{reached} has no power");
        ensure!(begun.elapsed() < Duration::from_secs(5));
    }
    for (name, wait) in waits {
        let took = wait.join().expect("the thread's result")?;
        println!("an {name} connection ended after {took:?}");
        ensure!(
            took < NOTICED,
            "the {name} connection lasted {took:?} longer"
        );
    }
    repeats(&mut other).context("the other's connections stay")?;

    run("nft", &["flush", "ruleset"])?;
    let back = Instant::now();
    while connect()?.1 != dark.mesh_ip {
        ensure!(back.elapsed() < BACK, "nobody asks the one that is back");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[test]
fn a_control_plane_that_loses_its_power_is_noticed_in_seconds() -> Result<()> {
    in_own_network(
        "programs::api_proxy::a_control_plane_that_loses_its_power_is_noticed_in_seconds",
        without_power,
    )
}
